"""What a tracking server could not be sent: a file of operations, and its replay. Knows nothing of threads or jobs.

    mlflow-1a2b3c4d.jsonl            a header, then one operation a line, in order
    mlflow-1a2b3c4d.jsonl.files/     copies of artifacts: what a job made may be gone when they are sent
    mlflow-1a2b3c4d.jsonl.progress   how many operations a replay has sent
    mlflow-1a2b3c4d.jsonl.sent       the file's name when all is sent; the other two are gone by then

The first two can be moved together to another machine. Who writes or replays a file holds a lock on it.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from alt_ray.errors import JobError, UsageError
from alt_ray.tracking.address import hold_settings, redacted, release_settings, resolved_uri
from alt_ray.tracking.server import Op, RefusedError, Server, UnreachableError, batches
from alt_ray.versions import check_format, stamp

FORMAT_VERSION = 1


@dataclass(frozen=True)
class ReplayReport:
    """What a replay did. `refused` names what the server will never take; it is not tried again."""

    file: str
    uri: str
    sent: int
    sent_before: int
    refused: tuple[str, ...]
    run_ids: tuple[str, ...]


class Spool:
    """A file that appears with the first operation written to it. Raises OSError where it can't be written."""

    def __init__(self, file: Path, uri: str) -> None:
        self.file = file.absolute()
        self._uri = uri
        self._handle: IO[str] | None = None
        self._copies = 0

    def write(self, op: Op) -> None:
        """Add an operation; the file or folder that it names is copied beside."""
        if self._handle is None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._handle = self.file.open("a", encoding="utf-8")
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._line({"op": "header", **stamp(FORMAT_VERSION), "uri": redacted(self._uri)})
        if "path" in op:
            source = Path(op["path"])
            copy = _files_of(self.file) / str(self._copies) / source.name
            self._copies += 1
            copy.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, copy)
            else:
                shutil.copy2(source, copy)
            op = {**op, "path": str(copy.relative_to(self.file.parent))}
        self._line(op)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def _line(self, op: Op) -> None:
        assert self._handle is not None
        self._handle.write(json.dumps(op) + "\n")
        self._handle.flush()


def replay(path: str | Path, *, tracking_uri: str | None = None) -> ReplayReport:
    """Send what a spool file holds to `tracking_uri`, or to the server that it was meant for, and rename it to *.sent.

    Times are those of the job. Running it again sends nothing twice; if it is interrupted, the next call goes on from there.
    Raises UsageError for a file that can't be replayed, JobError if the server can't be had.
    """
    file = Path(path).absolute()
    sent_name = file.with_name(file.name + ".sent")
    if not file.exists() and sent_name.exists():
        header, ops = _read(sent_name)
        return ReplayReport(str(file), header["uri"], 0, len(ops), (), ())
    with _locked(file):
        header, ops = _read(file)
        server = Server(_destination(tracking_uri, header["uri"], file))
        hold_settings()
        try:
            report = _send(file, ops, server)
        finally:
            release_settings()
        file.rename(sent_name)
        _progress_of(file).unlink(missing_ok=True)
        shutil.rmtree(_files_of(file), ignore_errors=True)
    return report


def _send(file: Path, ops: list[Op], server: Server) -> ReplayReport:
    progress = _progress_of(file)
    state: dict[str, Any] = {"sent": 0, "refused": []}
    if progress.exists():
        state = json.loads(progress.read_text(encoding="utf-8"))
        check_format(state, FORMAT_VERSION, progress, missing=1)
    before = done = int(state["sent"])
    refused: list[str] = state["refused"]
    shown = redacted(server.uri)
    try:
        for op in ops[:done]:
            if op["op"] == "begin":  # finds the run that an earlier call began
                server.apply(op)
        for op, count in batches(ops[done:]):
            try:
                server.apply(op)
            except RefusedError as exc:
                if op["op"] == "begin":
                    raise
                refused.append(f"{op['op']} of run {op['run'][:8]}: {exc}")
            done += count
            _publish(progress, json.dumps({**stamp(FORMAT_VERSION), "sent": done, "refused": refused}))
    except (UnreachableError, RefusedError) as exc:
        raise JobError(
            f"MLflow at {shown} did not take {file}: {exc}; {done} of {len(ops)} operations are sent, and the same command goes "
            "on from there"
        ) from exc
    return ReplayReport(str(file), shown, done - before, before, tuple(refused), tuple(server.run_ids.values()))


def _destination(given: str | None, meant: str, file: Path) -> str:
    if given:
        return resolved_uri(given)
    if "***" not in meant:
        return resolved_uri(meant)
    known = os.environ.get("MLFLOW_TRACKING_URI", "")
    if redacted(known) == meant:
        return resolved_uri(known)
    raise UsageError(
        f"{file} was meant for {meant}, whose password it does not hold: give the whole address as --tracking-uri, or as "
        "MLFLOW_TRACKING_URI"
    )


def _read(file: Path) -> tuple[Op, list[Op]]:
    lines = file.read_text(encoding="utf-8").split("\n")[
        :-1
    ]  # what follows the last line end was being written at the end
    ops = []
    for number, line in enumerate(lines, 1):
        try:
            ops.append(json.loads(line))
        except ValueError as exc:
            raise UsageError(f"{file}, line {number} is not JSON: expected what a job wrote ({exc})") from exc
    header: dict[str, Any] = ops[0] if ops and isinstance(ops[0], dict) else {}
    if header.get("op") != "header":
        raise UsageError(
            f"{file} is no file of operations: expected one that a job named in its warning, such as OUT/mlflow-1a2b3c4d.jsonl"
        )
    check_format(header, FORMAT_VERSION, file)
    for op in ops:
        if "path" in op:
            op["path"] = str(file.parent / op["path"])
    return header, ops[1:]


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    try:
        handle = file.open("r+", encoding="utf-8")
    except OSError as exc:
        raise UsageError(
            f"{file} can't be read: expected a file that a job named in its warning, such as OUT/mlflow-1a2b3c4d.jsonl ({exc})"
        ) from exc
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise UsageError(
                f"{file} is still being written, or replayed, by another process: wait for its end"
            ) from exc
        yield


def _publish(file: Path, text: str) -> None:
    part = file.with_name(file.name + ".part")
    with part.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    part.replace(file)


def _files_of(file: Path) -> Path:
    return file.with_name(file.name + ".files")


def _progress_of(file: Path) -> Path:
    return file.with_name(file.name + ".progress")
