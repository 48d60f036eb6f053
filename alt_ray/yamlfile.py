"""Settings from YAML files, as the flags that they stand for, so that both are checked by the same parser. Knows no command."""

import dataclasses
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from alt_ray.errors import UsageError


def flags_of_yaml(file: str, kind: type[Any], others: Callable[[], Iterable[type[Any]]] = tuple) -> list[str]:
    """Return the flags that the YAML mapping in `file` stands for: `merge_r: 8` (or merge-r) becomes --merge-r 8.

    Settings of other commands (`others`) are left out: one file serves all of them. Raises UsageError for a file that can't be
    read, is no flat mapping, or has a key that is no option of any command.
    """
    import yaml

    try:
        settings = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"--config {file} can't be read: {exc}") from exc
    except yaml.YAMLError as exc:
        raise UsageError(f"--config {file} is not YAML: {exc}") from exc
    if not isinstance(settings, dict):
        raise UsageError(f"--config {file} holds no settings; expected lines such as `frames: 8`")
    known = _options(kind)
    flags: list[str] = []
    for key, value in settings.items():
        name = str(key).replace("-", "_")
        if name not in known:
            if any(name in _options(other) for other in others()):
                continue
            raise UsageError(f"--config {file}: unknown setting {key!r}; expected one of {', '.join(sorted(known))}")
        flag = f"--{name.replace('_', '-')}"
        if known[name] is bool:
            if not isinstance(value, bool):
                raise UsageError(f"--config {file}: {key} is true or false, got {value!r}")
            flags += [flag] if value else []
        elif isinstance(value, list) and typing.get_origin(known[name]) is typing.Annotated:
            flags += [part for entry in value for part in (flag, str(entry))]
        elif isinstance(value, list) and typing.get_origin(known[name]) is tuple:
            flags += [flag, *map(str, value)]
        elif value is not None:
            flags += [flag, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return flags


def _options(kind: type[Any]) -> dict[str, Any]:
    """The flat options of a dataclass with groups, by name, and their types. Positional ones have no flag; an annotated type
    is that of a flag which is repeated for each value."""
    from tyro.conf import Positional, UseAppendAction

    (positional,), (repeated,) = (typing.get_args(kind_[int])[1:] for kind_ in (Positional, UseAppendAction))
    options: dict[str, Any] = {}
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            options |= _options(typing.cast(type, hint))
            continue
        if typing.get_origin(hint) is typing.Annotated:
            plain, *marks = typing.get_args(hint)
            if positional not in marks:
                options[field.name] = hint if repeated in marks else plain
        elif field.name != "config":
            options[field.name] = hint
    return options
