"""Options of `train` and `evaluate`. Knows nothing of torch or Ray."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from tyro.conf import Positional, UseAppendAction, arg

from alt_ray.config import (
    ClusterOptions,
    EncoderOptions,
    InputOptions,
    OutputOptions,
    SamplingOptions,
    TrackingOptions,
)
from alt_ray.errors import UsageError
from alt_ray.evaluation.options import ProtocolOptions
from alt_ray.models.configs import AdapterConfig, AlignmentConfig, Conv, ConvOver, Pooling

Method = Literal["alt", "learned-queries", "linear-probe", "frozen"]
TrainerKind = Literal["auto", "ray", "local"]


@dataclass(frozen=True)
class ModelOptions:
    """What is trained."""

    method: Method = "alt"
    """alt; learned-queries: the same adapter without entities; linear-probe; frozen: CLIP as it is. All but alt are baselines."""
    corpus: str | None = None
    """Entity corpus (.jsonl, .csv, .txt); none: the one that comes with this package."""
    entity_templates: UseAppendAction[tuple[str, ...]] = ()
    """Text around the names of entities of a category, such as "object=a photo of a {}"; may be given several times."""
    template: str = "photo"
    """Text around a label: photo, video, bare, or any text with one {}."""
    temperature: float = 0.01
    """Alignment temperature."""
    pooling: Pooling = "mean"
    """How the entities of a frame's regions make its query: mean over regions, by size, or each entity once."""
    blocks: int = 4
    """Blocks of the adapter."""
    width: int | None = None
    """Width of the adapter; none: that of the encoder."""
    conv: Conv = "dense"
    """Temporal convolution of the adapter."""
    conv_over: ConvOver = "frame"
    """What the temporal convolution runs over."""
    dropout: float = 0.0
    """Dropout in the adapter."""
    residual: bool = False
    """Start at frozen CLIP: the result is added to the mean of the frames' embeddings."""
    mix: float = 0.0
    """Share of the frozen embedding that is added after training, for labels that were not trained on."""

    def __post_init__(self) -> None:
        # What no encoder is needed for is refused at once: a training on videos comes to its model after hours of decoding.
        AlignmentConfig(temperature=self.temperature, pooling=self.pooling)
        AdapterConfig(num_blocks=self.blocks, dropout=self.dropout, mix=self.mix)


