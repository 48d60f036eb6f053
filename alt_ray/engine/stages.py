"""What one worker does with one batch, as plain callables: decode clips, then label them. Knows nothing of Ray.

Both are built once per worker and called once per batch; a batch is a dictionary of arrays with one entry per clip. A clip that
fails stays in its batch with its error beside it, so that it never costs another clip its result.

B clips, V views, T frames, H x W pixels, C labels, K entities, D embedding dim.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from alt_ray.engine.request import ModelRequest, PreparedModel
from alt_ray.errors import DecodeError
from alt_ray.schema import label_schema, result_schema
from alt_ray.video.isolation import DECODE_FUNCTION, DecoderProcess
from alt_ray.video.probe import Probe
from alt_ray.video.sampling import ClipSpec

Batch = dict[str, np.ndarray]

# A crash may be the fault of the machine (out of memory) or of the file before; a lost connection mends itself. A timeout is
# not tried again: it would cost the same again.
MAX_ATTEMPTS = {"crashed": 2, "unreadable": 3}
RETRY_WAIT_S = 0.5

MODEL_COLUMNS = ("label", "score", "top_labels", "entities", "embedding", "model_digest")
NO_PROBE = Probe(duration_s=0.0, fps=0.0, width=0, height=0, codec="")


@dataclass(frozen=True)
class DecodeSettings:
    """How clips are decoded. `function` names the decoder ("module:function") and is another one only in tests of faults."""

    spec: ClipSpec
    time_limit_s: float = 60.0
    function: str = DECODE_FUNCTION


class DecodeClips:
    """Add to a batch of (video_id, uri, start_s, end_s): frames [B, V, T, H, W, 3] uint8, the probe columns, and error columns.

    `error` is "" for a clip that was decoded; the frames of one that was not are black.
    """

    def __init__(self, settings: DecodeSettings) -> None:
        self.settings = settings
        self.decoder = DecoderProcess(settings.spec, time_limit_s=settings.time_limit_s, function=settings.function)

    def __call__(self, batch: Batch) -> Batch:
        clips = [
            (str(uri), _bound(start_s), _bound(end_s))
            for uri, start_s, end_s in zip(batch["uri"], batch["start_s"], batch["end_s"], strict=True)
        ]
        frames_BVTHW3 = np.zeros((len(clips), *self.settings.spec.shape), np.uint8)
        rows = []
        for i, clip in enumerate(clips):
            if i == 0:
                self.decoder.submit(*clip)
            if i + 1 < len(clips):  # decoded while this one is copied
                self.decoder.submit(*clips[i + 1])
            rows.append(self._fetch(frames_BVTHW3[i], attempt=1))
        for i, clip in enumerate(clips):
            while _is_passing(rows[i], clip[0]):
                time.sleep(RETRY_WAIT_S * rows[i]["attempts"])
                self.decoder.submit(*clip)
                rows[i] = self._fetch(frames_BVTHW3[i], attempt=rows[i]["attempts"] + 1)
        columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        return {**batch, "frames": frames_BVTHW3, **columns}

    def _fetch(self, out_VTHW3: np.ndarray, attempt: int) -> dict[str, Any]:
        try:
            frames_VTHW3, probe = self.decoder.result()
        except DecodeError as exc:
            error = {"error": exc.reason, "stage": exc.stage, "message": exc.message}
            return {**asdict(NO_PROBE), **error, "attempts": attempt}
        out_VTHW3[:] = frames_VTHW3
        return {**asdict(probe), "error": "", "stage": "", "message": "", "attempts": attempt}


def _is_passing(row: dict[str, Any], uri: str) -> bool:
    """Whether a clip failed in a way that may mend itself, and has attempts left."""
    may_mend = row["error"] == "crashed" or (row["stage"] == "open" and "://" in uri)
    return may_mend and row["attempts"] < MAX_ATTEMPTS.get(row["error"], 1)


def _bound(value: Any) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


class LabelClips:
    """Turn a batch of decoded clips into rows of schema.result_schema: a label or a failure for each.

    machine: says where this worker is; called once.
    """

    def __init__(
        self, request: ModelRequest, prepared: PreparedModel, machine: Callable[[], str] = platform.node
    ) -> None:
        from alt_ray.engine.model import build_model  # torch: the driver imports this module and must stay light

        self.request = request
        self.prepared = prepared
        self.machine = machine()
        self.model, self.feeder = build_model(request, prepared)
        self.schema = result_schema(label_schema(prepared.dim))

    def __call__(self, batch: Batch) -> pa.Table:
        from alt_ray.engine.model import label_clips

        is_decoded = batch["error"] == ""
        rows: dict[str, Any] = {name: [] for name in (*MODEL_COLUMNS, "is_finite")}
        if is_decoded.any():
            frames_BVTHW3 = batch["frames"] if is_decoded.all() else batch["frames"][is_decoded]
            rows = label_clips(self.model, self.feeder, frames_BVTHW3, self.request, self.prepared)
        columns: dict[str, Any] = {
            name: _optional(batch[name]) for name in ("video_id", "uri", "start_s", "end_s", "attempts")
        }
        for name in ("duration_s", "fps", "width", "height", "codec", "frames_damaged"):
            columns[name] = _where(is_decoded, batch[name])
        for name in ("error", "stage", "message"):
            columns[name] = _where(~is_decoded, batch[name])
        for name in MODEL_COLUMNS:
            columns[name] = _spread(is_decoded, rows[name])
        columns["machine"] = [self.machine] * len(is_decoded)
        for i, is_finite in zip(np.flatnonzero(is_decoded).tolist(), rows["is_finite"], strict=True):
            if not is_finite:
                _fail(columns, i)
        return pa.table(
            {name: pa.array(columns[name], self.schema.field(name).type) for name in self.schema.names}, self.schema
        )


def _optional(values: np.ndarray) -> list[Any]:
    return [None if isinstance(v, float) and v != v else v for v in values.tolist()]


def _where(mask: np.ndarray, values: np.ndarray) -> list[Any]:
    return [value if keep else None for keep, value in zip(mask, values.tolist(), strict=True)]


def _spread(mask: np.ndarray, values: Any) -> list[Any]:
    rest = iter(values)
    return [next(rest) if keep else None for keep in mask]


def _fail(columns: dict[str, Any], i: int) -> None:
    """Make row `i` a failure: the model gave something that is no number for it."""
    for name in MODEL_COLUMNS:
        columns[name][i] = None
    columns["error"][i], columns["stage"][i] = "not_finite", "encode"
    columns["message"][i] = f"{columns['uri'][i]}: the model's answer is not finite; try --dtype float32"
