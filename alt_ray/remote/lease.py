"""One run at a time in a folder on an object store, where nothing can be locked. Knows nothing of what the run does.

A run keeps an object `lease-ID.json` in the folder and writes it again every BEAT_S. Who wants the folder writes an object of its
own first, and looks for others then: of two that come at once at least one sees the other, since stores list what was written
before. Whoever sees another gives way. A lease that was not written for LIMIT_S has lost its owner, who stops by itself a little
before that. Ages are differences of the store's own times, so clocks of machines don't matter.

What is left: a request that was sent in time and reaches the store after LIMIT_S.
"""

import contextlib
import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator

from alt_ray.errors import JobError, UsageError
from alt_ray.remote.folder import RemoteFolder

BEAT_S, LIMIT_S = 10.0, 60.0
OWN_SHARE = 0.9  # of LIMIT_S, after which an owner stops: stores tell times in whole seconds, and clocks run unevenly
LEASE_PREFIX = "lease-"


class Lease:
    """The right to write into `folder`, whose guard it becomes while it is `held`; leases lie in `place` within it."""

    def __init__(self, folder: RemoteFolder, place: str) -> None:
        self.guarded, self.place = folder, place
        self.folder = RemoteFolder(folder.uri)  # without a guard: what is written here is the lease itself
        self._stop = threading.Event()
        self._file = ""
        self._beaten_s = 0.0
        self._is_lost = False

    def check(self) -> None:
        """Raise JobError if another run may have the folder by now."""
        if self._is_lost or time.monotonic() - self._beaten_s > OWN_SHARE * LIMIT_S:
            self._is_lost = True
            raise JobError(
                f"{self.folder.uri} could not be written for {OWN_SHARE * LIMIT_S:g} s, so another run may have it soon: nothing "
                "more is written to it; run the same command again to go on"
            )

    def take(self, *, waits: bool = False) -> None:
        """Wait until the folder is free, if it may become so. Raises UsageError if another run is in it, unless it `waits`."""
        first_seen: dict[str, float] = {}
        while True:
            try:
                others = self._try()
            except OSError as exc:
                raise UsageError(f"{self.folder.uri} can't be written: {exc}") from exc
            if not others:
                return
            for name, written_s in others.items():
                if written_s > first_seen.setdefault(name, written_s) and not waits:
                    who = self._read(name)
                    raise UsageError(
                        f"another run is writing to {self.folder.uri} ({who}); wait for it, or choose another --out"
                    )
            # It may be dead: then this was its last sign of life.
            time.sleep(random.uniform(0.1, 0.2) * BEAT_S)

    def _try(self) -> dict[str, float]:
        """Take the folder and return nothing, or return the leases of others, and when each was written."""
        self._file = f"{self.place}/{LEASE_PREFIX}{uuid.uuid4().hex}.json"
        self._beat()
        infos = {name: info for name, info in self.folder.infos(self.place).items() if name.startswith(LEASE_PREFIX)}
        own = infos.pop(self._file.rpartition("/")[2], None)
        now_s = own.mtime.timestamp() if own is not None and own.mtime is not None else time.time()
        others = {}
        for name, info in infos.items():
            written_s = info.mtime.timestamp() if info.mtime is not None else now_s
            if now_s - written_s > LIMIT_S:
                self.folder.remove(f"{self.place}/{name}")
            else:
                others[name] = written_s
        if others:
            self.folder.remove(self._file)
        return others

    def _read(self, name: str) -> str:
        try:
            record = json.loads(self.folder.read(f"{self.place}/{name}") or b"{}")
        except ValueError:
            record = {}
        return f"process {record.get('process', '?')} on {record.get('host', '?')}"

    def _beat(self) -> None:
        begun_s = time.monotonic()
        record = {"host": socket.gethostname(), "process": os.getpid()}
        self.folder.write(self._file, json.dumps(record).encode())
        self._beaten_s = begun_s

    def _keep(self) -> None:
        while not self._stop.wait(BEAT_S):
            with contextlib.suppress(OSError):  # noticed by `check`, if it lasts
                if time.monotonic() - self._beaten_s > OWN_SHARE * LIMIT_S:
                    self._is_lost = True
                    return
                self._beat()

    @contextlib.contextmanager
    def held(self, *, waits: bool = False) -> Iterator[None]:
        """Hold the folder until the block ends. Raises UsageError if another run is in it, unless it `waits` for that one."""
        self.take(waits=waits)
        thread = threading.Thread(target=self._keep, daemon=True)
        thread.start()
        before, self.guarded.guard = self.guarded.guard, self.check
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
            self.guarded.guard = before
            with contextlib.suppress(OSError):  # it runs out by itself
                self.folder.remove(self._file)
