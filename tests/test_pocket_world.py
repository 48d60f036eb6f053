"""The pocket world: the same seed, the same pixels; masks that tell the truth; archives that the product itself reads."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alt_ray.errors import UsageError
from alt_ray.pocket.archive import ArchiveOptions, plan_video, split_of, write_archive
from alt_ray.pocket.captions import captions
from alt_ray.pocket.painter import Canvas, Painter
from alt_ray.pocket.plan import ClipPlan, plan_clip
from alt_ray.pocket.things import AT_REST
from alt_ray.pocket.vocabulary import (
    ACTION_BY_NAME,
    ACTIONS,
    BODY_PARTS,
    ENTITIES,
    ENTITY_INDEX,
    MOTION_ONLY_PAIRS,
    OBJECTS,
    SCENES,
    SEEN_ACTIONS,
    UNSEEN_ACTIONS,
    category_of,
    pocket_corpus,
)
from alt_ray.pocket.world import draw_clip, draw_close_up, draw_frame, draw_frame_and_mask
from alt_ray.video.decode import decode_video
from alt_ray.video.manifest import read_source
from alt_ray.video.sampling import ClipSpec

ACTION_NAMES = [action.name for action in ACTIONS]


def bare(plan: ClipPlan) -> ClipPlan:
    """The same clip with nobody and nothing but the action in it, and a camera and light that stay as they are."""
    still = replace(plan.camera, zoom=0.0, pan_x=0.0, pan_y=0.0, jitter=0.0)
    return replace(plan, distractors=(), bystanders=(), post_x=None, noise=0.0, camera=still)


def planned(action: str, index: int = 0, **changes: object) -> ClipPlan:
    return replace(plan_clip(11, index, actions=[action]), **changes)  # type: ignore[arg-type]


def test_the_world_is_as_large_as_promised() -> None:
    assert len(SEEN_ACTIONS) >= 24 and len(UNSEEN_ACTIONS) >= 6 and len(MOTION_ONLY_PAIRS) >= 4
    assert len(OBJECTS) >= 15 and len(SCENES) >= 8
    assert len(set(ENTITIES)) == len(ENTITIES) <= 256


def test_every_entity_of_an_unseen_action_occurs_in_a_seen_one() -> None:
    seen = {entity for name in SEEN_ACTIONS for entity in ACTION_BY_NAME[name].entities}
    assert all(set(ACTION_BY_NAME[name].entities) <= seen for name in UNSEEN_ACTIONS)


def test_the_pocket_corpus_has_the_entities_in_the_order_of_the_masks() -> None:
    corpus = pocket_corpus()
    assert [(entity.name, entity.category) for entity in corpus.entities] == [
        (name, category_of(name)) for name in ENTITIES
    ]


def test_the_same_seed_and_index_give_the_same_clip_and_others_another_one() -> None:
    clips = [draw_clip(plan_clip(seed, index, num_frames=3), 32) for seed, index in ((5, 2), (5, 2), (5, 3), (6, 2))]
    assert np.array_equal(clips[0].frames_THW3, clips[1].frames_THW3) and np.array_equal(
        clips[0].masks_THW, clips[1].masks_THW
    )
    assert clips[0].truth == clips[1].truth
    assert not any(np.array_equal(clips[0].frames_THW3, other.frames_THW3) for other in clips[2:])


@pytest.mark.parametrize("action", ACTION_NAMES)
def test_a_frame_drawn_alone_is_the_frame_of_the_clip(action: str) -> None:
    plan = planned(action, num_frames=5)
    clip = draw_clip(plan, 32)
    assert np.array_equal(draw_frame(plan, 3, 32), clip.frames_THW3[3])
    assert np.array_equal(draw_frame_and_mask(plan, 1, 32)[1], clip.masks_THW[1])


@pytest.mark.parametrize("size_px", [32, 64, 100, 256])
def test_frames_have_the_size_that_is_asked_for_and_show_the_same(size_px: int) -> None:
    plan = bare(planned("playing guitar"))
    frame, mask = draw_frame_and_mask(plan, 4, size_px)
    assert (
        frame.shape == (size_px, size_px, 3)
        and mask.shape == (size_px, size_px)
        and frame.dtype == mask.dtype == np.uint8
    )
    # Thin lines weigh more where there are few pixels.
    share = np.mean(draw_frame_and_mask(plan, 4, 200)[1] == ENTITY_INDEX["guitar"])
    assert np.mean(mask == ENTITY_INDEX["guitar"]) == pytest.approx(share, rel=0.3)


@pytest.mark.parametrize("action", ACTION_NAMES)
def test_what_an_action_needs_is_seen_in_its_masks(action: str) -> None:
    needed = {"head", "torso", "arm", "hand", *ACTION_BY_NAME[action].body_parts, *ACTION_BY_NAME[action].objects}
    num_clips, seen = 12, Counter[str]()
    for index in range(num_clips):
        plan = planned(action, index)
        present = {ENTITIES[i] for frame in (4, 12, 20) for i in np.unique(draw_frame_and_mask(plan, frame)[1])}
        seen.update(needed & present)
        assert plan.scene in present
    assert all(seen[entity] >= 0.9 * num_clips for entity in needed), seen


def test_masks_hold_only_what_the_truth_names() -> None:
    for index in range(60):
        plan = plan_clip(3, index)
        allowed = {*BODY_PARTS, *plan.truth.objects, *plan.truth.distractors, plan.truth.scene}
        assert {ENTITIES[i] for i in np.unique(draw_frame_and_mask(plan, 7)[1])} <= allowed


def test_every_object_and_scene_covers_pixels_of_its_own() -> None:
    assert set(AT_REST) == set(OBJECTS)
    for name, draw in AT_REST.items():
        canvas = Canvas(64)
        painter = Painter(canvas, 90.0, 64.0, 110.0)
        painter.band(ENTITY_INDEX["park"], (0, 0, 0), -2, 2)
        draw(painter, 0.0, ((200, 50, 50), (50, 200, 50), (50, 50, 200)))
        assert set(np.unique(canvas.mask())) == {ENTITY_INDEX[name], ENTITY_INDEX["park"]}
    for scene in SCENES:
        mask = draw_frame_and_mask(bare(planned("walking", scene=scene)), 0)[1]
        assert np.mean(mask == ENTITY_INDEX[scene]) > 0.5


@pytest.mark.parametrize(("forward", "backward"), MOTION_ONLY_PAIRS)
def test_motion_only_pairs_are_each_other_played_backwards(forward: str, backward: str) -> None:
    plan = bare(planned(forward))
    ahead, back = draw_clip(plan), draw_clip(replace(plan, action=backward))
    assert np.array_equal(ahead.frames_THW3, back.frames_THW3[::-1]) and np.array_equal(
        ahead.masks_THW, back.masks_THW[::-1]
    )
    assert not np.array_equal(ahead.masks_THW, back.masks_THW)


def test_mirrored_clips_are_mirror_images() -> None:
    plan = replace(planned("throwing a ball"), noise=0.0)
    left, right = (draw_clip(replace(plan, mirrored=mirrored, num_frames=3)) for mirrored in (False, True))
    assert np.array_equal(left.frames_THW3, right.frames_THW3[:, :, ::-1])
    assert np.array_equal(left.masks_THW, right.masks_THW[:, :, ::-1])


@pytest.mark.parametrize("action", ACTION_NAMES)
def test_every_action_moves(action: str) -> None:
    masks = draw_clip(bare(planned(action)), 64).masks_THW
    assert np.mean(masks[2:-2] != masks[2:3], axis=(1, 2)).max() > 0.01


def test_a_close_up_shows_more_of_what_it_is_a_close_up_of() -> None:
    plan = planned("playing guitar", num_frames=1)
    _, whole = draw_frame_and_mask(plan, 0)
    close = draw_close_up(plan, 0, "hand")
    assert close is not None
    assert np.sum(close[1] == ENTITY_INDEX["hand"]) > 2 * np.sum(whole == ENTITY_INDEX["hand"])
    assert draw_close_up(bare(plan), 0, "kayak") is None


def test_captions_name_seen_actions_and_never_unseen_ones() -> None:
    rng = np.random.default_rng(0)
    for action in ACTIONS:
        truth = planned(action.name).truth
        said = [caption for _ in range(40) for caption in captions(truth, rng)]
        texts = [caption.text for caption in said]
        assert any(action.name in text for text in texts) != action.unseen
        if action.unseen:
            assert not any(set(action.motions) & caption.facts for caption in said)
        for entity in (*action.objects, *action.body_parts, truth.scene):
            assert any(entity in text for text in texts)


def test_what_can_not_be_drawn_is_refused() -> None:
    plan = planned("walking")
    with pytest.raises(UsageError, match="unknown action 'flying'"):
        replace(plan, action="flying")
    with pytest.raises(UsageError, match="frame 24 of a clip of 24"):
        draw_frame(plan, 24)
    with pytest.raises(UsageError, match="even number"):
        ArchiveOptions(size_px=65)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    return write_archive(folder, 2 * len(ACTIONS), ArchiveOptions(seed=3, num_frames=12, fps=12))


def test_the_product_reads_an_archive_and_sees_what_was_drawn(archive: Path) -> None:
    inputs = read_source(str(archive))
    assert inputs.table.num_rows == 2 * len(ACTIONS) and inputs.duplicates == 0
    assert set(inputs.table["split"].to_pylist()) == {"train", "val", "test"}
    options = ArchiveOptions(seed=3, num_frames=12, fps=12)
    for number in (0, 31):
        row = inputs.table.slice(number, 1).to_pylist()[0]
        plan = plan_video(options, number)
        assert row["label"] == plan.action and row["split"] == split_of(plan.person)
        out = np.zeros((1, 12, 64, 64, 3), np.uint8)
        probe = decode_video(row["uri"], None, None, ClipSpec(num_frames=12, image_size=64), out)
        assert (probe.width, probe.height, probe.fps) == (64, 64, 12)
        drawn = draw_clip(plan).frames_THW3
        # Lossy coding and half the colour resolution; a neighbouring clip differs by 50 and more.
        assert np.abs(out[0].astype(int) - drawn).mean() < 12


def test_labels_are_balanced_and_people_stay_in_their_split(archive: Path) -> None:
    rows = [json.loads(line) for line in (archive.parent / "truth.jsonl").read_text().splitlines()]
    assert set(Counter(row["action"] for row in rows).values()) == {2}
    table = read_source(str(archive)).table
    splits_of_group: dict[str, set[str]] = {}
    for group, split in zip(table["group"].to_pylist(), table["split"].to_pylist(), strict=True):
        splits_of_group.setdefault(group, set()).add(split)
    assert all(len(splits) == 1 for splits in splits_of_group.values())


def test_the_same_options_give_the_same_bytes_whoever_writes_them(tmp_path: Path) -> None:
    options = ArchiveOptions(seed=1, num_frames=4, size_px=32)
    first, second = (write_archive(tmp_path / name, 20, options, num_processes=n) for name, n in (("a", 1), ("b", 2)))
    contents = [
        {file.relative_to(manifest.parent): file.read_bytes() for file in manifest.parent.rglob("*") if file.is_file()}
        for manifest in (first, second)
    ]
    assert contents[0] == contents[1] and len(contents[0]) == 22
