"""Which entity each patch of a video went to, and pictures that show it. The only part of the report that runs a model.

Deterministic, and the same frames, regions and choices as labelling has: a patch shows the entity that its region was aligned
with. Knows nothing of labels, of pages or of Ray.

T frames, H x W pixels, h x w patches, N = h * w.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from alt_ray.errors import ModelError
from alt_ray.models.alignment import entity_queries
from alt_ray.models.alt import AltModel
from alt_ray.report.colours import Colour
from alt_ray.report.page import Picture

OPACITY = 0.55  # of a patch's colour: the picture stays visible beneath it
_BORDER = (255, 255, 255)
_GAP_PX, _GAP = 2, (128, 128, 128)
_JPEG_QUALITY = 80


@dataclass(frozen=True)
class RegionMap:
    """The frames of a clip, uint8 RGB, as the model saw them, and for each patch the index of its entity."""

    frames_THW3: np.ndarray
    entity_of_patch_Thw: np.ndarray


@torch.inference_mode()
def region_map(model: AltModel, frames_THW3: np.ndarray) -> RegionMap:
    """Align the regions of one clip (uint8 RGB, at the encoder's size) with the entities of the model."""
    if model.encoder is None:
        raise ModelError("this model was built without an encoder, and only an encoder can tell the regions of frames")
    regions = model.encoder.encode_frames(model.encoder.normalise(torch.from_numpy(frames_THW3)))
    tokens_1TRD, sizes_1TR = regions.align_tokens[None], regions.sizes[None]
    _, choice_1TR = entity_queries(tokens_1TRD, model.entities, model.alignment, sizes_BTR=sizes_1TR)
    entity_TN = choice_1TR[0].gather(1, regions.region_of_patch)
    h, w = model.encoder.clip.visual.grid_size
    return RegionMap(frames_THW3, entity_TN.unflatten(1, (h, w)).cpu().numpy())


def pictures(regions: RegionMap, colours: Sequence[Colour], num_frames: int, scale: int = 2) -> tuple[Picture, Picture]:
    """Return some frames beside each other, as they are and coloured by entity; only the second is enlarged, for its lines."""
    places = spread(len(regions.frames_THW3), num_frames)
    plain = [regions.frames_THW3[t] for t in places]
    tinted = [coloured(regions.frames_THW3[t], regions.entity_of_patch_Thw[t], colours, scale) for t in places]
    return _picture(strip(plain)), _picture(strip(tinted, scale))


def coloured(picture_HW3: np.ndarray, entity_hw: np.ndarray, colours: Sequence[Colour], scale: int = 2) -> np.ndarray:
    """Return the picture, `scale` times as large, each patch tinted with its entity's colour, and a line where entities meet.

    `colours` has one for each index that `entity_hw` may hold. Beside the lines, a pixel is the picture's grey with the colour
    over it, which is opaque by OPACITY: were the picture's own colours left, nobody could tell them from the entities'.
    """
    large = np.asarray(Image.fromarray(enlarged(picture_HW3, scale)).convert("L"))[..., None]
    rows, columns = (_patch_of_pixel(n, m) for n, m in zip(large.shape[:2], entity_hw.shape, strict=True))
    entity_HW = entity_hw[rows][:, columns]
    tint_HW3 = np.asarray(colours, np.float32)[entity_HW]
    tinted = (large * (1 - OPACITY) + tint_HW3 * OPACITY).round().astype(np.uint8)
    tinted[_borders(entity_HW)] = _BORDER
    return tinted


def enlarged(picture_HW3: np.ndarray, scale: int) -> np.ndarray:
    """Return the picture `scale` times as large, smoothly."""
    H, W = picture_HW3.shape[:2]
    return np.asarray(Image.fromarray(picture_HW3).resize((W * scale, H * scale), Image.Resampling.BICUBIC))


def strip(frames: Sequence[np.ndarray], scale: int = 1) -> np.ndarray:
    """Put frames of one size beside each other, with a gap between them."""
    gap = np.full((len(frames[0]), _GAP_PX * scale, 3), _GAP, np.uint8)
    parts = [part for frame in frames for part in (gap, frame)]
    return np.concatenate(parts[1:], axis=1)


def spread(total: int, count: int) -> list[int]:
    """Return at most `count` of `total` frames, from the first to the last."""
    return sorted({round(place) for place in np.linspace(0, total - 1, min(count, total)).tolist()})


def _picture(picture_HW3: np.ndarray) -> Picture:
    file = io.BytesIO()
    # Full colour: with the usual half of it, the tints of neighbouring patches would run into each other.
    Image.fromarray(picture_HW3).save(file, "JPEG", quality=_JPEG_QUALITY, subsampling=0, optimize=True)
    return Picture(file.getvalue(), width=picture_HW3.shape[1], height=picture_HW3.shape[0])


def _patch_of_pixel(num_pixels: int, num_patches: int) -> np.ndarray:
    """Patches start at the first pixel; what is left over at the end, fewer pixels than a patch has, counts to the last one."""
    return np.minimum(np.arange(num_pixels) // (num_pixels // num_patches), num_patches - 1)


def _borders(entity_HW: np.ndarray) -> np.ndarray:
    """Return the pixels [H, W] (bool) whose right or lower neighbour has another entity."""
    borders_HW = np.zeros(entity_HW.shape, bool)
    borders_HW[:, :-1] |= entity_HW[:, :-1] != entity_HW[:, 1:]
    borders_HW[:-1] |= entity_HW[:-1] != entity_HW[1:]
    return borders_HW
