import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from alt_ray.models.encoder import load_encoder
from alt_ray.pocket.contrast import contrastive_loss
from alt_ray.pocket.pretrain import MODEL, Batches, PretrainOptions, encode_patches, pretrain

NO, YES = False, True


def loss_of(logits: list[list[float]], is_true: list[list[bool]], is_known: list[list[bool]]) -> float:
    return float(contrastive_loss(torch.tensor(logits), torch.tensor(is_true), torch.tensor(is_known)))


def test_where_only_own_captions_are_true_the_loss_is_clips() -> None:
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    own = torch.arange(5)
    clip = (torch.nn.functional.cross_entropy(logits, own) + torch.nn.functional.cross_entropy(logits.T, own)) / 2
    found = contrastive_loss(logits, torch.eye(5, dtype=torch.bool), torch.ones(5, 5, dtype=torch.bool))
    torch.testing.assert_close(found, clip)


def test_a_caption_that_is_true_too_or_of_which_nothing_is_known_is_no_rival() -> None:
    known = [[YES, YES], [YES, YES]]
    own = [[YES, NO], [NO, YES]]
    both = [[YES, YES], [YES, YES]]
    rival = [[0.0, 9.0], [9.0, 0.0]]
    assert loss_of(rival, own, known) > 8
    assert loss_of(rival, both, known) == pytest.approx(0, abs=1e-6)
    assert loss_of(rival, own, [[YES, NO], [NO, YES]]) == pytest.approx(0, abs=1e-6)


def test_a_caption_is_asked_for_every_picture_of_which_it_is_true() -> None:
    # Caption 0 is true of pictures 0 and 1 and false of picture 2.
    is_true = [[YES, NO, NO], [YES, YES, NO], [NO, NO, YES]]
    known = [[YES] * 3] * 3
    found_both = [[5.0, 0.0, 0.0], [5.0, 5.0, 0.0], [0.0, 0.0, 5.0]]
    found_one = [[5.0, 0.0, 0.0], [-5.0, 5.0, 0.0], [0.0, 0.0, 5.0]]
    assert loss_of(found_one, is_true, known) > loss_of(found_both, is_true, known) + 0.3


def test_a_part_is_asked_for_its_facts_but_for_no_caption_of_its_own() -> None:
    # Row 2 is a part of which caption 1 is true; nothing in column 2 belongs to it.
    is_true = [[YES, NO], [NO, YES], [NO, YES]]
    known = [[YES, YES]] * 3
    right, wrong = [[5.0, 0.0], [0.0, 5.0], [0.0, 5.0]], [[5.0, 0.0], [0.0, 5.0], [5.0, 0.0]]
    losses = [
        float(contrastive_loss(torch.tensor(x), torch.tensor(is_true), torch.tensor(known), 2)) for x in (right, wrong)
    ]
    assert losses[1] > losses[0] + 0.2


def test_patches_that_are_not_dropped_average_to_what_the_tower_returns() -> None:
    visual = load_encoder(MODEL, seed=1).clip.visual
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    every = torch.stack([torch.randperm(64, generator=torch.Generator().manual_seed(i)) for i in range(2)])
    torch.testing.assert_close(encode_patches(visual, images, every).mean(1), visual(images))
    assert encode_patches(visual, images, every[:, :10]).shape == (2, 10, 128)


def test_embeddings_of_a_batch_are_averages_over_the_patches_that_lie_in_their_part() -> None:
    batch = next(iter(Batches(PretrainOptions(batch=4))))
    assert batch.kept.shape == (4, 32)
    assert batch.picture_of[:4].tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(batch.weights.sum(1), torch.ones(len(batch.weights)))
    assert batch.weights[:4].eq(1 / 32).all()
    for weights, picture in zip(batch.weights[4:], batch.picture_of[4:].tolist(), strict=True):
        cells = batch.kept[picture][weights > 0]
        assert cells.div(8, rounding_mode="floor").unique().numel() <= 4  # rows; a part is a rectangle of at most 4 x 4
        assert (cells % 8).unique().numel() <= 4
    assert batch.is_true.shape == batch.is_known.shape == (len(batch.weights), len(batch.tokens))
    assert batch.is_true[:4, :4].diagonal().all()


@pytest.mark.slow
def test_pretraining_writes_weights_that_load_and_follow_the_seed(tmp_path: Path) -> None:
    said: list[str] = []
    for name in ("one", "two"):
        pretrain(tmp_path / name, PretrainOptions(steps=3, batch=16, warmup=1), say=said.append)
    one, two = (load_file(tmp_path / name / "pocket_clip.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert {tensor.dtype for tensor in one.values() if tensor.is_floating_point()} == {torch.float16}
    assert (tmp_path / "one" / "pocket_clip.safetensors").stat().st_size < 10_000_000
    encoder = load_encoder(tmp_path / "one" / "model.json", tmp_path / "one" / "pocket_clip.safetensors")
    assert encoder.image_size == 64
    log = json.loads((tmp_path / "one" / "pretrain.json").read_text())
    assert log["options"]["steps"] == log["log"][-1]["step"] == 3
    assert json.loads(said[-1])["loss"] == log["log"][-1]["loss"]
