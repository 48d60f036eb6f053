"""How a cluster is divided: everything fits, and what can't fit is refused at once."""

from itertools import product

import pytest

from alt_ray.config import ClusterOptions
from alt_ray.engine.packing import Machine, described, largest_share, machines_of, slots
from alt_ray.engine.resources import (
    DECODER_SHARE,
    ENCODER_SHARE,
    Resources,
    plan_cluster,
    plan_resources,
    plan_training,
)
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


def machines(*cpus: float, gpus: float = 0) -> list[Machine]:
    return [{"CPU": own, "GPU": gpus, "memory": 64 * GIB} for own in cpus]


CLUSTERS = [(2,), (2, 2), (0, 1, 1), (8, 2, 2), (3, 5, 7), (1, 1, 1, 1, 30)]


@pytest.mark.parametrize("cpus", CLUSTERS)
@pytest.mark.parametrize("count", [1, 2, 3, 5, 16])
def test_the_largest_share_fits_and_no_larger_one_does(cpus: tuple[float, ...], count: int) -> None:
    share = largest_share(cpus, count)
    assert sum(slots(own, share) for own in cpus) >= count
    assert sum(slots(own, share + 0.001) for own in cpus) < count


def test_a_share_is_limited_by_how_many_a_machine_may_hold() -> None:
    assert largest_share([8, 2], 2) == 4
    assert largest_share([8, 2], 2, [1, 1]) == 2
    assert largest_share([8, 2], 2, [1, 0]) == 0


@pytest.mark.parametrize("cpus", CLUSTERS)
@pytest.mark.parametrize("workers", [1, 2, 3, 5, 16])
def test_training_workers_fit_on_the_machines_as_they_are(cpus: tuple[float, ...], workers: int) -> None:
    plan = plan_training(machines(*cpus), workers, None)
    assert sum(slots(own, plan.cpus_per_worker) for own in cpus) >= workers
    with pytest.raises(UsageError) as error:
        plan_training(machines(*cpus), workers, 2 * max(cpus))
    better = float(str(error.value).split("--cpus-per-worker ")[1].split()[0])
    assert plan_training(machines(*cpus), workers, better).cpus_per_worker == better > plan.cpus_per_worker


def test_workers_that_only_the_sum_of_the_machines_holds_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"3 workers of 1\.2 CPUs do not fit on 2 machines of 2 CPUs, where 2 do"
    ) as error:
        plan_training(machines(2, 2), 3, 1.2)
    assert "--workers 2, or --cpus-per-worker 1 or less" in str(error.value)
    assert plan_training(machines(2, 2), 2, 1.2).cpus_per_worker == 1.2


def test_workers_with_a_gpu_each_fit_where_the_gpus_are() -> None:
    cluster = [*machines(4, gpus=2), *machines(64)]
    plan = plan_training(cluster, 2, None, "cuda")
    assert (plan.gpus_per_worker, plan.cpus_per_worker) == (1.0, 1.8)
    assert plan_training(cluster, 3, None).gpus_per_worker == 0
    for arguments in ((3, None, "cuda"), (2, 3.0, "cuda")):
        with pytest.raises(UsageError, match="--workers"):
            plan_training(cluster, *arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("cpus", CLUSTERS)
@pytest.mark.parametrize("options", [ClusterOptions(), ClusterOptions(num_actors=1), ClusterOptions(num_decoders=1)])
def test_encoders_and_decoders_fit_on_the_machines_as_they_are(
    cpus: tuple[float, ...], options: ClusterOptions
) -> None:
    plan = plan_cluster(machines(*cpus), options)
    assert sum(slots(ENCODER_SHARE * own, plan.encoder_cpus) for own in cpus) >= plan.num_encoders
    assert sum(slots(DECODER_SHARE * own, plan.decoder_cpus) for own in cpus) >= plan.num_decoders
    assert plan.encoder_threads <= max(cpus)


@pytest.mark.parametrize("cpus", [(1, 1), (1, 1, 1), (1, 1, 1, 1), (1, 2), (2, 2, 2), (1, 3, 2), (4, 4)])
def test_every_worker_finds_a_place_however_the_others_stand(cpus: tuple[float, ...]) -> None:
    """Ray places actors as it likes: whoever comes first may pile up on one machine."""
    plan = plan_cluster(machines(*cpus), ClusterOptions())
    encoders, decoders = (plan.num_encoders, plan.encoder_cpus), (plan.num_decoders, plan.decoder_cpus)
    for (first, first_cpus), (second, second_cpus) in ((encoders, decoders), (decoders, encoders)):
        for standing in product(*(range(slots(own, first_cpus) + 1) for own in cpus)):
            if sum(standing) == first:
                left = [own - number * first_cpus for own, number in zip(cpus, standing, strict=True)]
                assert sum(slots(own, second_cpus) for own in left) >= second, standing


@pytest.mark.parametrize("cpus", [(1,), (2,), (1, 1)])
def test_a_second_job_on_few_cores_finds_no_place_and_so_says_that_it_waits(cpus: tuple[float, ...]) -> None:
    plan = plan_cluster(machines(*cpus), ClusterOptions())
    assert sum(cpus) - total_cpus(plan) < plan.encoder_cpus


def test_an_encoder_beside_a_gpu_finds_a_place_wherever_decoders_stand() -> None:
    """They may take every CPU of its machine first."""
    plan = plan_cluster([*machines(4, gpus=1), *machines(4)], ClusterOptions())
    assert (plan.num_encoders, plan.encoder_gpus, plan.encoder_cpus) == (1, 1.0, 0.0)
    assert plan.num_decoders * plan.decoder_cpus <= 7


@pytest.mark.parametrize("gpus", [2, 1.5])
def test_an_actor_with_more_gpus_than_any_machine_is_refused(gpus: float) -> None:
    with pytest.raises(UsageError, match=f"--gpus-per-actor {gpus:g}"):
        plan_cluster(machines(4, 4, gpus=1), ClusterOptions(gpus_per_actor=gpus))


def test_machines_that_are_gone_do_not_count() -> None:
    nodes = [{"Alive": alive, "Resources": {"CPU": cpus}} for alive, cpus in ((True, 2.0), (False, 8.0), (True, 0.0))]
    assert described(machines_of(nodes)) == "1 machine of 2 CPUs"
