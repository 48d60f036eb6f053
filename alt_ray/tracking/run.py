"""One MLflow run, as a job sees it. Knows nothing of how it is sent, or of what the job does."""

import json
import sys
import time
import urllib.parse
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from alt_ray.tracking.address import NOWHERE, redacted, release_settings
from alt_ray.tracking.sender import Sender
from alt_ray.tracking.server import Op
from alt_ray.tracking.values import MAX_DIGEST, MAX_INPUT_TAG, MAX_PARAM, MAX_TAG, as_json, cut, numbers, texts

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class RunHandle:
    """A run as another process needs it (`attach`); pickles small. Holds the password if the address has one."""

    uri: str
    begin: Op
    spool_folder: str
    is_down: bool = False


class Tracker:
    """One run. Made by `tracked`, `attach` or `child`; a context manager that ends the run by how the block ended."""

    def __init__(self, sender: Sender | None, begin: Op, *, owns_sender: bool, owns_run: bool, folder: Path) -> None:
        self._sender = sender
        self._begin = begin
        self._owns_sender, self._owns_run = owns_sender, owns_run
        self._folder = folder
        self._config: dict[str, Any] = {}
        self._not_finite: set[str] = set()
        self._is_finished = False

    @property
    def key(self) -> str:
        """Our name of the run, known whatever the server does; the run carries it as the tag alt_ray.run_key."""
        return self._begin["run"]

    @property
    def uri(self) -> str:
        """Where the run is kept, for people: without a password; "none" if nothing is tracked."""
        return redacted(self._sender.server.uri) if self._sender else NOWHERE

    @property
    def is_down(self) -> bool:
        """Whether the server failed, so that what is tracked goes to a file."""
        return self._sender is not None and self._sender.is_down

    @property
    def run_id(self) -> str | None:
        """The server's id of the run, or None if it never began there. Waits for the beginning."""
        if self._sender is None:
            return None
        if self.key not in self._sender.server.run_ids:
            self._sender.flush()
        return self._sender.server.run_ids.get(self.key)

    def reference(self) -> dict[str, Any]:
        """What to write beside results, so that later jobs can name the run that made them (`lineage`)."""
        return {
            "tracking_uri": self.uri,
            "experiment": self._begin["experiment"],
            "run_id": self.run_id,
            "run_key": self.key,
        }

    def params(self, config: Mapping[str, Any]) -> None:
        """Log settings, flattened ("sampling.frames"); long values are cut. All of them stand whole in config.json."""
        self._config.update(config)
        self._put({"op": "params", "params": texts(config, MAX_PARAM)})
        self.json("config.json", self._config)

    def tags(self, tags: Mapping[str, Any]) -> None:
        """Log tags, flattened ("versions.torch")."""
        self._put({"op": "tags", "tags": texts(tags, MAX_TAG)})

    def lineage(self, what: str, uri: str, digest: str, reference: Mapping[str, Any] | None = None) -> None:
        """Say what this run was made of: `what` is features, checkpoint or labels, `reference` that of the run that made it."""
        made_by = {name: value for name, value in (reference or {}).items() if value is not None}
        self.tags({"lineage": {what: {"uri": redacted(uri), "digest": digest, **made_by}}})

    def metrics(self, metrics: Mapping[str, Any], step: int = 0) -> None:
        """Log numbers, flattened; they are sent in batches. None is left out.

        NaN and infinities are sent as NaN, which MLflow draws as a gap (it would draw an infinity as 1.8e308, and flatten all
        else); the run's tag `not_finite` names the metrics that had any.
        """
        values, strange = numbers(metrics)
        if values:
            time_ms = _now_ms()
            rows = [[name, value, time_ms, step] for name, value in values.items()]
            self._put({"op": "metrics", "metrics": rows})
        if strange - self._not_finite:
            self._not_finite |= strange
            self.tags({"not_finite": ", ".join(sorted(self._not_finite))})

    def dataset(
        self,
        name: str,
        source: str,
        digest: str,
        *,
        context: str = "inputs",
        columns: Mapping[str, str] | None = None,
        rows: int | None = None,
    ) -> None:
        """Log what a run read, as an MLflow dataset: its address, digest, columns (name to MLflow type) and rows."""
        scheme = urllib.parse.urlparse(source).scheme
        kind = "http" if scheme in ("http", "https") else "local" if scheme in ("", "file") else scheme
        located = {"url" if kind == "http" else "uri": redacted(source)}
        described = [{"name": column, "type": type_, "required": True} for column, type_ in (columns or {}).items()]
        self._put(
            {
                "op": "dataset",
                "name": cut(name, 500),
                "digest": digest.rpartition(":")[2][:MAX_DIGEST],
                "full_digest": cut(digest, MAX_INPUT_TAG),
                "source_type": kind,
                "source": json.dumps(located),
                "schema": json.dumps({"mlflow_colspec": described}) if described else None,
                "profile": json.dumps({"num_rows": rows}) if rows is not None else None,
                "context": context,
            }
        )

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Log a file or folder under its own name, in `folder` of the artifacts; it may be gone when this returns."""
        path = Path(path).absolute()
        if not path.exists():
            print(f"warning: {path} is not tracked: it does not exist", file=sys.stderr, flush=True)
            return
        self._put({"op": "artifact", "path": str(path), "folder": folder}, is_waited_for=True)

    def json(self, name: str, value: Any) -> None:
        """Log a value as the artifact `name` ("metrics.json")."""
        self._put({"op": "text", "file": name, "text": as_json(value)})

    def model(self, folder: str | Path, name: str = "model") -> None:
        """Log a folder that MLflow's save_model wrote; its file MLmodel is rewritten. It may be gone when this returns."""
        op = {"op": "model", "path": str(Path(folder).absolute()), "name": name, "key": uuid.uuid4().hex}
        self._put(op, is_waited_for=True)

    def child(self, name: str, tags: Mapping[str, str] | None = None, *, key: str | None = None) -> "Tracker":
        """Begin a run within this one (a trial, a fold), or go on with the one that has this `key`. It is finished by its own
        `with` block, or `finish`."""
        begin = begin_op(self._begin["experiment"], name, dict(tags or {}), parent=self.key, key=key)
        if self._sender is not None:
            self._sender.put(begin)
        return Tracker(self._sender, begin, owns_sender=False, owns_run=True, folder=self._folder)

    def handle(self) -> RunHandle:
        """What `attach` needs in another process. Waits for the run's beginning."""
        run_id = self.run_id
        uri = self._sender.server.uri if self._sender else NOWHERE
        return RunHandle(uri, {**self._begin, "run_id": run_id}, str(self._folder), run_id is None)

    def flush(self) -> None:
        """Wait until everything is sent, or written to the file."""
        if self._sender is not None:
            self._sender.flush()

    def finish(self, status: Status = "FINISHED") -> None:
        """End the run; one that was attached to goes on, but everything is sent. The second call does nothing."""
        if self._sender is None or self._is_finished:
            return
        self._is_finished = True
        if self._owns_run:
            self._put({"op": "end", "status": status})
        if self._owns_sender:
            try:
                self._sender.close()
            finally:
                release_settings()

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or (isinstance(error, SystemExit) and not error.code):
            self.finish("FINISHED")
        else:
            self.finish("KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED")

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Tracker holds a thread and can't be pickled: send its handle(), and attach() to that")

    def _put(self, op: Op, *, is_waited_for: bool = False) -> None:
        if self._sender is not None:
            self._sender.put({**op, "run": self.key, "time_ms": _now_ms()})
            if is_waited_for:
                self._sender.flush()


def begin_op(experiment: str, name: str, tags: dict[str, str], parent: str | None, *, key: str | None = None) -> Op:
    return {
        "op": "begin",
        "run": key or uuid.uuid4().hex,
        "goes_on": key is not None,
        "time_ms": _now_ms(),
        "experiment": experiment,
        "name": name,
        "tags": texts(tags, MAX_TAG),
        "parent": parent,
        "run_id": None,
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
