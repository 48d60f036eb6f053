"""How many workers of which size a job gets on a cluster. Pure arithmetic: asks nobody, so that it can be tested as such.

On a GPU cluster the encoder has the GPUs and decoding has the CPUs. On CPUs both want the same cores, and which of them needs
more isn't known before the videos are: each gets enough processes to use every core, the operating system divides the time,
and Ray's backpressure stops the faster one. Ray's own CPU numbers are therefore only shares that add up to what there is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from alt_ray.config import ClusterOptions, Device
from alt_ray.errors import UsageError

# Shares of a core on a CPU-only cluster: a decoder's own process waits for its child, and the encoder is the usual limit.
DECODER_SHARE, ENCODER_SHARE = 0.3, 0.6
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

    def __str__(self) -> str:
        where = f"{self.encoder_gpus:g} GPU each" if self.encoder_gpus else f"{self.encoder_threads} threads each"
        return f"{self.num_encoders} encoders ({where}), {self.num_decoders} decoders"


def plan_cluster(available: Mapping[str, float], options: ClusterOptions, device: Device = "auto") -> Resources:
    """Divide the cluster that Ray says is there."""
    return plan_resources(available.get("CPU", 0), available.get("GPU", 0), available.get("memory", 0), options, device)


def plan_resources(
    cpus: float, gpus: float, memory_bytes: float, options: ClusterOptions, device: Device = "auto"
) -> Resources:
    """Divide a cluster. Raises UsageError for what can never fit, which Ray would wait for for ever."""
    if cpus < 1:
        raise UsageError(f"the cluster has {cpus:g} CPUs; decoding needs at least 1")
    if device == "cuda" and not gpus:
        raise UsageError("--device cuda, but the cluster has no GPU; --device cpu runs without")
    wants_gpu = gpus > 0 and device != "cpu" and options.gpus_per_actor != 0
    if not wants_gpu:
        if options.gpus_per_actor:
            raise UsageError(
                f"--gpus-per-actor {options.gpus_per_actor:g}, but the job has no GPU to use (cluster: {gpus:g})"
            )
        return _on_cpus(cpus, memory_bytes, options)
    return _on_gpus(cpus, gpus, options)


def _on_cpus(cpus: float, memory_bytes: float, options: ClusterOptions) -> Resources:
    affordable = int(MEMORY_SHARE * memory_bytes / MEMORY_PER_ENCODER)
    num_encoders = options.num_actors or max(1, min(int(cpus), affordable))
    num_decoders = options.num_decoders or max(1, int(cpus))
    return Resources(
        num_decoders=num_decoders,
        decoder_cpus=round(DECODER_SHARE * cpus / num_decoders, 4),
        num_encoders=num_encoders,
        encoder_cpus=round(ENCODER_SHARE * cpus / num_encoders, 4),
        encoder_gpus=0.0,
        encoder_threads=max(1, int(cpus) // num_encoders),
        device="cpu",
        batch_clips=options.batch_clips or CPU_BATCH_CLIPS,
    )


def _on_gpus(cpus: float, gpus: float, options: ClusterOptions) -> Resources:
    per_actor = options.gpus_per_actor or 1.0
    # Ray packs fractions within one GPU and gives several only in whole numbers.
    most = int(gpus) * int(1 / per_actor) if per_actor <= 1 else int(gpus / per_actor)
    num_encoders = options.num_actors or most
    if num_encoders > most:
        raise UsageError(
            f"{num_encoders} actors of {per_actor:g} GPU each do not fit on {gpus:g} GPUs; at most {most} do"
        )
    encoder_cpus = min(1.0, cpus / (2 * num_encoders))
    num_decoders = options.num_decoders or max(1, int(cpus - num_encoders * encoder_cpus))
    return Resources(
        num_decoders=num_decoders,
        decoder_cpus=round(min(1.0, (cpus - num_encoders * encoder_cpus) / num_decoders), 4),
        num_encoders=num_encoders,
        encoder_cpus=round(encoder_cpus, 4),
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


def plan_training(
    available: Mapping[str, float], num_workers: int, cpus_per_worker: float | None, device: Device = "auto"
) -> TrainingResources:
    """Divide a cluster among training workers. Raises UsageError for what can never fit, which Ray would wait for for ever."""
    cpus, gpus = available.get("CPU", 0), available.get("GPU", 0)
    if device == "cuda" and gpus < num_workers:
        raise UsageError(f"--device cuda with {num_workers} workers, but the cluster has {gpus:g} GPUs")
    each = cpus_per_worker or round(0.9 * cpus / num_workers, 4)
    if each * num_workers > cpus:
        raise UsageError(
            f"{num_workers} workers of {each:g} CPUs do not fit on {cpus:g} CPUs; give fewer --workers or --cpus-per-worker"
        )
    use_gpu = device != "cpu" and gpus >= num_workers
    return TrainingResources(num_workers, each, 1.0 if use_gpu else 0.0)
