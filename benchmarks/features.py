"""What stored features save, and what using them costs; prints the tables of docs/training.md.

python benchmarks/features.py training VIDEOS    samples/s from features against decode + encode + step; data wait
python benchmarks/features.py relabel VIDEOS     label against relabel, the same clips in one run
python benchmarks/features.py ddp                one worker against two
python benchmarks/features.py memory             memory of a training worker, and of relabel's driver, for stores of several sizes
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from alt_ray.config import ClusterOptions, EncoderOptions, LabelOptions, OutputOptions, TrackingOptions
from alt_ray.config_features import EncodeOptions, RelabelOptions
from alt_ray.config_train import LearningOptions, ModelOptions, TrainJobOptions
from alt_ray.features import writer
from alt_ray.features.layout import StoreRecord
from alt_ray.features.writer import write_part

QUIET, UNTRACKED = OutputOptions(quiet=True), TrackingOptions(tracking_uri="none")
VIT = EncoderOptions(encoder="ViT-B-16", pretrained="none", merge_r=8)
STORED = 256  # clips of a synthetic store
LABELS = "walking,running,waving,playing guitar"


def synthetic(folder: Path, num_clips: int, record: StoreRecord, part_clips: int = 64) -> str:
    """A store of random regions, written as `encode` writes it."""
    (folder / "regions").mkdir(parents=True)
    rng = np.random.default_rng(0)
    T, R, D, N = record.num_frames, record.num_regions, record.dim, record.num_patches
    names = LABELS.split(",")
    for start in range(0, num_clips, part_clips):
        count = min(part_clips, num_clips - start)
        index = np.arange(start, start + count)
        batch: dict[str, Any] = {name: np.full(count, np.nan) for name in ("start_s", "end_s")}
        batch |= {
            "video_id": np.array([f"id{i:09d}" for i in index]),
            "uri": np.array([f"/archive/folder/video_{i:09d}.mp4" for i in index]),
            "label": np.array([names[i % 4] for i in index]),
            "split": np.array(["test" if i % 16 == 0 else "train" for i in index]),
            "group": np.array([None] * count),
            "regions": rng.normal(size=(count, 1, T, R, D)).astype(np.float16),
            "sizes": np.ones((count, 1, T, R)),
            "region_of_patch": np.ones((count, 1, T, N)),
            "pooled": rng.normal(size=(count, 1, T, D)).astype(np.float16),
            "duration_s": np.ones(count),
            "fps": np.full(count, 25.0),
            "width": np.full(count, 320),
            "height": np.full(count, 240),
            "codec": np.array(["h264"] * count),
            "frames_damaged": np.zeros(count, int),
        }
        write_part(str(folder / "regions"), f"part-{start:09d}.parquet", batch, record)
    return str(folder)


def pocket_record(num_frames: int = 8) -> StoreRecord:
    from alt_ray.models.checkpoint import load_checkpoint

    encoder = asdict(load_checkpoint("pocket").config.encoder)
    encoder = {name: list(value) if isinstance(value, tuple) else value for name, value in encoder.items()}
    sampling = {"frames": num_frames, "views": 1, "train_views": 0}
    return StoreRecord(encoder, "float32", sampling, num_regions=49, num_patches=64)


def training(videos: str, limit: int) -> None:
    """Both feed the same step, on this process's threads; what is measured is samples/s of each part and of the whole."""
    import torch

    from alt_ray.features.loader import BatchLoader
    from alt_ray.features.store import FeatureStore
    from alt_ray.models.encoder import load_encoder
    from alt_ray.models.training import RegionBatch, RegionClassifier, Trainer, TrainOptions
    from alt_ray.training.methods import build_classifier
    from alt_ray.training.texts import Texts
    from alt_ray.video.isolation import DecoderProcess
    from alt_ray.video.manifest import read_source
    from alt_ray.video.sampling import ClipSpec

    uris = read_source(videos, limit=limit).table["uri"].to_pylist()
    print(
        "| encoder, what trains | decode | encode | step | end to end | from features | ratio | data wait | FLOP limit |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, options in (("pocket", {"encoder": "pocket"}), ("ViT-B-16, r = 8", {"encoder": "ViT-B-16"})):
        encoder = load_encoder(options["encoder"], None, merge_r=4 if name == "pocket" else 8)
        record = record_of(encoder)
        dim = record.dim
        rng = np.random.default_rng(0)
        texts = Texts(
            labels=tuple(LABELS.split(",")),
            labels_CD=unit(rng.normal(size=(4, dim))),
            template="photo",
            entity_names=tuple(f"entity {i}" for i in range(2011)),
            entity_categories=("object",) * 2011,
            entities_KD=unit(rng.normal(size=(2011, dim))),
            corpus_digest="benchmark",
        )
        spec = ClipSpec(image_size=encoder.image_size)
        with tempfile.TemporaryDirectory() as folder, DecoderProcess(spec) as decoder:
            begun = time.perf_counter()
            clips = [decoder.decode(uri)[0][0].copy() for uri in uris]
            decode_s = (time.perf_counter() - begun) / len(uris)
            begun = time.perf_counter()
            with torch.inference_mode():
                for clip in clips:
                    encoder.encode_frames(encoder.normalise(torch.from_numpy(clip)))
            encode_s = (time.perf_counter() - begun) / len(uris)
            store = FeatureStore(synthetic(Path(folder) / "store", STORED, record))
            for method, model, bfloat16 in (
                ("ALT", ModelOptions(), False),
                ("ALT in bfloat16", ModelOptions(), True),
                ("linear probe", ModelOptions(method="linear-probe"), False),
            ):
                classifier = build_classifier(model, record, texts, texts.labels, 0)
                rows = store.clips()["first_row"].to_numpy()
                loader = BatchLoader(store, rows, np.arange(STORED) % 4, batch_clips=64)
                options = TrainOptions(epochs=4, warmup_epochs=0, bfloat16=bfloat16)
                trainer = Trainer(classifier, options, loader.steps_per_epoch)
                batch: RegionBatch = next(iter(loader.epoch(0)))
                trainer.run_epoch(0, [batch] * loader.steps_per_epoch)
                begun = time.perf_counter()
                trainer.run_epoch(1, [batch] * loader.steps_per_epoch)
                step_s = (time.perf_counter() - begun) / STORED
                waited = loader.wait_s
                begun = time.perf_counter()
                trainer.run_epoch(2, loader.epoch(1))
                features_s = (time.perf_counter() - begun) / STORED
                wait = (loader.wait_s - waited) / (STORED * features_s)
                whole_s = decode_s + encode_s + step_s
                limit_text = _flop_limit(encoder, classifier) if isinstance(classifier, RegionClassifier) else "-"
                print(
                    f"| {name}, {method} | {1 / decode_s:.1f} | {1 / encode_s:.2f} | {1 / step_s:.1f} | {1 / whole_s:.2f} "
                    f"| {1 / features_s:.1f} | {whole_s / features_s:.1f} | {wait:.3f} | {limit_text} |",
                    flush=True,
                )


def _flop_limit(encoder: Any, classifier: Any) -> str:
    """How many times cheaper a step is than encoding and a step, by multiply-adds alone: forward once, backward twice."""
    from alt_ray.models.cost import adapter_macs, cost

    report = cost(encoder.model_config, encoder.merge_schedule, num_entities=len(classifier.model.entities))
    adapter = adapter_macs(classifier.model.adapter.config, 8, report.tokens_out, projected=False) / 1e9
    step = 3 * adapter + report.gflops_alignment
    return f"{(8 * report.gflops_per_frame + step) / step:.1f}"


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def record_of(encoder: Any) -> StoreRecord:
    from alt_ray.models.checkpoint import EncoderRecord

    plain = EncoderRecord.of(encoder).plain()
    regions = 1 + encoder.num_patches - sum(encoder.merge_schedule)
    return StoreRecord(plain, "float32", {"frames": 8, "views": 1, "train_views": 0}, regions, encoder.num_patches)


def repeated(source: str, folder: str, times: int) -> str:
    """The store `source` with each clip `times` times, under other ids: a few clips are relabelled before a rate can be told."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    Path(folder, "regions").mkdir(parents=True)
    for part in Path(source, "regions").iterdir():
        table = pq.read_table(part)
        for i in range(times):
            ids = pa.array([f"{name}-{i}" for name in table["video_id"].to_pylist()])
            again = table.set_column(0, table.schema.field("video_id"), ids)
            pq.write_table(again, f"{folder}/regions/{part.stem}-{i}.parquet", compression="none", row_group_size=1)
    return folder


def relabelling(videos: str, limit: int, names: list[str]) -> None:
    """The same clips by label and, from their regions, by relabel, each for few and for many: the clips that are more, by the
    seconds that are more, are the rate without start-up. The pocket is given each video 40 times, and relabel goes through the
    regions of all of them 40 times (ViT-B-16) or four times (the pocket)."""
    from alt_ray.engine.cluster import cluster
    from alt_ray.engine.encode import encode
    from alt_ray.engine.label import label
    from alt_ray.engine.relabel import relabel
    from alt_ray.video.manifest import read_source

    uris = read_source(videos, limit=limit).table["uri"].to_pylist()
    few = 4
    print(
        f"| encoder | clips | label | relabel | ratio | label {few}, s | label all, s | relabel all, s | relabel more, s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    kinds = {"pocket": (EncoderOptions(encoder="pocket"), 40, 4), "ViT-B-16": (VIT, 1, 40)}
    with cluster("local"):
        for name in names:
            encoder, copies, times = kinds[name]
            with tempfile.TemporaryDirectory() as folder:
                source = f"{folder}/clips.csv"
                rows = [f"{uri},{number}-{i}\n" for i in range(copies) for number, uri in enumerate(uris)]
                Path(source).write_text("path,id\n" + "".join(rows))
                common: dict[str, Any] = {"encoder": encoder, "output": QUIET, "tracking": UNTRACKED}
                encode(EncodeOptions(source=source, out=f"{folder}/features", **common))
                seconds: dict[str, float] = {}

                def timed(what: str, job: Any, options: Any, seconds: dict[str, float] = seconds) -> None:
                    begun = time.perf_counter()
                    assert job(options).failed == 0
                    seconds[what] = time.perf_counter() - begun

                common["labels"] = LABELS
                limited = replace(LabelOptions(source="x", out="x", adapter="pocket").inputs, limit=few)
                timed("few", label, LabelOptions(source=source, out=f"{folder}/few", inputs=limited, **common))
                timed("all", label, LabelOptions(source=source, out=f"{folder}/all", **common))
                many = repeated(f"{folder}/features", f"{folder}/many", times)
                common |= {"adapter": "none", "pretrained": encoder.pretrained}
                del common["encoder"]
                timed("again", relabel, RelabelOptions(source=f"{folder}/features", out=f"{folder}/again", **common))
                timed("more", relabel, RelabelOptions(source=many, out=f"{folder}/more", **common))
                slow = (len(rows) - few) / (seconds["all"] - seconds["few"])
                fast = len(rows) * (times - 1) / (seconds["more"] - seconds["again"])
                print(
                    f"| {name} | {len(rows)} | {slow:.2f}/s | {fast:.1f}/s ({len(rows) * times}) | {fast / slow:.1f} | "
                    + " | ".join(f"{value:.1f}" for value in seconds.values())
                    + " |",
                    flush=True,
                )


def ddp(num_clips: int) -> None:
    from alt_ray.engine.cluster import cluster
    from alt_ray.engine.train import train

    with tempfile.TemporaryDirectory() as folder, cluster("local"):
        store = synthetic(Path(folder) / "store", num_clips, pocket_record())
        rates = {}
        for workers in (1, 2):
            out = f"{folder}/run{workers}"
            train(
                TrainJobOptions(
                    source=store,
                    out=out,
                    labels=LABELS,
                    trainer="ray",
                    workers=workers,
                    cpus_per_worker=0.9,
                    model=ModelOptions(),
                    learning=LearningOptions(epochs=3, batch=64),
                    cluster=ClusterOptions(),
                    tracking=UNTRACKED,
                    output=QUIET,
                )
            )
            history = json.loads(Path(out, "metrics.json").read_text())["tasks"][0]["history"]
            rates[workers] = max(entry["clips_per_s"] for entry in history[1:])
            waits = [entry["data_wait_share"] for entry in history]
            print(
                f"{workers} workers: {rates[workers]:.1f} samples/s, data wait {max(waits):.3f} of the time", flush=True
            )
        print(f"ratio {rates[2] / rates[1]:.2f}")


MEMORY = """
import sys, numpy as np
from alt_ray.memory import peak_memory_mib
from alt_ray.features.loader import BatchLoader
from alt_ray.features.store import FeatureStore
store = FeatureStore(sys.argv[1])
opened = peak_memory_mib()
rows = store.clips()["first_row"].to_numpy()
loader = BatchLoader(store, rows, np.zeros(len(rows), np.int64), batch_clips=64)
for i, batch in enumerate(loader.epoch(0)):
    if i == 100: break
print(opened, peak_memory_mib())
"""


def memory(sizes: list[int]) -> None:
    """Peak memory of a process that opens a store and reads up to 100 batches; regions are small, to fit the disk."""
    record = replace(pocket_record(num_frames=1), num_regions=2)
    writer.MIN_GROUP_BYTES = 1  # a row group for each row, as rows of real size have
    print(
        "| rows | open and read 100 batches, s | opened, MiB | reading, MiB | relabel's driver, MiB | relabel, rows/s |"
    )
    print("|---|---|---|---|---|---|")
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            store = synthetic(Path(folder) / "store", size, record, part_clips=256)
            begun = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", MEMORY, store], check=True, capture_output=True, text=True)
            opened, read = done.stdout.split()
            took_s = time.perf_counter() - begun
            command = [
                sys.executable,
                "-m",
                "alt_ray.cli",
                "relabel",
                store,
                "--out",
                f"{folder}/out",
                "--adapter",
                "none",
            ]
            subprocess.run([*command, "--labels", LABELS, "--quiet", "--tracking-uri", "none"], check=True)
            run = json.loads(Path(folder, "out", "run.json").read_text())
            rate = run["summary"]["videos_per_s"]
            print(f"| {size} | {took_s:.1f} | {opened} | {read} | {run['driver_peak_mib']} | {rate:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=("training", "relabel", "ddp", "memory"))
    parser.add_argument("videos", nargs="?")
    parser.add_argument("--limit", type=int, default=16)
    parser.add_argument("--encoders", nargs="+", default=["pocket", "ViT-B-16"], choices=["pocket", "ViT-B-16"])
    parser.add_argument("--clips", type=int, default=640)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    given = parser.parse_args()
    parts = {
        "training": lambda: training(given.videos, given.limit),
        "relabel": lambda: relabelling(given.videos, given.limit, given.encoders),
        "ddp": lambda: ddp(given.clips),
        "memory": lambda: memory(given.sizes),
    }
    parts[given.part]()


if __name__ == "__main__":
    main()
