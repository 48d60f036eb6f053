"""The encoder and the pipeline on a GPU, beside what the card can do. Without a GPU it says that nothing was run.

    python benchmarks/gpu.py SOURCE [--encoders ViT-B-16 ViT-L-14] [--merge-r 0 8 13] [--dtype bfloat16] [--clips 2000]

Rates are of steady state, with random weights:

    on the card   frames that lie in the GPU's memory, the batch size that probing finds: the encoder's limit
    fed           the same frames from the CPU's memory, through page-locked buffers (models/feeding.py)
    compiled      the same through torch.compile (with --compile)
    pipeline      `alt-ray label` on SOURCE, from its first result to its last
    share         of the multiply-adds that a large matrix product of this number format reaches on this card, measured here

--device cpu runs the same code on the CPU, to see that it works; its figures say nothing of a GPU.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from alt_ray.config import ClusterOptions, EncoderOptions, LabelOptions, OutputOptions
from alt_ray.engine.label import label
from alt_ray.models.cost import encoder_macs, read_model_config
from alt_ray.models.encoder import DTYPES, RegionEncoder, load_encoder
from alt_ray.models.feeding import FrameFeeder, wait_for_device
from alt_ray.models.probing import SIZES, probe_batch
from alt_ray.video.manifest import read_source

LABELS = "walking,running,archery,playing guitar,bending"
FRAMES_PER_VIDEO = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source")
    parser.add_argument("--encoders", nargs="+", default=["ViT-B-16", "ViT-L-14"])
    parser.add_argument("--merge-r", nargs="+", type=int, default=[0, 8, 13])
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each rate is measured")
    parser.add_argument("--gpus-per-actor", type=float, default=1.0)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("not run: torch sees no GPU here")
    name = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {os.cpu_count()} cores"
    peak = matmul_macs_per_s(options)
    print(
        f"{name}; torch {torch.__version__}; {options.dtype}; a large matrix product reaches {peak / 1e12:.3g} T MAC/s"
    )
    columns = ("encoder", "r", "batch", "on the card, images/s", "fed, images/s", "compiled, images/s")
    columns += ("share", "fed, videos/s", "pipeline, videos/s", "pipeline / fed")
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for encoder in options.encoders:
        for merge_r in options.merge_r:
            print("| " + " | ".join(row(encoder, merge_r, peak, options)) + " |", flush=True)


def row(name: str, merge_r: int, peak: float, options: argparse.Namespace) -> list[str]:
    batch, macs, on_card, fed, compiled = encoder_rates(name, merge_r, options)
    if options.device == "cuda":
        torch.cuda.empty_cache()  # the pipeline has the card to itself
    videos = pipeline(name, merge_r, options)
    return [
        name,
        str(merge_r),
        str(batch),
        f"{on_card:.0f}",
        f"{fed:.0f}",
        "" if compiled is None else f"{compiled:.0f}",
        f"{on_card * macs / peak:.2f}",
        f"{fed / FRAMES_PER_VIDEO:.1f}",
        f"{videos:.1f}",
        f"{videos / (fed / FRAMES_PER_VIDEO):.2f}",
    ]


def encoder_rates(name: str, merge_r: int, options: argparse.Namespace) -> tuple[int, int, float, float, float | None]:
    """Batch size, multiply-adds of an image, and images/s on the card, fed, and compiled."""
    encoder = load_encoder(name, "none", merge_r=merge_r, device=options.device, dtype=options.dtype)
    batch, _ = probe_batch(encoder, SIZES if options.device == "cuda" else (4, 8))
    size = encoder.image_size
    frames = np.random.default_rng(0).integers(0, 256, (4 * batch, size, size, 3), np.uint8)
    on_card = rate_of(lambda: resident(encoder, frames, batch), len(frames), encoder, options.seconds)
    feeder = FrameFeeder(encoder, batch)
    fed = rate_of(lambda: all_of(feeder, frames), len(frames), encoder, options.seconds)
    compiled = None
    if options.compile:
        other = FrameFeeder(encoder, batch, compiled=True)
        compiled = rate_of(lambda: all_of(other, frames), len(frames), encoder, options.seconds)
    return batch, encoder_macs(read_model_config(name), encoder.merge_schedule), on_card, fed, compiled


def matmul_macs_per_s(options: argparse.Namespace) -> float:
    """Multiply-adds a second of a square matrix product in this number format."""
    n = 8192 if options.device == "cuda" else 2048
    a = torch.randn(n, n, device=options.device, dtype=DTYPES[options.dtype])
    fastest_s = float("inf")
    for _ in range(10):
        begun_s = time.perf_counter()
        a @ a
        wait_for_device(a.device)
        fastest_s = min(fastest_s, time.perf_counter() - begun_s)
    return n**3 / fastest_s


@torch.inference_mode()
def resident(encoder: RegionEncoder, frames: np.ndarray, batch: int) -> None:
    on_card = torch.tensor(frames[:batch]).to(encoder.device)
    for _ in range(len(frames) // batch):
        encoder.encode_frames(encoder.normalise(on_card))


@torch.inference_mode()
def all_of(feeder: FrameFeeder, frames: np.ndarray) -> None:
    for _ in feeder.regions(frames):
        pass


def rate_of(work, num: int, encoder: RegionEncoder, seconds: float) -> float:
    work()
    wait_for_device(encoder.device)
    begun_s, times = time.perf_counter(), 0
    while times < 2 or time.perf_counter() - begun_s < seconds:
        work()
        times += 1
        wait_for_device(encoder.device)
    return times * num / (time.perf_counter() - begun_s)


def pipeline(name: str, merge_r: int, options: argparse.Namespace) -> float:
    uris = read_source(options.source).table["uri"].to_pylist()
    uris = (uris * (options.clips // len(uris) + 1))[: options.clips]
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "clips.csv"
        manifest.write_text("path,id\n" + "".join(f'"{uri}",{i:06}\n' for i, uri in enumerate(uris)))
        on_gpu = options.device == "cuda"
        label(
            LabelOptions(
                source=str(manifest),
                out=f"{folder}/out",
                labels=LABELS,
                encoder=EncoderOptions(
                    encoder=name,
                    pretrained="none",
                    dtype=options.dtype,
                    merge_r=merge_r,
                    device=options.device,
                    compile=options.compile,
                ),
                cluster=ClusterOptions(gpus_per_actor=options.gpus_per_actor if on_gpu else None),
                output=OutputOptions(quiet=True),
            )
        )
        record = json.loads(Path(f"{folder}/out/run.json").read_text())
    assert record["summary"]["labelled"] == len(uris), record["failures"]
    return record["summary"]["videos_per_s"]


if __name__ == "__main__":
    main()
