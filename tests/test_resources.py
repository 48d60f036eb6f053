"""How a cluster is divided: everything fits, and what can't fit is refused at once."""

import pytest

from alt_ray.config import ClusterOptions
from alt_ray.engine.resources import Resources, plan_resources
from alt_ray.errors import UsageError

GIB = 2**30


def total_cpus(plan: Resources) -> float:
    return plan.num_decoders * plan.decoder_cpus + plan.num_encoders * plan.encoder_cpus


@pytest.mark.parametrize("cpus", [1, 2, 3, 7, 64, 960])
@pytest.mark.parametrize("gpus", [0, 1, 3, 16])
def test_the_workers_always_fit_the_cluster(cpus: int, gpus: int) -> None:
    plan = plan_resources(cpus, gpus, 4 * GIB * cpus, ClusterOptions())
    assert total_cpus(plan) <= cpus + 0.01
    assert plan.num_encoders * plan.encoder_gpus <= gpus
    assert min(plan.num_encoders, plan.num_decoders, plan.encoder_threads) >= 1
    assert plan.decoder_cpus > 0


def test_on_cpus_every_core_has_an_encoder_and_a_decoder() -> None:
    plan = plan_resources(8, 0, 64 * GIB, ClusterOptions())
    assert (plan.num_encoders, plan.encoder_threads, plan.num_decoders, plan.device) == (8, 1, 8, "cpu")


def test_little_memory_means_fewer_encoders_with_more_threads() -> None:
    plan = plan_resources(8, 0, 16 * GIB, ClusterOptions())
    assert (plan.num_encoders, plan.encoder_threads) == (4, 2)


def test_a_fraction_of_a_gpu_gives_several_encoders_per_gpu() -> None:
    plan = plan_resources(16, 2, 64 * GIB, ClusterOptions(gpus_per_actor=0.5))
    assert (plan.num_encoders, plan.encoder_gpus, plan.device) == (4, 0.5, "cuda")
    assert plan.num_decoders >= 8


def test_device_cpu_leaves_the_gpus_alone() -> None:
    assert plan_resources(4, 2, 64 * GIB, ClusterOptions(), "cpu").encoder_gpus == 0


@pytest.mark.parametrize(
    ("cpus", "gpus", "options", "device", "says"),
    [
        (0, 0, ClusterOptions(), "auto", "0 CPUs"),
        (4, 0, ClusterOptions(), "cuda", "no GPU"),
        (4, 0, ClusterOptions(gpus_per_actor=1), "auto", "--gpus-per-actor 1"),
        (4, 1, ClusterOptions(num_actors=3), "auto", "at most 1"),
        (4, 1, ClusterOptions(gpus_per_actor=0.5, num_actors=3), "auto", "at most 2"),
    ],
)
def test_what_can_never_fit_is_refused(cpus: int, gpus: int, options: ClusterOptions, device: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        plan_resources(cpus, gpus, 64 * GIB, options, device)
