"""What is searched and how: the space, what suggests, what stops trials early, how many run at a time. Trains nothing."""

import itertools
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from alt_ray.config_tune import TuneOptions
from alt_ray.corpus.entities import CATEGORIES, Corpus
from alt_ray.engine.packing import Machine, described, gpu_slots, largest_share, slots, total
from alt_ray.engine.resources import TRAINING_SHARE
from alt_ray.engine.tune_scheduler import FairAsha
from alt_ray.engine.tune_trial import FULL, SETTINGS_FILE, TRIALS
from alt_ray.errors import UsageError
from alt_ray.evaluation.trials import TrialSettings
from alt_ray.schema import FORMAT_VERSION
from alt_ray.versions import read_stamped

DEFAULT_TRIALS = 20
_PRIMES = (2, 3, 5, 7, 11)
WAITING_CPUS = 0.01  # of a trial that waits for its workers: Ray takes no trial that needs nothing
DEFAULT_GPU_SHARE = 0.25  # an adapter on stored features keeps no GPU busy alone


def dimensions(options: TuneOptions, arms: Sequence[str]) -> dict[str, Any]:
    """What is searched, by name: a list of values, or the (lowest, highest) of a logarithmic range."""
    found: dict[str, Any] = {}
    if len(arms) > 1:
        found["arm"] = list(arms)
    found["temperature"] = list(options.temperatures) or tuple(options.temperature_range)
    if options.depths:
        found["blocks"] = list(options.depths)
    if options.lr_range is not None:
        found["lr"] = tuple(options.lr_range)
    if options.corpus_subsets:
        found["corpus_subset"] = list(options.corpus_subsets)
    return found


def space_of(options: TuneOptions, arms: Sequence[str]) -> dict[str, Any]:
    """The dimensions as Tune has them, for Optuna."""
    return {
        name: tune.loguniform(*values) if isinstance(values, tuple) else tune.choice(values)
        for name, values in dimensions(options, arms).items()
    }


