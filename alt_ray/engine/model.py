"""The model as a worker holds it: prepared once per job, fed with frames, answering in rows. Knows nothing of Ray or files.

What a text tower has to do (labels, entities) is done once per job and handed to every worker, since it takes longer than
everything else that a worker does before its first clip.

B clips, V views, T frames, H x W pixels, C labels, K entities, D embedding dim, n entries kept.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from alt_ray.config import EncoderOptions
from alt_ray.engine.feeders import feeder_for, frames_for, keep_to_share
from alt_ray.engine.request import ModelRequest, PreparedModel
from alt_ray.errors import CheckpointError, UsageError
from alt_ray.models.alt import AltModel, AltOutput
from alt_ray.models.checkpoint import Checkpoint, EncoderRecord, encoder_of, load_checkpoint
from alt_ray.models.feeding import FrameFeeder
from alt_ray.models.text import label_embeddings
from alt_ray.models.textcache import cached_text
from alt_ray.video.sampling import DEFAULT_FRAMES, Interpolation, ResizeMode

if TYPE_CHECKING:
    from alt_ray.models.encoder import RegionEncoder

DEFAULT_TEMPLATE = "photo"

FRAME_BATCHES = (
    4  # of the encoder, whose regions are held and aligned at once: what bounds the memory of many frames and views
)
# Entities of a view that are carried into the average over views; the shares beyond are too small to matter.
ENTITIES_PER_VIEW = 64


def prepare_model(request: ModelRequest) -> PreparedModel:
    """Load the model once, embed labels and entities, and take the digests. Raises ModelError, CheckpointError, UsageError."""
    torch.set_num_threads(max(request.num_threads, 1))
    keep_to_share(request)
    checkpoint = _checkpoint(request)
    encoder = _encoder(request, checkpoint)
    if checkpoint is None:
        if request.labels is None or request.corpus is None:
            raise UsageError("without an adapter, labels and a corpus are needed")
        labels, template = request.labels, request.template or DEFAULT_TEMPLATE
        names = tuple(entity.name for entity in request.corpus.entities)
        categories = tuple(entity.category for entity in request.corpus.entities)
        entities_KD, corpus_digest = cached_text(encoder, request.corpus.texts()), request.corpus.digest
        temperature, num_frames = None, request.num_frames or DEFAULT_FRAMES
    else:
        config = checkpoint.config
        labels, template = request.labels or config.labels, request.template or config.template
        names = config.entity_names
        categories = config.entity_categories or ("",) * len(names)
        entities_KD, corpus_digest = checkpoint.entities, config.corpus_digest
        temperature = request.temperature or config.alignment.temperature
        num_frames = request.num_frames or int(config.sampling.get("frames", DEFAULT_FRAMES))
    record = EncoderRecord.of(encoder)
    texts = Texts(labels, template, names, categories, corpus_digest, temperature, num_frames)
    return PreparedModel(
        labels=labels,
        entity_names=names,
        entity_categories=categories,
        labels_CD=label_embeddings(encoder, labels, template).float().cpu().numpy(),
        entities_KD=entities_KD.float().cpu().numpy(),
        dim=encoder.dim,
        num_frames=num_frames,
        image_size=encoder.image_size,
        resize_mode=cast(ResizeMode, encoder.resize_mode),
        interpolation=cast(Interpolation, encoder.interpolation),
        identity=identity_of(record, request.encoder.dtype, checkpoint, texts, request),
        trained_by=checkpoint.config.training.get("tracking") if checkpoint is not None else None,
        frames_per_batch=frames_for(request, encoder),
    )


@dataclass(frozen=True)
class Texts:
    """What a model is asked, resolved: what was asked for, or the adapter's, or the default."""

    labels: tuple[str, ...]
    template: str
    entity_names: tuple[str, ...]
    entity_categories: tuple[str, ...]
    corpus_digest: str
    temperature: float | None
    num_frames: int


def identity_of(
    record: EncoderRecord, dtype: str, checkpoint: Checkpoint | None, texts: Texts, request: ModelRequest
) -> dict[str, Any]:
    """Return what results depend on, as JSON, the same for labels made from videos and from stored regions."""
    return {
        "encoder": record.name,
        "pretrained": record.pretrained,
        "weights_digest": record.weights_digest,
        "merge_schedule": list(record.merge_schedule),
        "region_features": record.region_features,
        "dtype": dtype,
        "adapter_digest": adapter_digest(checkpoint),
        "temperature": texts.temperature,
        "labels": list(texts.labels),
        "template": texts.template,
        "corpus_digest": texts.corpus_digest,
        "top_labels": request.top_labels,
        "top_entities": request.top_entities,
        "frames": texts.num_frames,
    }


def build_model(request: ModelRequest, prepared: PreparedModel) -> tuple[AltModel, FrameFeeder]:
    """Build the model on the worker's device, with the labels and entities of `prepared`, and what feeds its encoder."""
    torch.set_num_threads(max(request.num_threads, 1))  # Ray goes by the CPUs of the actor, only shares here
    keep_to_share(request)
    checkpoint = _checkpoint(request)
    encoder = _encoder(request, checkpoint)
    feeder = feeder_for(request, encoder, prepared.frames_per_batch)
    labels_CD, entities_KD = torch.tensor(prepared.labels_CD), torch.tensor(prepared.entities_KD)
    num_top = max(request.top_entities, ENTITIES_PER_VIEW)
    if checkpoint is None:
        model = AltModel(encoder, entities_KD, labels_CD, num_top_entities=num_top)
        return model.eval().to(request.device), feeder
    model = checkpoint.model(encoder, num_top_entities=num_top)
    if request.temperature is not None:
        model.alignment = replace(model.alignment, temperature=request.temperature)
    model.set_labels(labels_CD)
    return model, feeder


