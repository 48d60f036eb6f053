"""The cost model against the published figures, against real models, and against the work that torch counts."""

import subprocess
import sys
from typing import Any

import open_clip
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from alt_ray.errors import ModelError
from alt_ray.models.adapter import VideoAdapter
from alt_ray.models.configs import AdapterConfig
from alt_ray.models.cost import (
    adapter_macs,
    adapter_parameters,
    cost,
    encoder_macs,
    read_model_config,
)
from alt_ray.models.encoder import load_encoder

TINY: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 3, "width": 96, "patch_size": 8, "head_width": 32, "mlp_ratio": 3.0},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.mark.parametrize(
    ("model", "published"), [("ViT-B-32", 4.41), ("ViT-B/16", 17.56), ("ViT-L-14", 81.01), ("ViT-L-14-336", 190.96)]
)
def test_encoder_cost_per_frame_is_the_published_one(model: str, published: float) -> None:
    assert cost(model).gflops_per_frame == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize(
    ("model", "num_frames", "per_frame", "total", "tokens"),
    [("ViT-B-16", 8, 13.10, 328, 101), ("ViT-L-14", 32, 49.86, 4947, 65)],
)
def test_total_cost_with_the_default_adapter_is_the_published_one(
    model: str, num_frames: int, per_frame: float, total: float, tokens: int
) -> None:
    adapter = AdapterConfig.for_model(read_model_config(model))
    report = cost(model, 8, adapter=adapter, num_frames=num_frames, num_views=3)
    assert report.tokens_out == tokens
    assert report.gflops_per_frame == pytest.approx(per_frame, rel=0.01)
    assert report.gflops_per_video == pytest.approx(total, rel=0.02)


def test_parameters_of_vit_b16_with_the_default_adapter_are_the_published_ones() -> None:
    parameters = cost("ViT-B-16", 8, adapter=AdapterConfig.for_model(read_model_config("ViT-B-16"))).parameters
    assert parameters["vision"] == pytest.approx(86.2e6, rel=0.001)
    assert parameters["total"] == pytest.approx(134.4e6, rel=0.005)


@pytest.mark.parametrize(
    ("model", "r", "tokens", "saved"),
    [
        ("ViT-B-16", 4, 149, 0.13),
        ("ViT-B-16", 16, 11, 0.50),
        ("ViT-L-14", 10, 17, 0.48),
        ("ViT-L-14-336", 23, 25, 0.50),
    ],
)
def test_merging_saves_what_the_method_says(model: str, r: int, tokens: int, saved: float) -> None:
    report = cost(model, r)
    assert report.tokens_out == tokens
    assert 1 - report.gflops_per_frame / cost(model).gflops_per_frame == pytest.approx(saved, abs=0.006)


@pytest.mark.parametrize("merging", [{"merge_r": 10}, {"merge_r": (40, 0, 40)}, {"merge_ratio": 0.7}])
def test_tokens_that_leave_are_those_of_the_encoder(merging: dict[str, Any]) -> None:
    regions = load_encoder(TINY, **merging).encode_frames(torch.randn(1, 3, 64, 64))
    assert cost(TINY, **merging).tokens_out == regions.tokens.shape[1]


@pytest.mark.parametrize("schedule", [(0, 0, 0), (20, 10, 3)])
@pytest.mark.parametrize("region_features", ["final", "value"])
def test_encoder_cost_is_what_torch_counts(schedule: tuple[int, ...], region_features: str) -> None:
    encoder = load_encoder(TINY, merge_r=schedule, region_features=region_features)
    counter = FlopCounterMode(display=False)
    with counter:
        encoder.encode_frames(torch.randn(2, 3, 64, 64))
    counted = counter.get_total_flops() / 2 / 2  # per image; torch counts a multiply-add as two
    assert encoder_macs(TINY, schedule, region_features) == pytest.approx(counted, rel=0.02)


ADAPTERS: list[dict[str, Any]] = [
    {},
    {"conv": "depthwise"},
    {"conv": "none"},
    {"conv_over": "overlap"},
    {"conv_over": "index", "conv_kernel": 5},
    {"queries": "learned", "num_queries": 3},
    {"mlp_ratio": 2.0, "io_ratio": 0.5, "num_blocks": 1},
    {"num_heads": 16},  # as many queries of all heads as channels and more: tokens are projected
]


@pytest.mark.parametrize("changes", ADAPTERS)
def test_adapter_cost_is_what_torch_counts(changes: dict[str, Any]) -> None:
    B, T, R = 2, 6, 17
    config = AdapterConfig(**{"dim": 48, "width": 64, "num_blocks": 2, "num_heads": 4, **changes})
    counter = FlopCounterMode(display=False)
    with counter:
        patches = torch.randint(1, R, (B, T, 64))
        VideoAdapter(config)(torch.randn(B, T, 48), torch.randn(B, T, R, 48), torch.ones(B, T, R), patches)
    counted = counter.get_total_flops() / 2 / B
    assert adapter_macs(config, T, R, projected=False) == pytest.approx(counted, rel=0.02)


@pytest.mark.parametrize("changes", ADAPTERS)
def test_adapter_parameters_are_exact(changes: dict[str, Any]) -> None:
    config = AdapterConfig(**{"dim": 48, "width": 64, "num_blocks": 2, "num_heads": 4, **changes})
    assert adapter_parameters(config) == sum(p.numel() for p in VideoAdapter(config).parameters())


def test_encoder_parameters_are_exact() -> None:
    clip = open_clip.CLIP(**TINY)
    parameters = cost(TINY).parameters
    vision = sum(p.numel() for p in clip.visual.parameters())
    assert parameters["vision"] == vision
    assert parameters["text"] == sum(p.numel() for p in clip.parameters()) - vision - clip.logit_scale.numel()


def test_parameters_of_the_pocket_are_exact() -> None:
    clip, parameters = load_encoder("pocket").clip, cost("pocket").parameters
    vision = sum(p.numel() for p in clip.visual.parameters())
    assert parameters["vision"] == vision
    assert parameters["text"] == sum(p.numel() for p in clip.parameters()) - vision - clip.logit_scale.numel()


def test_alignment_is_stated_separately_and_part_of_the_total() -> None:
    free, aligned = cost(TINY, num_frames=4), cost(TINY, num_frames=4, num_views=3, num_entities=100)
    assert aligned.gflops_alignment == pytest.approx(4 * 65 * 64 * 100 / 1e9)
    assert aligned.gflops_per_view == pytest.approx(free.gflops_per_view + aligned.gflops_alignment)
    assert aligned.gflops_per_video == pytest.approx(3 * aligned.gflops_per_view)


def test_cost_is_known_without_torch() -> None:
    code = "import sys; from alt_ray.models.cost import cost; cost('ViT-B-16', 8); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("model", ["ViT-Z-99", "nowhere.json", "RN50", "ViT-B-16-SigLIP", {}])
def test_models_without_a_known_cost_are_refused(model: Any) -> None:
    with pytest.raises(ModelError, match="expected"):
        cost(model)


@pytest.mark.parametrize("merge_r", [(1, 2), (1, 2, -3), -1])
def test_bad_merging_is_refused(merge_r: Any) -> None:
    with pytest.raises(ModelError, match="merge_r"):
        cost(TINY, merge_r)