def random_of(options: TuneOptions, arms: Sequence[str], base: TrialSettings, count: int) -> list[TrialSettings]:
    """Random points that cover the space evenly: more of them begin with the same ones.

    Of a range, multiples of an irrational number modulo 1 (Weyl), from a random start; lists give all of their values in random
    order before one comes again, so that each merging gets its share of trials.
    """
    columns: dict[str, list[Any]] = {}
    for place, (name, values) in enumerate(sorted(dimensions(options, arms).items())):
        rng = np.random.default_rng((options.seed, place))
        if isinstance(values, tuple):
            spread = (rng.random() + np.arange(count) * (math.sqrt(_PRIMES[place]) % 1)) % 1
            low, high = math.log(values[0]), math.log(values[1])
            columns[name] = [math.exp(low + share * (high - low)) for share in spread.tolist()]
        else:
            turns = [rng.permutation(len(values)) for _ in range(-(-count // len(values)))]
            columns[name] = [values[i] for i in np.concatenate(turns)[:count]]
    return [replace(base, **{name: column[i] for name, column in columns.items()}) for i in range(count)]


def grid_of(options: TuneOptions, arms: Sequence[str], base: TrialSettings) -> list[TrialSettings]:
    """All points of the grid, or the first --trials of them; ranges give --grid-points values. Mergings take turns."""
    axes = {
        name: [float(v) for v in np.geomspace(values[0], values[1], options.grid_points)]
        if isinstance(values, tuple)
        else values
        for name, values in dimensions(options, arms).items()
    }
    names = sorted(axes, key=lambda name: name == "arm")  # the last one turns fastest
    points = [
        replace(base, **dict(zip(names, point, strict=True))) for point in itertools.product(*(axes[n] for n in names))
    ]
    return points[: options.trials]


def sweep_of(options: TuneOptions, arms: Sequence[str], base: TrialSettings) -> list[TrialSettings]:
    """One point for each value of what --sweep names, all else as given."""
    if options.sweep == "merge-ratio":
        return [replace(base, arm=arm) for arm in arms]
    if len(arms) > 1:
        raise UsageError(f"--sweep temperature takes one feature store, got {len(arms)}")
    values = options.temperatures or np.geomspace(*options.temperature_range, 2 * options.grid_points)
    return [replace(base, temperature=float(value)) for value in values]


def repeated(points: Sequence[TrialSettings], count: int) -> list[TrialSettings]:
    """Each setting with `count` seeds that the search has not used: what was chosen by its luck with one counts no more."""
    return [replace(point, seed=point.seed + 1 + i) for point in points for i in range(count)]


def begun_before(out: Path) -> list[dict[str, Any]]:
    """What Tune chose for the trials that an earlier run of this search began, in that order."""
    names = (out / TRIALS).glob(f"*/{SETTINGS_FILE}")
    files = [read_stamped(file, FORMAT_VERSION, missing=1) for file in names]
    chosen = [file for file in files if "number" not in file["config"]]
    return [file["config"] for file in sorted(chosen, key=lambda file: file["begun_s"])]


def searcher(options: TuneOptions, space: dict[str, Any], before: list[dict[str, Any]], num_trials: int) -> Any:
    """Optuna's suggestions, by accuracy and cost at once. What was begun before comes first."""
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(
        seed=options.seed + len(before),  # else what is suggested next would be what was suggested first
        n_startup_trials=max(4, min(10, num_trials // 3)),
    )
    return OptunaSearch(
        OptunaSearch.convert_search_space(space),
        metric=["val", "gflops"],
        mode=["max", "min"],
        points_to_evaluate=before,
        sampler=sampler,
    )


def scheduler(options: TuneOptions, arm_of: Callable[[dict[str, Any]], str]) -> Any:
    """What ends trials early, by epoch: ASHA among those of one merging, which `arm_of` names by their configs; or nothing."""
    epochs = options.learning.epochs
    grace = options.grace_epochs or max(1, math.ceil(epochs / 3))
    if not options.asha or grace >= epochs:
        return None
    return FairAsha(arm_of, epochs=epochs, grace=grace)


class StopWhen(tune.Stopper):
    """Ends a whole search: when it was asked to, or when no time is left for another trial and the final candidates."""

    def __init__(self, deadline_s: float | None, reserve: int, slots: int) -> None:
        self.is_asked = False
        self.is_late = False
        self._deadline_s, self._reserve, self._slots = deadline_s, reserve, slots
        self._longest_s = 0.0

    def ask(self) -> None:
        """End the search soon."""
        self.is_asked = True

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self._longest_s = max(self._longest_s, float(result.get("seconds", 0.0)))
        return False

    @property
    def is_ending(self) -> bool:
        """Whether what ends from now on was cut off, and goes on another time."""
        return self.is_asked or self.is_late

    def stop_all(self) -> bool:
        if self._deadline_s is not None and not self.is_late:
            needed_s = self._longest_s * math.ceil(self._reserve / self._slots)
            self.is_late = time.time() + needed_s > self._deadline_s
        return self.is_ending


@dataclass(frozen=True)
class TrialResources:
    """How many trials run at a time, and what each gets; with several workers these have the CPUs and GPUs."""

    slots: int
    cpus: float
    gpus: float

    def __str__(self) -> str:
        gpu = f" and {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.slots} trials at a time, {self.cpus:g} CPUs{gpu} each"


def plan_trials(machines: Sequence[Machine], options: TuneOptions) -> TrialResources:
    """Divide a cluster among trials. Raises UsageError for what can never fit, which Tune would wait for for ever."""
    gpus, device = total(machines, "GPU"), options.encoder.device
    if device == "cuda" and not gpus:
        raise UsageError(
            "--device cuda, but the cluster has no GPU; --device cpu runs without, --wait-for-gpus 1 waits"
        )
    share = options.gpus_per_trial
    if share and (not gpus or device == "cpu"):
        raise UsageError(f"--gpus-per-trial {share:g}, but the trials have no GPU to use (cluster: {gpus:g})")
    if share is None:
        share = (DEFAULT_GPU_SHARE if options.workers == 1 else 1.0) if gpus and device != "cpu" else 0.0
    cpus = [machine.get("CPU", 0.0) for machine in machines]
    each = options.cpus_per_trial
    if options.workers > 1:  # what Ray Train's own actors take is left
        each = min(each, round(TRAINING_SHARE * largest_share(cpus, options.workers), 4))
    fit = [slots(own, each) if each else 0 for own in cpus]
    if share:
        fit = [
            min(most, gpu_slots(machine.get("GPU", 0.0), share)) for most, machine in zip(fit, machines, strict=True)
        ]
    most = sum(fit) // options.workers
    if options.workers > 1:  # each trial that waits for its workers holds a little, too
        most = min(most, int((sum(cpus) + 1e-6) / (each * options.workers + WAITING_CPUS)))
    if most < 1:
        raise UsageError(
            f"a trial of {options.workers} x {each or options.cpus_per_trial:g} CPUs and {share:g} GPUs does not fit on "
            f"{described(machines)}; give fewer --cpus-per-trial, --gpus-per-trial or --workers"
        )
    return TrialResources(min(most, options.concurrent or most), each, share)


def corpus_part(corpus: Corpus, subset: str) -> Corpus:
    """The entities of some categories ("object", "body_part+scene"), or all. Raises UsageError for other names."""
    names = subset.split("+")
    if subset == FULL:
        return corpus
    unknown = [name for name in names if name not in CATEGORIES]
    kept = tuple(entity for entity in corpus.entities if entity.category in names)
    if unknown or not kept:
        raise UsageError(
            f"--corpus-subsets {subset}: {f'no category {unknown[0]!r}' if unknown else 'no entity of it in the corpus'}; "
            f"expected {FULL}, or one of {', '.join(CATEGORIES)}, or several joined by +"
        )
    return Corpus(kept, f"{corpus.name} ({subset})", corpus.templates)


def quiet_tune() -> None:
    """One line of ours instead of Tune's tables and files for every trial; ctrl-C is ours."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    os.environ["TUNE_WARN_THRESHOLD_S"] = "60"
