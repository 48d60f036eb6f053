"""Write an archive of pocket videos: mp4 files, a manifest, and what is true of each. Knows nothing of who will label it.

    python -m alt_ray.pocket.archive FOLDER --videos 1000 --processes 2

Labels are balanced, and a person (the manifest's `group`) is in one split only. The same options give the same bytes, as
long as PyAV and its encoder are the same. Length, frame rate, size and distance of keyframes are options, so that an archive
can also be a load.
"""

import argparse
import csv
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np

from alt_ray.errors import UsageError
from alt_ray.pocket.plan import DEFAULT_FPS, DEFAULT_NUM_FRAMES, DEFAULT_NUM_PEOPLE, ClipPlan, plan_clip
from alt_ray.pocket.vocabulary import ACTION_BY_NAME
from alt_ray.pocket.world import DEFAULT_SIZE_PX, draw_frame

# Of seven people, five act in train, one in val and one in test.
_SPLITS = ("train", "train", "val", "train", "train", "test", "train")
_VIDEOS_PER_FOLDER = 1000
_VIDEOS_PER_TASK = 16


@dataclass(frozen=True)
class ArchiveOptions:
    """How the videos of an archive are. `gop` is the number of frames from one keyframe to the next."""

    seed: int = 0
    actions: tuple[str, ...] = tuple(ACTION_BY_NAME)
    num_people: int = DEFAULT_NUM_PEOPLE
    num_frames: int = DEFAULT_NUM_FRAMES
    fps: int = DEFAULT_FPS
    size_px: int = DEFAULT_SIZE_PX
    gop: int = 12

    def __post_init__(self) -> None:
        unknown = [name for name in self.actions if name not in ACTION_BY_NAME]
        if unknown or not self.actions:
            raise UsageError(f"unknown actions {unknown}; expected one or more of {', '.join(ACTION_BY_NAME)}")
        if self.size_px < 16 or self.size_px % 2:
            raise UsageError(f"videos of {self.size_px} pixels; expected an even number of 16 or more")
        for name in ("num_people", "num_frames", "fps", "gop"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; expected 1 or more")


def plan_video(options: ArchiveOptions, number: int) -> ClipPlan:
    """Return the plan of video `number`. Each action has its turn before one comes again, and people take turns too."""
    num_actions = len(options.actions)
    turn, place = divmod(number, num_actions)
    # The order within a turn is shuffled, so that the first n videos of an archive don't have the same few labels.
    action = options.actions[np.random.default_rng((options.seed, turn, 1)).permutation(num_actions)[place]]
    person = (number + turn) % options.num_people
    plan = plan_clip(options.seed, number, actions=(action,), num_frames=options.num_frames, fps=options.fps)
    return replace(plan, person=options.seed * options.num_people + person)


def split_of(person: int) -> str:
    return _SPLITS[person % len(_SPLITS)]


def path_of(plan: ClipPlan, number: int) -> str:
    """Return the path of a video within its archive; a folder holds no more than a thousand."""
    return f"videos/{number // _VIDEOS_PER_FOLDER:05}/{plan.action.replace(' ', '_')}_{number:08}.mp4"


def write_archive(
    folder: str | Path,
    num_videos: int,
    options: ArchiveOptions | None = None,
    *,
    num_processes: int = 1,
    say: Callable[[int], None] = lambda written: None,
) -> Path:
    """Write `num_videos` videos below `folder`, with truth.jsonl and manifest.csv; return the manifest's path.

    A video is published by a rename, the manifest last: a folder with a manifest is complete. Videos of an earlier archive
    in the same folder are overwritten or stay, but the manifest knows only the new ones. `say` hears how many are written.
    """
    options = options or ArchiveOptions()
    if num_videos < 1 or num_processes < 1:
        raise UsageError(f"{num_videos} videos by {num_processes} processes; expected 1 or more of each")
    root = Path(folder)
    manifest, truth = root / "manifest.csv", root / "truth.jsonl"
    manifest.unlink(missing_ok=True)
    for k in range(math.ceil(num_videos / _VIDEOS_PER_FOLDER)):
        (root / "videos" / f"{k:05}").mkdir(parents=True, exist_ok=True)
    numbers = range(num_videos)
    tasks = [numbers[first : first + _VIDEOS_PER_TASK] for first in range(0, num_videos, _VIDEOS_PER_TASK)]
    parts = manifest.with_suffix(".part"), truth.with_suffix(".part")
    with parts[0].open("w", newline="") as manifest_file, parts[1].open("w") as truth_file:
        writer = csv.writer(manifest_file)
        writer.writerow(("path", "label", "split", "group"))
        for row in _run(root, options, tasks, num_processes):
            person: int = row["person"]
            writer.writerow((row["path"], row["action"], split_of(person), f"person_{person:04}"))
            truth_file.write(json.dumps(row) + "\n")
            say(row["number"] + 1)
    parts[1].rename(truth)
    parts[0].rename(manifest)
    return manifest


def _run(root: Path, options: ArchiveOptions, tasks: list[range], num_processes: int) -> Iterator[dict[str, Any]]:
    if num_processes == 1:
        for task in tasks:
            yield from _write_videos(root, options, task)
        return
    # Spawned, not forked: the caller may have threads (torch, Ray), and a fork would copy their locks.
    with ProcessPoolExecutor(num_processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for rows in pool.map(_write_videos, [root] * len(tasks), [options] * len(tasks), tasks):
            yield from rows


def _write_videos(root: Path, options: ArchiveOptions, numbers: range) -> list[dict[str, Any]]:
    """Write some videos; return the rows of truth.jsonl."""
    rows = []
    for number in numbers:
        plan = plan_video(options, number)
        path = path_of(plan, number)
        write_video(root / path, plan, size_px=options.size_px, gop=options.gop)
        rows.append({"path": path, "seed": options.seed, "number": number, **asdict(plan.truth)})
    return rows


def write_video(path: Path, plan: ClipPlan, *, size_px: int = DEFAULT_SIZE_PX, gop: int = 12) -> None:
    """Write one clip as an mp4 file."""
    part = path.with_suffix(".part")
    # One thread: small frames gain nothing from more, and starting them takes longer than coding.
    x264 = {"preset": "ultrafast", "crf": "20", "threads": "1"}
    with av.open(str(part), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=plan.fps, options=x264)
        stream.width = stream.height = size_px
        stream.pix_fmt, stream.gop_size = "yuv420p", gop
        for frame in range(plan.num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_frame(plan, frame, size_px), "rgb24")))
        container.mux(stream.encode())
    part.rename(path)


def main() -> int:
    """Write an archive as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m alt_ray.pocket.archive", description="Write an archive of pocket videos."
    )
    defaults = ArchiveOptions()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--videos", type=int, default=420)
    parser.add_argument("--processes", type=int, default=1)
    for name in ("seed", "num_people", "num_frames", "fps", "size_px", "gop"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(defaults, name))
    parser.add_argument("--actions", default=",".join(defaults.actions), help="names, separated by commas")
    given = parser.parse_args()
    start_s = time.perf_counter()
    try:
        options = ArchiveOptions(
            given.seed,
            tuple(given.actions.split(",")),
            given.num_people,
            given.num_frames,
            given.fps,
            given.size_px,
            given.gop,
        )
        manifest = write_archive(given.folder, given.videos, options, num_processes=given.processes)
    except UsageError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    seconds = time.perf_counter() - start_s
    print(
        f"{given.videos} videos in {seconds:.1f} s ({given.videos / seconds:.0f} a second): {manifest}", file=sys.stderr
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
