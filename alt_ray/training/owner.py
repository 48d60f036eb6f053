"""Whose a run's folder is: that of the newest run and, within it, of the newest attempt. Knows nothing of what is written.

The lock of a run ends with its driver. Workers of a driver that was killed, or on a machine that was taken for lost, may live on
for a while and not know it: whoever writes, asks first, under a lock that the next owner takes, too. So nothing of theirs comes
after the next owner has begun.
"""

import contextlib
import fcntl
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from alt_ray.errors import JobError

OWNER_FILE = ".owner"


@dataclass(frozen=True)
class Owner:
    """The right to write into `folder`, of a run or of one attempt of it; may be handed to workers."""

    folder: str
    run: str
    attempt: str = "none"

    @classmethod
    def begin(cls, folder: Path) -> "Owner":
        """Take the folder for a new run. The caller holds the run's lock."""
        own = cls(str(folder), uuid.uuid4().hex)
        with own._locked() as file:
            own._sign(file)
        return own

    def again(self) -> "Owner":
        """Take the folder for a new attempt of this run. Raises JobError if another run has it."""
        own = replace(self, attempt=uuid.uuid4().hex)
        with self._locked() as file:
            self._check(file, self.run)
            own._sign(file)
        return own

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Nobody else takes the folder while the block writes. Raises JobError if somebody has. Not to be nested."""
        with self._locked() as file:
            self._check(file, f"{self.run} {self.attempt}")
            yield

    @contextlib.contextmanager
    def _locked(self) -> Iterator[IO[str]]:
        # Who owns it stands in the file that is locked: on a network disk, taking a lock is what makes its content the newest.
        with (Path(self.folder) / OWNER_FILE).open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def _check(self, file: IO[str], expected: str) -> None:
        file.seek(0)
        if not file.read().startswith(expected):
            raise JobError(
                f"{self.folder} is another run's by now, or another attempt's: nothing more is written to it"
            )

    def _sign(self, file: IO[str]) -> None:
        file.truncate(0)
        file.write(f"{self.run} {self.attempt}")
        file.flush()
