"""The offline demo: draw 60 pocket videos, label them on Ray, and show how well that went and what the model saw.

The labelling is that of `alt-ray label --adapter pocket`. Every number is counted from the Parquet files that it wrote and from
the truth that the archive keeps; the regions on the page are computed afterwards, in this process. Knows nothing that `label`
does not.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from alt_ray import bundled
from alt_ray.config import DemoOptions, LabelOptions, OutputOptions, TrackingOptions
from alt_ray.errors import JobError, UsageError
from alt_ray.pocket.archive import ArchiveOptions, write_archive
from alt_ray.pocket.tasks import HELD_OUT_SEED
from alt_ray.pocket.vocabulary import ACTION_BY_NAME, SEEN_ACTIONS, UNSEEN_ACTIONS
from alt_ray.report.colours import Colour, entity_colours
from alt_ray.report.page import Answer, Card, Chip, Page, Picture, Score, Section, html_of, legend_of
from alt_ray.schema import FORMAT_VERSION
from alt_ray.versions import stamp
from alt_ray.video.sampling import DEFAULT_FRAMES
from alt_ray.video.uris import canonical_uri

if TYPE_CHECKING:
    from alt_ray.engine.label import Summary

ALL_ACTIONS = tuple(ACTION_BY_NAME)
# 36 videos of seen actions (two of these come twice), 24 of unseen ones.
VIDEOS_OF = SEEN_ACTIONS + SEEN_ACTIONS[:2] + UNSEEN_ACTIONS * 3
NUM_VIDEOS = len(VIDEOS_OF)
ARCHIVE = ArchiveOptions(seed=HELD_OUT_SEED + 1000, actions=VIDEOS_OF)

MARKER = "demo.json"
TOP_ENTITIES = 20
FRAMES_SHOWN, CHIPS_SHOWN = 4, 6


@dataclasses.dataclass(frozen=True)
class Video:
    """One video: its line of truth.jsonl, and its row of the labels, or None if it has none."""

    truth: dict[str, Any]
    row: dict[str, Any] | None

    @property
    def action(self) -> str:
        return self.truth["action"]

    def best_of(self, labels: Sequence[str]) -> tuple[str, float]:
        """Return the best of these labels, and its probability were there no others; ("", 0.0) without a row."""
        if self.row is None:
            return "", 0.0
        scores = {top["label"]: top["score"] for top in self.row["top_labels"] if top["label"] in labels}
        best = max(labels, key=lambda label: scores[label])
        return best, scores[best] / (sum(scores.values()) or 1.0)


def demo(options: DemoOptions) -> int:
    """Run the demo in `options.out`. Raises UsageError where that is a folder of something else."""
    from alt_ray.engine.label import label

    def say(text: str = "") -> None:
        if not options.quiet:
            print(text, file=sys.stderr, flush=True)

    out = Path(options.out).resolve()
    prepare_folder(out)
    say("alt-ray demo: recipe pocket, a tiny model of a drawn world that ships with alt_ray")
    say(f"{NUM_VIDEOS} drawn videos: {out}/videos")
    if not is_drawn(out):
        write_archive(out, NUM_VIDEOS, ARCHIVE)
    summary = label(
        LabelOptions(
            source=str(out / "manifest.csv"),
            out=str(out / "labels"),
            labels=",".join(ALL_ACTIONS),
            adapter=bundled.POCKET,
            top_labels=len(ALL_ACTIONS),
            top_entities=TOP_ENTITIES,
            tracking=TrackingOptions(tracking_uri="none"),
            output=OutputOptions(quiet=options.quiet),
        )
    )
    videos = read_videos(out)
    scores = scores_of(videos)
    say("Computing the regions for the page")
    page, part = out / "index.html", out / "index.part"
    part.write_text(html_of(page_of(videos, scores, summary)), encoding="utf-8")
    part.rename(page)

    say(f"\n  {'best label is right':38} {'videos':>9}   share  chance")
    for score in scores:
        say(f"  {score.name:38} {score.right:3} of {score.total:2}   {score.share:5.0%}   {score.chance:5.0%}")
    say(f"\n{_balance(summary)}")
    say(f"Tables: {out}/labels/labels/*.parquet   Record of the run: {out}/labels/run.json   Truth: {out}/truth.jsonl")
    say(f"Page:   {page}")
    if not options.no_browser:
        _open(page)
    if options.json:
        shares = {name: score.share for name, score in zip(("seen", "unseen", "all"), scores, strict=True)}
        top1 = {f"{name}_top1": share for name, share in shares.items()}
        print(json.dumps({**dataclasses.asdict(summary), **top1, "page": str(page)}))
    return 0


def prepare_folder(out: Path) -> None:
    """Make the folder, or take one that a demo made; what a demo with another model or other videos left there is removed.

    Raises UsageError for a folder of something else, or if the model is missing.
    """
    if missing := bundled.missing_files():
        raise UsageError(f"this installation lacks {missing[0]}; install alt_ray again")
    marker, made_of = out / MARKER, _made_of()
    if not marker.exists() and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty and not a demo's folder; choose another --out")
    if marker.exists() and marker.read_text() != made_of:
        for name in ("labels", "videos"):
            shutil.rmtree(out / name, ignore_errors=True)
        for name in ("manifest.csv", "truth.jsonl", "index.html"):
            (out / name).unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    marker.write_text(made_of)


def _made_of() -> str:
    """Return what a demo's results follow from."""
    config = (bundled.adapter_folder(bundled.POCKET) or Path()) / "config.json"  # it holds the digests of all weights
    model = hashlib.sha256(config.read_bytes()).hexdigest()
    parts = {**stamp(FORMAT_VERSION), "model": model, "top_entities": TOP_ENTITIES, "num_videos": NUM_VIDEOS}
    return json.dumps({**parts, "archive": dataclasses.asdict(ARCHIVE)}, indent=2)


