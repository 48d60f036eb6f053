"""What ships means something: on clips that no training saw it is far above chance. The figures stand in docs/pocket.md; the
bounds here leave room for the few clips that a test can afford."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from alt_ray import bundled
from alt_ray.cli import main
from alt_ray.models.alt import AltModel
from alt_ray.models.checkpoint import load_checkpoint
from alt_ray.models.encoder import RegionEncoder, load_encoder
from alt_ray.pocket.archive import ArchiveOptions, write_archive
from alt_ray.pocket.probe import zero_shot
from alt_ray.pocket.region_truth import masked_frames, region_report
from alt_ray.pocket.tasks import HELD_OUT_SEED
from alt_ray.pocket.train import accuracy, encode_actions
from alt_ray.pocket.vocabulary import SEEN_ACTIONS, UNSEEN_ACTIONS, pocket_corpus

SEED = HELD_OUT_SEED + 77


@pytest.fixture(scope="module")
def encoder() -> RegionEncoder:
    schedule = load_checkpoint("pocket").config.encoder.merge_schedule
    return load_encoder("pocket", "pocket", merge_r=schedule)


@pytest.fixture(scope="module")
def model(encoder: RegionEncoder) -> AltModel:
    return load_checkpoint("pocket", corpus_digest=pocket_corpus().digest).model(encoder)


def test_the_weights_that_ship_are_small() -> None:
    file = bundled.encoder_weights("pocket")
    assert file is not None
    assert file.stat().st_size < 10_000_000


def test_frames_are_recognised_zero_shot() -> None:
    found = zero_shot(load_encoder("pocket"), per_action=3, seed=SEED)
    assert found["scene"] > 0.9
    assert found["object"] > 0.8
    assert found["seen_action"] > 0.6
    assert found["unseen_action"] > 2 * found["chance_unseen_action"]
    assert found["body_part"] > 2 * found["chance_body_part"]


def test_regions_are_aligned_with_what_they_show(encoder: RegionEncoder) -> None:
    report = region_report(encoder, masked_frames(100, encoder.image_size, SEED))
    assert report.named_right["all"] > 10 * report.chance
    assert report.balanced > 20 * report.chance
    for category in ("body_part", "object", "scene"):
        assert report.named_right[category] > 5 * report.chance
        assert report.named_among_own[category] > 0.8


def test_the_adapter_knows_the_actions_that_it_was_trained_on(encoder: RegionEncoder, model: AltModel) -> None:
    assert accuracy(model, encode_actions(encoder, SEEN_ACTIONS, 4, SEED)) > 0.85


def test_the_adapter_is_above_chance_on_actions_that_nothing_named(encoder: RegionEncoder) -> None:
    model = load_checkpoint("pocket").model(encoder)
    model.set_labels(encoder.encode_text([f"a photo of a person {name}" for name in UNSEEN_ACTIONS]), UNSEEN_ACTIONS)
    assert accuracy(model, encode_actions(encoder, UNSEEN_ACTIONS, 12, SEED)) > 3 / len(UNSEEN_ACTIONS)


@pytest.mark.usefixtures("ray_here")
def test_label_with_nothing_named_labels_pocket_videos_and_says_what_it_uses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_archive(tmp_path, len(SEEN_ACTIONS), ArchiveOptions(seed=SEED, actions=SEEN_ACTIONS))
    with pytest.raises(SystemExit) as exit_:
        main(["label", str(manifest), "--out", str(tmp_path / "out")])
    assert exit_.value.code == 0
    assert "recipe pocket" in capsys.readouterr().err.splitlines()[0]
    rows = pq.read_table(tmp_path / "out" / "labels").to_pylist()
    assert len(rows) == len(SEEN_ACTIONS)
    right = [row["label"].replace(" ", "_") in row["uri"] for row in rows]
    assert sum(right) > 0.8 * len(rows)
