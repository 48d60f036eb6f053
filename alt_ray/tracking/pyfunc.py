"""A checkpoint as an MLflow model: videos or frames in, labels and entities out. Knows nothing of runs, or who serves it.

The logged model is the checkpoint folder and the name of this module, which MLflow imports to load it: nothing is pickled.

B clips, T frames, H x W pixels.
"""

import importlib.metadata
import json
import platform
import sys
import tempfile
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import alt_ray
from alt_ray import bundled
from alt_ray.errors import AltRayError, CheckpointError, DecodeError, UsageError
from alt_ray.schema import FORMAT_VERSION
from alt_ray.tracking.address import NOWHERE
from alt_ray.versions import stamp

if TYPE_CHECKING:
    import pandas as pd

    from alt_ray.api import VideoModel
    from alt_ray.models.alt import ClipLabels
    from alt_ray.tracking import Tracker

OUTPUT_COLUMNS = ("label", "score", "top_labels", "entities", "error")
DEFAULTS = {"device": "cpu", "dtype": "float32", "top": 5, "pretrained": None}
_REQUIRED = ("av", "numpy", "open_clip_torch", "pandas", "safetensors", "torch")


def log_model(
    tracker: "Tracker",
    checkpoint: str | Path,
    *,
    example: "pd.DataFrame | None" = None,
    name: str = "model",
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Log a checkpoint folder (or "pocket") as the model `name` of a run: `runs:/RUN_ID/model`.

    `settings` override DEFAULTS for those who load it without saying otherwise. Raises CheckpointError if there is no
    checkpoint; what goes wrong with MLflow becomes a warning.
    """
    folder = bundled.adapter_folder(checkpoint) or Path(checkpoint)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} is no checkpoint: expected a folder with config.json and adapter.safetensors")
    if tracker.uri == NOWHERE:
        return
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as scratch:
        written = Path(scratch) / "model"
        try:
            save_model(written, folder, example=example, settings=settings)
        except (MlflowException, OSError) as exc:
            print(f"warning: {folder} is not logged as a model: {exc}", file=sys.stderr, flush=True)
            return
        tracker.model(written, name)


def save_model(
    path: Path,
    checkpoint: Path,
    *,
    example: "pd.DataFrame | None" = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint as an MLflow model into the new folder `path`. Asks no network and loads no weights."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, Schema, TensorSpec

    wanted = {**DEFAULTS, **_known(settings)}
    frames = ColSpec(AnyType(), "frames", required=False)  # checked by us: MLflow would look at each pixel, in Python
    times = [ColSpec("double", bound, required=False) for bound in ("start_s", "end_s")]
    inputs: list[ColSpec | TensorSpec] = [ColSpec("string", "path", required=False), *times, frames]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec("double" if column == "score" else "string", column) for column in OUTPUT_COLUMNS
    ]
    signature = ModelSignature(Schema(inputs), Schema(outputs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no example, in colours
        mlflow.pyfunc.save_model(
            str(path),
            loader_module=__name__,
            data_path=str(checkpoint),
            signature=signature,
            input_example=example,
            pip_requirements=[
                f"alt_ray=={alt_ray.__version__}",  # of the code that runs: it need not be installed
                *(f"{package}=={importlib.metadata.version(package)}" for package in _REQUIRED),
            ],
            model_config=wanted,
            metadata={**stamp(FORMAT_VERSION), "alt_ray": alt_ray.__version__, "python": platform.python_version()},
        )


class ServedModel:
    """What MLflow calls. `predict` returns one row for each that it is given, whatever is wrong with some of them."""

    def __init__(self, model: "VideoModel", top: int) -> None:
        self._model = model
        self._top = top
        self._lock = threading.Lock()  # a server calls from several threads, and there is one decoder

    def get_raw_model(self) -> "ServedModel":
        """For frames as one array, which MLflow's own `predict` does not let through."""
        return self

    def predict(
        self, model_input: "pd.DataFrame | np.ndarray", params: Mapping[str, Any] | None = None
    ) -> "pd.DataFrame":
        """Label a table with a column `path` (and `start_s`, `end_s`, if wanted) or `frames` ([T, H, W, 3] each), or an
        array of frames [B, T, H, W, 3]; all uint8.

        Returns the columns OUTPUT_COLUMNS: `top_labels` and `entities` are JSON, `error` is why a row has no label, or empty.
        """
        import pandas as pd

        if isinstance(model_input, np.ndarray):
            rows = [{"frames": frames} for frames in model_input]
        else:
            rows = model_input.to_dict("records")
        with self._lock:
            return pd.DataFrame([self._row(row) for row in rows], columns=list(OUTPUT_COLUMNS))

    def _row(self, row: Mapping[Any, Any]) -> dict[str, Any]:
        try:
            found = self._label(row)
        except DecodeError as exc:
            return _failed(f"{exc.reason}: {exc}")
        except AltRayError as exc:
            return _failed(str(exc))
        label, score = found.labels[0]
        return {
            "label": label,
            "score": score,
            "top_labels": _json([{"label": label, "score": score} for label, score in found.labels]),
            "entities": _json([{"name": name, "weight": weight} for name, weight in found.entities]),
            "error": "",
        }

    def _label(self, row: Mapping[Any, Any]) -> "ClipLabels":
        frames, path = row.get("frames"), row.get("path")
        if frames is not None and not isinstance(frames, float):  # pandas' own word for nothing is a float
            import torch

            return self._model.label(torch.from_numpy(_frames(frames)), self._top)[0]
        if isinstance(path, str) and path:
            bounds = {bound: _second(row.get(bound)) for bound in ("start_s", "end_s")}
            return self._model.label(path, self._top, **bounds)[0]
        raise UsageError("a row without input: expected a `path`, or `frames` [T, H, W, 3]")


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> ServedModel:
    """What MLflow calls to load a logged model; `model_config` is load_model's, over what was logged."""
    import alt_ray

    wanted = {**DEFAULTS, **_known(model_config)}
    model = alt_ray.load(path, pretrained=wanted["pretrained"], device=wanted["device"], dtype=wanted["dtype"])
    return ServedModel(model, int(wanted["top"]))


def _known(settings: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if unknown := set(settings or {}) - set(DEFAULTS):
        raise UsageError(
            f"unknown settings of the model: {', '.join(sorted(unknown))}; there are {', '.join(DEFAULTS)}"
        )
    return settings or {}


def _frames(given: Any) -> np.ndarray:
    try:
        array = np.asarray(given)
    except ValueError as exc:
        raise UsageError(f"frames of unequal sizes ({exc}); expected [T, H, W, 3]") from exc
    if array.ndim != 4 or array.shape[-1] != 3 or 0 in array.shape or not np.issubdtype(array.dtype, np.integer):
        raise UsageError(f"frames of shape {array.shape}, {array.dtype}; expected [T, H, W, 3] of integers 0 to 255")
    if array.min() < 0 or array.max() > 255:
        raise UsageError(f"frames with values from {array.min()} to {array.max()}; expected 0 to 255")
    return array.astype(np.uint8)


def _second(value: Any) -> float | None:
    return None if value is None or value != value else float(value)


def _failed(error: str) -> dict[str, Any]:
    return {"label": "", "score": 0.0, "top_labels": "[]", "entities": "[]", "error": error}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
