"""The offline demo: make a dozen small videos, label them on Ray, show the table. Knows nothing that `label` does not.

Until there is a trained model that needs no download, the encoder is a tiny one with random weights, and the demo says so: it
shows that decoding, encoding, Ray and the files work here, not that the labels are right.
"""

import dataclasses
import json
import sys
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq

from alt_ray.config import DemoOptions, EncoderOptions, InputOptions, LabelOptions, OutputOptions
from alt_ray.errors import UsageError

NUM_VIDEOS, NUM_FRAMES, FPS, SIZE = 12, 48, 24, 128
MOTIONS = ("moving right", "moving down", "growing", "turning")

TINY_CLIP = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 4, "width": 128, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def demo(options: DemoOptions) -> int:
    """Run the demo in `options.out`. Raises UsageError where that is a folder of something else."""
    from alt_ray.engine.label import label

    out = Path(options.out)
    marker = out / "model.json"
    if out.exists() and any(out.iterdir()) and not marker.exists():
        raise UsageError(f"{out} is not empty and not a demo's folder; choose another --out")
    (out / "videos").mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps(TINY_CLIP))
    for i in range(NUM_VIDEOS):
        write_video(out / "videos" / f"{MOTIONS[i % len(MOTIONS)].replace(' ', '_')}_{i:02}.mp4", i)

    def say(text: str) -> None:
        if not options.quiet:
            print(text, file=sys.stderr)

    say(f"alt-ray demo: {NUM_VIDEOS} videos in {out}/videos, labelled by a tiny CLIP with random weights.")
    say("The labels mean nothing yet; that every video gets its row is what this shows.")
    summary = label(
        LabelOptions(
            source=str(out / "videos"),
            out=str(out / "labels"),
            labels=",".join(MOTIONS),
            encoder=EncoderOptions(encoder=str(marker), pretrained="none", merge_r=4),
            inputs=InputOptions(),
            output=OutputOptions(quiet=options.quiet),
        )
    )
    rows = pq.read_table(out / "labels" / "labels").sort_by("uri").to_pylist()
    say("")
    say(f"  {'video':22} {'label':14} {'score':>5}  entities")
    for row in rows:
        entities = ", ".join(f"{entity['name']} {entity['weight']:.0%}" for entity in row["entities"][:3])
        say(f"  {Path(row['uri']).name:22} {row['label']:14} {row['score']:5.2f}  {entities}")
    say("")
    say(f"{summary.labelled + summary.already_done} of {summary.inputs} labelled.")
    say(f"Tables: {out}/labels/labels/*.parquet, record of the run: {out}/labels/run.json")
    if options.json:
        print(json.dumps(dataclasses.asdict(summary)))
    return 0


def write_video(path: Path, seed: int) -> None:
    """Write one small mp4 of a square that moves in the manner of MOTIONS[seed % 4], in colours that follow the seed."""
    rng = np.random.default_rng(seed)
    ground, colour = rng.integers(0, 100, 3), rng.integers(120, 256, 3)
    temporary = path.with_suffix(".part")
    with av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        y, x = np.mgrid[:SIZE, :SIZE]
        for t in np.linspace(0, 1, NUM_FRAMES):
            picture = np.empty((SIZE, SIZE, 3), np.uint8)
            picture[:] = ground
            picture[_square(MOTIONS[seed % len(MOTIONS)], t, y, x)] = colour
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    temporary.rename(path)


def _square(motion: str, t: float, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The pixels [H, W] (bool) of the square at time t in 0 .. 1."""
    middle, half, angle = np.array([SIZE / 2, SIZE / 2]), SIZE / 8, 0.0
    if motion == "moving right":
        middle[1] = SIZE * (0.15 + 0.7 * t)
    elif motion == "moving down":
        middle[0] = SIZE * (0.15 + 0.7 * t)
    elif motion == "growing":
        half = SIZE * (0.06 + 0.3 * t)
    else:
        angle = np.pi * t
    dy, dx = y - middle[0], x - middle[1]
    along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    return (np.abs(along) < half) & (np.abs(across) < half)
