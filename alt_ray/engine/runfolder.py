"""The folder of a training or an evaluation: one run at a time, one set of settings, a record of it. Knows nothing of either."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alt_ray.engine.sinks import refuse_other_settings
from alt_ray.errors import UsageError
from alt_ray.schema import FORMAT_VERSION
from alt_ray.versions import check_format, stamp
from alt_ray.video.uris import canonical_uri, local_path

RUN_FILE, LOCK_FILE = "run.json", ".lock"


class RunFolder:
    """A local folder, or one that all machines of a cluster share. Raises UsageError if it can't be used."""

    def __init__(self, out: str) -> None:
        path = local_path(canonical_uri(out))
        if path is None:
            raise UsageError(
                f"--out {out}: a training keeps its states in a folder that all of its workers see under one path; give a "
                "local folder or one on a shared disk, and copy best/ from there"
            )
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise UsageError(f"--out {out} can't be used: {exc}") from exc

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out until the block ends, or this process however it ends. Raises UsageError if another is in it."""
        import fcntl

        with (self.path / LOCK_FILE).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise UsageError(
                    f"another run is writing to {self.path}; wait for it, or choose another --out"
                ) from exc
            yield

    def check(self, settings: dict[str, Any], *, partly: bool = False) -> None:
        """Raise UsageError if the folder is of a newer version, or of other settings, which are shown.

        partly: `settings` are not all; others may be anything.
        """
        record = self.read_run()
        if record is not None:
            recorded = record.get("settings", {})
            recorded = {name: recorded[name] for name in recorded if name in settings} if partly else recorded
            refuse_other_settings(recorded, json.loads(json.dumps(settings)), str(self.path))

    def read_run(self) -> dict[str, Any] | None:
        """The record of the last run, None before the first. Raises UsageError for one of a newer version, or a broken one."""
        file = self.path / RUN_FILE
        if not file.exists():
            return None
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as exc:
            raise UsageError(f"{file} is not JSON ({exc}); choose another --out") from exc
        check_format(record, FORMAT_VERSION, file)
        return record

    def write(self, name: str, record: dict[str, Any]) -> Path:
        """Write a JSON file, stamped; a reader finds the old one or the new one."""
        temporary = self.path / f".{name}"
        text = json.dumps({**stamp(FORMAT_VERSION), **record}, indent=2, ensure_ascii=False)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.path / name)
        return self.path / name

    def write_run(self, record: dict[str, Any]) -> None:
        self.write(RUN_FILE, record)
