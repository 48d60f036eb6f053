"""The video adapter: its convolution against plain ones, and what its result may and may not depend on."""

from typing import Any

import pytest
import torch
from torch import Tensor

from alt_ray.errors import ModelError
from alt_ray.models.adapter import AdapterConfig, Attention, TemporalConv, VideoAdapter, region_overlap

B, T, R, N, D, W = 2, 4, 5, 9, 8, 16
SMALL: dict[str, Any] = {"dim": D, "width": W, "num_blocks": 2, "num_heads": 4}


def clip() -> dict[str, Tensor]:
    """Random queries and tokens, with patches that every frame assigns to its regions in its own way."""
    random = torch.Generator().manual_seed(0)
    patches = torch.stack([torch.randperm(N, generator=random) for _ in range(B * T)]).view(B, T, N)
    region_of_patch = patches % (R - 1) + 1
    sizes = torch.nn.functional.one_hot(region_of_patch, R).sum(2).float()
    sizes[..., 0] = 1
    return {
        "queries_BTD": torch.randn(B, T, D, generator=random),
        "tokens_BTRD": torch.randn(B, T, R, D, generator=random),
        "sizes_BTR": sizes,
        "region_of_patch_BTN": region_of_patch,
        "frames_BTD": torch.nn.functional.normalize(torch.randn(B, T, D, generator=random), dim=-1),
    }


def adapter(**changes: Any) -> VideoAdapter:
    torch.manual_seed(0)
    return VideoAdapter(AdapterConfig(**{**SMALL, **changes})).eval()


def conv(**changes: Any) -> TemporalConv:
    torch.manual_seed(0)
    return TemporalConv(AdapterConfig(**{**SMALL, **changes}))


@pytest.mark.parametrize("kind", ["dense", "depthwise"])
@pytest.mark.parametrize("kernel", [3, 5])
def test_convolution_over_overlap_equals_unmerging_convolving_each_patch_and_pooling(kind: str, kernel: int) -> None:
    layer = conv(conv=kind, conv_over="overlap", conv_kernel=kernel)
    given = clip()
    region_of_patch = given["region_of_patch_BTN"]
    regions = torch.randn(B, T, R, W)
    patches = regions.gather(2, region_of_patch[..., None].expand(-1, -1, -1, W))
    grid = torch.cat([regions[:, :, :1], patches], dim=2)  # the class token, then un-merged patches
    convolved = layer.conv(grid.permute(0, 2, 3, 1).flatten(0, 1)).view(B, 1 + N, W, T).permute(0, 3, 1, 2)
    index = torch.cat([torch.zeros_like(region_of_patch[..., :1]), region_of_patch], dim=2)
    members = torch.nn.functional.one_hot(index, R).float()
    expected = (members / members.sum(2, keepdim=True)).transpose(2, 3) @ convolved
    overlap = region_overlap(region_of_patch, R, kernel)
    assert torch.allclose(layer(regions, given["sizes_BTR"], overlap), expected, atol=1e-5)


def test_convolution_over_overlap_of_unmerged_patches_is_that_by_index() -> None:
    by_overlap, by_index = conv(conv_over="overlap"), conv(conv_over="index")
    unmerged = torch.arange(1, R).expand(B, T, R - 1)
    regions = torch.randn(B, T, R, W)
    left = by_overlap(regions, torch.ones(B, T, R), region_overlap(unmerged, R, 3))
    assert torch.allclose(left, by_index(regions, torch.ones(B, T, R), None), atol=1e-5)


def test_convolution_over_frames_sees_the_mean_over_patches() -> None:
    layer, given = conv(conv_over="frame"), clip()
    regions = torch.randn(B, T, R, W)
    mean = (regions * given["sizes_BTR"][..., None]).sum(2) / (N + 1)
    expected = layer.conv(mean.transpose(1, 2)).transpose(1, 2)[:, :, None]
    assert torch.allclose(layer(regions, given["sizes_BTR"], None), expected, atol=1e-5)


@pytest.mark.parametrize("conv_over", ["frame", "overlap"])
@pytest.mark.parametrize("size_bias", [True, False])
def test_renumbering_the_regions_of_each_frame_changes_nothing(conv_over: str, size_bias: bool) -> None:
    model, given = adapter(conv_over=conv_over, size_bias=size_bias), clip()
    order = torch.stack([1 + torch.randperm(R - 1) for _ in range(B * T)]).view(B, T, R - 1)
    order = torch.cat([torch.zeros_like(order[..., :1]), order], dim=2)
    renumbered = {
        **given,
        "tokens_BTRD": given["tokens_BTRD"].gather(2, order[..., None].expand(-1, -1, -1, D)),
        "sizes_BTR": given["sizes_BTR"].gather(2, order),
        "region_of_patch_BTN": order.argsort(2).gather(2, given["region_of_patch_BTN"]),
    }
    assert torch.allclose(model(**given), model(**renumbered), atol=1e-5)


def test_a_region_split_in_equal_parts_changes_nothing_when_attention_counts_patches() -> None:
    model, given = adapter(size_bias=True), clip()
    tokens, sizes = given["tokens_BTRD"], given["sizes_BTR"].clone()
    sizes[..., -1] = sizes[..., -1] / 2
    split = model(
        given["queries_BTD"], torch.cat([tokens, tokens[:, :, -1:]], 2), torch.cat([sizes, sizes[..., -1:]], 2)
    )
    assert torch.allclose(split, model(given["queries_BTD"], tokens, given["sizes_BTR"]), atol=1e-5)


