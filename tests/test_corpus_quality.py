import numpy as np

from alt_ray.corpus import quality
from alt_ray.corpus.entities import Corpus, Entity

ROPE = Entity("rope", "object", "a thick cord.", aliases=("line",), labels=("abseiling", "RopeClimbing"))
CLIFF = Entity("cliff", "scene", "a wall of rock.", labels=("abseiling",))
HAND = Entity("hand", "body_part", "five fingers.", labels=("rope climbing",))
CORPUS = Corpus((ROPE, CLIFF, HAND), "test")


def test_problems_are_all_named() -> None:
    corpus = Corpus(
        (
            Entity("rope", "object", "a thick cord.", aliases=("cord",), sense="rope%1:06:00::"),
            Entity("cord", "object", "A thick cord."),
            Entity("cliff", "scene"),
        ),
        "test",
    )
    embedded = np.array([[1.0, 0.0], [0.999, 0.0447], [0.0, 1.0]])
    found = quality.problems_of(corpus, embedded_KD=embedded)
    assert found == [
        "cliff: the description is empty",
        "rope, cord: the same description",
        "rope: its alias 'cord' is another entity of the category object",
        "rope, cord: a cosine of 0.999 to each other",
    ]
    assert quality.problems_of(CORPUS) == []


def test_near_identical_pairs_are_found_across_blocks() -> None:
    rng = np.random.default_rng(0)
    embedded = rng.standard_normal((2100, 16))
    embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
    embedded[2050] = embedded[3]
    found = quality.near_identical(embedded, 0.999)
    assert [(i, k) for i, k, _ in found] == [(3, 2050)]


def test_coverage_by_source_takes_labels_of_any_spelling() -> None:
    coverage = quality.coverage_by_source(CORPUS, ["Abseiling", "rope_climbing", "rowing"])
    assert coverage.entities == {"Abseiling": ["rope", "cliff"], "rope_climbing": ["rope", "hand"], "rowing": []}
    assert coverage.categories["Abseiling"] == {"object", "scene"}
    assert coverage.share == 0


def test_a_label_is_covered_by_five_entities_of_two_categories() -> None:
    def corpus(num_scenes: int) -> Corpus:
        kinds = ["scene"] * num_scenes + ["object"] * (5 - num_scenes)
        return Corpus(tuple(Entity(str(i), kind, labels=("a",)) for i, kind in enumerate(kinds)), "test")

    assert quality.coverage_by_source(corpus(1), ["a"]).share == 1
    assert quality.coverage_by_source(corpus(0), ["a"]).share == 0


def test_coverage_by_cosine_counts_what_is_near_enough() -> None:
    embedded, labels = np.eye(3), np.array([[0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    coverage = quality.coverage_by_cosine(CORPUS, ["a", "b"], embedded, labels, 0.5)
    assert coverage.entities == {"a": ["rope", "cliff"], "b": ["hand"]}
    assert quality.nearest(CORPUS, embedded, labels[0], 2) == [("rope", "object", 0.8), ("cliff", "scene", 0.6)]


def test_labels_that_share_all_entities_are_named() -> None:
    entities = {"basketball": ["ball", "hoop"], "dunk": ["hoop", "ball"], "golf": ["ball"], "x": [], "y": []}
    assert quality.Coverage(entities).sharing_all() == [("basketball", "dunk")]


def test_labels_in_the_corpus_are_disclosed_also_by_alias() -> None:
    assert quality.overlap(CORPUS, ["Rope", "line", "abseiling"]) == ["Rope", "line"]