def is_drawn(out: Path) -> bool:
    """Whether the archive is there, with all its videos: the manifest comes last, but somebody may have tidied up since."""
    return (out / "manifest.csv").exists() and all((out / truth["path"]).exists() for truth in _read_truth(out))


def _read_truth(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "truth.jsonl").read_text().splitlines()]


def read_videos(out: Path) -> list[Video]:
    """Return the videos with their labels, by action, seen ones first. Raises JobError if none was labelled."""
    labels = out / "labels" / "labels"
    if not labels.is_dir():
        raise JobError(f"not one video was labelled; {out}/labels/failures says why")
    rows = {row["uri"]: row for row in pq.read_table(labels).to_pylist()}
    videos = [Video(truth, rows.get(canonical_uri(truth["path"], str(out)))) for truth in _read_truth(out)]
    return sorted(videos, key=lambda video: (ALL_ACTIONS.index(video.action), video.truth["number"]))


def scores_of(videos: Sequence[Video]) -> tuple[Score, Score, Score]:
    """Count how often the best label is right: seen actions, unseen ones, and all. A video without a label is not right."""

    def score(name: str, labels: Sequence[str]) -> Score:
        asked = [video for video in videos if video.action in labels]
        return Score(name, len(labels), sum(video.best_of(labels)[0] == video.action for video in asked), len(asked))

    return (
        score(f"seen actions, among the {len(SEEN_ACTIONS)} seen", SEEN_ACTIONS),
        score(f"unseen actions, among the {len(UNSEEN_ACTIONS)} unseen", UNSEEN_ACTIONS),
        score(f"all videos, among all {len(ALL_ACTIONS)}", ALL_ACTIONS),
    )


