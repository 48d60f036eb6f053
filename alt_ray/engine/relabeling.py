"""The model as a worker of `relabel` holds it: regions of a store in, rows of labels out. Knows nothing of Ray or of videos.

The encoder is needed only for texts that nobody has embedded yet: other labels or another corpus than the adapter's.

B clips, V views, T frames, R tokens of a frame, D joint dimension, K entities, C labels.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
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
from alt_ray.features.layout import PROBE_COLUMNS, StoreRecord
from alt_ray.features.ranges import RowRange, read_ranges
from alt_ray.features.store import tensor_values
from alt_ray.models.alt import AltModel
from alt_ray.models.checkpoint import Checkpoint, EncoderRecord, check_encoder, load_checkpoint, same_encoder_of
from alt_ray.models.configs import AdapterConfig
from alt_ray.models.text import label_embeddings
from alt_ray.models.textcache import cached_text
from alt_ray.schema import label_schema, result_schema
from alt_ray.video.sampling import Interpolation, ResizeMode

if TYPE_CHECKING:
    from alt_ray.models.encoder import RegionEncoder

CLIP_COLUMNS = ("video_id", "uri", "start_s", "end_s", *PROBE_COLUMNS)
GPU_READERS = 4  # not measured; on CPUs the model needs every core, and one thread keeps it fed


def prepare_relabel(request: ModelRequest, store: StoreRecord) -> PreparedModel:
    """Embed what must be embedded. Raises CheckpointError where the adapter doesn't fit the store, and UsageError."""
    torch.set_num_threads(max(request.num_threads, 1))
    record = EncoderRecord(**store.encoder)
    checkpoint = _checkpoint(request, record)

    @cache
    def encoder() -> "RegionEncoder":
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


def tensors_needed(store: StoreRecord, adapter: AdapterConfig | None) -> tuple[str, ...]:
    """The tensors of the store that labels and entities follow from. Without an adapter that is one of regions and align."""
    if adapter is None:
        return ("align" if store.has_align else "regions", "sizes", "pooled")
    names = ["regions", "sizes"]
    names += ["align"] if store.has_align else []
    names += ["region_of_patch"] if adapter.conv != "none" and adapter.conv_over == "overlap" else []
    names += ["pooled"] if adapter.needs_frames else []
    return tuple(names)


class RelabelRanges:
    """Label the clips of some row ranges of a store: a batch of (uri, start, stop) in, tables of schema.result_schema out.

    Rows are read in other threads while the model computes, `batch_clips` clips at a time.
    """

    def __init__(
        self, request: ModelRequest, prepared: PreparedModel, store: StoreRecord, batch_clips: int, machine: str = ""
    ) -> None:
        torch.set_num_threads(max(request.num_threads, 1))
        self.request, self.prepared, self.store = request, prepared, store
        self.batch_clips = batch_clips
        self.machine = machine
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
        self.tensors = tensors_needed(store, None if checkpoint is None else checkpoint.config.adapter)
        self.schema = result_schema(label_schema(prepared.dim))

    def __call__(self, batch: dict[str, Any]) -> Iterator[pa.Table]:
        ranges = [
            RowRange(str(uri), int(start), int(stop))
            for uri, start, stop in zip(batch["uri"], batch["start"], batch["stop"], strict=True)
        ]
        columns = (*CLIP_COLUMNS, *self.tensors)
        num_threads = 1 if self.request.device == "cpu" else GPU_READERS
        for rows in read_ranges(ranges, self.store, columns, self.batch_clips, num_threads=num_threads):
            yield self._label(rows)

    @torch.inference_mode()
    def _label(self, rows: pa.Table) -> pa.Table:
        V = int(self.store.sampling["views"])
        B = rows.num_rows // V
        found = {
            name: torch.from_numpy(_wide(tensor_values(rows[name], *self.store.tensors[name]))) for name in self.tensors
        }
        output = self.model.from_regions(
            found["regions"] if "regions" in found else found["align"],
            found["sizes"],
            align_tokens=found.get("align"),
            region_of_patch=found.get("region_of_patch"),
            pooled=found.get("pooled"),
        )
        labelled = label_columns(output, B, V, self.request, self.prepared)
        first = rows.select(CLIP_COLUMNS)
        first = first if V == 1 else first.take(pa.array(np.arange(0, rows.num_rows, V)))
        columns: dict[str, Any] = {name: first[name].to_pylist() for name in CLIP_COLUMNS}
        columns |= {name: list(labelled[name]) for name in MODEL_COLUMNS}
        columns |= {name: [None] * B for name in ("error", "stage", "message")} | {"attempts": [1] * B}
        columns["machine"] = [self.machine] * B
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
