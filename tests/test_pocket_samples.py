import itertools

import numpy as np

from alt_ray.corpus.entities import entity_text
from alt_ray.pocket.captions import FACTS, Caption, action_fact, captions, fact_captions
from alt_ray.pocket.plan import plan_clip
from alt_ray.pocket.samples import MIN_SHARE_OF_PART, Truth, _parts, samples, truth_of_pairs
from alt_ray.pocket.tasks import ActionClips, sampled_frames, within
from alt_ray.pocket.vocabulary import ENTITIES, UNSEEN_ACTIONS, pocket_corpus
from alt_ray.pocket.world import draw_clip


def test_every_sample_is_a_picture_with_a_true_caption_of_it() -> None:
    drawn = list(itertools.islice(samples(1, 64), 200))
    for sample in drawn:
        assert sample.picture.shape == (64, 64, 3)
        assert sample.picture.dtype == np.uint8
        assert sample.caption.facts
        assert sample.caption.facts <= sample.truth.true <= set(FACTS)
        for part in sample.parts:
            row, column, rows, columns = part.cells
            assert 0 <= row < row + rows <= 8
            assert 0 <= column < column + columns <= 8
            assert part.truth.true
            assert not part.truth.true & part.truth.unsure
    again = list(itertools.islice(samples(1, 64), 20))
    assert all(a.caption == b.caption and (a.picture == b.picture).all() for a, b in zip(drawn, again, strict=False))


def test_no_caption_names_an_unseen_action_or_speaks_of_its_motions() -> None:
    spoken = [sample.caption.text for sample in itertools.islice(samples(2, 32), 2000)]
    assert not [text for text in spoken if any(name in text for name in UNSEEN_ACTIONS)]
    rng = np.random.default_rng(0)
    for index in range(40):
        plan = plan_clip(3, index, actions=UNSEEN_ACTIONS)
        facts = set().union(*(caption.facts for caption in captions(plan.truth, rng)))
        assert not facts & {*plan.truth.motions, *(action_fact(name) for name in UNSEEN_ACTIONS)}


def test_there_is_a_caption_of_every_fact_and_never_one_of_an_unseen_action() -> None:
    found = fact_captions(np.random.default_rng(0))
    assert [caption.facts for caption in found] == [frozenset({fact}) for fact in FACTS]
    for name, caption in zip(ENTITIES, found, strict=False):
        assert name in caption.text


def test_captions_also_speak_as_the_corpus_does() -> None:
    texts = {entity_text(entity) for entity in pocket_corpus().entities}
    spoken = {sample.caption.text for sample in itertools.islice(samples(4, 32), 1500)}
    assert len(texts & spoken) > len(texts) / 3


def test_truth_of_pairs_knows_what_else_is_true_and_what_nobody_can_say() -> None:
    runs = action_fact("running")
    running = Truth(frozenset({runs, "running", "leg", "park"}))
    close_up = Truth(frozenset({"leg", "ball"}), frozenset({runs, "running"}))
    captions = [
        Caption("running", frozenset({runs})),
        Caption("a leg", frozenset({"leg"})),
        Caption("running beside a ball", frozenset({runs, "ball"})),
        Caption("running beside a kite", frozenset({runs, "kite"})),
    ]
    is_true, is_known = truth_of_pairs([running, close_up], captions)
    assert is_true.tolist() == [[True, True, False, False], [False, True, False, False]]  # a row is a picture
    assert is_known.tolist() == [[True, True, True, True], [False, True, False, True]]  # no kite: false, whoever runs


def test_a_part_shows_what_covers_enough_of_it_and_says_nothing_of_slivers() -> None:
    mask = np.full((64, 64), ENTITIES.index("park"), np.uint8)
    mask[:, 32:] = ENTITIES.index("ball")
    for seed in range(30):
        anywhere, around = _parts(mask, np.random.default_rng(seed))
        for part in (anywhere, around):
            _row, column, _rows, columns = part.cells
            left = max(0, min(4, column + columns) - column) / columns
            expected = {name for name, share in (("park", left), ("ball", 1 - left)) if share >= MIN_SHARE_OF_PART}
            assert part.truth.true == expected
            assert "running" in part.truth.unsure
    mask[:] = ENTITIES.index("park")
    mask[0, 0] = ENTITIES.index("ball")
    slivers = [
        part for seed in range(30) for part in _parts(mask, np.random.default_rng(seed)) if part.cells[:2] == (0, 0)
    ]
    assert slivers
    assert all(part.truth.true == {"park"} and "ball" in part.truth.unsure for part in slivers)


def test_clips_of_a_task_are_those_frames_of_whole_clips_that_labelling_would_look_at() -> None:
    clips = ActionClips(("waving", "running"), per_action=2, seed=5)
    assert clips.target == [0, 1, 0, 1]
    frames = list(clips)
    plans = list(clips.plans())
    assert [plan.action for plan in plans] == ["waving", "running"] * 2
    assert sampled_frames(plans[0], 8) == [1, 4, 7, 10, 13, 16, 19, 22]
    assert (frames[1] == draw_clip(plans[1]).frames_THW3[[1, 4, 7, 10, 13, 16, 19, 22]]).all()
    alone = ActionClips(("running",), per_action=2, seed=5)
    assert list(alone.plans()) == plans[1::2]


def test_within_lets_only_the_labels_of_a_group_compete() -> None:
    logits = np.array([[9.0, 2.0, 1.0, 0.0], [9.0, 1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 9.0]])
    assert within(logits, np.array([1, 1, 3]), [[1, 2]]) == 0.5  # the second is taken for 2, the third isn't asked
