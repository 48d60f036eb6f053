"""The whole way from real video files to a table: Weizmann, one person left out at a time, with the commands that a user calls.

    python benchmarks/weizmann.py VIDEOS/weizmann [--encoders pocket ViT-S-16] [--methods frozen linear-probe learned-queries alt]

VIDEOS/weizmann holds ACTION/PERSON_NAME.avi: 10 actions, 9 people. Neither encoder has seen real videos: the pocket knows a drawn
world, ViT-S-16 has random weights. What is shown is that the way works and how the methods compare, not how good ALT is.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ENCODERS = {
    "pocket": ["--adapter", "pocket"],  # its encoder, merging and frames
    "ViT-S-16": ["--encoder", "ViT-S-16", "--pretrained", "none", "--merge-r", "13"],
}
# The same budget for all methods. The paper's lr of 5e-5 is for 400,000 clips; 81 need larger steps.
TRAINING = ["--epochs", "60", "--batch", "16", "--lr", "5e-4", "--warmup-epochs", "5", "--val-share", "0", "--bfloat16"]
METHODS = ("frozen", "linear-probe", "learned-queries", "alt")


def alt_ray(*arguments: str) -> str:
    """Run one command as a user does; what it says to people stays on the screen."""
    command = [sys.executable, "-m", "alt_ray.cli", *arguments, "--tracking-uri", "none"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def manifest(videos: Path, folder: Path) -> Path:
    file = folder / "weizmann.csv"
    with file.open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["path", "label", "group"])
        for video in sorted(videos.glob("*/*.avi")):
            rows.writerow([video.resolve(), video.parent.name.replace("_", " "), video.stem.split("_")[0]])
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("videos", type=Path)
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS), choices=list(ENCODERS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument(
        "--out", type=Path, help="folder to keep features and runs in, to go on there; none: a temporary one"
    )
    given, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = given.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        source = manifest(given.videos, out)
        print(
            "| encoder | method | top-1 | top-5 | class mean | ECE | clips | minutes |\n|---|---|---|---|---|---|---|---|"
        )
        for encoder in given.encoders:
            features = str(out / f"features-{encoder}")
            alt_ray("encode", str(source), "--out", features, *ENCODERS[encoder], "--quiet")
            for method in given.methods:
                run = str(out / f"{encoder}-{method}")
                arguments = ["--leave-one-group-out", "--method", method, *TRAINING, *more, "--quiet", "--json"]
                # Features of the pocket would take its recipe by default: the budget is named in full, so that it is the same.
                said = alt_ray("train", features, "--out", run, *arguments, "--conv-over", "frame", "--muon-lr", "0")
                report = json.loads(said.splitlines()[-1])
                test = report["tests"]["test"]
                figures = [
                    f"{test[name]['mean']:.3f} ± {test[name]['std']:.3f}"
                    for name in ("top_1", "top_5", "mean_class_accuracy", "ece")
                ]
                print(
                    f"| {encoder} | {method} | {' | '.join(figures)} | {test['num_clips']} | {report['wall_s'] / 60:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
