"""Fixtures that several test files share."""

import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.s3 import Server

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does; it counts when torch is loaded


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


# Where the S3 server of tests will be (fixture s3), said before Ray starts: its workers inherit it.
S3_PORT = free_port()
os.environ.update(
    AWS_ENDPOINT_URL=f"http://127.0.0.1:{S3_PORT}",
    AWS_ACCESS_KEY_ID="key-of-tests",
    AWS_SECRET_ACCESS_KEY="secret-of-tests",
    AWS_REGION="us-east-1",
    AWS_DEFAULT_REGION="us-east-1",
    AWS_EC2_METADATA_DISABLED="true",
)


@pytest.fixture(scope="session", autouse=True)
def untracked() -> Iterator[None]:
    """Jobs of tests leave no MLflow runs, unless a test says where."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "none")
        yield


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """A local Ray for all tests of this session, so that only the first one waits for it."""
    from alt_ray.engine.cluster import cluster

    with cluster("local"):
        yield


@pytest.fixture(scope="session")
def s3() -> Iterator["Server"]:
    """An S3 server with an empty bucket, which every process that a test starts finds."""
    from tests.s3 import server

    with server(S3_PORT) as found:
        yield found
