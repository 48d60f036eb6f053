"""Read a whole small text file that a user named. Knows nothing of what the lines mean."""

from pathlib import Path

from alt_ray.errors import UsageError


def read_text(path: Path, error: type[UsageError]) -> str:
    """Return the text of a UTF-8 file without its byte order mark, line ends as "\\n".

    Raises `error` if it can't be opened or is not UTF-8: that names the path, and the first bad line if there is one.
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise error(f"{path}: can't be read ({exc.strerror or exc}); expected a UTF-8 text file") from exc
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        # exc.object is what follows the mark, so count there and not in `content`.
        line = exc.object[: exc.start].count(b"\n") + 1
        raise error(f"{path}, line {line}: not UTF-8 ({exc.reason}); save the file as UTF-8") from exc
    return text.replace("\r\n", "\n").replace("\r", "\n")
