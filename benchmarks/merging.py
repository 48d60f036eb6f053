"""How fast the region-aware encoder is beside open_clip's own encode_image, and beside what its cost predicts.

    python benchmarks/merging.py [--model ViT-B-16] [--batch 8] [--repeats 7] [--threads 2] [--profile]

Every repeat runs all the variants in turn and speed-ups are medians of ratios within a repeat, so that a machine that
drifts or is shared moves them little. Weights are random: speed does not depend on them, the cosines do a little.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from alt_ray.models.cost import encoder_macs
from alt_ray.models.encoder import DTYPES, RegionEncoder, load_encoder
from alt_ray.models.schedule import merge_schedule

HEADER = """
| dtype | encoder | tokens left | images/s | speed-up | predicted | measured / predicted | cosine to float32 |
|---|---|---|---|---|---|---|---|"""


def variants(encoder: RegionEncoder, images: Tensor, rs: list[int]) -> dict[str, Callable[[], Tensor]]:
    """Return what is timed, by name; every one gives the image embeddings."""

    def merged(r: int) -> Tensor:
        encoder.merge_schedule = merge_schedule(encoder.num_patches, encoder.num_layers, merge_r=r)
        return encoder.encode_frames(images).pooled

    named: dict[str, Callable[[], Tensor]] = {"open_clip": lambda: encoder.clip.encode_image(images)}
    return named | {f"r = {r}": lambda r=r: merged(r) for r in rs}


def top_operations(run: Callable[[], Tensor], rows: int = 12) -> str:
    with profile(activities=[ProfilerActivity.CPU]) as record:
        run()
    return record.key_averages().table(sort_by="self_cpu_time_total", row_limit=rows, max_name_column_width=40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=list(DTYPES))
    parser.add_argument("--r", nargs="+", type=int, default=[0, 4, 8, 13])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--profile", action="store_true", help="print the top operations of each variant")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    reference = load_encoder(options.model, device=options.device)
    size = reference.image_size
    images = torch.randn(options.batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(options.device)
    plain_macs = encoder_macs(reference.model_config, 0)
    print(HEADER)
    for dtype in options.dtypes:
        encoder = load_encoder(options.model, device=options.device, dtype=dtype)
        with torch.inference_mode():
            full = {name: run() for name, run in variants(reference, images, options.r).items()}
            runs = variants(encoder, images.to(encoder.dtype), options.r)
            embeddings = {name: run().float() for name, run in runs.items()}  # also the warm-up
            times: dict[str, list[float]] = {name: [] for name in runs}
            for _ in range(options.repeats):
                for name, run in runs.items():
                    start_s = time.perf_counter()
                    run().cpu()  # waits for a GPU
                    times[name].append(time.perf_counter() - start_s)
        for name, seconds in times.items():
            r = 0 if name == "open_clip" else int(name.split()[-1])
            schedule = merge_schedule(encoder.num_patches, encoder.num_layers, merge_r=r)
            speedup = statistics.median(a / b for a, b in zip(times["open_clip"], seconds, strict=True))
            predicted = plain_macs / encoder_macs(encoder.model_config, schedule)
            cosine = torch.cosine_similarity(embeddings[name], full[name]).min()
            print(
                f"| {dtype} | {name} | {1 + encoder.num_patches - sum(schedule)} "
                f"| {options.batch / statistics.median(seconds):.2f} | {speedup:.2f} | {predicted:.2f} "
                f"| {speedup / predicted:.2f} | {cosine:.4f} |"
            )
        if options.profile:
            for name, run in runs.items():
                print(f"\n{dtype}, {name}\n{top_operations(run)}")
    load = Path("/proc/loadavg").read_text().split()[0] if Path("/proc/loadavg").exists() else "unknown"
    print(
        f"\n{options.model}, batch {options.batch}, {options.repeats} repeats, {options.device}, {options.threads} "
        f"threads, {platform.machine()}, torch {torch.__version__}, load average at the end {load}"
    )


if __name__ == "__main__":
    main()
