"""Run as a program: a cluster of three machines, a job on it, one machine taken away half way, and another one that comes.

    python -m tests.nodes GATE PUBLISHED COMMAND [options]

COMMAND is label, encode or tune. Videos that are named "gated" (faulty_decoder) wait for the file GATE. The machine is lost when
there is a file like PUBLISHED (a glob), and GATE is made when the new one has workers. Prints "came: " and the id of that one.
"""

import glob
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from alt_ray.arguments import parsed
from alt_ray.config import LabelOptions
from alt_ray.config_features import EncodeOptions
from alt_ray.config_tune import TuneOptions
from alt_ray.engine.encode import encode
from alt_ray.engine.label import label
from alt_ray.engine.tune import tune

DECODER, JOB = "tests.faulty_decoder:decode", "--job"
WORKERS = {"label": "LabelClips", "encode": "EncodeClips", "tune": ""}


def change_machines(gate: Path, published: str, command: str, arguments: list[str]) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    job = subprocess.Popen(
        [sys.executable, "-m", "tests.nodes", JOB, command, *arguments, "--address", cluster.address]
    )
    try:
        wait_until(lambda: bool(glob.glob(published)), job)  # noqa: PTH207 (it is absolute)
        cluster.remove_node(nodes[0], allow_graceful=False)
        new = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        wait_until(lambda: has_worker(new.node_id, WORKERS[command]), job)
        print(f"came: {new.node_id[:8]}", flush=True)
    finally:
        gate.touch()
        status = job.wait()
        ray.shutdown()
        cluster.shutdown()
    sys.exit(status)


def run_job(command: str, arguments: list[str]) -> None:
    if command == "label":
        label(parsed(LabelOptions, arguments, "label"), decode_function=DECODER)
    elif command == "encode":
        encode(parsed(EncodeOptions, arguments, "encode"), decode_function=DECODER)
    else:
        tune(parsed(TuneOptions, arguments, "tune"))


def has_worker(node_id: str, kind: str) -> bool:
    """Whether a worker of this kind, one that makes results, stands on a machine."""
    actors = ray._private.state.actors().values()
    here = [actor for actor in actors if actor["State"] == "ALIVE" and actor["Address"]["NodeID"] == node_id]
    return any(kind in actor["ActorClassName"] for actor in here)


def wait_until(condition: Callable[[], bool], job: "subprocess.Popen[bytes]", limit_s: float = 300) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if job.poll() is not None:
            sys.exit("the job ended before it happened")
        if time.monotonic() > deadline_s:
            sys.exit("it did not happen")
        time.sleep(0.1)


if __name__ == "__main__":
    if sys.argv[1] == JOB:
        run_job(sys.argv[2], sys.argv[3:])
    else:
        change_machines(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
