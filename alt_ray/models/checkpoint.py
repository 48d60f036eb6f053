"""A trained adapter as a folder: `adapter.safetensors` and `config.json`. Knows nothing of training or of corpora.

The folder is self-contained: it holds the embeddings and names of the entities and labels that it was trained with,
so it labels without the corpus file and, from stored regions, without any encoder. Other labels are embedded by the
encoder when they are asked for. What must match from outside (weights, merging, corpus) is recorded and checked by
name. Nothing here unpickles.

Legend: K entities, C labels, D joint dimension.
"""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from alt_ray import bundled
from alt_ray.errors import CheckpointError, ModelError, SourceError
from alt_ray.models.adapter import VideoAdapter
from alt_ray.models.alt import AltModel
from alt_ray.models.configs import AdapterConfig, AlignmentConfig
from alt_ray.versions import check_format, stamp, text_stamp, unstamped

if TYPE_CHECKING:
    from alt_ray.models.encoder import RegionEncoder

FORMAT_VERSION = 1
WEIGHTS_FILE = "adapter.safetensors"
CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class EncoderRecord:
    """What must be known of an encoder to rebuild it, and to tell whether another one is the same."""

    name: str
    model_config: dict[str, Any]
    pretrained: str
    weights_digest: str
    merge_schedule: tuple[int, ...]
    region_features: str
    dim: int
    image_size: int
    preprocess: dict[str, Any]  # mean, std, interpolation, resize_mode of open_clip's preprocess_cfg
    logit_scale: float
    seed: int = 0  # of random weights (pretrained "none"); nothing else follows from it

    def __post_init__(self) -> None:
        object.__setattr__(self, "merge_schedule", tuple(self.merge_schedule))

    @classmethod
    def of(cls, encoder: "RegionEncoder") -> "EncoderRecord":
        preprocess = {
            "mean": list(encoder.mean),
            "std": list(encoder.std),
            "interpolation": encoder.interpolation,
            "resize_mode": encoder.resize_mode,
        }
        same = {name: getattr(encoder, name) for name in cls.__dataclass_fields__ if name != "preprocess"}
        return cls(**same, preprocess=preprocess)

    def plain(self) -> dict[str, Any]:
        """As JSON has it. A seed of 0 is left out: records from before there was one are the same as those of today."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if name != "seed" or value
        }


@dataclass(frozen=True)
class CheckpointConfig:
    """What config.json holds beside the format's own fields. `sampling` and `training` are the caller's own record."""

    encoder: EncoderRecord
    adapter: AdapterConfig
    alignment: AlignmentConfig
    labels: tuple[str, ...]
    template: str
    corpus_digest: str
    entity_names: tuple[str, ...]
    entity_categories: tuple[str, ...] = ()
    sampling: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("labels", "entity_names", "entity_categories"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.entity_categories and len(self.entity_categories) != len(self.entity_names):
            raise CheckpointError(
                f"{len(self.entity_categories)} entity categories: expected one per entity, {len(self.entity_names)}"
            )


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory."""

    config: CheckpointConfig
    adapter: VideoAdapter
    entities: Tensor  # [K, D]
    labels: Tensor  # [C, D]

    def __post_init__(self) -> None:
        dim = self.config.adapter.dim
        for what, names, embeddings in (
            ("entities", self.config.entity_names, self.entities),
            ("labels", self.config.labels, self.labels),
        ):
            if embeddings.shape != (len(names), dim):
                raise CheckpointError(
                    f"embeddings of {what} of shape {tuple(embeddings.shape)}: "
                    f"expected {(len(names), dim)}, by the number of names and the adapter's dim"
                )

    def model(self, encoder: "RegionEncoder | None" = None, **options: Any) -> AltModel:
        """The whole model, on the device of the adapter; without an encoder it takes stored regions only.

        `options` are those of AltModel that a checkpoint doesn't decide, such as frames_per_batch. Raise
        CheckpointError for an encoder other than the one that it was trained with.
        """
        if encoder is not None:
            check_encoder(self.config.encoder, EncoderRecord.of(encoder))
        model = AltModel(
            encoder,
            self.entities,
            self.labels,
            alignment=self.config.alignment,
            adapter=self.adapter,
            entity_names=self.config.entity_names,
            label_names=self.config.labels,
            logit_scale=self.config.encoder.logit_scale,
            **options,
        )
        return model.eval()


