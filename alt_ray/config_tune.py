"""Options of `tune`. Knows nothing of torch or Ray."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from alt_ray.config import (
    ClusterOptions,
    EncoderOptions,
    InputOptions,
    OutputOptions,
    SamplingOptions,
    TrackingOptions,
)
from alt_ray.config_train import LearningOptions, ModelOptions
from alt_ray.errors import UsageError
from alt_ray.evaluation.options import ProtocolOptions

Search = Literal["random", "grid", "optuna"]
Sweep = Literal["merge-ratio", "temperature"]


@dataclass(frozen=True)
class TuneOptions:
    """Search the alignment temperature and the merge ratio on stored region features, for the best accuracy at a cost.

    The same command goes on where it was stopped. Sources are one feature store for each merging, or videos, which are encoded
    once for each of --merge-ratios (or --merge-rs), into OUT/features. Without any, --sweep draws pocket videos into OUT/videos.
    """

    sources: Annotated[Positional[tuple[str, ...]], arg(metavar="FEATURES")] = ()
    """Feature stores of the same clips, each with another merging; or videos as `alt-ray label` takes them."""
    out: str = "tune"
    """Folder of the search: trials.csv, metrics.json, report.html, plots/, best/ (what `alt-ray label --adapter` takes)."""
    trials: int | None = None
    """Trials of the search; none: 20, and with a grid all of its points."""
    search: Search = "random"
    """random; grid; optuna: suggestions that follow from what was found, by accuracy and cost at once."""
    sweep: Sweep | None = None
    """Instead of a search: one setting alone takes its values, each trained with --final-seeds seeds."""
    objective: str = "accuracy"
    """What the best is: accuracy; accuracy-at-cost:LIMIT (at most so many GFLOPs per view); knee (of accuracy against cost)."""
    merge_ratios: tuple[float, ...] = ()
    """With videos: the shares of patch tokens that are merged away; none: 0 0.25 0.5 0.75, in a sweep 0 to 0.875 by 0.125."""
    merge_rs: tuple[int, ...] = ()
    """With videos, instead of --merge-ratios: tokens merged in each block."""
    temperature_range: tuple[float, float] = (0.001, 1.0)
    """Alignment temperatures that are searched, evenly on a logarithmic scale."""
    temperatures: tuple[float, ...] = ()
    """These alignment temperatures alone, instead of --temperature-range."""
    depths: tuple[int, ...] = ()
    """Search these numbers of adapter blocks, too."""
    lr_range: tuple[float, float] | None = None
    """Search learning rates, too, from the lowest to the highest."""
    corpus_subsets: tuple[str, ...] = ()
    """Search parts of the corpus, too: all, or categories such as object, motion, body_part+scene."""
    grid_points: int = 5
    """Values that a grid takes of a range."""
    asha: bool = True
    """Stop trials early that are behind others of the same merging at the same epoch (--no-asha: train all to the end)."""
    grace_epochs: int | None = None
    """Epochs that every trial may train; none: a third of --epochs."""
    final_seeds: int = 3
    """Seeds that the final candidates are trained again with; 0: none."""
    final_candidates: int = 3
    """Settings that are trained again."""
    budget_hours: float | None = None
    """Begin no more trials when so many hours have passed, those for the final candidates counted in."""
    concurrent: int | None = None
    """Trials at a time; none: as many as the cluster has room for."""
    cpus_per_trial: float = 1.0
    """CPUs of each trial, or with --workers of each of its workers."""
    gpus_per_trial: float | None = None
    """GPUs, or a share of one, of each trial; none: a quarter where the cluster has any."""
    workers: int = 1
    """Workers of each trial, which train together (DDP)."""
    videos: int = 340
    """Pocket videos that are drawn where no source is named."""
    recipe: str | None = None
    """Settings by name: pocket, vit_b16_8f or vit_l14_32f; --config and flags win. None: pocket for features of its encoder."""
    labels: str | None = None
    """Label names, in order: a file, or a list with commas; none: those of the clips, sorted."""
    config: str | None = None
    """YAML file with any of these options, such as `trials: 40`; flags win over it."""
    train_views: int = 0
    """With videos: augmented views stored of each."""
    model: ModelOptions = field(default_factory=ModelOptions)
    learning: LearningOptions = field(default_factory=LearningOptions)
    protocol: ProtocolOptions = field(default_factory=ProtocolOptions)
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    inputs: InputOptions = field(default_factory=InputOptions)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    tracking: TrackingOptions = field(default_factory=TrackingOptions)
    output: OutputOptions = field(default_factory=OutputOptions)

    def __post_init__(self) -> None:
        for name in ("trials", "grace_epochs", "concurrent", "workers", "videos", "final_candidates"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
        for name in ("budget_hours", "cpus_per_trial"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"--{name.replace('_', '-')} must be above 0, got {value}")
        if self.grid_points < 2:
            raise UsageError(f"--grid-points must be at least 2, got {self.grid_points}")
        if self.final_seeds < 0:
            raise UsageError(f"--final-seeds must be 0 or more, got {self.final_seeds}")
        if self.sweep is not None and self.final_seeds < 1:
            raise UsageError("--sweep trains every value with --final-seeds seeds: expected at least 1")
        if self.merge_ratios and self.merge_rs:
            raise UsageError("--merge-ratios and --merge-rs say the same thing in two ways: give one of them")
        for name in ("temperature_range", "lr_range"):
            low, high = getattr(self, name) or (1.0, 2.0)
            if not 0 < low < high:
                raise UsageError(
                    f"--{name.replace('_', '-')} {low:g} {high:g}: expected two numbers above 0, the lower first"
                )
        for name in ("merge_ratios", "merge_rs", "temperatures", "depths", "corpus_subsets"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise UsageError(f"--{name.replace('_', '-')} {' '.join(map(str, values))}: expected different values")
        if any(value <= 0 for value in self.temperatures):
            raise UsageError(f"--temperatures {' '.join(map(str, self.temperatures))}: expected numbers above 0")
        if any(blocks < 1 for blocks in self.depths):
            raise UsageError(f"--depths {' '.join(map(str, self.depths))}: expected 1 or more")
        if len(self.protocol.seeds) > 1 or self.protocol.leave_one_group_out:
            raise UsageError(
                "a trial is one training: give one --seed, and no --leave-one-group-out; --final-seeds says how often the best "
                "are repeated"
            )
        if self.model.method not in ("alt", "learned-queries"):
            raise UsageError(f"--method {self.model.method} has nothing that is searched here: expected alt")
        if self.learning.average < 1 and not self.model.residual:
            raise UsageError(
                "--average below 1 mixes with the weights at the start, which are frozen CLIP only with --residual"
            )

    @property
    def seed(self) -> int:
        return self.protocol.seeds[0]
