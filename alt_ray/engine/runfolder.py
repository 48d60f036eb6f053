"""The folder of a training or an evaluation: one run at a time, one set of settings, a record of it. Knows nothing of either.

A remote folder is worked on in a local copy (remote.mirror), which is fetched when the run begins, and sent as it goes.
"""

import contextlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alt_ray.engine.feature_source import FEATURES
from alt_ray.engine.sinks import refuse_other_settings
from alt_ray.errors import UsageError
from alt_ray.remote.folder import RemoteFolder, is_remote
from alt_ray.remote.lease import Lease
from alt_ray.remote.mirror import Mirror
from alt_ray.schema import FORMAT_VERSION
from alt_ray.versions import check_format, stamp
from alt_ray.video.uris import canonical_uri, child_uri, local_path

RUN_FILE, LOCK_FILE, LEASES = "run.json", ".lock", ".leases"


class RunFolder:
    """A local folder, or a remote one. Raises UsageError if it can't be used.

    `uri` is its address, `path` where to work on its files; of a remote folder that is a copy, filled within `lock`, without the
    features and the folders of the names `left_out`.
    """

    def __init__(self, out: str, left_out: tuple[str, ...] = ()) -> None:
        self.uri = canonical_uri(out)
        self.mirror: Mirror | None = None
        if is_remote(self.uri):
            self.path = Path(tempfile.gettempdir()) / f"alt_ray_run_{uuid.uuid4().hex[:8]}"
            self.mirror = Mirror(RemoteFolder(self.uri), self.path, left_out=(FEATURES, *left_out))
            return
        path = local_path(self.uri)
        assert path is not None
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise UsageError(f"--out {out} can't be used: {exc}") from exc

    def child(self, name: str) -> str:
        """The address of a folder in this one."""
        return str(self.path / name) if self.mirror is None else child_uri(self.uri, name)

    @property
    def spool_folder(self) -> Path | None:
        """Where what a tracking server did not take may be kept; None: not here."""
        return self.path if self.mirror is None else None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out until the block ends, or this process however it ends. Raises UsageError if another is in it."""
        if self.mirror is not None:
            self.path.mkdir(mode=0o700)
            try:
                with Lease(self.mirror.remote, LEASES).held():
                    self.mirror.pull()
                    yield
            finally:
                shutil.rmtree(self.path, ignore_errors=True)
            return
        import fcntl

        with (self.path / LOCK_FILE).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise UsageError(
                    f"another run is writing to {self.path}; wait for it, or choose another --out"
                ) from exc
            yield

    def fetch(self) -> None:
        """See what workers wrote. Raises JobError."""
        if self.mirror is not None:
            self.mirror.pull()

    def send(self) -> None:
        """Let others see what was written to `path`. Raises JobError."""
        if self.mirror is not None:
            self.mirror.push()

    def check(self, settings: dict[str, Any], *, partly: bool = False) -> None:
        """Raise UsageError if the folder is of a newer version, or of other settings, which are shown.

        partly: `settings` are not all; others may be anything.
        """
        record = self.read_run()
        if record is not None:
            recorded = record.get("settings", {})
            recorded = {name: recorded[name] for name in recorded if name in settings} if partly else recorded
            refuse_other_settings(recorded, json.loads(json.dumps(settings)), self._shown)

    def read_run(self) -> dict[str, Any] | None:
        """The record of the last run, None before the first. Raises UsageError for one of a newer version, or a broken one."""
        file = self.path / RUN_FILE
        if not file.exists():
            return None
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as exc:
            raise UsageError(f"{self._shown}/{RUN_FILE} is not JSON ({exc}); choose another --out") from exc
        check_format(record, FORMAT_VERSION, f"{self._shown}/{RUN_FILE}")
        return record

    def write(self, name: str, record: dict[str, Any]) -> Path:
        """Write a JSON file, stamped; a reader finds the old one or the new one."""
        temporary = self.path / f".{name}"
        text = json.dumps({**stamp(FORMAT_VERSION), **record}, indent=2, ensure_ascii=False)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.path / name)
        self.send()
        return self.path / name

    def write_run(self, record: dict[str, Any]) -> None:
        self.write(RUN_FILE, record)

    @property
    def _shown(self) -> str:
        return str(self.path) if self.mirror is None else self.uri
