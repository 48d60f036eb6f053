"""A command as a job on a cluster that is elsewhere: sent, followed, stopped, and answered with its own exit status.

The cluster is talked to by its dashboard's address alone; no Ray runs here. Knows nothing of the command line.
"""

import asyncio
import contextlib
import logging
import os
import re
import shlex
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import ray.exceptions
import requests
from ray.job_submission import JobStatus, JobSubmissionClient

from alt_ray.engine.progress import announce
from alt_ray.errors import JobError
from alt_ray.jobpackage import write_job_package

LOOK_S, NOTICE_S, RETRY_S = 0.2, 15.0, 1.0
MAX_LOST = 30  # looks at a cluster that does not answer, a second apart, before it is given up
ENDED = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED)
FAILED = 1
LOST = (requests.RequestException, aiohttp.ClientError, RuntimeError, OSError)  # a connection, not a job
# What Ray says in every job's log.
_NOISE = re.compile(r"job_manager\.py:\d+ -- Runtime env is setting up|^Running entrypoint for job ")
_FIRST_RESULT = re.compile(r"first result after ([\d.]+) s: ")
_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '(\w+)|No module named alt_ray")


@dataclass
class Submission:
    """A job that was sent: where, and how long the parts of that took. `begun_s`: on the monotonic clock."""

    client: JobSubmissionClient
    job_id: str
    begun_s: float
    submitted_s: float
    num_bytes: int
    is_json: bool = False
    has_json: bool = False
    missing_module: str | None = None
    first_result: str | None = None
    shown: int = 0
    partial: str = field(default="", repr=False)

    def heard(self, text: str) -> None:
        """Show what was added to the log, whole lines of it."""
        *lines, self.partial = (self.partial + text).split("\n")
        for line in lines:
            self._show(line)

    def _show(self, line: str) -> None:
        if _NOISE.search(line):
            return
        if found := _NO_MODULE.search(line):
            self.missing_module = found[1] or "alt_ray"
        if (found := _FIRST_RESULT.search(line)) and self.first_result is None:
            total_s, own_s = time.monotonic() - self.begun_s, float(found[1])
            waited_s = max(0.0, total_s - self.submitted_s - own_s)
            self.first_result = (
                f"first result {total_s:.1f} s after submission: {self.submitted_s:.1f} sending {self.num_bytes / 1e6:.2g} MB, "
                f"{waited_s:.1f} until the cluster had started the job, {own_s:.1f} in the job (its log says of what)"
            )
        if self.is_json and line.startswith("{") and line.endswith("}"):
            self.has_json = True
            print(line, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)


def submit(
    command: str,
    arguments: Sequence[str],
    *,
    address: str,
    job_name: str | None = None,
    named: Mapping[str, Path] | None = None,
    with_pocket: bool = False,
    stop_wait_s: int = 60,
) -> Submission:
    """Send `alt-ray COMMAND ARGUMENTS` with its code and the files `named`, under an id of its own.

    Raises JobError if the cluster can't be had, UsageError if the files are too large to travel.
    """
    begun_s = time.monotonic()
    client = _client(address)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "alt_ray_job.zip"
        num_bytes = write_job_package(package, dict(named or {}), with_pocket=with_pocket)
        runtime_env = {
            "working_dir": str(package),
            # OMP_WAIT_POLICY as the command sets it, for the workers, too, which the cluster starts.
            "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(stop_wait_s), "OMP_WAIT_POLICY": "passive"},
        }
        entrypoint = shlex.join(["python", "-m", "alt_ray.cli", command, *arguments])
        job_id = f"{job_name or f'alt-ray-{command}'}-{uuid.uuid4().hex[:8]}"
        try:
            client.submit_job(entrypoint=entrypoint, submission_id=job_id, runtime_env=runtime_env)
        except LOST as exc:
            raise JobError(f"the cluster at {address} did not take the job: {exc}") from exc
    return Submission(client, job_id, begun_s, time.monotonic() - begun_s, num_bytes, "--json" in arguments)


