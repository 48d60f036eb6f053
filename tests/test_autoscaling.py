"""Clusters that begin with nothing and grow: the job waits for its first machine, says so, and uses those that come."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from alt_ray.config import ClusterOptions
from alt_ray.engine.resources import plan_cluster
from alt_ray.errors import UsageError
from tests.growing import growing_cluster
from tests.media import tiny_clip, write_video

GIB = 2**30
CPUS, GPUS = {"CPU": 8.0, "memory": 64.0 * GIB}, {"CPU": 8.0, "GPU": 1.0, "memory": 64.0 * GIB}


def test_without_a_maximum_a_plan_is_of_what_is_there() -> None:
    plan = plan_cluster([CPUS], ClusterOptions())
    assert (plan.most_encoders, plan.most_decoders) == (plan.num_encoders, plan.num_decoders)


@pytest.mark.parametrize("machines", [1, 3, 16])
def test_a_plan_grows_to_that_of_all_machines_that_may_come(machines: int) -> None:
    options = ClusterOptions(max_cpus=8 * machines)
    first, whole = plan_cluster([CPUS], options), plan_cluster([CPUS] * machines, options)
    assert (first.most_encoders, first.most_decoders) == (whole.num_encoders, whole.num_decoders)
    assert (first.encoder_cpus, first.decoder_cpus) == (whole.encoder_cpus, whole.decoder_cpus)


def test_encoders_grow_with_the_gpus_and_decoders_with_the_cpus() -> None:
    plan = plan_cluster([GPUS], ClusterOptions(max_cpus=32, max_gpus=4, gpus_per_actor=0.5))
    assert (plan.num_encoders, plan.most_encoders) == (2, 8)
    assert plan.most_decoders == 4 * plan.num_decoders
    only_gpus = plan_cluster([GPUS], ClusterOptions(max_gpus=4))
    assert (only_gpus.most_encoders, only_gpus.more_decoders) == (4, 0)


def test_a_maximum_below_what_is_there_takes_nothing_away() -> None:
    assert plan_cluster([CPUS], ClusterOptions(max_cpus=2)) == plan_cluster([CPUS], ClusterOptions())


def test_waiting_for_more_than_the_maximum_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--wait-for-cpus 8 .* --max-cpus 4"):
        ClusterOptions(wait_for_cpus=8, max_cpus=4)


JOB = """
import json, sys
import ray
from alt_ray.config import ClusterOptions, EncoderOptions, LabelOptions
from alt_ray.engine.label import label

folder = sys.argv[1]
summary = label(
    LabelOptions(
        source=f"{folder}/videos",
        out=f"{folder}/out",
        labels="walking,running",
        encoder=EncoderOptions(encoder=f"{folder}/tiny.json", pretrained="none", merge_r=2),
        cluster=ClusterOptions(max_cpus=2),
    ),
    decode_function="tests.faulty_decoder:decode",
)
ray.init(logging_level="ERROR", log_to_driver=False)
machines = sorted(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
actors = ray._private.state.actors().values()  # also of the job that has ended; decoding is its limit
used = {actor["Address"]["NodeID"] for actor in actors if "DecodeClips" in actor["ActorClassName"] and actor["Pid"]}
print(json.dumps([summary.inputs, summary.labelled, machines, len(used)]))
"""


@pytest.mark.slow
def test_a_job_on_a_head_without_cpus_waits_for_a_machine_and_grows_to_two(tmp_path: Path) -> None:
    tiny_clip(tmp_path)
    (tmp_path / "videos").mkdir()
    for i in range(120):
        write_video(tmp_path / "videos" / f"slow {i}.mp4", num_frames=8)
    with growing_cluster(max_workers=2) as environment:
        # How often Ray Data looks whether more machines would help: every 10 s, over the last 10 s, unless told otherwise.
        often = {"RAY_DATA_MIN_GAP_BETWEEN_AUTOSCALING_REQUESTS": "1", "RAY_DATA_CLUSTER_UTIL_AVG_WINDOW_S": "1"}
        run = subprocess.run(
            [sys.executable, "-c", JOB, str(tmp_path)],
            env={**environment, **often, "PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == [120, 120, [0, 1, 1], 2]
    assert "waiting for machines with 1 CPUs (so far 0 CPUs" in run.stderr
    assert "growing with the cluster to 2 and 2" in run.stderr
