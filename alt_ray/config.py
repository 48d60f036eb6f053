"""Options of the commands, as checked values; flags and YAML files are made from these. Knows nothing of torch or Ray.

Options mean the same in every command, so each is declared once, in a group that the commands share. The docstring under
a field is its help text.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from alt_ray import bundled
from alt_ray.errors import UsageError

Dtype = Literal["float32", "bfloat16", "float16"]
Device = Literal["auto", "cpu", "cuda"]
MergeSchedule = Literal["constant", "decreasing"]
RegionFeatures = Literal["final", "value"]


def _positive(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        if value is not None and value <= 0:
            raise UsageError(f"--{name.replace('_', '-')} must be above 0, got {value}")


@dataclass(frozen=True)
class DeviceOptions:
    """Where the model runs."""

    device: Device = "auto"
    """Where the model runs; auto takes a GPU if there is one."""


@dataclass(frozen=True)
class EncoderOptions(DeviceOptions):
    """Which frozen encoder, and how its tokens merge. With an adapter all of that is the adapter's."""

    encoder: str | None = None
    """open_clip model name (ViT-B-16), a JSON model config, or pocket, which ships with this package."""
    pretrained: str | None = None
    """open_clip tag (openai), a checkpoint file (.safetensors, or .pt), or "none" for random weights; pocket has its own.
    With an adapter or stored features: where the weights of their encoder are now, if they moved."""
    merge_r: int | None = None
    """Tokens merged in each block of the encoder; none: 0."""
    merge_ratio: float | None = None
    """Instead of --merge-r: the share of the patch tokens that is merged away by the last block, 0 to below 1."""
    merge_schedule: MergeSchedule | None = None
    """How the merging is spread over the blocks; none: constant."""
    region_features: RegionFeatures | None = None
    """What regions are aligned by: the final tokens, or the value path of the last block; none: final."""
    dtype: Dtype = "float32"
    """Number format of the image encoder."""
    frames_per_batch: int | None = None
    """Frames that the encoder takes at once; none: 32 on a CPU, on a GPU found by trying. Halved where memory ends."""
    compile: bool = False
    """Compile the encoder for its batch size (torch.compile): half a minute or more at the start of each actor."""

    def __post_init__(self) -> None:
        if self.merge_r is not None and self.merge_r < 0:
            raise UsageError(f"--merge-r must be 0 or more, got {self.merge_r}")
        _positive(self, "frames_per_batch")
        if self.merge_ratio is not None and not 0 <= self.merge_ratio < 1:
            raise UsageError(f"--merge-ratio must be at least 0 and below 1, got {self.merge_ratio}")
        if self.merge_r and self.merge_ratio:
            raise UsageError("--merge-r and --merge-ratio say the same thing in two ways: give one of them")

    def check(self, adapter: str | None) -> None:
        """Raise UsageError unless these options and the adapter together name one encoder with its weights."""
        if adapter is not None:
            self._refuse_merging(adapter)
            return
        if self.encoder is None:
            raise UsageError(
                "name an encoder, such as --encoder ViT-B-16 --pretrained openai, or a trained --adapter; the adapter "
                "that ships with this package is pocket, and the command line takes it if nothing is named"
            )
        if self.pretrained is None and bundled.own_weights(self.encoder) is None:
            raise UsageError(
                f"--encoder {self.encoder} has no weights: name them (--pretrained openai, or a file), "
                "or say --pretrained none to run it with random weights, whose labels mean nothing"
            )

    def _refuse_merging(self, adapter: str) -> None:
        names = ("merge_r", "merge_ratio", "merge_schedule", "region_features")
        given = [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) is not None]
        if given:
            name, encoder = adapter, "--encoder NAME --pretrained WEIGHTS"
            if bundled.adapter_folder(adapter):
                name, encoder = f"{adapter} (the default where no --encoder is named)", f"--encoder {adapter}"
            raise UsageError(
                f"{' and '.join(given)} can't be chosen with the adapter {name}: it was trained with its own merging and "
                f"regions, and keeps to them. For others name an encoder instead (such as {encoder}, zero-shot), or train "
                "another adapter"
            )


@dataclass(frozen=True)
class SamplingOptions:
    """Which frames of a video are looked at, and how long decoding it may take."""

    frames: int | None = None
    """Frames per view; none: 8, or as many as the adapter was trained with."""
    views: int = 1
    """Clips per video, spread over the whole of it; their scores are averaged."""
    crops: Literal[1, 3] = 1
    """Parts of the picture that each clip is taken from: the centre, or three along the longer side. The field's 4 x 3 views
    are --views 4 --crops 3."""
    decode_limit_s: float = 60.0
    """Seconds after which decoding one video is given up (it becomes a failure: timeout)."""

    def __post_init__(self) -> None:
        _positive(self, "frames", "views", "decode_limit_s")


