"""Run as a program: a cluster of three machines, a job on it, one machine taken away half way, and another one that comes.

    python -m tests.nodes GATE PUBLISHED COMMAND [options]

COMMAND is label, encode or tune. Videos that are named "gated" (faulty_decoder) wait for the file GATE. The machine is lost when
there is a file like PUBLISHED (a glob), and GATE is made when the new one has workers. Prints the id of that one.
"""

import glob
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from alt_ray.cli import parsed
from alt_ray.config import LabelOptions
from alt_ray.config_features import EncodeOptions
from alt_ray.config_tune import TuneOptions
from alt_ray.engine.encode import encode
from alt_ray.engine.label import label
from alt_ray.engine.tune import tune

DECODER = "tests.faulty_decoder:decode"


def main(gate: Path, published: str, command: str, arguments: list[str]) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    ended, errors = threading.Event(), []

    def machines_change() -> None:
        try:
            wait_until(lambda: bool(glob.glob(published)) or ended.is_set())  # noqa: PTH207 (it is absolute)
            own = ray.get_runtime_context().get_node_id()  # nobody goes on without the machine that the driver is on
            cluster.remove_node(next(node for node in nodes if node.node_id != own), allow_graceful=False)
            new = cluster.add_node(num_cpus=1)
            wait_until(lambda: has_workers(new.node_id, 1 if command == "tune" else 2) or ended.is_set())
            print(new.node_id[:8], flush=True)
        except Exception as exc:  # noqa: BLE001 (said by the main thread)
            errors.append(exc)
        finally:
            gate.touch()

    thread = threading.Thread(target=machines_change)
    arguments = [*arguments, "--address", cluster.address]
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    thread.start()
    try:
        if command == "label":
            label(parsed(LabelOptions, arguments, "label"), decode_function=DECODER)
        elif command == "encode":
            encode(parsed(EncodeOptions, arguments, "encode"), decode_function=DECODER)
        else:
            tune(parsed(TuneOptions, arguments, "tune"))
    finally:
        ended.set()
        thread.join()
        ray.shutdown()
        cluster.shutdown()
    if errors:
        raise errors[0]


def has_workers(node_id: str, number: int) -> bool:
    """Whether workers of the job stand on a machine."""
    actors = ray._private.state.actors().values()
    return sum(actor["State"] == "ALIVE" and actor["Address"]["NodeID"] == node_id for actor in actors) >= number


def wait_until(condition: Callable[[], bool], limit_s: float = 300) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError("it did not happen")
        time.sleep(0.1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
