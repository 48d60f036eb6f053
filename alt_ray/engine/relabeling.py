"""The model as a worker of `relabel` holds it: regions of a store in, rows of labels out. Knows nothing of Ray or of videos.

The encoder is needed only for texts that nobody has embedded yet: other labels or another corpus than the adapter's.

B clips, V views, T frames, R tokens of a frame, D joint dimension, K entities, C labels.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from alt_ray.engine.model import (
    DEFAULT_TEMPLATE,
    ENTITIES_PER_VIEW,
    Texts,
    identity_of,
    label_columns,
)
from alt_ray.engine.request import ModelRequest, PreparedModel
from alt_ray.engine.stages import MODEL_COLUMNS
from alt_ray.errors import FeatureError
from alt_ray.features.layout import PROBE_COLUMNS, StoreRecord
from alt_ray.features.store import read_part, tensor_values
from alt_ray.models.alt import AltModel
from alt_ray.models.checkpoint import Checkpoint, EncoderRecord, check_encoder, load_checkpoint, same_encoder_of
from alt_ray.models.encoder import RegionEncoder
from alt_ray.models.text import label_embeddings
from alt_ray.models.textcache import cached_text
from alt_ray.schema import label_schema, result_schema
from alt_ray.video.sampling import Interpolation, ResizeMode

CLIPS_AT_ONCE = 16


def prepare_relabel(request: ModelRequest, store: StoreRecord) -> PreparedModel:
    """Embed what must be embedded. Raises CheckpointError where the adapter doesn't fit the store, and UsageError."""
    record = EncoderRecord(**store.encoder)
    checkpoint = _checkpoint(request, record)

    @cache
    def encoder() -> RegionEncoder:
        return same_encoder_of(record, pretrained=request.encoder.pretrained, device=request.device)

    if checkpoint is not None:
        config = checkpoint.config
        labels, template = request.labels or config.labels, request.template or config.template
        names, corpus_digest = config.entity_names, config.corpus_digest
        categories = config.entity_categories or ("",) * len(names)
        entities_KD, temperature = checkpoint.entities, request.temperature or config.alignment.temperature
        is_known = (labels, template) == (config.labels, config.template)
        labels_CD = checkpoint.labels if is_known else label_embeddings(encoder(), labels, template)
    else:
        assert request.labels is not None and request.corpus is not None
        labels, template, temperature = request.labels, request.template or DEFAULT_TEMPLATE, None
        names = tuple(entity.name for entity in request.corpus.entities)
        categories = tuple(entity.category for entity in request.corpus.entities)
        corpus_digest = request.corpus.digest
        entities_KD = cached_text(encoder(), request.corpus.texts())
        labels_CD = label_embeddings(encoder(), labels, template)
    texts = Texts(labels, template, names, categories, corpus_digest, temperature, store.num_frames)
    return PreparedModel(
        labels=labels,
        entity_names=names,
        entity_categories=categories,
        labels_CD=labels_CD.float().cpu().numpy(),
        entities_KD=entities_KD.float().cpu().numpy(),
        dim=store.dim,
        num_frames=store.num_frames,
        image_size=record.image_size,
        resize_mode=cast(ResizeMode, record.preprocess["resize_mode"]),
        interpolation=cast(Interpolation, record.preprocess["interpolation"]),
        identity=identity_of(record, store.dtype, checkpoint, texts, request),
        trained_by=checkpoint.config.training.get("tracking") if checkpoint is not None else None,
    )


class RelabelParts:
    """Label the clips of parts of a store: a batch of (part, video_ids) in, tables of schema.result_schema out."""

    def __init__(self, request: ModelRequest, prepared: PreparedModel, store: StoreRecord) -> None:
        torch.set_num_threads(max(request.num_threads, 1))
        self.request, self.prepared, self.store = request, prepared, store
        record = EncoderRecord(**store.encoder)
        checkpoint = _checkpoint(request, record)
        entities_KD, labels_CD = torch.tensor(prepared.entities_KD), torch.tensor(prepared.labels_CD)
        num_top = max(request.top_entities, ENTITIES_PER_VIEW)
        if checkpoint is None:
            self.model = AltModel(
                None, entities_KD, labels_CD, logit_scale=record.logit_scale, num_top_entities=num_top
            )
            self.model = self.model.eval().to(request.device)
        else:
            self.model = checkpoint.model(None, num_top_entities=num_top)
            if request.temperature is not None:
                self.model.alignment = replace(self.model.alignment, temperature=request.temperature)
            self.model.set_labels(labels_CD)
        self.schema = result_schema(label_schema(prepared.dim))

    def __call__(self, batch: dict[str, Any]) -> Iterator[pa.Table]:
        for part, ids in zip(batch["part"], batch["video_ids"], strict=True):
            table = read_part(str(part))
            wanted = pc.is_in(table["video_id"], value_set=pa.array(list(ids), pa.string()))
            table = table.filter(pc.and_(wanted, pc.invert(table["augmented"])))
            step = CLIPS_AT_ONCE * int(self.store.sampling["views"])
            for start in range(0, table.num_rows, step):
                yield self._label(table.slice(start, step))

    @torch.inference_mode()
    def _label(self, rows: pa.Table) -> pa.Table:
        V = int(self.store.sampling["views"])
        B = rows.num_rows // V
        kinds = self.store.tensors
        found = {name: torch.from_numpy(_wide(tensor_values(rows[name], *kinds[name]))) for name in kinds}
        output = self.model.from_regions(
            found["regions"],
            found["sizes"],
            align_tokens=found.get("align"),
            region_of_patch=found["region_of_patch"],
            pooled=found["pooled"],
        )
        labelled = label_columns(output, B, V, self.request, self.prepared)
        first = rows.filter(pc.equal(rows["view"], 0))
        if first.num_rows != B:
            raise FeatureError("a part of the store lacks views of some clips; encode it again")
        columns: dict[str, Any] = {
            name: first[name].to_pylist() for name in ("video_id", "uri", "start_s", "end_s", *PROBE_COLUMNS)
        }
        columns |= {name: list(labelled[name]) for name in MODEL_COLUMNS}
        columns |= {name: [None] * B for name in ("error", "stage", "message")} | {"attempts": [1] * B}
        for i in np.flatnonzero(~labelled["is_finite"]).tolist():
            columns |= {name: _with(columns[name], i, None) for name in MODEL_COLUMNS}
            columns["error"][i], columns["stage"][i] = "not_finite", "encode"
            columns["message"][i] = f"{columns['uri'][i]}: the model's answer is not finite"
        return pa.table(
            {name: pa.array(columns[name], self.schema.field(name).type) for name in self.schema.names}, self.schema
        )


def _checkpoint(request: ModelRequest, record: EncoderRecord) -> Checkpoint | None:
    if request.adapter is None:
        return None
    digest = request.corpus.digest if request.corpus else None
    checkpoint = load_checkpoint(request.adapter, corpus_digest=digest, device=request.device)
    check_encoder(checkpoint.config.encoder, record)
    return checkpoint


def _wide(values: np.ndarray) -> np.ndarray:
    """As torch takes it: it knows no uint16 arithmetic."""
    return values.astype(np.int32) if values.dtype == np.uint16 else values


def _with(values: list[Any], i: int, value: Any) -> list[Any]:
    return [*values[:i], value, *values[i + 1 :]]