def save_checkpoint(folder: str | Path, checkpoint: Checkpoint) -> Path:
    """Publish the checkpoint under `folder` and return its path. A new folder appears whole or not at all.

    In a folder that exists the two files are replaced and others stay; config.json comes last and carries the digest
    of the weights, so that a half-replaced pair is refused rather than mixed.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"adapter.{name}": tensor for name, tensor in checkpoint.adapter.state_dict().items()}
    tensors |= {"entities": checkpoint.entities, "labels": checkpoint.labels}
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        weights, config = scratch / WEIGHTS_FILE, scratch / CONFIG_FILE
        # Not save_file: its files can be read by their owner alone, and checkpoints lie on shared disks.
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        weights.write_bytes(save(plain, text_stamp(FORMAT_VERSION)))
        written = {**stamp(FORMAT_VERSION), "tensors_digest": _digest(weights), **asdict(checkpoint.config)}
        written["encoder"] = checkpoint.config.encoder.plain()
        config.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for file in (weights, config):
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        if folder.is_dir():
            weights.replace(folder / WEIGHTS_FILE)
            config.replace(folder / CONFIG_FILE)
        else:
            scratch.chmod(0o755)  # mkdtemp makes a folder for its owner alone
            scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def load_checkpoint(
    folder: str | Path,
    *,
    encoder: EncoderRecord | None = None,
    corpus_digest: str | None = None,
    device: str | torch.device = "cpu",
) -> Checkpoint:
    """Read a checkpoint; where an encoder or a corpus digest is given, refuse one that it was not trained with.

    `folder` may be the name of one that ships here ("pocket"), or on an object store. `encoder` may be what a feature
    store recorded, or `EncoderRecord.of(...)` a live one. Raise CheckpointError for a folder that is missing,
    incomplete, damaged, newer than this version, or a mismatch.
    """
    folder = bundled.adapter_folder(folder) or _local(folder)
    config, tensors_digest = _read_config(folder)
    if encoder is not None:
        check_encoder(config.encoder, encoder)
    if corpus_digest is not None and corpus_digest != config.corpus_digest:
        raise CheckpointError(_mismatch("corpus digest", config.corpus_digest, corpus_digest))

    weights = folder / WEIGHTS_FILE
    try:
        if _digest(weights) != tensors_digest:
            raise CheckpointError(f"{weights} is damaged or of another {CONFIG_FILE}: expected {tensors_digest}")
        tensors = load_file(weights)
        state = {name.removeprefix("adapter."): tensors[name] for name in tensors if name.startswith("adapter.")}
        adapter = VideoAdapter(config.adapter)
        adapter.load_state_dict(state)
        entities, labels = tensors["entities"], tensors["labels"]
    except OSError as exc:
        raise CheckpointError(
            f"{weights} can't be read: expected a checkpoint folder with {WEIGHTS_FILE} ({exc})"
        ) from exc
    except (SafetensorError, RuntimeError, KeyError) as exc:
        raise CheckpointError(f"{weights} does not hold the adapter that {CONFIG_FILE} describes: {exc}") from exc
    return Checkpoint(config, adapter.eval().to(device), entities.to(device), labels.to(device))


def encoder_of(
    record: EncoderRecord, *, pretrained: str | None = None, device: str = "cpu", dtype: str = "float32"
) -> "RegionEncoder":
    """Build the encoder that a checkpoint was trained with; `pretrained` says where its weights are, if they moved.

    Raise CheckpointError if it can't be built; whether the weights are the right ones is check_encoder's affair.
    """
    from alt_ray.models.encoder import load_encoder

    source = None if (pretrained or record.pretrained) == "none" else pretrained or record.pretrained
    # Weights of a tag come with the model's name; weights of a file, or none, fit the config itself.
    if bundled.encoder_weights(source):
        by_name = bundled.encoder_config(record.name) is not None
    else:
        by_name = source is not None and "://" not in source and not Path(source).is_file()
    config = {"model_cfg": record.model_config, "preprocess_cfg": record.preprocess}
    try:
        encoder = load_encoder(
            record.name if by_name else config,
            source,
            merge_r=record.merge_schedule,
            region_features=record.region_features,
            device=device,
            dtype=dtype,
            seed=record.seed,
        )
    except ModelError as exc:
        raise CheckpointError(
            f"the encoder {record.name} can't be built; give `pretrained` if its weights moved: {exc}"
        ) from exc
    encoder.name = record.name  # by which texts that were embedded before are found (models.textcache)
    return encoder


def same_encoder_of(record: EncoderRecord, *, pretrained: str | None = None, device: str = "cpu") -> "RegionEncoder":
    """`encoder_of`, and check_encoder of the result: for texts that are held against regions which are stored already."""
    encoder = encoder_of(record, pretrained=pretrained, device=device)
    check_encoder(record, EncoderRecord.of(encoder))
    return encoder


def check_encoder(expected: EncoderRecord, given: EncoderRecord) -> None:
    """Raise CheckpointError where `given` is not the encoder `expected`. The names of models and files may differ."""
    for name in ("weights_digest", "merge_schedule", "region_features", "dim", "image_size", "preprocess"):
        wanted, got = getattr(expected, name), getattr(given, name)
        if wanted != got:
            raise CheckpointError(
                _mismatch(f"encoder {name}", wanted, got) + f" (encoder {expected.name}, {given.name})"
            )


def _local(folder: str | Path) -> Path:
    if "://" not in str(folder):
        return Path(folder)
    from alt_ray.remote.fetch import fetched

    try:
        return fetched(str(folder), (CONFIG_FILE, WEIGHTS_FILE))
    except SourceError as exc:
        raise CheckpointError(f"{exc}; expected a checkpoint folder with {CONFIG_FILE} and {WEIGHTS_FILE}") from exc


def _read_config(folder: Path) -> tuple[CheckpointConfig, str]:
    file = folder / CONFIG_FILE
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise CheckpointError(f"{file} can't be read: expected a checkpoint folder with {CONFIG_FILE} ({exc})") from exc
    except ValueError as exc:
        raise CheckpointError(f"{file} is not JSON: expected the one that save_checkpoint wrote ({exc})") from exc
    raw = raw if isinstance(raw, dict) else {}
    check_format(raw, FORMAT_VERSION, file, error=CheckpointError)
    raw = unstamped(raw)
    try:
        digest = raw.pop("tensors_digest")
        for name, kind in (("encoder", EncoderRecord), ("adapter", AdapterConfig), ("alignment", AlignmentConfig)):
            raw[name] = kind(**raw[name])
        return CheckpointConfig(**raw), digest
    except (KeyError, TypeError, ModelError) as exc:
        raise CheckpointError(f"{file} lacks or misspells a setting: {exc}") from exc


def _mismatch(what: str, expected: object, given: object) -> str:
    return f"{what} mismatch: the checkpoint was trained with {expected}, given is {given}"


def _digest(file: Path) -> str:
    with file.open("rb") as handle:
        return "sha256:" + hashlib.file_digest(handle, "sha256").hexdigest()
