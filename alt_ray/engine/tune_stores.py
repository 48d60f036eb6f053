"""The feature stores of a search, one for each merging: opened and checked, or encoded from videos, each once.

Knows nothing of what is searched, nor of trials.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alt_ray import bundled
from alt_ray.config_features import EncodeOptions
from alt_ray.config_tune import TuneOptions
from alt_ray.engine.encode import encode
from alt_ray.engine.feature_source import is_store
from alt_ray.engine.job import digest_of_ids
from alt_ray.engine.progress import announce
from alt_ray.engine.runfolder import RunFolder
from alt_ray.errors import FeatureError, JobError, UsageError
from alt_ray.features.layout import StoreRecord
from alt_ray.features.store import FeatureStore
from alt_ray.remote.folder import RemoteFolder, is_remote
from alt_ray.schema import FORMAT_VERSION
from alt_ray.tables import is_in, wide_column
from alt_ray.versions import check_format, stamp, unstamped
from alt_ray.video.manifest import Inputs, read_source
from alt_ray.video.uris import child_uri

SEARCH_RATIOS = (0.0, 0.25, 0.5, 0.75)
SWEEP_RATIOS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
MAY_DIFFER = ("encoder.merge_schedule", "num_regions")
COMPLETE = "complete.json"  # beside regions/: what the store was encoded from, written when it was


@dataclass(frozen=True)
class Arm:
    """One merging, with its store. `clip_rows` [N] are the rows of view 0 of the clips that all arms have, in one order.

    held: reference to all of its regions in Ray's object store, which trials on one machine share; None: they read the files.
    """

    name: str
    uri: str
    digest: str
    record: StoreRecord
    clip_rows: np.ndarray
    num_rows: int = 0
    held: Any = None

    @property
    def num_bytes(self) -> int:
        return self.num_rows * self.record.bytes_per_view

    @property
    def schedule(self) -> tuple[int, ...]:
        return tuple(self.record.encoder["merge_schedule"])

    @property
    def merge_ratio(self) -> float:
        """The share of the patch tokens that the last block leaves merged away."""
        return sum(self.schedule) / self.record.num_patches

    @property
    def merge_r(self) -> float:
        """Tokens merged in a block, the mean over blocks."""
        return sum(self.schedule) / max(len(self.schedule), 1)


def open_arms(uris: Sequence[str], *, quiet: bool = False) -> tuple[list[Arm], pa.Table]:
    """Open stores, and return an arm for each, by merge ratio, and the clips that all have, as FeatureStore.clips gives them.

    Raises FeatureError for stores that differ in more than their merging, have the same one, or share no clips.
    """
    stores = [FeatureStore(uri) for uri in uris]
    first = stores[0]
    for store in stores[1:]:
        alike = replace(store.record, num_regions=first.record.num_regions)
        alike = replace(alike, encoder={**alike.encoder, "merge_schedule": first.record.encoder["merge_schedule"]})
        if difference := first.record.difference(alike):
            raise FeatureError(
                f"{first.uri} and {store.uri} differ in more than their merging: {difference}; a search needs stores of one "
                "encoder and one sampling"
            )
    tables = [store.clips() for store in stores]
    clips = _common(stores, tables)
    dropped = max(table.num_rows for table in tables) - clips.num_rows
    if dropped:
        announce(f"warning: {dropped} clips are not in all {len(stores)} stores and are left out", quiet=quiet)
    arms = []
    for store, table in zip(stores, tables, strict=True):
        own = table.filter(is_in(table["video_id"], clips["video_id"]))
        schedule = store.record.encoder["merge_schedule"]
        name = f"m{sum(schedule) / store.record.num_patches:.3f}"
        arms.append(Arm(name, store.uri, store.digest, store.record, own["first_row"].to_numpy(), store.rows.num_rows))
    by_schedule: dict[tuple[int, ...], Arm] = {}
    for arm in arms:
        if (other := by_schedule.setdefault(arm.schedule, arm)) is not arm:
            raise FeatureError(
                f"{other.uri} and {arm.uri} have the same merging {list(arm.schedule)}; give one of them"
            )
    if len({arm.name for arm in arms}) < len(arms):  # the same share, spread otherwise over the blocks
        arms = [replace(arm, name=f"{arm.name}-{i}") for i, arm in enumerate(arms)]
    return sorted(arms, key=lambda arm: arm.merge_ratio), clips


def _common(stores: Sequence[FeatureStore], tables: Sequence[pa.Table]) -> pa.Table:
    """The clips of the first store that all have, which must have the same label, split and group in all."""
    shared = set.intersection(*(set(table["video_id"].to_pylist()) for table in tables))
    if not shared:
        raise FeatureError(
            f"{stores[0].uri} and the other stores have no clip in common: expected stores of the same videos"
        )
    ids = pa.array(sorted(shared))
    tables = [table.filter(is_in(table["video_id"], ids)) for table in tables]
    for store, table in zip(stores[1:], tables[1:], strict=True):
        for column in ("label", "split", "group"):
            if table[column].to_pylist() != tables[0][column].to_pylist():
                raise FeatureError(
                    f"{stores[0].uri} and {store.uri} give clips another {column}: expected stores of one list of videos"
                )
    return tables[0]


def sources_of(options: TuneOptions, out: RunFolder) -> list[str]:
    """Return the addresses of feature stores: those given, or those encoded from videos, or from pocket videos drawn here."""
    given = list(options.sources)
    are_stores = [is_store(source) for source in given]
    if given and all(are_stores):
        if options.merge_ratios or options.merge_rs:
            raise UsageError(
                "--merge-ratios and --merge-rs say how videos are encoded; the sources are feature stores, each with its merging"
            )
        return given
    if len(given) > 1:
        bad = given[are_stores.index(False)]
        raise UsageError(f"{bad} is no feature store: expected several stores, or one source of videos")
    if not given and options.sweep is None:
        raise UsageError(
            "name feature stores, or videos; without any, --sweep merge-ratio takes pocket videos that it draws"
        )
    if not given and out.mirror is not None:
        raise UsageError(f"--out {options.out}: pocket videos are drawn into a local folder; give one, or name videos")
    source = given[0] if given else draw_pocket(options, out.path / "videos")
    return [ensure_store(wanted) for wanted in encodings(options, source, out.child("features"))]


def draw_pocket(options: TuneOptions, folder: Path) -> str:
    """Draw an archive of the pocket's seen actions, if it is not there yet; return its manifest."""
    from alt_ray.pocket.archive import ArchiveOptions, write_archive
    from alt_ray.pocket.tasks import TRAIN_SEED
    from alt_ray.pocket.vocabulary import SEEN_ACTIONS

    manifest = folder / "manifest.csv"
    if not manifest.exists():
        announce(f"tune: drawing {options.videos} pocket videos", quiet=options.output.quiet)
        # The adapter that ships was trained on TRAIN_SEED + 1; the encoder has seen other drawings alone.
        archive = ArchiveOptions(seed=TRAIN_SEED + 500 + options.seed, actions=SEEN_ACTIONS)
        write_archive(folder, options.videos, archive)
    return str(manifest)


