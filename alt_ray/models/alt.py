"""The whole model: frames or stored regions in, label logits and entity shares out. Knows neither videos nor storage.

Two ways in, one result: `forward` encodes frames first, `from_regions` starts from what was stored of them. Names of
labels and entities are carried for output alone; the model itself sees embeddings.

Legend: B clips, T frames, N patches, R tokens of a frame (index 0 the class token), K entities, C labels, D joint
dimension, F = B * T frames of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alt_ray.errors import ModelError
from alt_ray.models.adapter import VideoAdapter
from alt_ray.models.alignment import entity_choice, entity_queries, entity_shares, top_entities
from alt_ray.models.configs import AlignmentConfig

if TYPE_CHECKING:
    from alt_ray.models.encoder import RegionEncoder


@dataclass(frozen=True)
class AltOutput:
    """What the model says of B clips. Entities are the n that most patches chose, with their share of the patches."""

    logits: Tensor  # [B, C], exp(logit_scale) * cos
    embedding: Tensor  # [B, D], L2-normalised
    entity_index: Tensor  # [B, n] int64, largest share first
    entity_weight: Tensor  # [B, n], in [0, 1]; the last ones are 0 where fewer than n entities were chosen


@dataclass(frozen=True)
class ClipLabels:
    """One clip's result in words: (label, probability) and (entity, share of the patches), both best first."""

    labels: tuple[tuple[str, float], ...]
    entities: tuple[tuple[str, float], ...]


