"""A Ray head for tests, as `ray start` makes it: token authentication, ports of its own, ended with all that it started."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ray.job_submission import JobSubmissionClient

from tests.test_label import end_what_is_left

ROOT = Path(__file__).parents[1]
TOKEN = "0123456789abcdef0123456789abcdef"


@dataclass
class Head:
    """A head that runs. `folder` is Ray's temporary folder; `environment` that of a client of it."""

    address: str
    folder: Path
    environment: dict[str, str]
    client: JobSubmissionClient

    def ray(self, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        """Run the command `ray`."""
        return subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", *arguments],
            cwd=cwd,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, *arguments: str, cwd: Path = ROOT) -> "subprocess.Popen[str]":
        """Begin `alt-ray submit ARGUMENTS`."""
        return subprocess.Popen(
            [sys.executable, "-m", "alt_ray.cli", "submit", *arguments],
            cwd=cwd,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_hears_ctrl_c,
        )

    def submit(self, *arguments: str, cwd: Path = ROOT) -> tuple[int, str, str]:
        """Run `alt-ray submit ARGUMENTS`, and return its exit status, output and errors."""
        process = self.start(*arguments, cwd=cwd)
        out, err = process.communicate()
        return process.returncode, out, err

    def newest_package(self) -> int:
        """The size in bytes of what was sent last, as it lies on the cluster."""
        packages = self.folder.glob("session_2*/runtime_resources/working_dir_files/_ray_pkg_*")
        newest = max((path for path in packages if path.is_dir()), key=lambda path: path.stat().st_ctime)
        return sum(file.stat().st_size for file in newest.rglob("*") if file.is_file() and file.suffix != ".pyc")


@contextmanager
def running_head() -> Iterator[Head]:
    """A head with two CPUs, until the block ends."""
    mark = f"{os.getpid()}-{uuid.uuid4().hex}"
    folder = Path(tempfile.mkdtemp(prefix="ray_", dir="/tmp"))  # short: sockets lie in it
    gcs, dashboard, agent, agent_grpc, runtime_env, clients, metrics = _free_ports(7)
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "PYTHONPATH": str(ROOT),  # alt_ray is installed where the head is
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # as in an environment that is active
    }
    ports = [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    ports += [f"--dashboard-agent-grpc-port={agent_grpc}", f"--runtime-env-agent-port={runtime_env}"]
    ports += [f"--ray-client-server-port={clients}", f"--metrics-export-port={metrics}"]
    with (folder / "start.log").open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"),
                *("--disable-usage-stats", "--dashboard-host=127.0.0.1", f"--temp-dir={folder}", *ports),
            ],
            cwd=folder,
            env={**environment, "ALT_RAY_TEST_MARK": mark},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    address = f"http://127.0.0.1:{dashboard}"
    try:
        client = _client(address, process, folder)
        yield Head(address, folder, {**environment, "RAY_API_SERVER_ADDRESS": address}, client)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
        end_what_is_left(mark)
        shutil.rmtree(folder, ignore_errors=True)


def _hears_ctrl_c() -> None:
    """What a shell runs in the background ignores ctrl-C, and so do its children: these tests, too, and what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _free_ports(number: int) -> list[int]:
    with ExitStack() as open_:
        sockets = [open_.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("", 0))
        return [each.getsockname()[1] for each in sockets]


def _client(address: str, process: "subprocess.Popen[bytes]", folder: Path) -> JobSubmissionClient:
    deadline = time.monotonic() + 180
    # What the environment says of tokens is read when Ray is imported, and other tests here have clusters without.
    headers = {"Authorization": f"Bearer {TOKEN}"}
    while True:
        try:
            return JobSubmissionClient(address, headers=headers)
        except (ConnectionError, RuntimeError):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "start.log").read_text()
            time.sleep(0.2)
