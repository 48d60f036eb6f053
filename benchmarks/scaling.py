"""How a job speeds up with more workers: its own pipeline on 1, 2, 4 and 8 logical CPUs, with stages that sleep (sleeping.py).

    python benchmarks/scaling.py [--clips 480] [--workers 1 2 4 8]

Sleeping stages take the same time however many cores this machine has, so what is seen is what Ray, the shards and the waiting of
stages for each other cost. The limit is workers / 0.2 s. Rates are from the first result to the last; the last column is the
whole of it, with the start of the workers.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import pyarrow as pa
import ray

from alt_ray.config import ClusterOptions
from alt_ray.engine.cluster import cluster
from alt_ray.engine.pipeline import decoded_clips, results_of, through_encoders
from alt_ray.engine.resources import plan_cluster
from alt_ray.engine.stages import DecodeSettings
from alt_ray.video.sampling import ClipSpec

sys.path.insert(0, str(Path(__file__).parents[1]))  # of this process; workers have it from PYTHONPATH
os.environ["PYTHONPATH"] = sys.path[0]

from benchmarks.sleeping import SECONDS, Encode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=480)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    options = parser.parse_args()
    print("| workers | clips/s | limit | of the limit | speed-up | of ideal | with start-up, s |\n|" + "---|" * 7)
    first = None
    for workers in options.workers:
        rate, whole_s = measure(options.clips, workers)
        first = first or rate / workers
        limit, speed_up = workers / SECONDS, rate / first
        row = (workers, f"{rate:.1f}", f"{limit:.0f}", f"{rate / limit:.2f}", f"{speed_up:.2f}")
        print("| " + " | ".join(map(str, (*row, f"{speed_up / workers:.2f}", f"{whole_s:.0f}"))) + " |", flush=True)


def measure(num_clips: int, workers: int) -> tuple[float, float]:
    """Return clips/s from the first result to the last, and the seconds of everything."""
    names = [f"{i:06}" for i in range(num_clips)]
    nothing = pa.nulls(num_clips, pa.float64())
    clips = pa.table({"video_id": names, "uri": names, "start_s": nothing, "end_s": nothing})
    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with cluster(None) as machines:
            plan = plan_cluster(machines, ClusterOptions(num_actors=workers, num_decoders=workers), "cpu")
            decode = DecodeSettings(ClipSpec(num_frames=1, image_size=32), function="benchmarks.sleeping:decode")
            stages = through_encoders(decoded_clips(clips, decode, plan), Encode, (), num_clips, plan)
            begun_s = time.monotonic()
            ends, done = [], 0
            for table in results_of(stages):
                done += table.num_rows
                ends.append((time.monotonic(), done))
    finally:
        ray.shutdown()
    assert done == num_clips
    (first_s, at_first), (last_s, _) = ends[0], ends[-1]
    return (num_clips - at_first) / (last_s - first_s), last_s - begun_s


if __name__ == "__main__":
    main()