def page_of(videos: Sequence[Video], scores: Sequence[Score], summary: "Summary") -> Page:
    """Run the encoder and the alignment on the labelled videos once more, for their regions, and say everything."""
    from alt_ray.api import load
    from alt_ray.report.regions import pictures, region_map

    loaded = load(bundled.POCKET)
    names, categories = loaded.config.entity_names, loaded.config.entity_categories
    colours = entity_colours(categories)
    num_frames = int(loaded.config.sampling.get("frames", DEFAULT_FRAMES))
    cards: dict[bool, list[Card]] = {False: [], True: []}
    shown: set[int] = set()
    for video in videos:
        if video.row is None:
            continue
        regions = region_map(loaded.model, loaded.frames_of(video.row["uri"]))
        shown |= set(regions.entity_of_patch_Thw.ravel().tolist())
        pair = pictures(regions, colours, FRAMES_SHOWN)
        cards[video.truth["unseen"]].append(_card(video, video.row, pair, dict(zip(names, colours, strict=True))))
    patches = round(loaded.encoder.num_patches**0.5)
    return Page(
        title="alt_ray demo",
        lead=f"{NUM_VIDEOS} short videos of a drawn world, labelled on this machine by pocket, the tiny model that ships with "
        "alt_ray and knows no other world.",
        scores=tuple(scores),
        facts=(
            "With so few videos, a share can be ten points off.",
            _balance(summary),
        ),
        reading=(
            "Title and the line below it: the action, the place and the file that were drawn. This is the truth.",
            f"Upper row: {FRAMES_SHOWN} of the {num_frames} frames that the model looked at.",
            f"Lower row: what it made of them. It cuts a frame into {patches} x {patches} patches, merges those that are alike "
            "into regions, and gives each region the entity that fits best: a part of the body, an object, a place, a motion. "
            "A patch has the colour of its region's entity; white lines run where entities meet.",
            "Below: the best label and its probability, right or wrong; then the entities that most patches went to, with their "
            "share of all patches.",
        ),
        legend=legend_of(names, categories, colours, shown),
        sections=(
            Section(
                f"Seen actions ({len(cards[False])} videos)",
                f"The model was trained on these {len(SEEN_ACTIONS)} actions, in other videos.",
                tuple(cards[False]),
            ),
            Section(
                f"Unseen actions ({len(cards[True])} videos)",
                f"No caption and no label of the training named these {len(UNSEEN_ACTIONS)} actions. The model knows them by the "
                "words of their names alone.",
                tuple(cards[True]),
            ),
        ),
    )


def _card(video: Video, row: dict[str, Any], pair: tuple[Picture, Picture], colour_of: dict[str, Colour]) -> Card:
    group, kind = (UNSEEN_ACTIONS, "unseen") if video.truth["unseen"] else (SEEN_ACTIONS, "seen")
    answers = []
    for labels, among in (
        (group, f"best of the {len(group)} {kind} labels"),
        (ALL_ACTIONS, f"best of all {len(ALL_ACTIONS)} labels"),
    ):
        best, score = video.best_of(labels)
        answers.append(Answer(among, best, score, best == video.action))
    chips = (
        Chip(entity["name"], colour_of[entity["name"]], entity["weight"]) for entity in row["entities"][:CHIPS_SHOWN]
    )
    return Card(
        title=video.action,
        tag=kind,
        facts=(video.truth["scene"], Path(video.truth["path"]).name),
        frames=pair[0],
        coloured=pair[1],
        answers=tuple(answers),
        entities=tuple(chips),
    )


def _balance(summary: "Summary") -> str:
    speed = f"; {summary.videos_per_s:.1f} videos/s once Ray was up" if summary.labelled else ""
    return (
        f"{summary.inputs} inputs = {summary.labelled} labelled + {summary.failed} failed + {summary.already_done} already done"
        f"{speed}."
    )


def _open(page: Path) -> None:
    """Open the page where somebody can see it: not in scripts, not without a screen. That it can't be opened is no failure."""
    has_screen = sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    if sys.stdout.isatty() and has_screen:
        with contextlib.suppress(webbrowser.Error, OSError):
            webbrowser.open(page.as_uri())
