"""Bring the labels, splits and groups of a feature store up to its source, without a video being opened. Knows nothing of Ray."""

import pyarrow as pa

from alt_ray.engine.progress import announce
from alt_ray.engine.sinks import REGIONS, OutputFolder
from alt_ray.errors import FeatureError, JobError
from alt_ray.features.annotations import ANNOTATIONS, as_encoded, changed, next_part_name, read_annotations
from alt_ray.video.manifest import Inputs


def differences(folder: OutputFolder, inputs: Inputs) -> tuple[pa.Table, dict[str, int]]:
    """What `annotate` would write: rows, and how many clips get another label, split and group. Raises JobError."""
    if not inputs.given:
        return inputs.table.slice(0, 0), {}
    try:
        parts = folder.parts(REGIONS)
        annotations = read_annotations(folder.filesystem, folder.path)
        return changed(as_encoded(folder.filesystem, parts), annotations, inputs.table, inputs.given)
    except FeatureError as exc:  # a part of our own that is broken is nothing that the user asked wrongly
        raise JobError(str(exc)) from exc


def annotate(folder: OutputFolder, inputs: Inputs, *, quiet: bool = False) -> dict[str, int]:
    """Let the clips of `inputs` that the store has carry what the source says now; others are left as they are.

    Return how many got another label, split and group; {} for none. To be called under the folder's lock. Raises JobError.
    """
    rows, counts = differences(folder, inputs)
    if not rows.num_rows:
        return {}
    names = [path.rsplit("/", 1)[1] for path in folder.parts(ANNOTATIONS)]
    folder.filesystem.create_dir(f"{folder.path}/{ANNOTATIONS}", recursive=True)
    folder.publish(rows, ANNOTATIONS, next_part_name(names))
    said = ", ".join(f"{count} another {name}" for name, count in counts.items() if count)
    announce(
        f"encode: of {rows.num_rows} clips that were encoded before, the source says something else now: {said}",
        quiet=quiet,
    )
    return counts
