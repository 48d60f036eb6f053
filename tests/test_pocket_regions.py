import numpy as np
import pytest

from alt_ray.errors import UsageError
from alt_ray.models.encoder import load_encoder
from alt_ray.pocket.region_truth import NUM_ENTITIES, MaskedFrames, masked_frames, region_report
from alt_ray.pocket.vocabulary import ENTITY_INDEX
from tests.media import TINY_CLIP

BALL, PARK = ENTITY_INDEX["ball"], ENTITY_INDEX["park"]


def test_counts_hold_every_pixel_of_every_cell_of_any_grid() -> None:
    frames = masked_frames(3, 64)
    for rows, columns in ((8, 8), (7, 8), (5, 8)):
        counts = frames.counts(rows, columns)
        assert counts.shape == (3, rows * columns, NUM_ENTITIES)
        assert (counts.sum((1, 2)) == 64 * 64).all()
    whole = np.bincount(frames.masks[1].ravel(), minlength=NUM_ENTITIES)
    assert (frames.counts(7, 8)[1].sum(0) == whole).all()


def test_a_cell_counts_the_pixels_that_lie_in_it() -> None:
    masks = np.full((1, 64, 64), PARK, np.uint8)
    masks[0, 0:8, 8:12] = BALL
    counts = MaskedFrames(np.zeros((1, 64, 64, 3), np.uint8), masks).counts(8, 8)
    assert counts[0, 1, BALL] == counts[0, 1, PARK] == 32
    assert counts[0, 0, PARK] == counts[0, 8, PARK] == 64


def test_patches_without_merging_are_the_grid_and_a_picture_of_one_entity_is_pure() -> None:
    frames = masked_frames(20, 64)
    unmerged = region_report(load_encoder(TINY_CLIP), frames)
    cells = (64 // TINY_CLIP["vision_cfg"]["patch_size"]) ** 2  # type: ignore[index]
    assert unmerged.regions == cells
    assert unmerged.purity == unmerged.grid_purity
    assert unmerged.named_right == unmerged.patches_right
    assert all(share >= unmerged.named_right[name] for name, share in unmerged.named_among_own.items())
    merged = region_report(load_encoder(TINY_CLIP, merge_r=2), frames)
    assert merged.regions == cells - 2 * TINY_CLIP["vision_cfg"]["layers"]  # type: ignore[index]
    assert merged.purity <= unmerged.purity  # a union of patches is never purer than they are
    assert merged.count["all"] == sum(merged.count[name] for name in ("body_part", "object", "scene"))
    plain = MaskedFrames(frames.pictures, np.full_like(frames.masks, PARK))
    assert region_report(load_encoder(TINY_CLIP, merge_r=2), plain).purity == 1.0


def test_random_weights_name_regions_no_better_than_chance_would() -> None:
    report = region_report(load_encoder(TINY_CLIP, merge_r=2), masked_frames(100, 64))
    assert report.balanced < 5 * report.chance


def test_frames_of_another_size_are_refused() -> None:
    with pytest.raises(UsageError, match="takes 64"):
        region_report(load_encoder(TINY_CLIP), masked_frames(1, 32))
