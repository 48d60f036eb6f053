"""What can be trained: ALT, and the baselines that have the same data and the same budget. Knows nothing of stores or workers.

B clips, T frames, C labels, K entities, D joint dimension.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alt_ray.config_train import ModelOptions
from alt_ray.features.layout import StoreRecord
from alt_ray.models.adapter import VideoAdapter
from alt_ray.models.alt import AltModel
from alt_ray.models.checkpoint import Checkpoint, CheckpointConfig, EncoderRecord
from alt_ray.models.configs import AdapterConfig, AlignmentConfig
from alt_ray.models.training import RegionBatch, RegionClassifier
from alt_ray.training.texts import Texts


class LinearProbe(nn.Module):
    """A linear layer on the mean of the frames' image embeddings: the field's plainest baseline. No text is used.

    Features are brought to mean 0 and deviation 1 first (as in MAE, arXiv 2111.06377): clips of one
    data set may lie within a cosine of 0.96 of each other.
    """

    def __init__(self, dim: int, num_labels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim, affine=False, eps=1e-6, momentum=None)  # the mean over all steps so far
        self.linear = nn.Linear(dim, num_labels)

    def forward(self, batch: RegionBatch) -> Tensor:
        """Logits [B, C]."""
        assert batch.pooled is not None
        pooled_BTD = F.normalize(batch.pooled.to(self.linear.weight), dim=-1)
        embedding_BD = F.normalize(pooled_BTD.mean(1), dim=-1)
        if self.training and len(embedding_BD) == 1:  # one clip has no deviation
            return self.linear(F.batch_norm(embedding_BD, self.norm.running_mean, self.norm.running_var, eps=1e-6))
        return self.linear(self.norm(embedding_BD))


def adapter_config(options: ModelOptions, model_config: Mapping[str, Any]) -> AdapterConfig | None:
    """The adapter of a method for an encoder given as open_clip config; None for methods without one. Raises ModelError."""
    if options.method in ("frozen", "linear-probe"):
        return None
    changes: dict[str, Any] = {
        "queries": "learned" if options.method == "learned-queries" else "entity",
        "num_blocks": options.blocks,
        "conv": options.conv,
        "conv_over": options.conv_over,
        "dropout": options.dropout,
        "residual": options.residual,
        "mix": options.mix,
    }
    if options.width is not None:
        changes["width"] = options.width
    return AdapterConfig.for_model(model_config, **changes)


def build_classifier(
    options: ModelOptions, record: StoreRecord, texts: Texts, labels: Sequence[str], seed: int
) -> nn.Module:
    """Return what takes a RegionBatch and gives logits [B, C] for `labels`; its weights follow `seed`. Raises ModelError."""
    torch.manual_seed(seed)
    logit_scale = float(record.encoder["logit_scale"])
    if options.method == "linear-probe":
        return LinearProbe(record.dim, len(labels))
    config = adapter_config(options, record.encoder["model_config"])
    adapter = VideoAdapter(config) if config is not None else None
    model = AltModel(
        None,
        torch.from_numpy(texts.entities_KD),
        texts.of(labels),
        alignment=AlignmentConfig(temperature=options.temperature, pooling=options.pooling),
        adapter=adapter,
        entity_names=texts.entity_names,
        label_names=labels,
        logit_scale=logit_scale,
    )
    return RegionClassifier(model)


def can_answer(classifier: nn.Module, trained: Sequence[str], asked: Sequence[str]) -> bool:
    """Whether a classifier trained on some labels can be asked about others: a linear probe can't."""
    return isinstance(classifier, RegionClassifier) or tuple(trained) == tuple(asked)


def ask(classifier: nn.Module, texts: Texts, labels: Sequence[str]) -> None:
    """Let it answer among `labels` from now on."""
    if isinstance(classifier, RegionClassifier):
        classifier.model.set_labels(texts.of(labels), labels)


def checkpoint_of(
    classifier: nn.Module, record: StoreRecord, texts: Texts, training: dict[str, object]
) -> Checkpoint | None:
    """Return what `alt-ray label --adapter` takes, for the labels that it answers now; None for a baseline without an adapter."""
    if not isinstance(classifier, RegionClassifier) or classifier.model.adapter is None:
        return None
    model = classifier.model
    adapter = model.adapter
    assert adapter is not None
    config = CheckpointConfig(
        encoder=EncoderRecord(**record.encoder),
        adapter=adapter.config,
        alignment=model.alignment,
        labels=model.label_names,
        template=texts.template,
        corpus_digest=texts.corpus_digest,
        entity_names=texts.entity_names,
        entity_categories=texts.entity_categories,
        sampling={"frames": record.num_frames},
        training=training,
    )
    return Checkpoint(config, adapter, model.entities, model.labels)
