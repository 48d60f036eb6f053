"""Whose a run's folder is: that of the newest run and, within it, of the newest attempt. Knows nothing of what is written.

The lock of a run ends with its driver. Workers of a driver that was killed, or on a machine that was taken for lost, may live on
for a while and not know it: whoever writes, asks first, under a lock that the next owner takes, too. So nothing of theirs comes
after the next owner has begun.

On an object store nothing can be locked. There, who writes asks before it sends what it wrote, so of a last owner no more arrives
than what was on its way.
"""

import contextlib
import fcntl
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from alt_ray.errors import JobError
from alt_ray.remote.folder import RemoteFolder, is_remote
from alt_ray.remote.mirror import Mirror

OWNER_FILE = ".owner"


@dataclass(frozen=True)
class Owner:
    """The right to write into `folder`, local or remote, of a run or of one attempt of it; may be handed to workers."""

    folder: str
    run: str
    attempt: str = "none"

    @classmethod
    def begin(cls, folder: Path | str) -> "Owner":
        """Take the folder for a new run. The caller holds the run's lock."""
        own = cls(str(folder), uuid.uuid4().hex)
        own._take(expected=None)
        return own

    def again(self) -> "Owner":
        """Take the folder for a new attempt of this run. Raises JobError if another run has it."""
        own = replace(self, attempt=uuid.uuid4().hex)
        own._take(expected=self.run)
        return own

    @contextlib.contextmanager
    def writing(self, mirror: Mirror | None = None) -> Iterator[None]:
        """Nobody else takes the folder while the block writes; of a remote folder the block writes to its `mirror`, which sends
        what changed then. Raises JobError if somebody has taken it. Not to be nested.
        """
        if mirror is not None:
            yield
            self._check(self._remote_content(mirror.remote), f"{self.run} {self.attempt}")
            mirror.push()
            return
        with self._locked() as file:
            self._check(_content(file), f"{self.run} {self.attempt}")
            yield

    def _take(self, expected: str | None) -> None:
        """Sign, where the folder is that of the run `expected`, or anybody's."""
        sign = f"{self.run} {self.attempt}"
        if is_remote(self.folder):
            remote = RemoteFolder(self.folder)
            if expected is not None:
                self._check(self._remote_content(remote), expected)
            try:
                remote.write(OWNER_FILE, sign.encode())
            except OSError as exc:
                raise JobError(f"writing to {self.folder} failed: {exc}; run the same command again to go on") from exc
            return
        with self._locked() as file:
            if expected is not None:
                self._check(_content(file), expected)
            file.truncate(0)
            file.write(sign)
            file.flush()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[IO[str]]:
        # Who owns it stands in the file that is locked: on a network disk, taking a lock is what makes its content the newest.
        with (Path(self.folder) / OWNER_FILE).open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def _remote_content(self, remote: RemoteFolder) -> str:
        try:
            return (remote.read(OWNER_FILE) or b"").decode(errors="replace")
        except OSError as exc:
            raise JobError(f"reading from {self.folder} failed: {exc}; run the same command again to go on") from exc

    def _check(self, content: str, expected: str) -> None:
        if not content.startswith(expected):
            raise JobError(
                f"{self.folder} is another run's by now, or another attempt's: nothing more is written to it"
            )


def _content(file: IO[str]) -> str:
    file.seek(0)
    return file.read()
