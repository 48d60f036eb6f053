"""Options of encode and relabel, which make feature stores and use them without training. Knows nothing of torch or Ray."""

from dataclasses import dataclass, field
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from alt_ray.config import (
    ClusterOptions,
    DeviceOptions,
    EncoderOptions,
    InputOptions,
    OutputOptions,
    SamplingOptions,
    TrackingOptions,
)
from alt_ray.errors import UsageError


@dataclass(frozen=True)
class EncodeOptions:
    """Store the region features of videos, once, for training, tuning and labelling again and again.

    A second run into the same --out does only what is missing. The same options can stand in a YAML file (--config).
    """

    source: Annotated[Positional[str], arg(metavar="SOURCE")]
    """Folder, glob, one video, or manifest (.csv .tsv .jsonl .parquet .txt) with labels, splits and groups if there are any."""
    out: str
    """Folder of the feature store; a second run with the same one does only what is missing."""
    adapter: str | None = None
    """Checkpoint folder of an adapter, or pocket: encode with the encoder, the merging and the frames of its training."""
    train_views: int = 0
    """Augmented views (random moments, crops, mirrored) stored of each video beside --views, for training."""
    no_flip: bool = False
    """Never mirror training views: for labels that tell left from right."""
    seed: int = 0
    """Seed of the training views, and of random weights (--pretrained none)."""
    recipe: str | None = None
    """Settings by name: pocket, vit_b16_8f or vit_l14_32f; None: pocket, if no encoder or adapter is named."""
    config: str | None = None
    """YAML file with any of these options, such as `frames: 16`; flags win over it."""
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    inputs: InputOptions = field(default_factory=InputOptions)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    tracking: TrackingOptions = field(default_factory=TrackingOptions)
    output: OutputOptions = field(default_factory=OutputOptions)

    def __post_init__(self) -> None:
        self.encoder.check(self.adapter)
        if self.train_views < 0:
            raise UsageError(f"--train-views must be 0 or more, got {self.train_views}")


@dataclass(frozen=True)
class RelabelOptions:
    """Label stored regions: as `alt-ray label`, with other labels, another corpus or adapter, and no video is opened."""

    source: Annotated[Positional[str], arg(metavar="FEATURES")]
    """Feature store (a folder that `alt-ray encode` wrote)."""
    out: str
    """Folder of the results; a second run with the same one does only what is missing."""
    labels: str | None = None
    """Label names: a file, or a list with commas. With an adapter: those of its training, unless given."""
    template: str | None = None
    """Text around a label: photo, video, bare, or any text with one {}. Default: photo, or the adapter's."""
    adapter: str | None = None
    """Checkpoint folder of a trained adapter, or pocket; "none": frozen CLIP, zero-shot. Default: pocket for features of
    its encoder, else none."""
    corpus: str | None = None
    """Entity corpus (.jsonl, .csv, .txt); none: the one that comes with this package, or the adapter's."""
    entity_templates: UseAppendAction[tuple[str, ...]] = ()
    """Text around the names of entities of a category, such as "object=a photo of a {}"; may be given several times."""
    temperature: float | None = None
    """Alignment temperature; none: the adapter's."""
    pretrained: str | None = None
    """Where the encoder's weights are now, if they moved: its text tower embeds labels and entities."""
    top_labels: int = 5
    """Labels kept per video."""
    top_entities: int = 10
    """Entities kept per video."""
    config: str | None = None
    """YAML file with any of these options; flags win over it."""
    place: DeviceOptions = field(default_factory=DeviceOptions)
    inputs: InputOptions = field(default_factory=InputOptions)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    tracking: TrackingOptions = field(default_factory=TrackingOptions)
    output: OutputOptions = field(default_factory=OutputOptions)

    def __post_init__(self) -> None:
        for name in ("temperature", "top_labels", "top_entities"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"--{name.replace('_', '-')} must be above 0, got {value}")
        if self.adapter is not None and self.entity_templates:
            raise UsageError(
                "--entity-templates can't be chosen with an adapter: it keeps to the texts of its training"
            )
        if self.adapter == "none" and self.labels is None:
            raise UsageError("say what to look for: --labels FILE, or --labels 'walking,running', or an --adapter")
