"""What the driver and its workers tell each other about the model, as plain values. Knows nothing of torch: the driver is light.

C labels, K entities, D embedding dim.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from alt_ray.config import EncoderOptions
from alt_ray.corpus.entities import Corpus
from alt_ray.video.sampling import Interpolation, ResizeMode


@dataclass(frozen=True)
class ModelRequest:
    """What the user asked of the model. None means: the adapter's, or else the default."""

    encoder: EncoderOptions
    device: str
    labels: tuple[str, ...] | None = None
    template: str | None = None
    corpus: Corpus | None = None
    adapter: str | None = None
    temperature: float | None = None
    num_frames: int | None = None
    top_labels: int = 5
    top_entities: int = 10
    num_threads: int = 1
    seed: int = 0
    gpu_share: float = 0.0  # GPUs of each worker


@dataclass(frozen=True)
class PreparedModel:
    """What a job needs to know of its model, complete: names, text embeddings, shapes, digests. Arrays are float32."""

    labels: tuple[str, ...]
    entity_names: tuple[str, ...]
    entity_categories: tuple[str, ...]
    labels_CD: np.ndarray
    entities_KD: np.ndarray
    dim: int
    num_frames: int
    image_size: int
    resize_mode: ResizeMode
    interpolation: Interpolation
    identity: dict[str, Any]  # what results depend on, as JSON: two runs with the same one may share a folder
    trained_by: dict[str, Any] | None = None  # the tracked run that the adapter came from, if it says so
    frames_per_batch: int | None = None  # that the encoder takes at once; None: its default

    @property
    def model_digest(self) -> str:
        """Tells results of different models, labels or corpora apart."""
        return "sha256:" + hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class EncodeRequest:
    """What the user asked of the encoder alone. With an adapter: the encoder, merging and frames that it was trained with."""

    encoder: EncoderOptions
    device: str
    adapter: str | None = None
    num_frames: int | None = None
    num_threads: int = 1
    seed: int = 0
    gpu_share: float = 0.0  # GPUs of each worker


@dataclass(frozen=True)
class PreparedEncoder:
    """What a job needs to know of its encoder. `record` is models.checkpoint.EncoderRecord as a dictionary."""

    record: dict[str, Any]
    num_patches: int
    num_frames: int
    frames_per_batch: int | None = None  # that the encoder takes at once; None: its default

    @property
    def num_regions(self) -> int:
        """R, with the class token: every block merges as many tokens as its schedule says."""
        return 1 + self.num_patches - sum(self.record["merge_schedule"])