def encodings(options: TuneOptions, source: str, folder: str | Path) -> list[EncodeOptions]:
    """How a source of videos is encoded, once for each merging."""
    encoder = options.encoder
    if encoder.encoder is None and options.recipe in (None, bundled.POCKET):
        encoder = replace(encoder, encoder=bundled.POCKET)
    ratios = options.merge_ratios or (SWEEP_RATIOS if options.sweep == "merge-ratio" else SEARCH_RATIOS)
    if options.sweep == "temperature" and not (options.merge_ratios or options.merge_rs):
        ratios = (0.5,)
    mergings: list[dict[str, Any]] = [{"merge_ratio": ratio, "merge_r": None} for ratio in ratios]
    if options.merge_rs:
        mergings = [{"merge_r": r, "merge_ratio": None} for r in options.merge_rs]
    return [
        EncodeOptions(
            source=source,
            out=child_uri(
                str(folder), "-".join(f"{name}-{value:g}" for name, value in merging.items() if value is not None)
            ),
            train_views=options.train_views,
            seed=options.seed,
            encoder=replace(encoder, **merging),
            sampling=options.sampling,
            inputs=options.inputs,
            cluster=options.cluster,
            tracking=options.tracking,
            output=replace(options.output, json=False),
        )
        for merging in mergings
    ]


def ensure_store(wanted: EncodeOptions) -> str:
    """Return the store, encoded as far as it is not what the source says now. Of several that call this at once, one encodes and
    the others wait. Raises what `encode` raises, and JobError where more than --max-failed of the inputs failed."""
    inputs = read_source(wanted.source, **wanted.inputs.chosen)
    said = [wide_column(inputs.table[name]) for name in ("video_id", "label", "split", "group")]
    separator = pa.scalar("\x1f", pa.large_string())
    rows = pc.binary_join_element_wise(*said, separator, null_handling="replace", null_replacement="\x1e")
    made_of = {"inputs": digest_of_ids(rows)}  # a manifest may change; then only labels may, or videos are missing
    if is_remote(wanted.out):
        remote = RemoteFolder(wanted.out)
        _encode(wanted, inputs, made_of, lambda: remote.read(COMPLETE), lambda said: remote.write(COMPLETE, said))
        return wanted.out
    folder = Path(wanted.out)
    folder.mkdir(parents=True, exist_ok=True)
    complete = folder / COMPLETE
    with _alone(folder / ".encoding"):
        _encode(
            wanted, inputs, made_of, lambda: complete.read_bytes() if complete.exists() else None, complete.write_bytes
        )
    return str(folder)


def _encode(
    wanted: EncodeOptions,
    inputs: Inputs,
    made_of: dict[str, str],
    read: Callable[[], bytes | None],
    write: Callable[[bytes], Any],
) -> None:
    if (said := read()) is not None:
        record = json.loads(said)
        check_format(record, FORMAT_VERSION, f"{wanted.out}/{COMPLETE}", missing=1)
        if unstamped(record) == made_of:
            return
    summary = encode(wanted, inputs=inputs)
    if problem := summary.too_many_failed(wanted.inputs.max_failed, wanted.out):
        raise JobError(problem)
    write(json.dumps({**stamp(FORMAT_VERSION), **made_of}).encode())


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Wait until nobody else is in such a block."""
    import fcntl

    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