def follow(job: Submission) -> int:
    """Show the job's log until it ends, and return its exit status. Ctrl-C stops the job once, and is raised the second time.

    Raises JobError where the cluster can't be reached any more: the job may go on.
    """
    try:
        _follow(job)
    except KeyboardInterrupt:
        announce(f"stopping {job.job_id}; what is finished is kept. Again: leave it running, and go")
        with contextlib.suppress(*LOST):
            job.client.stop_job(job.job_id)
        _follow(job)
    info = job.client.get_job_info(job.job_id)
    if job.partial:
        job.heard("\n")
    if job.first_result:
        announce(job.first_result)
    if info.status == JobStatus.SUCCEEDED:
        return 0
    if info.status == JobStatus.STOPPED:
        announce(f"{job.job_id} was stopped; the same command goes on from there")
    elif info.driver_exit_code is None:  # it never began, or its process was lost
        announce(f"error: {job.job_id} failed: {info.message}")
    elif job.missing_module:
        announce(
            f"error: the `python` that the cluster runs jobs with has no module {job.missing_module}: start Ray there from an "
            "environment (its bin folder first in PATH) that alt_ray's dependencies are installed in"
        )
    return info.driver_exit_code or FAILED


def _follow(job: Submission) -> None:
    lost = 0
    while True:
        try:
            _wait_for_start(job)
            asyncio.run(_show_log(job))
            if job.client.get_job_status(job.job_id) in ENDED:
                return
            lost = 0
        except LOST as exc:
            lost += 1
            if lost > MAX_LOST:
                raise JobError(f"the cluster does not answer any more ({exc}); {job.job_id} may go on there") from exc
        time.sleep(LOOK_S if lost == 0 else RETRY_S)


def _wait_for_start(job: Submission) -> None:
    """Wait until the cluster has started the job, and say so where that takes long."""
    said_s = time.monotonic()
    while (info := job.client.get_job_info(job.job_id)).status == JobStatus.PENDING:
        if time.monotonic() - said_s > NOTICE_S:
            announce(f"waiting for the cluster to start {job.job_id}: {info.message or 'pending'}")
            said_s = time.monotonic()
        time.sleep(LOOK_S)


async def _show_log(job: Submission) -> None:
    """Show what the log has more than what was shown, until its end or that of the connection."""
    passed = 0
    chunks: AsyncIterator[str] = job.client.tail_job_logs(job.job_id)
    async for text in chunks:
        new = text[max(0, job.shown - passed) :]  # the log comes from its beginning each time
        passed += len(text)
        if new:
            job.shown = passed
            job.heard(new)


@contextlib.contextmanager
def _only(address: str) -> Iterator[None]:
    """In the block, Ray's own variable says nothing else: Ray takes what it says in place of an address that it is given."""
    before = os.environ.get("RAY_API_SERVER_ADDRESS")
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    try:
        yield
    finally:
        os.environ.pop("RAY_API_SERVER_ADDRESS")
        if before is not None:
            os.environ["RAY_API_SERVER_ADDRESS"] = before


def _client(address: str) -> JobSubmissionClient:
    token = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH, a file) to the cluster's token"
    for name in ("dashboard_sdk", "job.sdk"):
        logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)
    try:
        with _only(address):
            return JobSubmissionClient(address)
    except ray.exceptions.AuthenticationError as exc:
        what = "refuses the token" if "nvalid" in str(exc) else "wants a token, and none was found"
        raise JobError(f"the cluster at {address} {what}: {token}") from exc
    except ConnectionError as exc:
        raise JobError(
            f"no cluster answers at {address}: give the address of its dashboard, such as http://head:8265 (on Kubernetes: "
            "kubectl port-forward service/NAME-head-svc 8265:8265)"
        ) from exc
    except (RuntimeError, ValueError, requests.RequestException) as exc:
        raise JobError(f"{address} does not answer as the dashboard of a Ray cluster does: {exc}") from exc
