"""A thread that sends operations to a tracking server, and a spool file for when that fails. Knows nothing of what they mean.

The job never waits for the server, except where it asks to (`flush`), and there no longer than the limits below. Once the
server has failed it is not asked again: operations go straight to the file.
"""

import sys
import threading
import time
from collections import deque
from pathlib import Path

from alt_ray.tracking.address import redacted
from alt_ray.tracking.server import MAX_METRICS, Op, RefusedError, Server, UnreachableError, batches
from alt_ray.tracking.spool import Spool

METRICS_DELAY_S = 2.0  # metrics wait so long for others, to be sent in one request
# After so long without an answer the server counts as down, whatever the client library still hopes for.
LIMIT_S, BYTES_PER_S = 120.0, 1e6


class Sender:
    """Sends what `put` brings, in order. It is down from the first failure on; nothing here raises because of a server."""

    def __init__(self, server: Server, spool: Spool) -> None:
        self.server = server
        self.is_down = False
        self._spool = spool
        self._has_spool = True
        self._begun: dict[str, Op] = {}  # what a replay must know of runs that began before the server failed
        self._has_warned_of_refusal = False
        self._pending: deque[Op] = deque()
        self._busy_since: float | None = None
        self._in_hurry = self._is_closed = False
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def adopt(self, begin: Op) -> None:
        """Take on a run that another process began."""
        self._begun[begin["run"]] = begin
        if begin["run_id"]:
            self.server.run_ids[begin["run"]] = begin["run_id"]

    def start_down(self, what: str | None) -> None:
        """Do without the server from the start; `what` it is that makes it so, or None: another process has said it."""
        with self._condition:
            if what is None:
                self._give_up()
            else:
                self._go_down(what)

    def put(self, op: Op) -> None:
        """Take an operation, to be sent soon, or spool it."""
        with self._condition:
            if op["op"] == "begin":
                self._begun[op["run"]] = op
            self._pending.append(op)
            if self.is_down:
                self._spool_pending()
            elif self._is_stuck():
                self._go_down("did not answer in time")
            self._condition.notify_all()

    def flush(self) -> None:
        """Return when everything is sent or spooled."""
        with self._condition:
            self._in_hurry = True
            self._condition.notify_all()
            while self._pending:
                if not self._condition.wait(timeout=1.0) and self._is_stuck():
                    self._go_down("did not answer in time")
            self._in_hurry = False

    def close(self) -> None:
        """Flush and end; the spool file, if there is one, is free to be replayed."""
        self.flush()
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()
            self._spool.close()

    def _work(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._pending or self._is_closed or self.is_down)
                if self.is_down or not self._pending:
                    return
                self._gather_metrics()
                if self.is_down or not self._pending:
                    continue
                op, count = next(batches(list(self._pending)))
                self._busy_since = time.monotonic()
            failure = self._send(op)
            with self._condition:
                self._busy_since = None
                if self.is_down:
                    return  # while it hung: what was pending is spooled by now
                if failure is not None:
                    self._go_down(failure)
                    return
                for _ in range(count):
                    self._pending.popleft()
                if op["op"] == "end":
                    self._begun.pop(op["run"], None)
                self._condition.notify_all()

    def _gather_metrics(self) -> None:
        until = time.monotonic() + METRICS_DELAY_S

        def is_enough() -> bool:
            return (
                self._in_hurry
                or self._is_closed
                or self.is_down
                or len(self._pending) >= MAX_METRICS
                or any(op["op"] != "metrics" for op in self._pending)
            )

        self._condition.wait_for(is_enough, timeout=max(until - time.monotonic(), 0))

    def _send(self, op: Op) -> str | None:
        """Return why the server is down, or None."""
        try:
            self.server.apply(op)
            if op["op"] == "begin" and op.get("goes_on"):
                self.server.apply({"op": "reopen", "run": op["run"]})  # it may have ended; a replay must not do this
        except UnreachableError as exc:
            return f"failed ({exc})"
        except RefusedError as exc:
            if op["op"] == "begin":
                return f"refused the run ({exc})"
            if not self._has_warned_of_refusal:
                self._has_warned_of_refusal = True
                _warn(f"MLflow at {self._shown} refused {op['op']} of a run: {exc}; what it refuses is not tracked")
        return None

    def _is_stuck(self) -> bool:
        if self._busy_since is None or (waited_s := time.monotonic() - self._busy_since) < LIMIT_S:
            return not self._thread.is_alive()
        return waited_s > LIMIT_S + _size_bytes(self._pending[0]) / BYTES_PER_S

    def _go_down(self, what: str) -> None:
        file = self._spool.file
        _warn(
            f"MLflow at {self._shown} {what}; the job goes on, and what it tracks is written to {file}: "
            f"`alt-ray track --replay {file}` sends it later"
        )
        self._give_up()

    def _give_up(self) -> None:
        self.is_down = True
        beginning = {op["run"] for op in self._pending if op["op"] == "begin"}
        known = [op for run, op in self._begun.items() if run not in beginning]
        self._pending.extendleft({**op, "run_id": self.server.run_ids.get(op["run"])} for op in reversed(known))
        self._spool_pending()
        self._condition.notify_all()

    def _spool_pending(self) -> None:
        while self._pending:
            op = self._pending.popleft()
            if not self._has_spool:
                continue
            try:
                self._spool.write(op)
            except OSError as exc:
                if "path" in op:
                    _warn(f"{op['path']} is not tracked: it can't be copied to {self._spool.file.parent} ({exc})")
                    continue
                self._has_spool = False
                _warn(f"{self._spool.file} can't be written ({exc}): from here on the run is not tracked")

    @property
    def _shown(self) -> str:
        return redacted(self.server.uri)


def _size_bytes(op: Op) -> int:
    if "path" not in op:
        return 0
    path = Path(op["path"])
    files = [file for file in (path, *path.rglob("*")) if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)