class AltModel(nn.Module):
    """Frozen encoder, alignment and adapter; with adapter None, zero-shot CLIP that still names entities.

    encoder may be None where regions come from a store: logit_scale (its logarithm, as in CLIP) must be given then.
    entities and labels are text embeddings, L2-normalised; names, if given, are as many.
    frames_per_batch bounds what the encoder sees at once; None means the whole batch.
    """

    entities: Tensor  # [K, D]
    labels: Tensor  # [C, D]

    def __init__(
        self,
        encoder: "RegionEncoder | None",
        entities_KD: Tensor,
        labels_CD: Tensor,
        *,
        alignment: AlignmentConfig | None = None,
        adapter: VideoAdapter | None = None,
        entity_names: Sequence[str] = (),
        label_names: Sequence[str] = (),
        logit_scale: float | None = None,
        frames_per_batch: int | None = None,
        num_top_entities: int = 10,
    ) -> None:
        super().__init__()
        if logit_scale is None:
            if encoder is None:
                raise ModelError("a model without an encoder needs logit_scale, which an encoder would bring")
            logit_scale = float(encoder.logit_scale)
        if frames_per_batch is not None and frames_per_batch < 1:
            raise ModelError(f"frames_per_batch {frames_per_batch}: expected 1 or more, or None for all at once")
        # In a tuple, the encoder is no submodule: it is frozen, never saved, and keeps its own device and dtype.
        self._encoder = (encoder,)
        self.adapter = adapter
        self.alignment = alignment or AlignmentConfig()
        self.logit_scale = logit_scale
        self.frames_per_batch = frames_per_batch
        self.num_top_entities = num_top_entities
        self.register_buffer("entities", entities_KD.float(), persistent=False)
        self.entity_names = _names("entity", entity_names, entities_KD)
        self.register_buffer("labels", labels_CD.float(), persistent=False)
        self.label_names = _names("label", label_names, labels_CD)
        dims = {"entities": entities_KD.shape[1], "labels": labels_CD.shape[1]}
        dims |= {"encoder": encoder.dim} if encoder is not None else {}
        dims |= {"adapter": adapter.config.dim} if adapter is not None else {}
        if len(set(dims.values())) > 1:
            raise ModelError(f"embedding dimensions differ: {dims}; expected all to come from one encoder")

    @property
    def encoder(self) -> "RegionEncoder | None":
        return self._encoder[0]

    def set_labels(self, labels_CD: Tensor, names: Sequence[str] = ()) -> None:
        """Recognise other labels from now on: open-vocabulary, nothing else changes."""
        if labels_CD.shape[1] != self.labels.shape[1]:
            raise ModelError(f"label embeddings of {labels_CD.shape[1]} numbers: expected {self.labels.shape[1]}")
        self.label_names = _names("label", names, labels_CD)
        self.labels = labels_CD.to(self.labels)

    def forward(self, frames_BT3HW: Tensor, *, generator: torch.Generator | None = None) -> AltOutput:
        """Label clips of preprocessed frames [B, T, 3, H, W]. The encoder runs without gradient."""
        if self.encoder is None:
            raise ModelError("this model was built without an encoder: give it stored regions, or build it with one")
        B, T = frames_BT3HW.shape[:2]
        frames_F3HW = frames_BT3HW.flatten(0, 1)
        with torch.no_grad():
            parts = [self.encoder.encode_frames(part) for part in frames_F3HW.split(self.frames_per_batch or B * T)]
        fields = ("tokens", "sizes", "align_tokens", "region_of_patch", "pooled")
        whole = {name: torch.cat([getattr(part, name) for part in parts]).unflatten(0, (B, T)) for name in fields}
        return self.from_regions(**whole, generator=generator)

    def from_regions(
        self,
        tokens: Tensor,
        sizes: Tensor,
        *,
        align_tokens: Tensor | None = None,
        region_of_patch: Tensor | None = None,
        pooled: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> AltOutput:
        """Label clips from their regions, in any float type: tokens [B, T, R, D], sizes [B, T, R].

        align_tokens [B, T, R, D]: what regions are aligned by; None means the tokens. region_of_patch [B, T, N]: needed
        by an adapter with conv_over="overlap". pooled [B, T, D]: the frames' image embeddings, used without an adapter
        and by one with residual or mix; None means the class token, right for an encoder that pools by it. Noise in
        training comes from `generator`.
        """
        device = self.entities.device
        dtype = torch.float32 if self.adapter is None else next(self.adapter.parameters()).dtype
        tokens, sizes = tokens.to(device, dtype), sizes.to(device, torch.float32)
        align_tokens = tokens if align_tokens is None else align_tokens.to(device)
        if self.adapter is None:  # entities are named; nothing asks by them
            choice_BTR = entity_choice(align_tokens, self.entities, self.alignment)
            embedding_BD = F.normalize(self._frame_embeddings(tokens, pooled).mean(1), dim=-1)
        else:
            queries_BTD, choice_BTR = entity_queries(
                align_tokens,
                self.entities,
                self.alignment,
                sizes_BTR=sizes,
                training=self.training,
                generator=generator,
            )
            frames = self._frame_embeddings(tokens, pooled) if self.adapter.config.needs_frames else None
            patches = None if region_of_patch is None else region_of_patch.to(device, torch.int64)
            embedding_BD = self.adapter(queries_BTD.to(dtype), tokens, sizes, patches, frames).float()
        logits_BC = torch.tensor(self.logit_scale).exp().to(device) * embedding_BD @ self.labels.T
        shares_BK = entity_shares(choice_BTR, sizes, len(self.entities))
        return AltOutput(logits_BC, embedding_BD, *top_entities(shares_BK, self.num_top_entities))

    @torch.no_grad()
    def label(self, frames: Tensor, top: int = 5) -> list[ClipLabels]:
        """Label clips in words (in indices where names lack), at the encoder's image size.

        frames: [B, T, 3, H, W] or one clip [T, 3, H, W], preprocessed; or uint8 RGB, colours last if you like.
        """
        clips = frames if frames.dim() == 5 else frames[None]
        if clips.dtype == torch.uint8 and self.encoder is not None:
            clips = self.encoder.normalise(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
        output = self(clips)
        scores, indices = output.logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
        return [
            ClipLabels(
                labels=_named(self.label_names, indices[clip, :top], scores[clip, :top]),
                entities=_named(self.entity_names, output.entity_index[clip], output.entity_weight[clip]),
            )
            for clip in range(len(scores))
        ]

    def _frame_embeddings(self, tokens_BTRD: Tensor, pooled_BTD: Tensor | None) -> Tensor:
        if pooled_BTD is None:
            vision = self.encoder.model_config["vision_cfg"] if self.encoder is not None else {}
            if vision.get("pool_type", "tok") != "tok":
                raise ModelError(
                    f"this encoder pools by {vision['pool_type']!r}: expected the frames' `pooled` beside their regions"
                )
            pooled_BTD = tokens_BTRD[:, :, 0]
        return F.normalize(pooled_BTD.to(tokens_BTRD), dim=-1)


def _names(what: str, names: Sequence[str], embeddings: Tensor) -> tuple[str, ...]:
    if embeddings.dim() != 2 or len(embeddings) == 0:
        raise ModelError(f"{what} embeddings of shape {tuple(embeddings.shape)}: expected [count, dim], at least one")
    if names and len(names) != len(embeddings):
        raise ModelError(f"{len(names)} {what} names for {len(embeddings)} {what} embeddings: expected as many")
    return tuple(names)


def _named(names: tuple[str, ...], indices: Tensor, values: Tensor) -> tuple[tuple[str, float], ...]:
    pairs = zip(indices.tolist(), values.tolist(), strict=True)
    return tuple((names[index] if names else str(index), value) for index, value in pairs if value > 0)
