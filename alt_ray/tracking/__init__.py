"""MLflow runs that can't stop a job: every call here returns at once, or soon, whatever the tracking server does.

    with tracked(options.tracking, "train", spool_folder=out) as run:
        run.params(asdict(options))
        run.metrics({"loss": 0.3}, step=1)
        run.artifact(out / "checkpoint")

Operations go to a thread that sends them (tracking/sender.py); when the server fails, they go to a file, which `replay` sends
later (tracking/spool.py). Knows nothing of Ray, torch, or of what jobs do.
"""

import contextlib
import getpass
import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import alt_ray
from alt_ray.config import TrackingOptions
from alt_ray.tracking.address import NOWHERE, hold_settings, redacted, resolved_experiment, resolved_uri, sqlite_file
from alt_ray.tracking.run import RunHandle, Tracker, begin_op
from alt_ray.tracking.sender import Sender
from alt_ray.tracking.server import KEY_TAG, Server
from alt_ray.tracking.spool import ReplayReport, Spool, replay
from alt_ray.video.uris import refuse_secret

__all__ = [
    "KEY_TAG",
    "NOWHERE",
    "ReplayReport",
    "RunHandle",
    "Tracker",
    "TrackingOptions",
    "attach",
    "recorded",
    "replay",
    "tracked",
]


def tracked(
    options: TrackingOptions,
    command: str,
    *,
    name: str | None = None,
    parent: str | None = None,
    spool_folder: str | Path | None = None,
    tags: Mapping[str, str] | None = None,
    key: str | None = None,
) -> Tracker:
    """Begin the run of a command; use it as a context manager. `parent` is the server's id of another run; `key` that of a run
    which this one goes on with, if the server has it.

    What can't be sent is written to `spool_folder`, or, if that is None or no local folder, to the current one. Raises
    UsageError for an address that MLflow can't use, and nothing for a server that is down.
    """
    uri = resolved_uri(options.tracking_uri)
    experiment = resolved_experiment(options.experiment)
    own_tags = {
        "mlflow.source.name": f"alt-ray {command}",
        "mlflow.source.type": "LOCAL",
        "alt_ray.command": command,
        "alt_ray.version": alt_ray.__version__,
        "alt_ray.host": socket.gethostname(),
    }
    with contextlib.suppress(OSError, KeyError):  # a container's user may have no name
        own_tags["mlflow.user"] = getpass.getuser()
    begin = begin_op(experiment, options.run_name or name or command, {**own_tags, **(tags or {})}, parent, key=key)
    is_local = spool_folder is not None and "://" not in str(spool_folder)
    folder = Path(spool_folder if is_local and spool_folder is not None else ".").absolute()
    if uri == NOWHERE:
        return Tracker(None, begin, owns_sender=True, owns_run=True, folder=folder)
    hold_settings()
    sender = Sender(Server(uri), Spool(folder / f"mlflow-{begin['run'][:8]}.jsonl", uri))
    sender.put(begin)
    return Tracker(sender, begin, owns_sender=True, owns_run=True, folder=folder)


def recorded(options: Any) -> dict[str, Any]:
    """Return the options of a command, as they may be written down: without a password in the tracking address.

    Raises SourceError where one is the address of an object store with a secret key in it.
    """
    found = asdict(options)
    _refuse_secrets(found)
    tracking = found.get("tracking")
    if tracking and tracking["tracking_uri"]:
        tracking["tracking_uri"] = redacted(tracking["tracking_uri"])
    return found


def _refuse_secrets(value: Any) -> None:
    if isinstance(value, str):
        refuse_secret(value)
    elif isinstance(value, dict | list | tuple):
        for entry in value.values() if isinstance(value, dict) else value:
            _refuse_secrets(entry)


def attach(handle: RunHandle) -> Tracker:
    """Take part, in another process, in a run that goes on elsewhere: the same server, and a spool file of its own.

    `finish`, or the end of its `with` block, sends everything and leaves the run open.
    """
    folder = Path(handle.spool_folder)
    if handle.uri == NOWHERE:
        return Tracker(None, handle.begin, owns_sender=True, owns_run=False, folder=folder)
    hold_settings()
    process = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:4]}"
    spool = Spool(folder / f"mlflow-{handle.begin['run'][:8]}-{process}.jsonl", handle.uri)
    sender = Sender(Server(handle.uri), spool)
    sender.adopt(handle.begin)
    file = sqlite_file(handle.uri)
    if handle.is_down:
        sender.start_down(None)
    elif file is not None and not file.exists():  # another machine: MLflow would begin a database of its own there
        sender.start_down("is a file that this machine does not have")
    return Tracker(sender, handle.begin, owns_sender=True, owns_run=False, folder=folder)