@pytest.mark.parametrize("conv_over", ["frame", "overlap", "index"])
@pytest.mark.parametrize("kind", ["dense", "depthwise"])
def test_reversing_the_frames_changes_the_result(kind: str, conv_over: str) -> None:
    model, given = adapter(conv=kind, conv_over=conv_over), clip()
    backwards = {name: value.flip(1) for name, value in given.items()}
    assert (model(**given) - model(**backwards)).abs().max() > 1e-3


def test_without_convolution_the_order_of_frames_does_not_matter() -> None:
    model, given = adapter(conv="none"), clip()
    backwards = {name: value.flip(1) for name, value in given.items()}
    assert torch.allclose(model(**given), model(**backwards), atol=1e-5)


@pytest.mark.parametrize("num_frames", [1, 2, 9])
@pytest.mark.parametrize("conv_over", ["frame", "overlap"])
def test_any_number_of_frames_gives_a_unit_embedding(num_frames: int, conv_over: str) -> None:
    given = {name: value[:, :1].expand(-1, num_frames, *value.shape[2:]) for name, value in clip().items()}
    embedding = adapter(conv_over=conv_over)(**given)
    assert torch.allclose(embedding.norm(dim=-1), torch.ones(B), atol=1e-5)


def test_an_untrained_residual_adapter_is_frozen_clip() -> None:
    given = clip()
    expected = torch.nn.functional.normalize(given["frames_BTD"].mean(1), dim=-1)
    assert torch.allclose(adapter(residual=True)(**given), expected, atol=1e-6)


def test_mix_adds_the_frozen_embedding_outside_training_alone() -> None:
    given = clip()
    mixed, plain = adapter(mix=0.5), adapter()
    plain.load_state_dict(mixed.state_dict())
    frozen = torch.nn.functional.normalize(given["frames_BTD"].mean(1), dim=-1)
    expected = torch.nn.functional.normalize(plain(**given) + 0.5 * frozen, dim=-1)
    assert torch.allclose(mixed.eval()(**given), expected, atol=1e-6)
    assert torch.equal(mixed.train()(**given), plain(**given))


def test_learned_queries_ignore_entities() -> None:
    model, given = adapter(queries="learned", num_queries=3), clip()
    other = {**given, "queries_BTD": torch.randn(B, T, D)}
    assert torch.equal(model(**given), model(**other))
    assert model.attend(**given, need_weights=True)[1].shape == (B, 2, 3, T, R)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "num_queries", [1, 3, 8]
)  # below, and with 4 heads at 32 of 16 channels above the limit of the short way
@pytest.mark.parametrize("has_bias", [True, False])
def test_attention_is_that_of_tokens_projected_to_keys_and_values(num_queries: int, has_bias: bool) -> None:
    torch.manual_seed(1)
    attention, queries, tokens = Attention(W, 4, 0.0), torch.randn(B, num_queries, W), torch.randn(B, 7, W)
    torch.nn.init.normal_(attention.key_value.bias)
    bias = torch.randn(B, 1, 1, 7) if has_bias else None
    key, value = attention.key_value(tokens).chunk(2, -1)
    expected = []
    for head in range(4):
        own = slice(head * 4, head * 4 + 4)
        logits = attention.query(queries)[..., own] @ key[..., own].transpose(1, 2) / 2
        expected.append((logits if bias is None else logits + bias[:, 0]).softmax(-1) @ value[..., own])
    assert torch.allclose(attention(queries, tokens, bias)[0], attention.out(torch.cat(expected, -1)), atol=1e-6)


def test_attention_weights_sum_to_one_and_leave_the_result_alone() -> None:
    model, given = adapter(size_bias=True), clip()
    embedding, weights = model.attend(**given, need_weights=True)
    assert weights is not None and weights.shape == (B, 2, T, T, R)
    assert torch.allclose(weights.sum((-1, -2)), torch.ones(B, 2, T), atol=1e-5)
    assert torch.equal(embedding, model(**given))


@pytest.mark.parametrize("changes", [{}, {"conv_over": "overlap"}, {"queries": "learned"}, {"residual": True}])
def test_every_parameter_learns(changes: dict[str, Any]) -> None:
    model = adapter(**changes).train()
    for parameter in model.parameters():  # a residual adapter starts at zero, where most gradients are zero
        torch.nn.init.normal_(parameter, std=0.1)
    model(**clip())[:, 0].sum().backward()
    for name, parameter in model.named_parameters():
        if not name.endswith("key_value.bias"):  # a bias on all keys alike moves no softmax
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_missing_inputs_are_named() -> None:
    given = clip()
    with pytest.raises(ModelError, match="region_of_patch"):
        adapter(conv_over="overlap")(given["queries_BTD"], given["tokens_BTRD"])
    for changes in ({"residual": True}, {"mix": 0.3}):
        with pytest.raises(ModelError, match="image embeddings"):
            adapter(**changes)(given["queries_BTD"], given["tokens_BTRD"])


@pytest.mark.parametrize(
    "bad",
    [
        {"num_heads": 5},
        {"conv": "sparse"},
        {"conv_kernel": 2},
        {"dropout": 1.0},
        {"dim": 0},
        {"queries": "all"},
        {"mix": -1.0},
    ],
)
def test_bad_adapter_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="expected"):
        AdapterConfig(**{**SMALL, **bad})


@pytest.mark.parametrize("conv_over", ["frame", "overlap"])
def test_it_learns_to_tell_clips_from_their_reverse(conv_over: str) -> None:
    model, given = adapter(conv_over=conv_over, num_blocks=1).train(), clip()
    both = {name: torch.cat([value, value.flip(1)]) for name, value in given.items()}
    labels = torch.nn.functional.normalize(torch.randn(2, D), dim=-1)
    truth = torch.arange(2).repeat_interleave(B)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(10 * model(**both) @ labels.T, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
