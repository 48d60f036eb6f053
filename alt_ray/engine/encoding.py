"""The encoder as a worker of `encode` holds it: prepared once per job, frames in, region features out. Knows nothing of Ray.

B clips, V views, T frames, H x W pixels, R tokens of a frame, N patches, D joint dimension.
"""

import numpy as np
import torch

from alt_ray.engine.model import CPU_FRAMES_PER_BATCH, GPU_FRAMES_PER_BATCH, encoder_for
from alt_ray.engine.request import EncodeRequest, PreparedEncoder
from alt_ray.features.layout import StoreRecord
from alt_ray.models.checkpoint import EncoderRecord, load_checkpoint
from alt_ray.models.encoder import RegionEncoder
from alt_ray.video.sampling import DEFAULT_FRAMES


def prepare_encoder(request: EncodeRequest) -> PreparedEncoder:
    """Load the encoder once, and take its digest. Raises ModelError, CheckpointError."""
    encoder = _load(request)
    num_frames = request.num_frames
    if num_frames is None and request.adapter is not None:
        num_frames = int(load_checkpoint(request.adapter).config.sampling.get("frames", DEFAULT_FRAMES))
    return PreparedEncoder(
        record=EncoderRecord.of(encoder).plain(),
        num_patches=encoder.num_patches,
        num_frames=num_frames or DEFAULT_FRAMES,
    )


def build_encoder(request: EncodeRequest, prepared: PreparedEncoder) -> RegionEncoder:
    """Build the encoder on a worker; its weights are those that were prepared."""
    encoder = _load(request)
    assert encoder.weights_digest == prepared.record["weights_digest"]
    return encoder


@torch.inference_mode()
def encode_views(
    encoder: RegionEncoder, frames_BVTHW3: np.ndarray, record: StoreRecord, request: EncodeRequest
) -> dict[str, np.ndarray]:
    """Return the tensors of `record` [B, V, ...] of B clips."""
    B, V, T = frames_BVTHW3.shape[:3]
    frames = torch.tensor(frames_BVTHW3).flatten(0, 2)  # a copy: what comes from Ray is read-only shared memory
    per_batch = CPU_FRAMES_PER_BATCH if request.device == "cpu" else GPU_FRAMES_PER_BATCH
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in record.tensors}
    for some in frames.split(per_batch):
        regions = encoder.encode_frames(encoder.normalise(some))
        found = {
            "regions": regions.tokens.half(),
            "sizes": regions.sizes.to(torch.int32),
            "region_of_patch": regions.region_of_patch.short(),
            "pooled": regions.pooled.half(),
            "align": regions.align_tokens.half(),
        }
        for name, tensors in parts.items():
            tensors.append(found[name].cpu())
    return {
        name: torch.cat(tensors).unflatten(0, (B, V, T)).numpy().astype(record.tensors[name][0], copy=False)
        for name, tensors in parts.items()
    }


def _load(request: EncodeRequest) -> RegionEncoder:
    torch.set_num_threads(max(request.num_threads, 1))  # Ray goes by the CPUs of the actor, only shares here
    checkpoint = None if request.adapter is None else load_checkpoint(request.adapter)
    return encoder_for(request.encoder, checkpoint, request.adapter, request.device, request.seed)
