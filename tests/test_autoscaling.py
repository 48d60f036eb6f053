"""Clusters that begin with nothing and grow: the job waits for its first machine, says so, and uses those that come."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import ray
from ray import PlacementGroupID
from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

from alt_ray.config import ClusterOptions
from alt_ray.engine import autoscaling
from alt_ray.engine.autoscaling import asks_for_machines
from alt_ray.engine.resources import plan_cluster
from alt_ray.errors import UsageError
from tests.growing import growing_cluster
from tests.media import tiny_clip, write_video
from tests.test_waiting import wait_until

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
    only_gpus = plan_cluster([GPUS], ClusterOptions(max_gpus=4))  # each brings as many CPUs as that which is there
    assert (only_gpus.most_encoders, only_gpus.most_decoders) == (4, 4 * only_gpus.num_decoders)
    assert (only_gpus.most_cpus, only_gpus.most_gpus) == (0, 4)


def test_a_maximum_below_what_is_there_takes_nothing_away() -> None:
    assert plan_cluster([CPUS], ClusterOptions(max_cpus=2)) == plan_cluster([CPUS], ClusterOptions())


def test_no_machine_is_asked_for_that_no_clip_is_left_for() -> None:
    plan = plan_cluster([CPUS], ClusterOptions(max_cpus=32))
    assert plan.machines_for(10_000) == {"CPU": 32}
    assert plan.machines_for(16 * plan.batch_clips) == {"CPU": 16}
    gpus = plan_cluster([GPUS], ClusterOptions(max_cpus=32, max_gpus=4))
    assert gpus.machines_for(10_000) == {"CPU": 32, "GPU": 4}
    assert gpus.machines_for(2 * gpus.batch_clips)["GPU"] == 2
    assert plan_cluster([CPUS], ClusterOptions()).machines_for(10_000) == {}


def test_what_is_missing_is_asked_for_until_the_block_ends(ray_here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoscaling, "LOOK_S", 0.1)
    monkeypatch.setattr(autoscaling, "LOOKS_PER_ASKING", 2)
    there = int(ray.cluster_resources()["CPU"])
    before = set(placement_group_table())

    def waiting() -> list[str]:
        """The groups that wait for a GPU."""
        groups = {key: group for key, group in placement_group_table().items() if key not in before}
        pending = {key: group for key, group in groups.items() if group["state"] == "PENDING"}
        return [key for key, group in pending.items() if {"GPU": 1.0} in group["bundles"].values()]

    with asks_for_machines({"CPU": there + 3, "GPU": 2}):
        # As many as there are CPUs may find a place, and are given back; the GPUs can only be waited for.
        wait_until(lambda: len(waiting()) == 2)
        assert ray.get(ray.remote(num_cpus=there)(lambda: 42).remote(), timeout=60) == 42
        first = waiting()[0]  # has found a place, and its machine was lost again
        remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(first)))
        wait_until(lambda: first not in waiting() and len(waiting()) == 2)
    assert waiting() == []


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
        cluster=ClusterOptions(max_cpus=4),
    ),
    decode_function="tests.faulty_decoder:decode",
)
ray.init(logging_level="ERROR", log_to_driver=False)
machines = sorted(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
print(json.dumps([summary.inputs, summary.labelled, machines]))
"""


@pytest.mark.slow
def test_a_job_on_a_head_without_cpus_waits_for_a_machine_and_grows_to_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_clip(tmp_path)
    decoded = tmp_path / "machines that decoded"
    decoded.mkdir()
    monkeypatch.setenv("ALT_RAY_TEST_MACHINES", str(decoded))  # the workers' environment is that of the cluster
    (tmp_path / "videos").mkdir()
    for i in range(64):
        write_video(tmp_path / "videos" / f"until two machines decode {i}.mp4", num_frames=8)
    with growing_cluster(max_workers=2, cpus=2) as environment:
        run = subprocess.run(
            [sys.executable, "-c", JOB, str(tmp_path)],
            env={**environment, "PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == [64, 64, [0, 2, 2]]
    assert len(list(decoded.iterdir())) == 2
    assert "waiting for machines with 1 CPUs (so far 0 CPUs" in run.stderr
    assert "growing with the cluster to 4 and 4" in run.stderr
