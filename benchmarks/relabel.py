"""What a clip costs in one process of relabel, by its parts, for stores of random regions; prints a table of docs/training.md.

python -m benchmarks.relabel [--clips 128] [--repeats 5]

CPU time on one thread, the least of several runs: on a shared machine that is the steadiest. `read`: rows out of Parquet;
`model`: alignment, entities, labels; `rows`: Python lists and Arrow; `whole`: as a worker does it, reading in a thread beside
the model.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from alt_ray.config import ClusterOptions, EncoderOptions
from alt_ray.corpus.files import load_corpus
from alt_ray.engine.model import label_columns
from alt_ray.engine.relabel import batch_clips
from alt_ray.engine.relabeling import CLIP_COLUMNS, RelabelRanges
from alt_ray.engine.request import ModelRequest, PreparedModel
from alt_ray.engine.resources import plan_resources
from alt_ray.features.ranges import RowRange, read_ranges, shards_of
from alt_ray.features.store import FeatureStore, tensor_values
from alt_ray.models.encoder import load_encoder
from benchmarks.features import LABELS, record_of, synthetic, unit


def least_s(function: Callable[[], object], repeats: int) -> tuple[float, float]:
    """The least (CPU seconds, seconds) of several calls; the first one, which warms up, does not count."""
    function()
    found = []
    for _ in range(repeats):
        begun_s, cpu_s = time.perf_counter(), time.process_time()
        function()
        found.append((time.process_time() - cpu_s, time.perf_counter() - begun_s))
    return min(cpu for cpu, _ in found), min(wall for _, wall in found)


def measure(name: str, merge_r: int, clips: int, repeats: int) -> None:
    """Print the row of one encoder."""
    corpus, labels = load_corpus(None, {}), tuple(LABELS.split(","))
    encoder = load_encoder(name, None, merge_r=merge_r)
    record = record_of(encoder)
    rng = np.random.default_rng(0)
    prepared = PreparedModel(
        labels=labels,
        entity_names=tuple(entity.name for entity in corpus.entities),
        entity_categories=tuple(entity.category for entity in corpus.entities),
        labels_CD=unit(rng.normal(size=(len(labels), record.dim))),
        entities_KD=unit(rng.normal(size=(len(corpus), record.dim))),
        dim=record.dim,
        num_frames=record.num_frames,
        image_size=encoder.image_size,
        resize_mode="shortest",
        interpolation="bicubic",
        identity={},
    )
    request = ModelRequest(EncoderOptions(), "cpu", labels, corpus=corpus)
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(synthetic(Path(folder) / "store", clips, record))
        shard = pa.concat_tables(shards_of(store.places(), store.part_uris(), 1, clips))
        ranges = [RowRange(**row) for row in shard.to_pylist()]
        at_once = batch_clips(record, plan_resources(2, 0, 2**34, ClusterOptions()))
        stage = RelabelRanges(request, prepared, record, at_once)
        columns = (*CLIP_COLUMNS, *stage.tensors)
        tables = list(read_ranges(ranges, record, columns, at_once))
        frames = torch.zeros(record.num_frames, 3, encoder.image_size, encoder.image_size)

        def model() -> None:
            for table in tables:
                found = {n: torch.from_numpy(_signed(table, n, stage)) for n in stage.tensors}
                with torch.inference_mode():
                    output = stage.model.from_regions(found["regions"], found["sizes"], pooled=found["pooled"])
                    label_columns(output, table.num_rows, 1, stage.request, stage.prepared)

        batch = {column: shard[column].to_numpy() for column in shard.column_names}
        with torch.inference_mode():
            encode_s = least_s(lambda: encoder.encode_frames(frames), repeats)[0]
        read_s = least_s(lambda: list(read_ranges(ranges, record, columns, at_once)), repeats)[0]
        model_s = least_s(model, repeats)[0]
        both_s = least_s(lambda: [stage._label(table) for table in tables], repeats)[0]
        whole_s, wall_s = least_s(lambda: list(stage(batch)), repeats)
        read, of_model, rows, whole = (
            1000 * seconds / clips for seconds in (read_s, model_s, max(both_s - model_s, 0.0), whole_s)
        )
        print(
            f"| {name} | {read:.2f} | {of_model:.2f} | {rows:.2f} | {whole:.2f} | {clips / wall_s:.0f} "
            f"| {1000 * encode_s:.0f} | {1000 * encode_s / whole:.0f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| features | read, ms | model, ms | rows, ms | whole, ms | whole, clips/s | encoder alone, ms | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for name, merge_r in (("ViT-B-16", 8), ("pocket", 4)):
        measure(name, merge_r, given.clips, given.repeats)


def _signed(table: pa.Table, name: str, stage: RelabelRanges) -> np.ndarray:
    values = tensor_values(table[name], *stage.store.tensors[name])
    return values.astype(np.int32) if values.dtype == np.uint16 else values


if __name__ == "__main__":
    main()