@dataclass(frozen=True)
class LearningOptions:
    """How it is trained. The defaults are those of the frozen-encoder method nearest to ALT."""

    epochs: int = 30
    """Passes over the training clips."""
    batch: int = 64
    """Clips of a step, over all workers."""
    accumulate: int = 1
    """Parts that a worker's share of a step is computed in, where memory is short."""
    lr: float = 5e-5
    """Learning rate of AdamW, after warm-up; a cosine to 0 from there."""
    muon_lr: float = 0.0
    """With more than 0: learning rate of Muon for the matrices of the adapter's blocks."""
    weight_decay: float = 0.2
    """Weight decay."""
    warmup_epochs: float = 5.0
    """Epochs of linear rise."""
    label_smoothing: float = 0.1
    """Label smoothing."""
    max_norm: float = 1.0
    """Largest norm of a step's gradients; 0 for any."""
    bfloat16: bool = False
    """Compute in bfloat16 where that is safe."""
    patience: int | None = None
    """Stop after so many epochs without a better validation accuracy; none: never."""
    average: float = 1.0
    """Weights tested and kept: this share of the trained ones, the rest of those at the start. Below 1 needs --residual."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "accumulate", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name} must be at least 1, got {value}")
        if self.lr <= 0:
            raise UsageError(f"--lr must be above 0, got {self.lr}")
        for name in ("muon_lr", "weight_decay", "warmup_epochs", "max_norm"):
            if getattr(self, name) < 0:
                raise UsageError(f"--{name.replace('_', '-')} must be 0 or more, got {getattr(self, name)}")
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(f"--label-smoothing must be at least 0 and below 1, got {self.label_smoothing}")
        if not 0 <= self.average <= 1:
            raise UsageError(f"--average is a share from 0 to 1, got {self.average}")


@dataclass(frozen=True)
class TrainJobOptions:
    """Train adapters on stored region features, by a protocol of the field, and test them.

    The same command goes on where it was stopped. SOURCE may also be videos: they are encoded first, into RUN/features.
    """

    source: Annotated[Positional[str], arg(metavar="FEATURES")]
    """Feature store (a folder that `alt-ray encode` wrote), or videos as `alt-ray label` takes them."""
    out: str
    """Folder of the run: checkpoints, best/ (what `alt-ray label --adapter` takes), metrics.json, pictures."""
    labels: str | None = None
    """Label names, in order: a file, or a list with commas; none: those of the clips, sorted."""
    trainer: TrainerKind = "auto"
    """ray: workers on a Ray cluster (DDP); local: in this process; auto: ray with more than one worker or an --address."""
    workers: int = 1
    """Workers that train together."""
    cpus_per_worker: float | None = None
    """CPUs of each of them; none: what the cluster has, shared."""
    recipe: str | None = None
    """Settings by name: pocket, vit_b16_8f or vit_l14_32f; --config and flags win. None: pocket for features of its encoder."""
    config: str | None = None
    """YAML file with any of these options, such as `epochs: 15`; flags win over it."""
    adapter: str | None = None
    """With videos: encode with the encoder, merging and frames of this adapter. Its weights are not used."""
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
        if self.workers < 1:
            raise UsageError(f"--workers must be at least 1, got {self.workers}")
        if self.trainer == "local" and self.workers > 1:
            raise UsageError(f"--trainer local is one process; --workers {self.workers} needs --trainer ray")
        if self.learning.batch < self.workers * self.learning.accumulate:
            raise UsageError(
                f"--batch {self.learning.batch} can't be shared by {self.workers} workers in {self.learning.accumulate} parts "
                f"each (--accumulate): expected at least {self.workers * self.learning.accumulate}"
            )
        if self.learning.average < 1 and not self.model.residual:
            raise UsageError(
                "--average below 1 mixes with the weights at the start, which are frozen CLIP only with --residual; "
                "--mix adds the frozen embedding to any adapter's"
            )
        if self.model.method in ("frozen", "linear-probe") and self.protocol.protocol == "zero-shot":
            what = (
                "trains nothing: `alt-ray evaluate --adapter none`"
                if self.model.method == "frozen"
                else "knows no other labels"
            )
            raise UsageError(f"--method {self.model.method} {what}; zero-shot training is for alt and learned-queries")

    @property
    def uses_ray(self) -> bool:
        wanted = self.workers > 1 or self.cluster.address is not None
        return self.trainer == "ray" or (self.trainer == "auto" and wanted)


@dataclass(frozen=True)
class EvaluateOptions:
    """Test a trained adapter on stored region features, by a protocol of the field.

    SOURCE may also be videos: they are encoded first, as the adapter's encoder does it, into OUT/features.
    """

    source: Annotated[Positional[str], arg(metavar="FEATURES")]
    """Feature store (a folder that `alt-ray encode` wrote), or videos as `alt-ray label` takes them."""
    adapter: str = "pocket"
    """Checkpoint folder of a trained adapter, or pocket; "none": frozen CLIP (with videos, name the --encoder)."""
    out: str | None = None
    """Folder for metrics.json, the table by class and the confusion matrix; none: beside the features, in evaluation/. Needed
    with videos."""
    labels: str | None = None
    """Label names, in order: a file, or a list with commas; none: those of the clips, sorted."""
    template: str | None = None
    """Text around a label; none: that of the adapter's training, or photo."""
    corpus: str | None = None
    """Entity corpus, where it is not the adapter's."""
    temperature: float | None = None
    """Alignment temperature; none: the adapter's."""
    batch: int = 64
    """Views that are looked at together."""
    config: str | None = None
    """YAML file with any of these options; flags win over it."""
    protocol: ProtocolOptions = field(default_factory=ProtocolOptions)
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    inputs: InputOptions = field(default_factory=InputOptions)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    tracking: TrackingOptions = field(default_factory=TrackingOptions)
    output: OutputOptions = field(default_factory=OutputOptions)

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise UsageError(f"--batch must be at least 1, got {self.batch}")
        if self.temperature is not None:
            AlignmentConfig(temperature=self.temperature)
