"""The whole model on a tiny random CLIP: both ways in agree, and without an adapter it is zero-shot CLIP."""

from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from alt_ray.errors import ModelError
from alt_ray.models.adapter import AdapterConfig, VideoAdapter
from alt_ray.models.alignment import AlignmentConfig
from alt_ray.models.alt import AltModel
from alt_ray.models.encoder import RegionEncoder, load_encoder

TINY: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
LABELS, ENTITIES = ("run", "swim", "throw"), ("arm", "ball", "grass", "leg", "water")
B, T = 2, 3


@pytest.fixture(scope="module")
def encoder() -> RegionEncoder:
    return load_encoder(TINY, merge_r=3)


def frames(seed: int = 0) -> torch.Tensor:
    return torch.randn(B, T, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def build(encoder: RegionEncoder, adapter: dict[str, Any] | None = None, **options: Any) -> AltModel:
    torch.manual_seed(0)
    return AltModel(
        encoder,
        encoder.encode_text(ENTITIES),
        encoder.encode_text(LABELS),
        adapter=None if adapter is None else VideoAdapter(AdapterConfig.for_model(TINY, num_blocks=1, **adapter)),
        entity_names=ENTITIES,
        label_names=LABELS,
        **options,
    ).eval()


ADAPTERS: list[dict[str, Any] | None] = [None, {}, {"conv_over": "overlap", "residual": True}]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_frames_and_stored_regions_give_the_same(encoder: RegionEncoder, adapter: dict[str, Any] | None) -> None:
    model = build(encoder, adapter)
    direct = model(frames())
    parts = encoder.encode_frames(frames().flatten(0, 1))
    stored = {name: value.unflatten(0, (B, T)) for name, value in vars(parts).items()}
    again = model.from_regions(**stored)
    without_encoder = AltModel(
        None, model.entities, model.labels, adapter=model.adapter, logit_scale=encoder.logit_scale
    ).eval()
    for output in (again, without_encoder.from_regions(**stored)):
        for name, value in vars(direct).items():
            assert torch.equal(value, getattr(output, name)), name


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("frames_per_batch", [1, 4])
def test_micro_batches_of_frames_change_nothing(
    encoder: RegionEncoder, adapter: dict[str, Any] | None, frames_per_batch: int
) -> None:
    whole = build(encoder, adapter)(frames())
    parts = build(encoder, adapter, frames_per_batch=frames_per_batch)(frames())
    assert torch.allclose(whole.logits, parts.logits, atol=1e-4)
    assert torch.equal(whole.entity_index, parts.entity_index)


def test_without_adapter_it_is_zero_shot_clip(encoder: RegionEncoder) -> None:
    unmerged = load_encoder(TINY)
    output = build(unmerged)(frames())
    images = normalize(unmerged.clip.encode_image(frames().flatten(0, 1)), dim=-1)
    video = normalize(images.unflatten(0, (B, T)).mean(1), dim=-1)
    logits = unmerged.clip.logit_scale.exp() * video @ unmerged.encode_text(LABELS).T
    assert torch.allclose(output.logits, logits, atol=1e-4)


def test_an_untrained_residual_adapter_gives_the_logits_of_zero_shot_clip(encoder: RegionEncoder) -> None:
    assert torch.allclose(
        build(encoder, {"residual": True})(frames()).logits, build(encoder)(frames()).logits, atol=1e-4
    )


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_output_is_normalised_and_entity_weights_are_sorted_shares(
    encoder: RegionEncoder, adapter: dict[str, Any] | None
) -> None:
    output = build(encoder, adapter, num_top_entities=99)(frames())
    assert output.logits.shape == (B, len(LABELS)) and output.logits.dtype == torch.float32
    assert torch.allclose(output.embedding.norm(dim=-1), torch.ones(B), atol=1e-5)
    assert torch.allclose(output.entity_weight.sum(1), torch.ones(B))
    assert torch.equal(output.entity_weight, output.entity_weight.sort(1, descending=True).values)
    assert output.entity_index.shape == (B, len(ENTITIES))


def test_entities_come_from_the_features_that_regions_align_by(encoder: RegionEncoder) -> None:
    model = build(encoder, {}, alignment=AlignmentConfig(class_token=False))
    tokens, sizes = torch.randn(1, 1, 3, 16), torch.tensor([[[1.0, 3, 1]]])
    align_tokens = torch.stack([model.entities[4], model.entities[1], model.entities[2]])[None, None]
    output = model.from_regions(tokens, sizes, align_tokens=align_tokens)
    assert output.entity_index[0, :2].tolist() == [1, 2] and output.entity_weight[0, :2].tolist() == [0.75, 0.25]


def test_half_precision_regions_are_taken(encoder: RegionEncoder) -> None:
    model = build(encoder, {})
    tokens, sizes = torch.randn(B, T, 5, 16), torch.ones(B, T, 5)
    stored = model.from_regions(tokens.half(), sizes.half()).logits
    assert torch.allclose(stored, model.from_regions(tokens, sizes).logits, atol=0.1)


def test_only_the_adapter_trains_and_is_saved(encoder: RegionEncoder) -> None:
    model = build(encoder, {}).train()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == set(model.state_dict()) and all(name.startswith("adapter.") for name in trained)
    model(frames()).logits.logsumexp(1).sum().backward()
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert any(parameter.grad is not None for parameter in model.parameters())


def test_other_labels_change_logits_and_nothing_else(encoder: RegionEncoder) -> None:
    model = build(encoder, {})
    before = model(frames())
    model.set_labels(encoder.encode_text(("jump", "run")), ("jump", "run"))
    after = model(frames())
    assert torch.allclose(after.logits[:, 1], before.logits[:, 0], atol=1e-5)
    assert torch.equal(after.embedding, before.embedding)
    assert model.label(frames(), top=1)[0].labels[0][0] in ("jump", "run")


def test_words_are_those_of_the_best_logits(encoder: RegionEncoder) -> None:
    model = build(encoder)
    raw = torch.randint(0, 256, (T, 32, 32, 3), dtype=torch.uint8)
    (clip,) = model.label(raw, top=2)
    output = model(encoder.normalise(raw)[None])
    assert clip.labels[0][0] == LABELS[int(output.logits.argmax())] and len(clip.labels) == 2
    assert clip.entities[0] == (ENTITIES[int(output.entity_index[0, 0])], output.entity_weight[0, 0].item())


def test_what_does_not_fit_is_refused(encoder: RegionEncoder) -> None:
    entities, labels = encoder.encode_text(ENTITIES), encoder.encode_text(LABELS)
    with pytest.raises(ModelError, match="dimensions differ"):
        AltModel(encoder, entities[:, :8], labels)
    with pytest.raises(ModelError, match="names"):
        AltModel(encoder, entities, labels, label_names=("one",))
    with pytest.raises(ModelError, match="logit_scale"):
        AltModel(None, entities, labels)
    with pytest.raises(ModelError, match="without an encoder"):
        AltModel(None, entities, labels, logit_scale=1.0)(frames())
    averaging = load_encoder({**TINY, "vision_cfg": {**TINY["vision_cfg"], "pool_type": "avg"}})
    with pytest.raises(ModelError, match="pooled"):
        AltModel(averaging, entities, labels).from_regions(torch.randn(B, T, 5, 16), torch.ones(B, T, 5))
