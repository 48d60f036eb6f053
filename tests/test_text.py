"""Label names as words and prompts."""

from collections.abc import Sequence

import pytest
import torch

from alt_ray.errors import ModelError
from alt_ray.models.text import TEMPLATES, label_embeddings, prompts
from alt_ray.words import split_camel_case


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("TaiChi", "tai chi"),
        ("YoYo", "yo yo"),
        ("BaseballPitch", "baseball pitch"),
        ("UnevenBars", "uneven bars"),
        ("brush_hair", "brush hair"),
        ("Walking_With_Dog", "walking with dog"),
        ("push-up", "push up"),
        ("Sit2Stand", "sit 2 stand"),
        ("TVShow", "TV show"),
        ("3DPrinting", "3D printing"),
        ("MP3Player", "MP3 player"),
        ("AFrame", "a frame"),
        ("ÉtéSki", "été ski"),
    ],
)
def test_a_name_in_one_piece_becomes_words(name: str, words: str) -> None:
    assert split_camel_case(name) == words


@pytest.mark.parametrize(
    "name",
    [
        "playing guitar",
        "3D printing",
        "watching TV",
        "massaging person's head",
        "tie-dye shirt",
        "using remote controller (not gaming)",
        "Pushing something from left to right",
        "archery",
        "CPR",
        "",
    ],
)
def test_an_ordinary_phrase_or_word_is_left_as_it_is(name: str) -> None:
    assert split_camel_case(name) == name


def test_templates_go_by_name_or_by_text() -> None:
    assert prompts(["YoYo"]) == ["a photo of a yo yo."]
    assert prompts(["YoYo"], "video") == ["This is a video about yo yo"]
    assert prompts(["YoYo", "brush_hair"], "bare") == ["yo yo", "brush hair"]
    assert prompts(["YoYo"], "a {person} doing {}") == ["a {person} doing yo yo"]
    assert prompts(["a {} b"], "video") == ["This is a video about a {} b"]


@pytest.mark.parametrize("template", ["photos", "", "{} and {}", "{0}"])
def test_a_template_without_exactly_one_place_is_refused(template: str) -> None:
    with pytest.raises(ModelError, match=", ".join(TEMPLATES)):
        prompts(["YoYo"], template)


def test_label_embeddings_are_those_of_the_prompts() -> None:
    class Lengths:
        def encode_text(self, texts: Sequence[str], /) -> torch.Tensor:
            return torch.tensor([[float(len(text))] for text in texts])

    assert label_embeddings(Lengths(), ["TaiChi", "YoYo"], "bare").tolist() == [[7], [5]]