@dataclass(frozen=True)
class ClusterOptions:
    """Where the job runs and what it may use."""

    address: str | None = None
    """Address of a Ray cluster (auto, ray://...); none: RAY_ADDRESS, or else a Ray of its own on this machine."""
    num_actors: int | None = None
    """Processes that run the encoder; none: as many as the cluster's GPUs, or CPUs, allow."""
    gpus_per_actor: float | None = None
    """GPUs (or a share of one) for each of them; 0 on CPUs; none: 1 with a GPU."""
    num_decoders: int | None = None
    """Processes that decode videos; none: as many as the CPUs allow."""
    wait_for_cpus: int | None = None
    """Begin when the cluster has so many CPUs; its autoscaler is asked for them. None: 1, as a head may have none."""
    wait_for_gpus: int | None = None
    """Begin when the cluster has so many GPUs; none: with those that are there."""
    max_cpus: int | None = None
    """CPUs that the cluster's autoscaler may bring it to: decoders, and encoders without GPUs, grow with it; none: those that
    are there at the start. For label, encode and relabel; with it, --num-actors and --num-decoders are those at the start."""
    max_gpus: int | None = None
    """GPUs that the cluster's autoscaler may bring it to: encoders grow with it, and without --max-cpus decoders as much; none:
    those that are there at the start."""
    batch_clips: int | None = None
    """Clips that the model takes at once; none: 4 on CPUs, 32 on GPUs, in relabel as many as are 16 or 128 MiB."""

    def __post_init__(self) -> None:
        _positive(self, "num_actors", "num_decoders", "batch_clips")
        _positive(self, "wait_for_cpus", "wait_for_gpus", "max_cpus", "max_gpus")
        if self.gpus_per_actor is not None and self.gpus_per_actor < 0:
            raise UsageError(f"--gpus-per-actor must be 0 or more, got {self.gpus_per_actor}")
        for kind in ("cpus", "gpus"):
            first, most = getattr(self, f"wait_for_{kind}"), getattr(self, f"max_{kind}")
            if first and most and first > most:
                raise UsageError(f"--wait-for-{kind} {first} waits for more than --max-{kind} {most} allows")

    @property
    def wanted(self) -> dict[str, int]:
        """What the cluster must have before a job is planned, by Ray's names."""
        return {"CPU": self.wait_for_cpus or 1, "GPU": self.wait_for_gpus or 0}


@dataclass(frozen=True)
class OutputOptions:
    """What is said on the way."""

    quiet: bool = False
    """Say nothing but errors."""
    json: bool = False
    """End standard output with one line of JSON: the summary."""


@dataclass(frozen=True)
class TrackingOptions:
    """Where the MLflow run of this command is kept."""

    tracking_uri: str | None = None
    """Where MLflow keeps runs; none: MLFLOW_TRACKING_URI, or sqlite:///mlflow.db here. The word none tracks nothing."""
    experiment: str | None = None
    """MLflow experiment; none: MLFLOW_EXPERIMENT_NAME, or alt_ray."""
    run_name: str | None = None
    """Name of the MLflow run; none: that of the command."""


@dataclass(frozen=True)
class InputOptions:
    """Which videos."""

    root: str | None = None
    """Folder that relative paths in a manifest start from; none: the manifest's own."""
    limit: int | None = None
    """Take the first N inputs only."""
    shard: str | None = None
    """K/N: take part K of N of the inputs, counted from 0, such as 0/16 to 15/16; with --limit, of those that it leaves. An
    input's part depends on its id alone. Each part needs an --out of its own (labels/shard-00)."""
    max_failed: float = 0.5
    """Share of the inputs that may fail before the whole command counts as failed (exit status 1)."""
    retry_failed: bool = False
    """Try again what failed in earlier runs into the same --out."""

    def __post_init__(self) -> None:
        _positive(self, "limit")
        self.part  # noqa: B018 - refuses what is none
        if not 0 <= self.max_failed <= 1:
            raise UsageError(f"--max-failed is a share from 0 to 1, got {self.max_failed}")

    @property
    def part(self) -> tuple[int, int] | None:
        """(K, N) of --shard. Raises UsageError."""
        if self.shard is None:
            return None
        k, _, n = self.shard.partition("/")
        if not (k.isdecimal() and n.isdecimal() and int(k) < int(n)):
            raise UsageError(
                f"--shard {self.shard}: expected K/N with K from 0 to N-1, such as 0/16 to 15/16 for 16 parts"
            )
        return int(k), int(n)

    @property
    def chosen(self) -> dict[str, Any]:
        """What `video.manifest.read_source` takes."""
        return {"root": self.root, "limit": self.limit, "shard": self.part}


