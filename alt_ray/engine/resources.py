"""How many workers of which size a job gets on a cluster. Pure arithmetic: asks nobody, so that it can be tested as such.

On a GPU cluster the encoder has the GPUs and decoding has the CPUs. On CPUs both want the same cores, and which of them needs
more isn't known before the videos are: each gets enough processes to use every core, the operating system divides the time,
and Ray's backpressure stops the faster one. Ray's own CPU numbers are therefore only shares that add up to what there is, on
each machine: a worker that is larger than every machine is waited for for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from alt_ray.config import ClusterOptions, Device
from alt_ray.engine.packing import Machine, described, gpu_slots, largest_share, slots, total
from alt_ray.errors import UsageError

# Shares of a core on a CPU-only cluster: a decoder's own process waits for its child, and the encoder is the usual limit. What
# is left over lets Ray place them unevenly: with 0.3 and 0.6, two decoders on a machine with one core left an encoder no place.
DECODER_SHARE, ENCODER_SHARE = 0.3, 0.5
# Encoders with one thread each beat one encoder with all of them (7.5 against 5.5 videos/s on two cores, benchmarks/README.md):
# threads of one process wait for each other at every small operation, and decoding keeps taking cores away from some. What
# limits their number is memory: 0.7 GiB each for the libraries, and the weights.
MEMORY_PER_ENCODER, MEMORY_SHARE = 2 * 2**30, 0.5

# On a CPU, 32 frames at once are as fast as more, and small batches let all encoders end together.
CPU_BATCH_CLIPS, GPU_BATCH_CLIPS = 4, 32


@dataclass(frozen=True)
class Resources:
    """Workers of a job: decoders and encoders, with what Ray is told that each needs."""

    num_decoders: int
    decoder_cpus: float
    num_encoders: int
    encoder_cpus: float
    encoder_gpus: float
    encoder_threads: int
    device: str
    batch_clips: int
    more_encoders: int = 0  # that may come with machines that an autoscaler adds
    more_decoders: int = 0
    most_cpus: int = 0  # what all machines have then; 0: none are to come
    most_gpus: int = 0

    @property
    def most_encoders(self) -> int:
        return self.num_encoders + self.more_encoders

    @property
    def most_decoders(self) -> int:
        return self.num_decoders + self.more_decoders

    def machines_for(self, num_clips: int) -> dict[str, int]:
        """What machines should have together, by Ray's names, so that each of their workers gets some of so many clips."""
        batches = -(-num_clips // self.batch_clips)
        shares = {"CPU": batches / (self.most_decoders or self.most_encoders), "GPU": batches / self.most_encoders}
        most = {"CPU": self.most_cpus, "GPU": self.most_gpus}
        return {name: int(number * min(1.0, shares[name])) for name, number in most.items() if number}

    def __str__(self) -> str:
        where = f"{self.encoder_gpus:g} GPU each" if self.encoder_gpus else f"{self.encoder_threads} threads each"
        text = f"{self.num_encoders} encoders ({where}), {self.num_decoders} decoders"
        if self.more_encoders or self.more_decoders:
            text += f", growing with the cluster to {self.most_encoders} and {self.most_decoders}"
        return text


def plan_cluster(machines: Sequence[Machine], options: ClusterOptions, device: Device = "auto") -> Resources:
    """Divide a cluster. Raises UsageError for what can never fit, which Ray would wait for for ever."""
    cpus, gpus = total(machines, "CPU"), total(machines, "GPU")
    if cpus < 1:
        raise UsageError(f"the cluster has {cpus:g} CPUs; decoding needs at least 1")
    if device == "cuda" and not gpus:
        raise UsageError(
            "--device cuda, but the cluster has no GPU; --device cpu runs without, --wait-for-gpus 1 waits"
        )
    wants_gpu = gpus > 0 and device != "cpu" and options.gpus_per_actor != 0
    if not wants_gpu:
        if options.gpus_per_actor:
            raise UsageError(
                f"--gpus-per-actor {options.gpus_per_actor:g}, but the job has no GPU to use (cluster: {gpus:g})"
            )
        return _growing(_on_cpus(machines, options), cpus, gpus, options)
    return _growing(_on_gpus(machines, options), cpus, gpus, options)


def _growing(plan: Resources, cpus: float, gpus: float, options: ClusterOptions) -> Resources:
    """Let the workers become as many on all machines that may come as the plan has on those that are there."""
    gpu_growth = max(1.0, (options.max_gpus or 0) / gpus) if plan.encoder_gpus else 1.0
    # Machines with GPUs bring CPUs, too: as many for each as those that are there, unless it is said.
    cpu_growth = max(1.0, options.max_cpus / cpus) if options.max_cpus else gpu_growth
    encoder_growth = gpu_growth if plan.encoder_gpus else cpu_growth
    return replace(
        plan,
        more_encoders=int(plan.num_encoders * (encoder_growth - 1) + 1e-6),
        more_decoders=int(plan.num_decoders * (cpu_growth - 1) + 1e-6),
        most_cpus=options.max_cpus or 0 if cpu_growth > 1 else 0,
        most_gpus=options.max_gpus or 0 if gpu_growth > 1 else 0,
    )


def plan_resources(
    cpus: float, gpus: float, memory_bytes: float, options: ClusterOptions, device: Device = "auto"
) -> Resources:
    """Divide a single machine, as `plan_cluster` does several."""
    return plan_cluster([{"CPU": cpus, "GPU": gpus, "memory": memory_bytes}], options, device)


def _on_cpus(machines: Sequence[Machine], options: ClusterOptions) -> Resources:
    cpus = [machine.get("CPU", 0) for machine in machines]
    affordable = [int(MEMORY_SHARE * machine.get("memory", 0) / MEMORY_PER_ENCODER) for machine in machines]
    num_encoders = options.num_actors or max(1, sum(map(min, map(int, cpus), affordable)))
    num_decoders = options.num_decoders or max(1, sum(map(int, cpus)))
    encoder_cpus = largest_share([ENCODER_SHARE * own for own in cpus], num_encoders)
    return Resources(
        num_decoders=num_decoders,
        decoder_cpus=largest_share([DECODER_SHARE * own for own in cpus], num_decoders),
        num_encoders=num_encoders,
        encoder_cpus=encoder_cpus,
        encoder_gpus=0.0,
        encoder_threads=max(1, int(encoder_cpus / ENCODER_SHARE + 0.01)),
        device="cpu",
        batch_clips=options.batch_clips or CPU_BATCH_CLIPS,
    )


def _on_gpus(machines: Sequence[Machine], options: ClusterOptions) -> Resources:
    per_actor = options.gpus_per_actor or 1.0
    if per_actor > 1 and per_actor != int(per_actor):
        raise UsageError(
            f"--gpus-per-actor {per_actor:g}: Ray gives a share of one GPU, or whole ones; give below 1, or a whole number"
        )
    most = sum(gpu_slots(machine.get("GPU", 0), per_actor) for machine in machines)
    if not most:
        raise UsageError(f"--gpus-per-actor {per_actor:g}, but no machine has as many ({described(machines)})")
    num_encoders = options.num_actors or most
    if num_encoders > most:
        raise UsageError(
            f"{num_encoders} actors of {per_actor:g} GPU each do not fit on {described(machines)}; at most {most} do"
        )
    # Encoders ask Ray for no CPU: decoders, which may stand anywhere, could take all those beside a GPU first, and the encoder
    # of that GPU would be waited for for ever. A core for each is left free all the same.
    cpus = total(machines, "CPU")
    left = cpus - min(num_encoders, cpus / 2)
    num_decoders = options.num_decoders or max(1, int(left))
    share = largest_share([machine.get("CPU", 0) for machine in machines], num_decoders)
    return Resources(
        num_decoders=num_decoders,
        decoder_cpus=round(min(1.0, left / num_decoders, share), 4),
        num_encoders=num_encoders,
        encoder_cpus=0.0,
        encoder_gpus=per_actor,
        encoder_threads=1,
        device="cuda",
        batch_clips=options.batch_clips or GPU_BATCH_CLIPS,
    )


@dataclass(frozen=True)
class TrainingResources:
    """What each training worker gets."""

    num_workers: int
    cpus_per_worker: float
    gpus_per_worker: float

    def __str__(self) -> str:
        gpu = f" and {self.gpus_per_worker:g} GPU" if self.gpus_per_worker else ""
        return f"{self.num_workers} workers with {self.cpus_per_worker:g} CPUs{gpu} each"


# What a worker is given of its even share, where nobody says: all workers start together or none does, and what others hold of a
# machine, such as an actor of another job, would stop a training that wants all of it. Ray Train's own actors ask for no CPU.
TRAINING_SHARE = 0.9


def plan_training(
    machines: Sequence[Machine], num_workers: int, cpus_per_worker: float | None, device: Device = "auto"
) -> TrainingResources:
    """Divide a cluster among training workers, each of which stands on one machine.

    Raises UsageError for what can never fit, which Ray would wait for for ever, and says what would.
    """
    gpus = [int(machine.get("GPU", 0)) if machine.get("CPU", 0) > 0 else 0 for machine in machines]
    if device == "cuda" and sum(gpus) < num_workers:
        fewer = f"; give --workers {sum(gpus)}, or --device cpu" if sum(gpus) else "; --device cpu runs without"
        raise UsageError(
            f"--device cuda with {num_workers} workers, one GPU each, but there are {sum(gpus)} GPUs beside a CPU{fewer}"
        )
    cpus = [machine.get("CPU", 0) for machine in machines]
    limits = gpus if device != "cpu" and sum(gpus) >= num_workers else None
    share = largest_share(cpus, num_workers, limits)
    if not share:
        raise UsageError(f"{num_workers} workers do not fit on {described(machines)}; give fewer --workers")
    if cpus_per_worker is None:
        return TrainingResources(num_workers, round(TRAINING_SHARE * share, 4), 1.0 if limits else 0.0)
    most = [slots(own, cpus_per_worker) for own in cpus]
    fit = sum(most if limits is None else map(min, most, limits))
    if fit < num_workers:
        fewer = f"--workers {fit}, or " if fit else ""
        raise UsageError(
            f"{num_workers} workers of {cpus_per_worker:g} CPUs do not fit on {described(machines)}, where {fit} do; "
            f"give {fewer}--cpus-per-worker {share:g} or less"
        )
    return TrainingResources(num_workers, cpus_per_worker, 1.0 if limits else 0.0)
