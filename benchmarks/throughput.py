"""Throughput of the label pipeline beside its limits and beside a plain script, on the same clips, in one run.

    python benchmarks/throughput.py SOURCE [--clips 300] [--encoder ViT-S-32-alt] [--dtype float32] [--merge-r 0]

Rates are videos/s in steady state (start-up apart), and only their ratios mean anything on a shared machine:

    decode only   as many decoder processes as cores, frames thrown away
    encode only   the encoder stage on decoded clips in memory, one process with one thread per core
    pipeline      `alt-ray label` as a user runs it, from its first result to its last
    plain         what one writes without this package, in float32, every core the libraries' to use: for each video decode every
                  frame with PyAV, take 8 of them, open_clip's preprocessing, encode_image in batches of 32
    plain, all    the same with every frame preprocessed and encoded
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from alt_ray.config import ClusterOptions, EncoderOptions, LabelOptions, OutputOptions
from alt_ray.corpus.files import load_corpus
from alt_ray.engine.label import label
from alt_ray.engine.request import ModelRequest
from alt_ray.engine.stages import DecodeClips, DecodeSettings, LabelClips
from alt_ray.video.manifest import read_source
from alt_ray.video.sampling import ClipSpec, sample_times

LABELS = ("walking", "running", "archery", "playing guitar", "bending")
CPUS = len(os.sched_getaffinity(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source")
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--encoder", default="ViT-S-32-alt")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--merge-r", type=int, default=0)
    parser.add_argument("--num-actors", type=int)
    parser.add_argument("--num-decoders", type=int)
    parser.add_argument("--skip", default="", help="parts to leave out, joined by +")
    options = parser.parse_args()
    uris = read_source(options.source).table["uri"].to_pylist()
    uris = (uris * (options.clips // len(uris) + 1))[: options.clips]

    rates: dict[str, list[float]] = {}
    startups = []
    parts = {
        "decode only": decode_only,
        "encode only": encode_only,
        "pipeline": pipeline,
        "plain": plain,
        "plain, all": plain_all,
    }
    for _ in range(options.rounds):
        for name, part in parts.items():
            if name in options.skip.split("+"):
                continue
            rate, startup_s = part(uris, options)
            rates.setdefault(name, []).append(rate)
            startups += [startup_s] if name == "pipeline" else []
            print(f"{name:12} {rate:8.2f} videos/s", file=sys.stderr)

    rate = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{len(uris)} clips, {options.encoder}, {options.dtype}, r = {options.merge_r}, 8 frames, {CPUS} cores")
    print("| " + " | ".join(rate) + " |\n|" + "---|" * len(rate))
    print("| " + " | ".join(f"{value:.1f}" for value in rate.values()) + " |")
    if "pipeline" in rate:
        limit = min(rate.get("decode only", np.inf), rate.get("encode only", np.inf))
        print(f"pipeline / min(decode only, encode only) = {rate['pipeline'] / limit:.2f}")
        for name in ("plain", "plain, all"):
            if name in rate:
                print(f"pipeline / {name} = {rate['pipeline'] / rate[name]:.2f}")
        print(f"seconds to the first result: {statistics.median(startups):.1f}")


def decode_only(uris: list[str], options: argparse.Namespace) -> tuple[float, float]:
    stages = [DecodeClips(DecodeSettings(ClipSpec())) for _ in range(CPUS)]
    for stage in stages:
        stage(batch_of(uris[:1]))
    begun = time.perf_counter()
    with ThreadPoolExecutor(CPUS) as pool:
        list(
            pool.map(
                lambda i: [stages[i](batch_of(uris[j : j + 8])) for j in range(8 * i, len(uris), 8 * CPUS)], range(CPUS)
            )
        )
    return len(uris) / (time.perf_counter() - begun), 0.0


def encode_only(uris: list[str], options: argparse.Namespace) -> tuple[float, float]:
    """One process with one thread per core: the best of the ways that were tried (README.md beside this)."""
    batch = DecodeClips(DecodeSettings(ClipSpec()))(batch_of(uris[:16]))
    begin = multiprocessing.get_context("spawn").Barrier(CPUS)
    context = multiprocessing.get_context("spawn")
    with context.Pool(CPUS, initializer=_set_barrier, initargs=(begin,)) as pool:
        num_batches = len(uris) // 16 // CPUS
        jobs = [(vars(options), batch, num_batches)] * CPUS
        rates = pool.starmap(_encode, jobs, chunksize=1)
    return sum(rates), 0.0


def _set_barrier(barrier: object) -> None:
    global _barrier
    _barrier = barrier


def _encode(options: dict, batch: dict[str, np.ndarray], num_batches: int) -> float:
    from alt_ray.engine.model import prepare_model

    request = ModelRequest(
        encoder=EncoderOptions(
            encoder=options["encoder"], pretrained="none", dtype=options["dtype"], merge_r=options["merge_r"]
        ),
        device="cpu",
        labels=LABELS,
        corpus=load_corpus(),
        num_threads=1,
    )
    stage = LabelClips(request, prepare_model(request))
    stage(batch)
    _barrier.wait()
    begun = time.perf_counter()
    for _ in range(num_batches):
        stage(batch)
    rate = num_batches * len(batch["uri"]) / (time.perf_counter() - begun)
    _barrier.wait()
    return rate


def pipeline(uris: list[str], options: argparse.Namespace) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "clips.csv"
        manifest.write_text("path,id\n" + "".join(f'"{uri}",{i:06}\n' for i, uri in enumerate(uris)))
        label(
            LabelOptions(
                source=str(manifest),
                out=f"{folder}/out",
                labels=",".join(LABELS),
                encoder=EncoderOptions(
                    encoder=options.encoder, pretrained="none", dtype=options.dtype, merge_r=options.merge_r
                ),
                cluster=ClusterOptions(num_actors=options.num_actors, num_decoders=options.num_decoders),
                output=OutputOptions(quiet=True),
            )
        )
        record = json.loads(Path(f"{folder}/out/run.json").read_text())
    assert record["summary"]["labelled"] == len(uris), record["failures"]
    return record["summary"]["videos_per_s"], record["startup"]["first clips"]


def plain(uris: list[str], options: argparse.Namespace, num_frames: int | None = 8) -> tuple[float, float]:
    import av
    import open_clip
    import torch

    torch.set_num_threads(CPUS)
    model, _, preprocess = open_clip.create_model_and_transforms(options.encoder)
    model.eval()
    some = uris[: len(uris) // (3 if num_frames else 30)]  # there is no pipeline to fill: fewer are enough
    begun, waiting = time.perf_counter(), []
    with torch.inference_mode():
        for uri in some:
            with av.open(uri) as container:
                frames = list(container.decode(video=0))
            if num_frames:
                frames = [frames[int(t)] for t in sample_times(0, len(frames), num_frames)[0]]
            waiting += [preprocess(frame.to_image()) for frame in frames]
            while len(waiting) >= 32:
                model.encode_image(torch.stack(waiting[:32]))
                waiting = waiting[32:]
        if waiting:
            model.encode_image(torch.stack(waiting))
    return len(some) / (time.perf_counter() - begun), 0.0


def plain_all(uris: list[str], options: argparse.Namespace) -> tuple[float, float]:
    return plain(uris, options, num_frames=None)


def batch_of(uris: list[str]) -> dict[str, np.ndarray]:
    nothing = np.full(len(uris), np.nan)
    return {"video_id": np.array(uris), "uri": np.array(uris), "start_s": nothing, "end_s": nothing}


if __name__ == "__main__":
    main()
