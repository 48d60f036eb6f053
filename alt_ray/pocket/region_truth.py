"""Hold regions against the masks of the pocket world: is the entity that a region chose there, and is a region of one entity?

This can be asked only where every pixel is known. Knows nothing of training or labels.

N frames, P patches of a frame, R regions, K entities, S pixels a side.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from alt_ray.errors import UsageError
from alt_ray.models.encoder import RegionEncoder
from alt_ray.pocket.plan import plan_clip
from alt_ray.pocket.tasks import HELD_OUT_SEED
from alt_ray.pocket.vocabulary import BODY_PARTS, ENTITIES, OBJECTS, SCENES, category_of, pocket_corpus
from alt_ray.pocket.world import draw_frame_and_mask

NUM_ENTITIES = len(ENTITIES)
CAN_COVER = (*BODY_PARTS, *OBJECTS, *SCENES)  # what a mask names; motions cover no pixel
_CATEGORIES = ("body_part", "object", "scene")


@dataclass(frozen=True)
class MaskedFrames:
    """Frames of which every pixel is known: pictures [N, S, S, 3] uint8, masks [N, S, S] indices into ENTITIES."""

    pictures: np.ndarray
    masks: np.ndarray

    def counts(self, rows: int, columns: int) -> np.ndarray:
        """Return how many pixels of each cell of a grid each entity covers: [N, rows * columns, K]."""
        N, S = self.masks.shape[:2]
        row_of = np.arange(S) * rows // S
        column_of = np.arange(S) * columns // S
        cell = row_of[:, None] * columns + column_of[None, :]
        flat = (np.arange(N)[:, None, None] * (rows * columns) + cell[None]) * NUM_ENTITIES + self.masks
        counts = np.bincount(flat.ravel(), minlength=N * rows * columns * NUM_ENTITIES)
        return counts.reshape(N, rows * columns, NUM_ENTITIES)


def masked_frames(num_frames: int, size_px: int, seed: int = HELD_OUT_SEED) -> MaskedFrames:
    """Draw one frame of each of `num_frames` held-out clips of all actions."""
    drawn = [draw_frame_and_mask(plan_clip(seed, i), i % 24, size_px) for i in range(num_frames)]
    return MaskedFrames(np.stack([picture for picture, _ in drawn]), np.stack([mask for _, mask in drawn]))


@dataclass
class RegionReport:
    """What the regions of an encoder are worth. Shares are of regions that one entity covers by more than half.

    named_right: by category and "all"; the candidates are all entities of the pocket corpus, motions too, chance 1 / 68.
    patches_right: the same asked of each patch about its region's choice, so that different mergings compare.
    named_among_own: as named_right, but only the entities of the true category compete.
    balanced: mean over entities of the share of their regions named right: scenes don't outweigh the rest.
    count: regions asked, by category. regions: a frame's number of regions.
    purity: the mean over pixels of how much of their region belongs to its most frequent entity.
    grid_purity: the same of a regular grid of as many cells.
    """

    regions: int
    named_right: dict[str, float] = field(default_factory=dict)
    patches_right: dict[str, float] = field(default_factory=dict)
    named_among_own: dict[str, float] = field(default_factory=dict)
    balanced: float = 0.0
    count: dict[str, int] = field(default_factory=dict)
    purity: float = 0.0
    grid_purity: float = 0.0
    chance: float = 1 / NUM_ENTITIES


def region_report(encoder: RegionEncoder, frames: MaskedFrames, *, batch: int = 128) -> RegionReport:
    """Align the regions of `frames` with the pocket corpus and hold the choices against the masks.

    Raises UsageError for frames of another size than the encoder's.
    """
    if frames.pictures.shape[1] != encoder.image_size:
        raise UsageError(f"frames of {frames.pictures.shape[1]} pixels: this encoder takes {encoder.image_size}")
    grid = round(encoder.num_patches**0.5)
    counts_NPK = frames.counts(grid, grid)
    texts_KD = encoder.encode_text(pocket_corpus().texts())
    cos_NRK, region_NP = _align(encoder, frames.pictures, texts_KD, batch)
    choice_NR, R = cos_NRK.argmax(-1), cos_NRK.shape[1]
    counts_NRK = np.zeros((len(choice_NR), R, NUM_ENTITIES), np.int64)
    np.add.at(counts_NRK, (np.arange(len(choice_NR))[:, None], region_NP), counts_NPK)

    report = RegionReport(regions=R)
    truth_NR, is_clear_NR, report.purity = _majority(counts_NRK)
    truth_NP, is_clear_NP, _ = _majority(counts_NPK)
    right_NR = choice_NR == truth_NR
    right_NP = np.take_along_axis(choice_NR, region_NP, 1) == truth_NP
    category_K = np.array([category_of(name) for name in ENTITIES])
    for name in (*_CATEGORIES, "all"):
        of_regions = is_clear_NR & ((category_K[truth_NR] == name) | (name == "all"))
        of_patches = is_clear_NP & ((category_K[truth_NP] == name) | (name == "all"))
        report.count[name] = int(of_regions.sum())
        report.named_right[name] = float(right_NR[of_regions].mean()) if of_regions.any() else float("nan")
        report.patches_right[name] = float(right_NP[of_patches].mean()) if of_patches.any() else float("nan")
    for name in _CATEGORIES:
        members = np.flatnonzero(category_K == name)
        of_regions = is_clear_NR & np.isin(truth_NR, members)
        right = members[cos_NRK[of_regions][:, members].argmax(-1)] == truth_NR[of_regions]
        report.named_among_own[name] = float(right.mean()) if right.size else float("nan")
    asked = truth_NR[is_clear_NR]
    report.balanced = float(np.mean([right_NR[is_clear_NR][asked == entity].mean() for entity in np.unique(asked)]))
    sides = [(a, R // a) for a in range(1, R + 1) if R % a == 0]
    rows, columns = min(sides, key=lambda side: abs(side[0] - side[1]))
    both = [frames.counts(*side) for side in ((rows, columns), (columns, rows))]
    report.grid_purity = float(np.mean([_majority(counts)[2] for counts in both]))
    return report


def _majority(counts_NRK: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the entity that covers most of each region, whether by more than half, and the purity over all pixels."""
    most, total = counts_NRK.max(-1), counts_NRK.sum(-1)
    return counts_NRK.argmax(-1), most * 2 > total, float(most.sum() / total.sum())


@torch.inference_mode()
def _align(
    encoder: RegionEncoder, pictures: np.ndarray, texts_KD: torch.Tensor, batch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return cosines of regions and entities [N, R, K] and the region of each patch [N, P], without the class token."""
    cosines, regions = [], []
    for start in range(0, len(pictures), batch):
        found = encoder.encode_frames(encoder.normalise(torch.from_numpy(pictures[start : start + batch])))
        cosines.append((F.normalize(found.align_tokens[:, 1:].float(), dim=-1) @ texts_KD.T).cpu().numpy())
        regions.append(found.region_of_patch.cpu().numpy() - 1)
    return np.concatenate(cosines), np.concatenate(regions)
