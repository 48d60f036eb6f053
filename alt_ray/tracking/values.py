"""What MLflow takes as names and values, made of anything that a job may hold. Knows nothing of runs or servers."""

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MAX_KEY, MAX_PARAM, MAX_TAG, MAX_DIGEST, MAX_INPUT_TAG = 250, 6000, 8000, 36, 500  # characters, by MLflow


def texts(values: Mapping[str, Any], limit: int) -> dict[str, str]:
    """Flatten ("sampling.frames"); lists become JSON, and what is longer than `limit` is cut."""
    return {name: cut(_text(value), limit) for name, value in _flat(values)}


def numbers(values: Mapping[str, Any]) -> tuple[dict[str, float], set[str]]:
    """Flatten; return the numbers, without those that are None, and the names of those that are not finite, now NaN."""
    flat = {name: float(value) for name, value in _flat(values) if value is not None}
    strange = {name for name, value in flat.items() if not math.isfinite(value)}
    return {name: math.nan if name in strange else value for name, value in flat.items()}, strange


def as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=_plain) + "\n"


def cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dataclasses.asdict(value)
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield _key(f"{prefix}{name}"), value


def _key(name: str) -> str:
    """MLflow's alphabet, and no path that leads elsewhere: some of its stores make files of names."""
    name = re.sub(r"/+", "/", re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)).strip("/. ")
    return (name or "_")[:MAX_KEY]


def _text(value: Any) -> str:
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, list | tuple | Mapping):
        return json.dumps(value, ensure_ascii=False, default=_plain)
    return str(value)


def _plain(value: Any) -> Any:
    """What JSON lacks: dataclasses, NumPy's numbers and arrays; anything else by its text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return value.tolist() if hasattr(value, "tolist") else str(value)
