"""The text embeddings that trainings and tests need, computed once and handed to every worker. Knows nothing of clips.

K entities, C labels, D joint dimension.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from alt_ray.corpus.entities import Corpus
from alt_ray.features.layout import StoreRecord
from alt_ray.models.checkpoint import EncoderRecord, same_encoder_of
from alt_ray.models.text import label_embeddings
from alt_ray.models.textcache import cached_text


@dataclass(frozen=True)
class Texts:
    """Embeddings by the encoder of a store, float32, L2-normalised."""

    labels: tuple[str, ...]
    labels_CD: np.ndarray
    template: str
    entity_names: tuple[str, ...]
    entity_categories: tuple[str, ...]
    entities_KD: np.ndarray
    corpus_digest: str

    def of(self, labels: Sequence[str]) -> Tensor:
        """The embeddings [len(labels), D] of some labels, in their order."""
        place = {label: c for c, label in enumerate(self.labels)}
        return torch.from_numpy(self.labels_CD[[place[label] for label in labels]])


def embed_texts(
    record: StoreRecord, labels: Iterable[str], template: str, corpus: Corpus, *, pretrained: str | None = None
) -> Texts:
    """Embed labels and entities. Raises CheckpointError if the encoder of the store can't be built, or has other weights
    (`pretrained` says where they are now)."""
    encoder = same_encoder_of(EncoderRecord(**record.encoder), pretrained=pretrained)
    names = tuple(dict.fromkeys(labels))
    return Texts(
        labels=names,
        labels_CD=label_embeddings(encoder, names, template).numpy(),
        template=template,
        entity_names=tuple(entity.name for entity in corpus.entities),
        entity_categories=tuple(entity.category for entity in corpus.entities),
        entities_KD=cached_text(encoder, corpus.texts()).numpy(),
        corpus_digest=corpus.digest,
    )
