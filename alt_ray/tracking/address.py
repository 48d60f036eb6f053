"""Where runs go, and MLflow made silent and impatient meanwhile. Knows nothing of runs."""

import logging
import os
import re
import threading
from pathlib import Path

from alt_ray.errors import UsageError

NOWHERE = "none"
DEFAULT_URI = "sqlite:///mlflow.db"
DEFAULT_EXPERIMENT = "alt_ray"

_SCHEMES = {"http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks"}
# Set while a run is open, where the user has not set them: MLflow's own patience is 7 retries of 120 s each.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOG_UV_FILES": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_LOGGERS = ("mlflow", "alembic", "urllib3.connectionpool")  # the last one tells of every try


def resolved_uri(given: str | None) -> str:
    """Return where runs go, with nothing in it that another folder or process would read differently.

    Raises UsageError for an address that MLflow has no store for.
    """
    uri, origin = given, "--tracking-uri"
    if not uri:
        uri, origin = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI, "MLFLOW_TRACKING_URI"
    if uri in (NOWHERE, "databricks"):
        return uri
    scheme = uri.partition("://")[0].partition("+")[0] if "://" in uri else ""
    if scheme not in _SCHEMES and scheme not in _plugin_schemes():
        raise UsageError(
            f"{origin} {redacted(uri)}: MLflow keeps no runs there; expected an address such as {DEFAULT_URI} (a file), "
            f"http://host:5000 (a server) or postgresql://..., or {NOWHERE} to track nothing"
        )
    if scheme != "sqlite":
        return uri
    head, file, query = _sqlite_parts(uri)
    if not file:
        raise UsageError(f"{origin} {uri} names no file; expected one such as {DEFAULT_URI}")
    return f"{head}:///{Path(file).absolute()}{query}"


def resolved_experiment(given: str | None) -> str:
    return given or os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT


def sqlite_file(uri: str) -> Path | None:
    """The file behind a resolved sqlite address; None for others."""
    return Path(_sqlite_parts(uri)[1]) if uri.startswith("sqlite") else None


def redacted(uri: str) -> str:
    """The address without its password, for people and files."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", uri)


def _sqlite_parts(uri: str) -> tuple[str, str, str]:
    head, _, rest = uri.partition("://")
    file, mark, query = rest.partition("?")
    return head, file.removeprefix("/"), mark + query


def _plugin_schemes() -> set[str]:
    import importlib.metadata  # slow, and only needed for the unusual

    schemes = {point.name for point in importlib.metadata.entry_points(group="mlflow.tracking_store")}
    return schemes | ({"file"} if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1") else set())


_lock = threading.Lock()
_users = 0
_set: list[str] = []
_levels: dict[str, int] = {}


def hold_settings() -> None:
    """Make MLflow impatient and silent, until as many calls of `release_settings`.

    Not around each request: other threads read the environment all the time, and a change of it can crash native code.
    """
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            _set[:] = [name for name in _SETTINGS if name not in os.environ]
            os.environ.update({name: _SETTINGS[name] for name in _set})


def import_mlflow() -> None:
    """Import it, which takes 1.5 s and more, and silence its loggers: its errors come as exceptions, too."""
    import mlflow  # noqa: F401 - sets up its loggers, so that they can only be silenced after it

    with _lock:
        if _users and not _levels:
            _levels.update({name: logging.getLogger(name).level for name in _LOGGERS})
            for name in _LOGGERS:
                logging.getLogger(name).setLevel(logging.CRITICAL)


def release_settings() -> None:
    global _users
    with _lock:
        _users -= 1
        if _users:
            return
        for name in _set:
            os.environ.pop(name, None)
        for name, level in _levels.items():
            logging.getLogger(name).setLevel(level)
        _levels.clear()
