"""The pictures show what the model chose, patch by patch, and the page is one file that says what it was told."""

import base64
import io
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from alt_ray.corpus.entities import Corpus, Entity
from alt_ray.corpus.files import load_corpus
from alt_ray.errors import ModelError
from alt_ray.models.alt import AltModel
from alt_ray.models.encoder import load_encoder
from alt_ray.pocket.vocabulary import pocket_corpus
from alt_ray.report.colours import css, entity_colours
from alt_ray.report.page import Answer, Card, Chip, Page, Picture, Score, Section, html_of, legend_of, percent
from alt_ray.report.regions import OPACITY, coloured, pictures, region_map, spread
from tests.media import TINY_CLIP

ENTITIES = ("rotor blade", "sky", "cabin", "cloud")  # of another corpus than those that ship
COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
NASTY = """<script>alert("1")</script>&'"""


@pytest.fixture(scope="module")
def model() -> AltModel:
    encoder = load_encoder(TINY_CLIP, merge_r=5)
    entities, labels = encoder.encode_text(ENTITIES), encoder.encode_text(["flying", "landing"])
    return AltModel(encoder, entities, labels, entity_names=ENTITIES).eval()


@pytest.mark.parametrize("corpus", [pocket_corpus(), load_corpus(None)], ids=["pocket", "default"])
def test_every_entity_of_a_corpus_has_a_colour_of_its_own(corpus: Corpus) -> None:
    categories = [entity.category for entity in corpus.entities]
    colours = entity_colours(categories)
    assert len(set(colours)) == len(corpus)
    assert all(0 <= value <= 255 for colour in colours for value in colour)
    assert entity_colours([*categories, "object", "scene"])[:-2] == colours  # a corpus that grows changes no colour


def test_categories_have_hues_of_their_own_and_an_unknown_one_has_any() -> None:
    body_parts, scenes = entity_colours(["body_part"] * 20), entity_colours(["scene"] * 20)
    assert all(red > green and red > blue for red, green, blue in body_parts)
    assert all(green > red and green > blue for red, green, blue in scenes)
    assert len(set(entity_colours([""] * 100))) == 100
    assert css((1, 16, 255)) == "#0110ff"


def test_each_patch_of_a_coloured_picture_has_its_entitys_colour_and_lines_run_where_entities_meet() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (12, 18, 1), np.uint8)
    entity_hw = np.array([[0, 0, 1], [2, 0, 1]])
    picture = coloured(grey.repeat(3, 2), entity_hw, COLOURS, scale=1).astype(float)
    expected = (1 - OPACITY) * grey + OPACITY * np.array(COLOURS)[entity_hw.repeat(6, 0).repeat(6, 1)]
    line = np.zeros((12, 18), bool)
    line[:, 11] = True  # 0 | 1 in both rows
    line[5, :6] = True  # 0 above 2
    line[6:, 5] = True  # 2 | 0
    assert (picture[line] == 255).all()
    assert np.abs(picture - expected)[~line].max() < 0.51


def test_a_picture_is_enlarged_and_what_patches_leave_over_goes_to_the_last_ones() -> None:
    flat = np.full((13, 13, 3), 100, np.uint8)
    picture = coloured(flat, np.array([[0, 1], [1, 1]]), COLOURS, scale=3)
    assert picture.shape == (39, 39, 3)
    assert (picture[0, 0] == (155, 45, 45)).all()
    assert (picture[38, 38] == (45, 155, 45)).all()


def test_a_patch_shows_the_entity_that_its_region_chose(model: AltModel) -> None:
    frames_THW3 = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), np.uint8)
    entity_Thw = region_map(model, frames_THW3).entity_of_patch_Thw
    assert entity_Thw.shape == (3, 8, 8)
    assert model.encoder is not None
    images = model.encoder.normalise(torch.tensor(frames_THW3))
    regions = model.encoder.encode_frames(images)
    for t, row, column in np.ndindex(3, 8, 8):
        region = regions.align_tokens[t, regions.region_of_patch[t, row * 8 + column]]
        cosines = torch.nn.functional.cosine_similarity(region[None], model.entities)
        assert cosines[entity_Thw[t, row, column]] >= cosines.max() - 1e-6
    # The model tells the same shares of the patches.
    output = model(images[None])
    counted = np.bincount(entity_Thw.ravel(), minlength=len(ENTITIES)) / entity_Thw.size
    told = np.zeros(len(ENTITIES))
    told[output.entity_index[0].numpy()] = output.entity_weight[0].numpy()
    assert np.allclose(counted, told, atol=1e-6)
    assert len(np.unique(entity_Thw)) > 1