@dataclass(frozen=True)
class LabelOptions:
    """Label videos: one row of labels, or of failure, for each.

    A second run into the same --out does only what is missing. The same options can stand in a YAML file (--config).
    """

    source: Annotated[Positional[str], arg(metavar="SOURCE")]
    """Folder, glob, one video, or manifest (.csv .tsv .jsonl .parquet .txt)."""
    out: str
    """Folder of the results; a second run with the same one does only what is missing."""
    labels: str | None = None
    """Label names: a file, or a list with commas. With an adapter: those of its training, unless given."""
    template: str | None = None
    """Text around a label: photo, video, bare, or any text with one {}. Default: photo, or the adapter's."""
    adapter: str | None = None
    """Checkpoint folder of a trained adapter, or pocket, which ships with this package; none: frozen CLIP, zero-shot."""
    corpus: str | None = None
    """Entity corpus (.jsonl, .csv, .txt); none: the one that comes with this package, or the adapter's."""
    entity_templates: UseAppendAction[tuple[str, ...]] = ()
    """Text around the names of entities of a category, such as "object=a photo of a {}"; may be given several times."""
    temperature: float | None = None
    """Alignment temperature; none: the adapter's."""
    top_labels: int = 5
    """Labels kept per video."""
    top_entities: int = 10
    """Entities kept per video."""
    seed: int = 0
    """Seed of random weights (--pretrained none)."""
    recipe: str | None = None
    """Settings by name: pocket or vit_b16_8f; --config and flags win over it. None: pocket, if no encoder or adapter is named."""
    config: str | None = None
    """YAML file with any of these options, such as `frames: 16`; flags win over it."""
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    inputs: InputOptions = field(default_factory=InputOptions)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    tracking: TrackingOptions = field(default_factory=TrackingOptions)
    output: OutputOptions = field(default_factory=OutputOptions)

    def __post_init__(self) -> None:
        _positive(self, "temperature", "top_labels", "top_entities")
        self.encoder.check(self.adapter)
        if self.adapter is not None and self.entity_templates:
            raise UsageError(
                "--entity-templates can't be chosen with an adapter: it keeps to the texts of its training"
            )
        if self.adapter is None and self.labels is None:
            raise UsageError("say what to look for: --labels FILE, or --labels 'walking,running,playing guitar'")


@dataclass(frozen=True)
class CostOptions:
    """What `alt-ray cost` counts. One multiply-add counts as one, as in the papers of the field."""

    encoder: str | None = None
    """open_clip model name, a JSON model config, or pocket; none: the recipe pocket, with its adapter, merging and frames."""
    merge_r: int | None = None
    """Tokens merged in each block of the encoder; none: 0, or as the recipe does."""
    merge_ratio: float | None = None
    """Instead of --merge-r: the share of the patch tokens that is merged away by the last block."""
    merge_schedule: MergeSchedule | None = None
    """How the merging is spread over the blocks; none: constant."""
    region_features: RegionFeatures | None = None
    """What regions are aligned by; none: final, or as the recipe does."""
    frames: int | None = None
    """Frames per view; none: 8, or as many as the recipe takes."""
    views: int = 1
    """Views per video."""
    entities: int = 0
    """Entities in the corpus, for the cost of the alignment; 0 leaves it out, as the paper's figures do."""
    adapter: bool = True
    """Count the adapter, or (--no-adapter) frozen CLIP alone."""
    json: bool = False
    """End standard output with one line of JSON."""


@dataclass(frozen=True)
class DoctorOptions:
    """Options of `alt-ray doctor`."""

    json: bool = False
    """Print everything as one line of JSON."""


@dataclass(frozen=True)
class DemoOptions:
    """Options of `alt-ray demo`."""

    out: str = "demo"
    """Folder for the videos, the results and the page (index.html)."""
    no_browser: bool = False
    """Don't open the page in a browser."""
    quiet: bool = False
    """Say nothing but errors."""
    json: bool = False
    """End standard output with one line of JSON: the summary."""
