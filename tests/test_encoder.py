"""The region-aware encoder against open_clip, against an independent reference, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.model import CustomTextCLIP
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from alt_ray.errors import ModelError
from alt_ray.models.encoder import RegionEncoder, load_encoder

FIXTURE = Path(__file__).parents[2] / "shared" / "fixtures" / "region_encoder_reference.safetensors"
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}


def config(**vision: Any) -> dict[str, Any]:
    """A tiny model: 4 blocks over 16 patches."""
    tiny = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 4, "head_width": 16}
    return {"embed_dim": 32, "vision_cfg": {**tiny, **vision}, "text_cfg": dict(TEXT)}


def shaken(encoder: RegionEncoder) -> RegionEncoder:
    """Move the weights that start as 0 or 1 (norms, scales, biases), so that leaving one out shows."""
    generator = torch.Generator().manual_seed(1)
    for name, weight in sorted(encoder.clip.visual.named_parameters()):
        if weight.ndim == 1 or name.endswith("head_scale"):
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return encoder


def images(encoder: RegionEncoder, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(count, 3, encoder.image_size, encoder.image_size, generator=generator)


def assert_equals_open_clip(encoder: RegionEncoder) -> None:
    x = images(encoder)
    regions, expected = encoder.encode_frames(x), encoder.clip.encode_image(x)
    torch.testing.assert_close(regions.pooled, expected, atol=1e-5, rtol=1e-5)
    assert regions.tokens.shape == (len(x), 1 + encoder.num_patches, encoder.dim)
    assert (regions.sizes == 1).all()
    assert (regions.region_of_patch == torch.arange(1, 1 + encoder.num_patches)).all()


@pytest.mark.parametrize(
    "vision",
    [
        {},
        {"head_width": 32, "mlp_ratio": 4.9231, "width": 96},  # as ViT-g and H: heads and MLP of their own widths
        {"ls_init_value": 0.1},
        {"patch_dropout": 0.5},
        {"pos_embed_type": "sin_cos_2d"},
        {"pool_type": "avg"},
        {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True},  # as CLIPA
        {"final_ln_after_pool": True},
        {"output_tokens": True, "no_ln_pre": True, "norm_kwargs": {"eps": 1e-2}},
        {"block_type": "custom"},
        {"qk_norm": True, "scale_heads": True},
        {"scale_attn_inner": True, "scale_attn": True, "scale_fc": True, "ls_init_value": 0.1},
    ],
    ids=str,
)
def test_without_merging_every_kind_of_tower_equals_open_clip(vision: dict[str, Any]) -> None:
    encoder = shaken(load_encoder(config(**vision)))
    if vision.get("output_tokens"):
        encoder.clip.visual.output_tokens = False  # only so that encode_image returns one tensor to compare with
    assert_equals_open_clip(encoder)


def test_quick_gelu_and_custom_text_configs_equal_open_clip() -> None:
    encoder = load_encoder({**config(), "quick_gelu": True, "custom_text": True})
    assert isinstance(encoder.clip, CustomTextCLIP)
    assert_equals_open_clip(encoder)


@pytest.mark.parametrize("name", ["ViT-S-32-alt", "ViT-B-32-quickgelu"])
def test_without_merging_a_named_model_equals_open_clip(name: str) -> None:
    encoder = load_encoder(name)
    assert encoder.name == name
    assert_equals_open_clip(encoder)


@pytest.fixture(scope="module")
def reference() -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not FIXTURE.is_file():
        pytest.skip(f"no reference fixture at {FIXTURE}")
    with safe_open(FIXTURE, "pt") as file:
        return json.loads(file.metadata()["config"]), load_file(FIXTURE)


@pytest.mark.parametrize("r", [0, 2, 4, 8])
def test_merged_regions_equal_the_independent_reference(reference: Any, tmp_path: Path, r: int) -> None:
    model, tensors = reference
    weights = {name.removeprefix("weights."): x for name, x in tensors.items() if name.startswith("weights.")}
    save_file(weights, tmp_path / "reference.safetensors")
    encoder = load_encoder(model, str(tmp_path / "reference.safetensors"), merge_r=r)
    regions = encoder.encode_frames(tensors["images"])
    torch.testing.assert_close(regions.tokens, tensors[f"r{r}.tokens"], atol=1e-4, rtol=0)
    assert torch.equal(regions.sizes, tensors[f"r{r}.size"].float())
    assert torch.equal(
        regions.region_of_patch, tensors[f"r{r}.region_of_patch"][:, 1:]
    )  # theirs counts the class token
    if r == 0:
        torch.testing.assert_close(regions.pooled, tensors["encode_image"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("merge", [{"merge_r": 2}, {"merge_r": [0, 3, 0, 5]}, {"merge_r": 99}, {"merge_ratio": 0.5}])
@pytest.mark.parametrize("region_features", ["final", "value"])
def test_sizes_count_the_patches_of_every_region(merge: dict[str, Any], region_features: str) -> None:
    encoder = load_encoder(config(), **merge, region_features=region_features)
    regions = encoder.encode_frames(images(encoder, 3))
    left = 1 + encoder.num_patches - sum(encoder.merge_schedule)
    assert regions.tokens.shape == regions.align_tokens.shape == (3, left, encoder.dim)
    assert regions.sizes.dtype == torch.float32
    assert (regions.sizes[:, 0] == 1).all()
    for region_of_patch, sizes in zip(regions.region_of_patch, regions.sizes, strict=True):
        counts = region_of_patch.bincount(minlength=left)
        assert counts[0] == 0
        assert torch.equal(counts[1:].float(), sizes[1:])


def test_an_average_pooled_model_weighs_regions_by_size() -> None:
    # One block that merges last and leaves tokens alone otherwise: the mean over patches must not change.
    encoder = load_encoder(config(pool_type="avg", final_ln_after_pool=True, layers=1), merge_r=7)
    encoder.clip.visual.transformer.resblocks[0].mlp.c_proj.weight.zero_()
    x = images(encoder)
    regions = encoder.encode_frames(x)
    assert regions.tokens.shape[1] == 10
    torch.testing.assert_close(regions.pooled, encoder.clip.encode_image(x), atol=1e-5, rtol=1e-5)


def test_a_region_of_equal_patches_draws_the_attention_of_all_of_them() -> None:
    # A flat image without position embeddings: all patches are one vector, and merging them changes nothing.
    encoder = shaken(load_encoder(config(), merge_r=3))
    encoder.clip.visual.positional_embedding.zero_()
    x = torch.ones(1, 3, 32, 32)
    regions = encoder.encode_frames(x)
    assert regions.sizes.max() > 1
    torch.testing.assert_close(regions.pooled, encoder.clip.encode_image(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("vision", [{}, {"scale_heads": True, "scale_attn_inner": True, "scale_attn": True}], ids=str)
def test_value_features_are_the_last_blocks_output_for_tokens_that_attend_to_themselves(vision: dict[str, Any]) -> None:
    x = images(load_encoder(config()))
    final = shaken(load_encoder(config(**vision)))
    value = shaken(load_encoder(config(**vision), region_features="value"))
    visual = final.clip.visual
    regions = value.encode_frames(x)
    torch.testing.assert_close(regions.tokens, final.encode_frames(x).tokens)

    *blocks, last = visual.transformer.resblocks
    tokens = visual._embeds(x)
    for block in blocks:
        tokens = block(tokens)
    tokens = last.ln_1(tokens)
    alone = tokens.reshape(-1, 1, tokens.shape[-1])  # sequences of one token
    attended = last.ln_attn(last.attn(alone)) if vision else last.attn(alone, alone, alone, need_weights=False)[0]
    expected = visual.ln_post(attended.reshape(tokens.shape)) @ visual.proj
    torch.testing.assert_close(regions.align_tokens, expected, atol=1e-5, rtol=1e-5)


def test_value_features_merge_with_the_tokens_of_their_block() -> None:
    merge_r = [2, 2, 0, 6]
    before_last = load_encoder(config(), merge_r=[2, 2, 0, 0], region_features="value")
    merged = load_encoder(config(), merge_r=merge_r, region_features="value")
    for encoder in (before_last, merged):  # ln_post off: then the mean of the parts is the part's mean
        encoder.clip.visual.ln_post = torch.nn.Identity()
    x = images(merged, 1)
    parts, whole = before_last.encode_frames(x), merged.encode_frames(x)
    for region in range(1, whole.tokens.shape[1]):
        patches = (whole.region_of_patch[0] == region).nonzero().flatten()
        mean = parts.align_tokens[0, parts.region_of_patch[0, patches]].mean(0)
        torch.testing.assert_close(whole.align_tokens[0, region], mean, atol=1e-5, rtol=1e-5)
    final = load_encoder(config(), merge_r=merge_r).encode_frames(x)
    assert final.align_tokens is final.tokens


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_close_and_leaves_text_and_digest_alone(dtype: str) -> None:
    full, half = load_encoder("ViT-S-32-alt"), load_encoder("ViT-S-32-alt", dtype=dtype)
    regions = half.encode_frames(images(half))
    assert regions.tokens.dtype == regions.pooled.dtype == half.dtype == getattr(torch, dtype)
    close = torch.cosine_similarity(regions.pooled.float(), full.encode_frames(images(full)).pooled)
    assert close.min() > 0.999
    assert half.weights_digest == full.weights_digest
    assert torch.equal(half.encode_text(["a cat"]), full.encode_text(["a cat"]))
    merged = load_encoder(config(), merge_r=2, dtype=dtype)
    sizes = merged.encode_frames(images(merged)).sizes
    assert (sizes.sum(1) == 17).all()


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    first, same, other = load_encoder(config()), load_encoder(config(), seed=0), load_encoder(config(), seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.weights_digest == same.weights_digest != other.weights_digest
    assert first.weights_digest.startswith("sha256:")
    assert first.pretrained == "none"


def test_the_encoder_stays_frozen_inside_a_model_that_trains() -> None:
    encoder = torch.nn.Sequential(load_encoder(config(patch_dropout=0.5))).train()[0]
    assert not any(module.training for module in encoder.modules())
    assert not any(weight.requires_grad for weight in encoder.parameters())


def test_text_embeddings_are_open_clips_normalised_and_cut_into_batches() -> None:
    encoder = load_encoder(config())
    texts = [f"a photo of {n} cats" for n in range(300)]
    expected = torch.nn.functional.normalize(encoder.clip.encode_text(open_clip.tokenize(texts)), dim=-1)
    torch.testing.assert_close(encoder.encode_text(texts), expected, atol=1e-6, rtol=1e-5)
    assert encoder.encode_text([]).shape == (0, 32)


def test_a_vocabulary_smaller_than_the_tokenizers_is_named() -> None:
    encoder = load_encoder({**config(), "text_cfg": {**TEXT, "vocab_size": 512}})
    with pytest.raises(ModelError, match="512"):
        encoder.encode_text(["cat"])


def test_normalise_prepares_frames_as_preprocess_does() -> None:
    from PIL import Image

    encoder = load_encoder(config())
    frames = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    expected = torch.stack([encoder.preprocess(Image.fromarray(frame.numpy())) for frame in frames])
    torch.testing.assert_close(encoder.normalise(frames), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(encoder.normalise(frames.permute(0, 3, 1, 2)), encoder.normalise(frames))
    assert encoder.normalise(frames).is_contiguous()
    with pytest.raises(ModelError, match="uint8"):
        encoder.normalise(frames.float())


def test_frames_of_another_kind_are_refused_with_what_is_accepted() -> None:
    encoder = load_encoder(config())
    with pytest.raises(ModelError, match=r"\[B, 3, 32, 32\]"):
        encoder.encode_frames(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ModelError, match="normalise"):
        encoder.encode_frames(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_checkpoint_restores_the_same_weights(tmp_path: Path, suffix: str) -> None:
    source = load_encoder(config(), seed=5)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": {f"module.{k}": v for k, v in source.clip.state_dict().items()}}, path)
    else:
        save_file(source.clip.state_dict(), path)
    (tmp_path / "tiny.json").write_text(
        json.dumps({"model_cfg": config(), "preprocess_cfg": {"mean": [0.5] * 3, "resize_mode": "squash"}})
    )
    loaded = load_encoder(tmp_path / "tiny.json", path)
    assert loaded.weights_digest == source.weights_digest
    assert loaded.name == "tiny"
    assert loaded.pretrained == str(path)
    assert (loaded.mean, loaded.resize_mode) == ((0.5, 0.5, 0.5), "squash")


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(ModelError, match="weights_only"):
        load_encoder(config(), tmp_path / "bomb.pt")
    assert not (tmp_path / "ran").exists()


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    state = load_encoder(config(width=32)).clip.state_dict()
    state["surplus"] = state.pop("ln_final.bias")
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(
        ModelError, match=r"1 missing: ln_final.bias; 1 not in the model: surplus; .*instead of"
    ) as error:
        load_encoder(config(), tmp_path / "other.safetensors")
    assert "(32," in str(error.value)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("RN50", "ResNet"),
        ("ViT-B-16-SigLIP", "vit_base_patch16_siglip_224"),
        ("EVA02-B-16", "eva02"),
        ("coca_ViT-B-32", "pools by attention"),
        (config(pool_type="none"), "does not pool"),
        (config(scaled_cosine_attn=True), "scaled_cosine_attn"),
        (config(image_size=[32, 64]), "square"),
        (config(depth=3), "depth"),
        (config(width=66), "can't build"),
        ({"embed_dim": 3}, "vision_cfg, text_cfg"),
        ("ViT-B16", "ViT-B-16"),
        ("/nowhere/model.json", "can't be read"),
    ],
    ids=str,
)
def test_a_model_that_can_not_be_run_exactly_is_refused_by_name(model: Any, says: str) -> None:
    with pytest.raises(ModelError, match=says) as error:
        load_encoder(model)
    if isinstance(model, str):
        assert model in str(error.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pretrained": "no-such-tag"}, "neither a file nor a tag"),
        ({"pretrained": __file__}, "safetensors"),
        ({"dtype": "int8"}, "bfloat16"),
        ({"device": "quantum"}, "device 'quantum'"),
        ({"region_features": "keys"}, "final, value"),
        ({"merge_r": 3, "merge_ratio": 0.5}, "give one of them"),
    ],
)
def test_an_option_that_does_not_exist_is_refused_with_those_that_do(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        load_encoder(config(), **options)


def test_a_tag_that_can_not_be_downloaded_asks_for_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("no network")

    monkeypatch.setattr("alt_ray.models.weights.download_pretrained", offline)
    with pytest.raises(ModelError, match=r"laion2b_s34b_b79k.*no network.*give its path"):
        load_encoder("ViT-B-32", "laion2b_s34b_b79k")
