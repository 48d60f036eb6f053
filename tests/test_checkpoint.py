"""Checkpoints: exact round trips, and every mismatch or damage refused by name."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import alt_ray
from alt_ray.errors import CheckpointError
from alt_ray.models.adapter import AdapterConfig, VideoAdapter
from alt_ray.models.checkpoint import (
    Checkpoint,
    CheckpointConfig,
    EncoderRecord,
    encoder_of,
    load_checkpoint,
    same_encoder_of,
    save_checkpoint,
)
from alt_ray.models.configs import AlignmentConfig
from alt_ray.models.encoder import RegionEncoder, load_encoder

TINY: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
MERGE = (3, 2)


@pytest.fixture(scope="module")
def encoder() -> RegionEncoder:
    return load_encoder(TINY, merge_r=MERGE)


def make(encoder: RegionEncoder, seed: int = 0) -> Checkpoint:
    torch.manual_seed(seed)
    labels, entities = ("run", "naïve “jump”"), ("arm", "ball", "water")
    config = CheckpointConfig(
        encoder=EncoderRecord.of(encoder),
        adapter=AdapterConfig.for_model(TINY, num_blocks=1, conv_over="overlap"),
        alignment=AlignmentConfig(temperature=0.1 / 3),
        labels=labels,
        template="a photo of a {}.",
        corpus_digest="sha256:corpus",
        entity_names=entities,
        entity_categories=("body part", "object", "scene"),
        sampling={"num_frames": 8},
    )
    return Checkpoint(
        config, VideoAdapter(config.adapter).eval(), encoder.encode_text(entities), encoder.encode_text(labels)
    )


@pytest.fixture
def folder(encoder: RegionEncoder, tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "run" / "best", make(encoder))


def test_round_trip_is_bit_exact(encoder: RegionEncoder, folder: Path) -> None:
    saved, loaded = make(encoder), load_checkpoint(folder)
    assert loaded.config == saved.config
    assert torch.equal(loaded.entities, saved.entities) and torch.equal(loaded.labels, saved.labels)
    state = saved.adapter.state_dict()
    assert all(torch.equal(value, state.pop(name)) for name, value in loaded.adapter.state_dict().items())
    assert not state
    assert sorted(file.name for file in folder.iterdir()) == ["adapter.safetensors", "config.json"]
    assert sorted(folder.parent.iterdir()) == [folder]


def test_loaded_model_gives_the_same_logits_with_its_encoder_rebuilt(encoder: RegionEncoder, folder: Path) -> None:
    frames = torch.randn(1, 3, 3, 32, 32)
    expected = make(encoder).model(encoder)(frames)
    model = alt_ray.load(folder)
    assert torch.equal(model(frames).logits, expected.logits)
    assert model.label(frames) == make(encoder).model(encoder).label(frames)


def test_stored_regions_are_labelled_without_an_encoder(encoder: RegionEncoder, folder: Path) -> None:
    regions = {name: value[None] for name, value in vars(encoder.encode_frames(torch.randn(3, 3, 32, 32))).items()}
    expected = make(encoder).model(encoder).from_regions(**regions)
    assert torch.equal(load_checkpoint(folder).model().from_regions(**regions).logits, expected.logits)


def test_saving_again_replaces_the_checkpoint_and_leaves_other_files(encoder: RegionEncoder, folder: Path) -> None:
    (folder / "metrics.json").write_text("{}")
    save_checkpoint(folder, make(encoder, seed=1))
    assert (folder / "metrics.json").exists()
    first = make(encoder, seed=1).adapter.state_dict()
    assert all(torch.equal(value, first[name]) for name, value in load_checkpoint(folder).adapter.state_dict().items())


def test_a_failed_save_leaves_nothing_behind(encoder: RegionEncoder, tmp_path: Path) -> None:
    checkpoint = make(encoder)
    unwritable = replace(checkpoint, config=replace(checkpoint.config, sampling={"when": object()}))
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path / "best", unwritable)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"weights_digest": "sha256:other"}, "weights_digest"),
        ({"merge_schedule": (0, 0)}, "merge_schedule"),
        ({"region_features": "value"}, "region_features"),
        ({"preprocess": {"mean": [0, 0, 0]}}, "preprocess"),
    ],
)
def test_another_encoder_is_refused_with_both_values(
    encoder: RegionEncoder, folder: Path, change: dict[str, Any], named: str
) -> None:
    mine = EncoderRecord.of(encoder)
    load_checkpoint(folder, encoder=mine)
    with pytest.raises(CheckpointError, match=named) as caught:
        load_checkpoint(folder, encoder=replace(mine, **change))
    assert str(getattr(mine, named)) in str(caught.value) and str(change[named]) in str(caught.value)


def test_random_weights_of_any_seed_are_rebuilt_from_the_checkpoint_and_from_what_a_store_recorded(
    tmp_path: Path,
) -> None:
    encoder = load_encoder(TINY, merge_r=MERGE, seed=3)
    checkpoint = load_checkpoint(save_checkpoint(tmp_path / "best", make(encoder)))
    stored = EncoderRecord(**json.loads(json.dumps(EncoderRecord.of(encoder).plain())))
    for record in (checkpoint.config.encoder, stored):
        rebuilt = same_encoder_of(record)
        assert record.seed == 3
        assert rebuilt.name == encoder.name  # the cache of texts goes by it
        torch.testing.assert_close(rebuilt.encode_text(["an arm"]), encoder.encode_text(["an arm"]), rtol=0, atol=0)
    checkpoint.model(encoder_of(checkpoint.config.encoder))
    with pytest.raises(CheckpointError, match="weights_digest"):
        same_encoder_of(replace(stored, seed=0))


def test_a_record_of_the_usual_seed_is_as_it_was_before_records_had_one(encoder: RegionEncoder) -> None:
    record = EncoderRecord.of(encoder)
    assert "seed" not in record.plain()
    assert EncoderRecord(**record.plain()) == record


def test_a_live_encoder_with_other_weights_or_merging_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="weights_digest"):
        load_checkpoint(folder).model(load_encoder(TINY, merge_r=MERGE, seed=1))
    with pytest.raises(CheckpointError, match="merge_schedule"):
        load_checkpoint(folder).model(load_encoder(TINY))


def test_another_corpus_is_refused_with_both_digests(folder: Path) -> None:
    load_checkpoint(folder, corpus_digest="sha256:corpus")
    with pytest.raises(CheckpointError, match=r"corpus digest.*sha256:corpus.*sha256:new"):
        load_checkpoint(folder, corpus_digest="sha256:new")


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def forge(folder: Path) -> None:
    """A config that another adapter was saved with: every file is whole, but they don't belong together."""
    edit(folder, lambda config: config["adapter"].update(num_blocks=2))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: shutil.rmtree(folder), "config.json can't be read"),
        (lambda folder: (folder / "config.json").unlink(), "config.json can't be read"),
        (lambda folder: (folder / "adapter.safetensors").unlink(), "adapter.safetensors can't be read"),
        (lambda folder: cut(folder / "adapter.safetensors"), "adapter.safetensors is damaged"),
        (lambda folder: cut(folder / "config.json"), "not JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "format_version None"),
        (lambda folder: edit(folder, lambda config: config.update(format_version=99)), "is of format 99"),
        (lambda folder: edit(folder, lambda config: config.pop("template")), "template"),
        (lambda folder: edit(folder, lambda config: config.update(tempo=1)), "tempo"),
        (lambda folder: edit(folder, lambda config: config["alignment"].update(temperature=-1)), "temperature -1"),
        (lambda folder: edit(folder, lambda config: config["labels"].append("x")), "labels"),
        (forge, "does not hold the adapter"),
    ],
)
def test_damage_is_refused_and_named(folder: Path, damage: Callable[[Path], Any], named: str) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=named):
        load_checkpoint(folder)


