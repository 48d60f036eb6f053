"""The encoder as a worker of `encode` holds it: prepared once per job, frames in, region features out. Knows nothing of Ray.

B clips, V views, T frames, H x W pixels, R tokens of a frame, N patches, D joint dimension.
"""

import numpy as np
import torch

from alt_ray.engine.feeders import feeder_for, frames_for, keep_to_share
from alt_ray.engine.model import encoder_for
from alt_ray.engine.request import EncodeRequest, PreparedEncoder
from alt_ray.features.layout import StoreRecord
from alt_ray.models.checkpoint import EncoderRecord, load_checkpoint
from alt_ray.models.encoder import RegionEncoder
from alt_ray.models.feeding import FrameFeeder, to_host, wait_for_device
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
        frames_per_batch=frames_for(request, encoder),
    )


def build_feeder(request: EncodeRequest, prepared: PreparedEncoder) -> FrameFeeder:
    """Build the encoder on a worker, and what feeds it; its weights are those that were prepared."""
    encoder = _load(request)
    assert encoder.weights_digest == prepared.record["weights_digest"]
    return feeder_for(request, encoder, prepared.frames_per_batch)


@torch.inference_mode()
def encode_views(feeder: FrameFeeder, frames_BVTHW3: np.ndarray, record: StoreRecord) -> dict[str, np.ndarray]:
    """Return the tensors of `record` [B, V, ...] of B clips."""
    B, V, T = frames_BVTHW3.shape[:3]
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in record.tensors}
    for regions in feeder.regions(frames_BVTHW3.reshape(-1, *frames_BVTHW3.shape[3:])):
        found = {
            "regions": regions.tokens.half(),
            "sizes": regions.sizes.to(torch.int32),
            "region_of_patch": regions.region_of_patch.short(),
            "pooled": regions.pooled.half(),
            "align": regions.align_tokens.half(),
        }
        for name, tensors in parts.items():
            tensors.append(to_host(found[name]))
    wait_for_device(feeder.encoder.device)
    return {
        name: torch.cat(tensors).unflatten(0, (B, V, T)).numpy().astype(record.tensors[name][0], copy=False)
        for name, tensors in parts.items()
    }


def _load(request: EncodeRequest) -> RegionEncoder:
    torch.set_num_threads(max(request.num_threads, 1))  # Ray goes by the CPUs of the actor, only shares here
    keep_to_share(request)
    checkpoint = None if request.adapter is None else load_checkpoint(request.adapter)
    return encoder_for(request.encoder, checkpoint, request.adapter, request.device, request.seed)
