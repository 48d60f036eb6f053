"""Follow a file of JSON lines that another process appends to. Knows nothing of what the lines say."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

INTERVAL_S = 0.5


class Tail:
    """Hands each line that is appended from now on to `hear`, until its block ends; lines that were there before are left."""

    def __init__(self, file: Path, hear: Callable[[dict[str, Any]], None]) -> None:
        self.file, self.hear = file, hear
        self._position = file.stat().st_size if file.exists() else 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "Tail":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._read()

    def _follow(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            self._read()

    def _read(self) -> None:
        if not self.file.exists():
            return
        with self.file.open("rb") as file:
            file.seek(self._position)
            for line in file:
                if not line.endswith(b"\n"):  # still being written
                    break
                self._position += len(line)
                self.hear(json.loads(line))
