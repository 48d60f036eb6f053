"""What a worker of relabel makes of row ranges is what the model says of all that is stored."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from alt_ray.config import ClusterOptions, EncoderOptions
from alt_ray.corpus.entities import Corpus, Entity
from alt_ray.engine.relabel import MAX_SHARD_CLIPS, batch_clips, open_store, shard_clips
from alt_ray.engine.relabeling import RelabelRanges, prepare_relabel, tensors_needed
from alt_ray.engine.request import ModelRequest
from alt_ray.engine.resources import plan_resources
from alt_ray.features.ranges import shards_of
from alt_ray.features.store import FeatureStore
from alt_ray.models.alt import AltModel
from alt_ray.models.checkpoint import EncoderRecord, load_checkpoint
from tests.stores import LABELS, pocket_record, write_store

ENTITIES = Corpus(tuple(Entity(name, "object") for name in ("ball", "guitar", "wall", "drum")), "test")


@pytest.mark.parametrize(("adapter", "align"), [("pocket", False), (None, False), (None, True)])
def test_labels_and_entities_follow_from_the_tensors_that_are_read(
    tmp_path: Path, adapter: str | None, align: bool
) -> None:
    record = pocket_record(views=2, train_views=1, **({"region_features": "value"} if align else {}))
    store = FeatureStore(str(write_store(tmp_path, 13, record)))
    request = ModelRequest(EncoderOptions(), "cpu", LABELS, adapter=adapter, corpus=None if adapter else ENTITIES)
    prepared = prepare_relabel(request, record)
    (shard,) = shards_of(store.places(), store.part_uris(), record.views_per_clip, 100)
    stage = RelabelRanges(request, prepared, record, batch_clips=4)
    found = pa.concat_tables(stage({name: shard[name].to_numpy() for name in shard.column_names}))

    stored = {name: torch.from_numpy(values.astype(np.float32)) for name, values in store.read(rows_of(13)).items()}
    texts = torch.tensor(prepared.entities_KD), torch.tensor(prepared.labels_CD)
    if adapter:
        model = load_checkpoint(adapter).model(None)
        model.set_labels(texts[1])
    else:
        model = AltModel(None, *texts, logit_scale=EncoderRecord(**record.encoder).logit_scale)
    with torch.inference_mode():
        output = model.from_regions(
            stored["regions"],
            stored["sizes"],
            align_tokens=stored.get("align"),
            region_of_patch=stored["region_of_patch"],
            pooled=stored["pooled"],
        )
    scores = output.logits.softmax(-1).unflatten(0, (13, 2)).mean(1)
    assert found["video_id"].to_pylist() == [f"id{i:06d}" for i in range(13)]
    assert found["error"].null_count == 13
    assert found["label"].to_pylist() == [LABELS[i] for i in scores.argmax(-1).tolist()]
    np.testing.assert_allclose(found["score"].to_numpy(), scores.max(-1).values.numpy(), atol=1e-5)
    first = [entities[0]["weight"] for entities in found["entities"].to_pylist()]
    shares = torch.zeros(13, len(prepared.entity_names))
    shares.scatter_add_(1, output.entity_index.reshape(13, -1), output.entity_weight.reshape(13, -1) / 2)
    np.testing.assert_allclose(first, shares.max(-1).values.numpy(), atol=1e-5)


def rows_of(num_clips: int) -> list[int]:
    return [3 * (i // 2) + i % 2 for i in range(2 * num_clips)]


def test_without_an_adapter_one_of_regions_and_align_is_read() -> None:
    assert tensors_needed(pocket_record(), None) == ("regions", "sizes", "pooled")
    assert tensors_needed(pocket_record(region_features="value"), None) == ("align", "sizes", "pooled")
    config = load_checkpoint("pocket").config.adapter
    assert set(tensors_needed(pocket_record(), config)) <= set(pocket_record().tensors)


@pytest.mark.parametrize("num_clips", [1, 40, 1000, 10**6, 10**8])
def test_shards_are_whole_batches_and_so_few_that_ray_can_keep_them_in_mind(num_clips: int) -> None:
    record = pocket_record()
    plan = plan_resources(
        64, 0, 2**40, ClusterOptions(batch_clips=batch_clips(record, plan_resources(2, 0, 2**34, ClusterOptions())))
    )
    size = shard_clips(num_clips, record, plan)
    assert size % plan.batch_clips == 0
    assert num_clips / size <= 20_000
    assert size <= max(MAX_SHARD_CLIPS, num_clips / 20_000) + plan.batch_clips


def test_what_the_driver_keeps_of_a_store_grows_by_little_a_clip(tmp_path: Path) -> None:
    few = open_store(str(write_store(tmp_path / "few", 10))).clips.nbytes
    many = open_store(str(write_store(tmp_path / "many", 1010, part_clips=101))).clips.nbytes
    assert (many - few) / 1000 < 40
    assert open_store(str(tmp_path / "few"), limit=3).clips["video_id"].to_pylist() == [f"id{i:06d}" for i in range(3)]