def test_a_half_replaced_pair_is_refused(encoder: RegionEncoder, folder: Path, tmp_path: Path) -> None:
    newer = save_checkpoint(tmp_path / "newer", make(encoder, seed=1))
    shutil.copy(newer / "adapter.safetensors", folder / "adapter.safetensors")
    with pytest.raises(CheckpointError, match="another"):
        load_checkpoint(folder)


def test_who_may_read_the_folder_may_read_its_files(folder: Path) -> None:
    modes = {file.stat().st_mode & 0o777 for file in folder.iterdir()}
    (folder / "new").write_text("")
    assert modes == {(folder / "new").stat().st_mode & 0o777}


def test_weights_are_plain_safetensors(folder: Path) -> None:
    names = set(load_file(folder / "adapter.safetensors"))
    assert {"entities", "labels"} < names and all(
        name.startswith("adapter.") for name in names - {"entities", "labels"}
    )


def test_an_encoder_that_moved_is_named(encoder: RegionEncoder, tmp_path: Path) -> None:
    checkpoint = make(encoder)
    record = replace(checkpoint.config.encoder, pretrained=str(tmp_path / "gone.safetensors"))
    folder = save_checkpoint(tmp_path / "best", replace(checkpoint, config=replace(checkpoint.config, encoder=record)))
    with pytest.raises(CheckpointError, match="pretrained"):
        alt_ray.load(folder)