def test_pictures_are_strips_of_frames_with_the_coloured_ones_enlarged(model: AltModel) -> None:
    regions = region_map(model, np.random.default_rng(2).integers(0, 256, (4, 64, 64, 3), np.uint8))
    frames, tinted = pictures(regions, entity_colours([""] * len(ENTITIES)), num_frames=2)
    for picture, size in ((frames, (2 * 64 + 2, 64)), (tinted, (2 * 128 + 4, 128))):
        assert Image.open(io.BytesIO(picture.jpeg)).size == (picture.width, picture.height) == size


def test_regions_need_an_encoder(model: AltModel) -> None:
    stored = AltModel(None, model.entities, model.labels, logit_scale=1.0)
    with pytest.raises(ModelError, match="encoder"):
        region_map(stored, np.zeros((1, 64, 64, 3), np.uint8))


def test_frames_are_spread_from_the_first_to_the_last() -> None:
    assert spread(8, 4) == [0, 2, 5, 7]
    assert spread(3, 4) == [0, 1, 2]
    assert spread(1, 4) == [0]


class Reader(HTMLParser):
    """What a browser would find: tags with their attributes, texts, and tags that were never closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def page_with(text: str) -> Page:
    file = io.BytesIO()
    Image.new("RGB", (10, 6)).save(file, "JPEG")
    picture = Picture(file.getvalue(), 10, 6)
    chip = Chip(text, (255, 0, 16), 0.25)
    answers = (Answer(text, text, 0.5, True), Answer(text, text, 0.001, False))
    card = Card(text, text, (text, text), picture, picture, answers, (chip, chip))
    return Page(
        title=text,
        lead=text,
        scores=(Score(text, 4, 3, 5), Score("none", 8, 0, 0)),
        facts=(text,),
        reading=(text,),
        legend=((text, (replace(chip, share=None),)),),
        sections=(Section(text, text, (card, card)), Section("empty", "", ())),
    )


def test_the_page_holds_what_it_was_told_and_nothing_from_outside() -> None:
    html = html_of(page_with("a name"))
    page = Reader(html)
    assert page.open == []
    assert len(page.all("article")) == 2
    assert not page.all("script") and not page.all("link")
    assert not any("href" in attributes for _, attributes in page.found)
    assert "url(" not in html and "@import" not in html and "//" not in html.replace(_images(page), "")
    images = page.all("img")
    assert len(images) == 4
    for image in images:
        assert image["alt"]
        source = image["src"] or ""
        assert source.startswith("data:image/jpeg;base64,")
        decoded = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        assert (str(decoded.width), str(decoded.height)) == (image["width"], image["height"])
    for text in ("3 of 5", "60%", "25%", "50%", "<1%", "right", "wrong", "0 of 0"):
        assert text in [found.strip() for found in page.texts]
    assert html.count("background:#ff0010") == 5  # of each card two chips, and of the legend one


def test_every_text_on_the_page_is_escaped() -> None:
    html = html_of(page_with(NASTY))
    page, harmless = Reader(html), Reader(html_of(page_with("x")))
    assert "<script" not in html
    assert page.open == []
    assert [tag for tag, _ in page.found] == [tag for tag, _ in harmless.found]
    assert [set(attributes) for _, attributes in page.found] == [set(attributes) for _, attributes in harmless.found]
    assert page.texts.count(NASTY) == harmless.texts.count("x") > 10
    assert all(NASTY in (image["alt"] or "") for image in page.all("img"))


def test_the_legend_names_what_is_shown_by_category_in_the_order_of_the_corpus() -> None:
    corpus = [Entity("oak", "scene"), Entity("ear", "body_part"), Entity("elm", "scene"), Entity("toe", "body_part")]
    names, categories = [entity.name for entity in corpus], [entity.category for entity in corpus]
    colours = entity_colours(categories)
    assert legend_of(names, categories, colours, {3, 2, 0}) == (
        ("scene", (Chip("oak", colours[0]), Chip("elm", colours[2]))),
        ("body part", (Chip("toe", colours[3]),)),
    )
    assert legend_of(["oak"], [""], COLOURS, [0]) == (("entity", (Chip("oak", COLOURS[0]),)),)


def test_percents_are_whole_but_never_nothing_for_something() -> None:
    assert [percent(share) for share in (0.0, 0.001, 0.126, 1.0)] == ["0%", "<1%", "13%", "100%"]


def _images(page: Reader) -> str:
    return page.all("img")[0]["src"] or ""
