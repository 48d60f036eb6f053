"""The Ray that a job runs on: joined or started, kept quiet, left as it was found. Knows nothing of labels."""

import contextlib
import logging
import os
import platform
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version

import ray
from ray.data import DataContext

from alt_ray.engine.autoscaling import machines_with
from alt_ray.engine.machines import says_which_machines_change
from alt_ray.engine.packing import Machine
from alt_ray.errors import JobError

# Decoded frames on their way to the encoder: 26 clips of 8 frames at 224 pixels. Ray's default of 128 MiB makes the encoder wait
# for a hundred clips at a time, and the object store hold as many for every worker.
BLOCK_BYTES = 32 * 2**20


@contextmanager
def cluster(address: str | None, wanted: Mapping[str, int] | None = None) -> Iterator[tuple[Machine, ...]]:
    """Give what each machine of a Ray cluster has ({"CPU": 8.0, ...}): the one that this process is in, the one at `address` or
    RAY_ADDRESS, or a new one on this machine, which ends with the block. What it must have (`wanted`, {"CPU": 8}) is waited for.

    Raises JobError if the cluster can't be reached.
    """
    _set_up_data()
    is_ours, where = not ray.is_initialized(), "this process's"
    if is_ours:
        where = address or os.environ.get("RAY_ADDRESS") or "local"
        # Ray logs an error about how Ray Data itself starts its actors, in every job; and a line about this setting.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        try:
            with _silent_stderr(), _same_sigterm():
                ray.init(
                    address=where,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                    include_dashboard=False if where == "local" else None,
                )
        except (ConnectionError, RuntimeError, ValueError) as exc:
            # Ray itself says no more than that it failed to connect.
            hint = (
                "" if "RAY_AUTH_MODE" in os.environ else "; if it is up and asks for a token, set RAY_AUTH_MODE=token"
            )
            raise JobError(f"no Ray cluster at {where}: {exc}{hint}") from exc
    try:
        with says_which_machines_change() if is_ours and where != "local" else contextlib.nullcontext():
            yield machines_with(wanted or {})
    finally:
        if is_ours:
            ray.shutdown()


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Send what native code writes to standard error to nowhere; Python's exceptions still come through."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@contextmanager
def _same_sigterm() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces by one that exits: what was finished would not be published."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread() and handler is not None:
        signal.signal(signal.SIGTERM, handler)


def _set_up_data() -> None:
    """Blocks small enough to stream, and one progress line of ours instead of Ray's blocks of them."""
    context = DataContext.get_current()
    context.target_max_block_size = BLOCK_BYTES
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.issue_detectors_config.detectors = []  # blocks of advice about memory that the encoders are known to take
    # Small jobs don't need all of their workers, and are no mistake.
    warnings.filterwarnings("ignore", "The minimum number of concurrent actors", UserWarning)
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)


def versions() -> dict[str, str]:
    """What the driver runs, by name; read from what is installed, without importing it."""
    names = ("torch", "open_clip_torch", "ray", "av", "pyarrow", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
