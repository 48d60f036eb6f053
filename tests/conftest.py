"""Fixtures that several test files share."""

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does; it counts when torch is loaded


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
