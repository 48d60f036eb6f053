import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from alt_ray.errors import ModelError
from alt_ray.models.adapter import VideoAdapter
from alt_ray.models.alt import AltModel
from alt_ray.models.configs import AdapterConfig
from alt_ray.models.encoder import load_encoder
from alt_ray.models.regionset import RegionSet, encode_clips
from alt_ray.models.training import EpochLog, RegionClassifier, TrainOptions, predict, train
from tests.media import TINY_CLIP

D, T, R, P = 16, 4, 5, 4
SHORT = TrainOptions(epochs=12, lr=3e-3, warmup_epochs=1)


def toy_set(num_clips: int, seed: int) -> RegionSet:
    """Clips of two labels: the same two kinds of frames, in one order or in the other."""
    generator = torch.Generator().manual_seed(seed)
    kinds_2D = torch.randn(2, D, generator=torch.Generator().manual_seed(99))
    target_N = torch.arange(num_clips) % 2
    kind_NT = (torch.arange(T) >= T // 2).long()[None] ^ target_N[:, None]
    tokens = kinds_2D[kind_NT][:, :, None] + 0.3 * torch.randn(num_clips, T, R, D, generator=generator)
    return RegionSet(
        tokens=tokens.half(),
        sizes=torch.ones(num_clips, T, R).half(),
        region_of_patch=torch.arange(1, R).short().expand(num_clips, T, P),
        pooled=tokens.mean(2).half(),
        target=target_N,
    )


@pytest.mark.parametrize("warmup", [0.0, 0.5, 1.0, 2.5])
def test_the_rate_rises_to_its_highest_and_never_above(warmup: float) -> None:
    options = dataclasses.replace(SHORT, warmup_epochs=warmup)
    shares = [options.lr_share_at(step, 5) for step in range(60)]
    assert 0.95 < max(shares) <= 1
    assert 0 < shares[-1] < 0.01


def toy_model(seed: int = 0) -> AltModel:
    torch.manual_seed(seed)
    texts = F.normalize(torch.randn(6, D), dim=-1)
    adapter = VideoAdapter(AdapterConfig(dim=D, width=32, num_heads=2, num_blocks=2))
    return AltModel(None, texts[2:], texts[:2], adapter=adapter, logit_scale=math.log(20))


def fit(model: AltModel, data: RegionSet, options: TrainOptions) -> list[EpochLog]:
    classifier = RegionClassifier(model, torch.Generator().manual_seed(options.seed))
    return train(classifier, lambda epoch: data.shuffled(8, 0, epoch), data.num_batches(8), options)


@pytest.mark.parametrize("muon_lr", [0.0, 0.02], ids=["AdamW", "Muon"])
def test_training_learns_what_only_the_order_of_frames_tells(muon_lr: float) -> None:
    model, held_out = toy_model(), toy_set(40, seed=2)
    logs = fit(model, toy_set(64, seed=1), dataclasses.replace(SHORT, muon_lr=muon_lr))
    logits, target = predict(RegionClassifier(model), held_out.in_order(16))
    assert (logits.argmax(-1) == target).float().mean() == 1.0
    assert [log.epoch for log in logs] == list(range(1, 13))
    assert logs[-1].loss < logs[0].loss
    assert not model.training


def test_the_same_seed_trains_the_same_adapter() -> None:
    data, short = toy_set(24, seed=1), dataclasses.replace(SHORT, epochs=2)
    one, other, third = toy_model(), toy_model(), toy_model()
    assert fit(one, data, short) == fit(other, data, short)
    fit(third, data, dataclasses.replace(short, seed=1))  # other noise
    assert one.adapter and other.adapter and third.adapter
    for name, weight in one.adapter.state_dict().items():
        assert torch.equal(weight, other.adapter.state_dict()[name])
    assert any(not torch.equal(w, third.adapter.state_dict()[name]) for name, w in one.adapter.state_dict().items())


def test_the_learning_rate_rises_and_falls() -> None:
    options = TrainOptions(epochs=10, warmup_epochs=2)
    rates = [options.lr_share_at(step, steps_per_epoch=5) for step in range(50)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[30] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.01


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"lr": 0.0}, {"muon_lr": -1.0}, {"warmup_epochs": 31.0}, {"label_smoothing": 1.0}]
)
def test_impossible_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ModelError, match="expected"):
        TrainOptions(**wrong)  # type: ignore[arg-type]


def test_nothing_to_train_too_few_batches_and_a_lost_loss_are_named() -> None:
    data = toy_set(8, seed=1)
    frozen = AltModel(None, torch.eye(D)[:4], torch.eye(D)[:2], logit_scale=1.0)
    with pytest.raises(ModelError, match="adapter"):
        fit(frozen, data, SHORT)
    with pytest.raises(ModelError, match="expected 3"):
        train(RegionClassifier(toy_model()), lambda epoch: data.in_order(8), 3, SHORT)
    broken = dataclasses.replace(data, tokens=data.tokens * float("nan"))
    with pytest.raises(ModelError, match="lower lr"):
        fit(toy_model(), broken, SHORT)


def test_a_shuffled_epoch_has_every_clip_once_in_an_order_of_its_own() -> None:
    data = toy_set(20, seed=1).with_target(torch.arange(20))
    orders = [torch.cat([batch.target for batch in data.shuffled(8, 3, epoch)]).tolist() for epoch in (0, 1, 0)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(20))
    assert orders[0] == orders[2] != orders[1]
    assert data.num_batches(8) == 3
    assert data.subset(torch.tensor([3, 5])).target.tolist() == [3, 5]


@pytest.mark.parametrize("region_features", ["final", "value"])
def test_encoded_clips_are_what_the_model_sees_of_them(region_features: str) -> None:
    encoder = load_encoder(TINY_CLIP, merge_r=3, region_features=region_features)
    clips = np.random.default_rng(0).integers(0, 256, (5, 2, encoder.image_size, encoder.image_size, 3), np.uint8)
    data = encode_clips(encoder, iter(clips), [0, 1, 0, 1, 0], clips_per_batch=2)
    model = AltModel(
        encoder, encoder.encode_text(["arm", "ball", "park"]), encoder.encode_text(["running", "waving"])
    ).eval()
    frames = encoder.normalise(torch.from_numpy(clips).flatten(0, 1)).unflatten(0, (5, 2))
    with torch.no_grad():
        direct = model(frames)
    stored, target = predict(RegionClassifier(model), data.in_order(5))
    assert target.tolist() == [0, 1, 0, 1, 0]
    torch.testing.assert_close(stored, direct.logits, atol=0.05, rtol=0)
    with pytest.raises(ModelError, match="expected as many"):
        encode_clips(encoder, iter(clips), [0, 1])