@torch.inference_mode()
def label_clips(
    model: AltModel, feeder: FrameFeeder, frames_BVTHW3: np.ndarray, request: ModelRequest, prepared: PreparedModel
) -> dict[str, Any]:
    """Return the columns label, score, top_labels, entities, embedding, model_digest for B clips, and is_finite [B] (bool).

    Views are averaged: the probabilities of the labels, the shares of the entities, the embeddings (normalised again).
    """
    B, V, T = frames_BVTHW3.shape[:3]
    columns: dict[str, Any] = {}
    done = 0
    while done < B:
        some = frames_BVTHW3[done : done + max(1, FRAME_BATCHES * feeder.frames_per_batch // (V * T))]
        found = feeder.attempt(lambda some=some: _label_some(model, feeder, some, request, prepared))  # type: ignore[misc]
        if found is not None:
            columns = {name: [*columns.get(name, []), *found[name]] for name in found}
            done += len(some)
    return columns


def _label_some(
    model: AltModel, feeder: FrameFeeder, frames_BVTHW3: np.ndarray, request: ModelRequest, prepared: PreparedModel
) -> dict[str, Any]:
    B, V, T = frames_BVTHW3.shape[:3]
    regions = feeder.whole(frames_BVTHW3.reshape(-1, *frames_BVTHW3.shape[3:]))
    output = model.from_regions(**{name: value.unflatten(0, (B * V, T)) for name, value in vars(regions).items()})
    return label_columns(output, B, V, request, prepared)


def label_columns(output: AltOutput, B: int, V: int, request: ModelRequest, prepared: PreparedModel) -> dict[str, Any]:
    """Return the columns of `label_clips` for B clips of V views each, from what the model said of B * V views."""
    scores_BC = output.logits.float().softmax(-1).unflatten(0, (B, V)).mean(1)
    embedding_BD = torch.nn.functional.normalize(output.embedding.float().unflatten(0, (B, V)).mean(1), dim=-1)
    shares_BK = torch.zeros(B, len(prepared.entity_names), device=scores_BC.device)
    shares_BK.scatter_add_(1, output.entity_index.reshape(B, -1), output.entity_weight.reshape(B, -1).float() / V)
    score_Bn, label_Bn = scores_BC.topk(min(request.top_labels, scores_BC.shape[1]))
    weight_Bn, entity_Bn = shares_BK.topk(min(request.top_entities, shares_BK.shape[1]))
    is_finite_B = torch.isfinite(scores_BC).all(-1) & torch.isfinite(embedding_BD).all(-1)
    top_labels = [
        [{"label": prepared.labels[i], "score": score} for i, score in zip(indices, scores, strict=True)]
        for indices, scores in zip(label_Bn.tolist(), score_Bn.tolist(), strict=True)
    ]
    entities = [
        [
            {"name": prepared.entity_names[i], "category": prepared.entity_categories[i], "weight": weight}
            for i, weight in zip(indices, weights, strict=True)
            if weight > 0
        ]
        for indices, weights in zip(entity_Bn.tolist(), weight_Bn.tolist(), strict=True)
    ]
    return {
        "label": [labels[0]["label"] for labels in top_labels],
        "score": [labels[0]["score"] for labels in top_labels],
        "top_labels": top_labels,
        "entities": entities,
        "embedding": list(embedding_BD.cpu().numpy()),
        "model_digest": [prepared.model_digest] * B,
        "is_finite": is_finite_B.cpu().numpy(),
    }


def _checkpoint(request: ModelRequest) -> Checkpoint | None:
    if request.adapter is None:
        return None
    corpus_digest = request.corpus.digest if request.corpus else None
    return load_checkpoint(request.adapter, corpus_digest=corpus_digest, device=request.device)


def _encoder(request: ModelRequest, checkpoint: Checkpoint | None) -> "RegionEncoder":
    return encoder_for(request.encoder, checkpoint, request.adapter, request.device, request.seed)


def encoder_for(
    options: EncoderOptions, checkpoint: Checkpoint | None, adapter: str | None, device: str, seed: int
) -> "RegionEncoder":
    """Load the encoder that the options name, or that of the checkpoint `adapter`. Raises ModelError, CheckpointError."""
    if checkpoint is not None:
        record = checkpoint.config.encoder
        if options.encoder not in (None, record.name):
            raise CheckpointError(f"--adapter {adapter} was trained with {record.name}, not {options.encoder}")
        return encoder_of(record, pretrained=options.pretrained, device=device, dtype=options.dtype)
    assert options.encoder is not None
    from alt_ray.models.encoder import load_encoder  # open_clip: seconds that workers of relabel can do without

    return load_encoder(
        options.encoder,
        options.pretrained,
        merge_ratio=options.merge_ratio or 0.0,
        merge_r=options.merge_r or 0,
        schedule=options.merge_schedule or "constant",
        region_features=options.region_features or "final",
        device=device,
        dtype=options.dtype,
        seed=seed,
    )


def adapter_digest(checkpoint: Checkpoint | None) -> str | None:
    """Tells adapters apart by settings and weights."""
    if checkpoint is None:
        return None
    digest = hashlib.sha256(json.dumps(asdict(checkpoint.config.adapter), sort_keys=True).encode())
    for name, tensor in sorted(checkpoint.adapter.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return "sha256:" + digest.hexdigest()
