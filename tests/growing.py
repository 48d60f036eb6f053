"""A Ray cluster that begins with a head without CPUs, and that Ray's own autoscaler lets grow on this machine, for tests.

The same as ray.cluster_utils.AutoscalingCluster, whose files are missing in Ray's wheel and which stops every Ray of the machine.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray.util
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID as HEAD

from tests.test_label import end_what_is_left


@contextmanager
def growing_cluster(max_workers: int, cpus: int = 1) -> Iterator[dict[str, str]]:
    """Start the head; workers of `cpus` CPUs come when they are asked for. Give the environment that a job joins it with."""
    with tempfile.TemporaryDirectory(prefix="ray_growing_", dir="/tmp", ignore_cleanup_errors=True) as folder:
        port = _free_port()
        address = f"{ray.util.get_node_ip_address()}:{port}"
        config = Path(folder) / "autoscaling.json"
        config.write_text(json.dumps(_config(address, max_workers, cpus)))
        mark = f"{os.getpid()}-{uuid.uuid4().hex}"
        environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        head = subprocess.Popen(
            [
                *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus", "0"),
                *("--port", str(port), "--temp-dir", folder),
                *("--include-dashboard", "false", "--object-store-memory", str(200 * 2**20)),
                *("--autoscaling-config", str(config)),
            ],
            env={
                **environment,
                "RAY_FAKE_CLUSTER": "1",
                "AUTOSCALER_UPDATE_INTERVAL_S": "1",
                "ALT_RAY_TEST_MARK": mark,
                **V2,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(port, head)
            yield {**environment, "RAY_ADDRESS": address}
        finally:
            head.kill()  # Ray itself takes half a minute to end
            head.wait()
            end_what_is_left(mark)  # the workers are the autoscaler's, not the head's


def _config(address: str, max_workers: int, cpus: int) -> dict[str, object]:
    store = 200 * 2**20
    return {
        "cluster_name": "growing",
        "max_workers": max_workers,
        "idle_timeout_minutes": 5,
        "provider": {
            "type": "external",  # by its own name it would need a file that Ray's wheel lacks
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": address,
            "disable_node_updaters": True,
            "launch_multiple": True,
            "head_node_id": HEAD,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": {"CPU": cpus, "object_store_memory": store},
                "node_config": {},
                "min_workers": 0,
                "max_workers": max_workers,
            },
        },
        "head_node_type": "ray.head.default",
        "upscaling_speed": 1.0,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "cluster_synced_files": [],
        "rsync_exclude": [],
        "rsync_filter": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }


# Ray's second autoscaler, the one that cluster/kuberay asks for.
V2 = {"RAY_enable_autoscaler_v2": "1", "RAY_CLOUD_INSTANCE_ID": HEAD, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, head: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert head.poll() is None, "ray start ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError("no Ray after two minutes")
