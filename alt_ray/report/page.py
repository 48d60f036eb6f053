"""One HTML page of videos: what the model answered, and which entities it saw where. One file, with nothing from outside.

Made of plain values: knows nothing of models, of Ray, or of how the pictures came about. Every text is escaped here.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from alt_ray.report.colours import Colour, css


@dataclass(frozen=True)
class Picture:
    """A JPEG and its size in pixels."""

    jpeg: bytes
    width: int
    height: int


@dataclass(frozen=True)
class Chip:
    """An entity by name and colour, with its share of the patches where there is one to tell."""

    name: str
    colour: Colour
    share: float | None = None


@dataclass(frozen=True)
class Answer:
    """The best of some labels and its probability among these, and whether that is the truth."""

    among: str
    label: str
    score: float
    is_right: bool


@dataclass(frozen=True)
class Card:
    """One video. `coloured` shows the frames of `frames` once more, each patch in the colour of its entity."""

    title: str
    tag: str
    facts: tuple[str, ...]
    frames: Picture
    coloured: Picture
    answers: tuple[Answer, ...]
    entities: tuple[Chip, ...]


@dataclass(frozen=True)
class Section:
    title: str
    text: str
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Score:
    """How often the best of `num_labels` labels was right."""

    name: str
    num_labels: int
    right: int
    total: int

    @property
    def share(self) -> float:
        return self.right / self.total if self.total else 0.0

    @property
    def chance(self) -> float:
        return 1 / self.num_labels


@dataclass(frozen=True)
class Page:
    """`reading` explains a card, line by line. `legend` has the entities that the videos show, by category."""

    title: str
    lead: str
    scores: tuple[Score, ...]
    facts: tuple[str, ...]
    reading: tuple[str, ...]
    legend: tuple[tuple[str, tuple[Chip, ...]], ...]
    sections: tuple[Section, ...]


def html_of(page: Page) -> str:
    """Return the whole document."""
    legend = "".join(f"<dt>{escape(name)}</dt><dd>{_chips(chips)}</dd>" for name, chips in page.legend)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(page.title)}</title>",
            f"<style>{_STYLE}</style></head><body>",
            f'<header><h1>{escape(page.title)}</h1><p class="lead">{escape(page.lead)}</p></header>',
            _scores(page.scores),
            *(f'<p class="quiet">{escape(fact)}</p>' for fact in page.facts),
            "<h2>How to read a card</h2>",
            f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in page.reading)}</ul>",
            f"<dl>{legend}</dl>",
            *(_section(section) for section in page.sections),
            "</body></html>",
            "",
        ]
    )


def legend_of(
    names: Sequence[str], categories: Sequence[str], colours: Sequence[Colour], shown: Iterable[int]
) -> tuple[tuple[str, tuple[Chip, ...]], ...]:
    """Return the legend of the entities `shown` (indices into the others), in the order of the corpus."""
    legend: dict[str, list[Chip]] = {}
    for k in sorted(set(shown), key=lambda k: (list(categories).index(categories[k]), k)):
        legend.setdefault(categories[k].replace("_", " ") or "entity", []).append(Chip(names[k], colours[k]))
    return tuple((category, tuple(chips)) for category, chips in legend.items())


def percent(share: float) -> str:
    """Whole percents, but never 0% of something."""
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def _scores(scores: Sequence[Score]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(score.name)}</th><td class="count">{score.right} of {score.total}</td>'
        f'<td class="big">{escape(percent(score.share))}</td><td>{escape(percent(score.chance))}</td>'
        f'<td class="bar" aria-hidden="true"><div><i style="width:{score.share:.1%}"></i>'
        f'<b style="left:{score.chance:.1%}"></b></div></td></tr>'
        for score in scores
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("best label is right", "videos", "share", "chance"))
    return (
        f'<table><thead><tr>{head}<td class="bar"></td></tr></thead><tbody>{rows}</tbody></table>'
        '<p class="quiet bar">The mark in a bar is chance.</p>'
    )


def _section(section: Section) -> str:
    cards = "\n".join(_card(card) for card in section.cards)
    title, text = escape(section.title), escape(section.text)
    return f'<section><h2>{title}</h2><p>{text}</p>\n<div class="cards">\n{cards}\n</div></section>'


def _card(card: Card) -> str:
    entities = ", ".join(f"{chip.name} {percent(chip.share or 0)}" for chip in card.entities)
    facts = "".join(f"<span>{escape(fact)}</span>" for fact in card.facts)
    return (
        f'<article><h3>{escape(card.title)} <span class="tag">{escape(card.tag)}</span></h3>'
        f'<p class="facts">{facts}</p>'
        f"{_image(card.frames, f'frames of a video: {card.title}')}"
        f"{_image(card.coloured, f'the same frames, patches coloured by entity: {entities}')}"
        f"<ul class='answers'>{''.join(_answer(answer) for answer in card.answers)}</ul>"
        f'<p class="chips">{_chips(card.entities)}</p></article>'
    )


def _answer(answer: Answer) -> str:
    kind, word = ("right", "right") if answer.is_right else ("wrong", "wrong")
    return (
        f'<li><span class="verdict {kind}">{word}</span> <strong>{escape(answer.label)}</strong> '
        f"{escape(percent(answer.score))} <span class='quiet'>{escape(answer.among)}</span></li>"
    )


def _chips(chips: Sequence[Chip]) -> str:
    return " ".join(
        f'<span class="chip"><i style="background:{css(chip.colour)}"></i>{escape(chip.name)}'
        f"{'' if chip.share is None else f' <b>{escape(percent(chip.share))}</b>'}</span>"
        for chip in chips
    )


def _image(picture: Picture, text: str) -> str:
    data = base64.b64encode(picture.jpeg).decode()
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<img src="data:image/jpeg;base64,{data}" {size} alt="{escape(text)}">'


_STYLE = """
:root{--ink:#1d232b;--quiet:#5b6572;--ground:#f5f6f8;--card:#fff;--line:#d9dde3;--good:#136c3a;--bad:#a3271d;--bar:#3867a8}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ee;--quiet:#9ba5b3;--ground:#14171c;--card:#1d2229;--line:#343b46;
--good:#6fd39a;--bad:#ff9a8d;--bar:#7aa7e6}}
*{box-sizing:border-box}
body{margin:0 auto;padding:24px 16px 48px;max-width:1180px;background:var(--ground);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:28px;line-height:1.2;margin:0 0 8px}
h2{font-size:20px;margin:32px 0 8px}
h3{font-size:16px;margin:0;display:flex;justify-content:space-between;align-items:baseline;gap:8px}
p,ul,dl{margin:0 0 8px;max-width:76ch}
ul{padding-left:20px}
.lead{font-size:18px;margin-bottom:16px}
.quiet{color:var(--quiet)}
table{border-collapse:collapse;margin:0 0 12px;font-variant-numeric:tabular-nums}
th,td{padding:6px 20px 6px 0;text-align:left;border-bottom:1px solid var(--line);font-weight:400}
thead th{color:var(--quiet);font-size:14px}
.big{font-weight:700}
.count{white-space:nowrap}
td.bar{width:220px;padding-right:0}
.bar div{position:relative;height:12px;background:var(--line);border-radius:3px}
.bar i{display:block;height:100%;background:var(--bar);border-radius:3px}
.bar b{position:absolute;top:-3px;bottom:-3px;width:2px;background:var(--ink)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:6px 16px;margin-top:12px;max-width:none}
dt{color:var(--quiet);font-size:14px}
dd{margin:0;display:flex;flex-wrap:wrap;gap:4px 14px}
.chip{white-space:nowrap;font-size:14px}
.chip i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:5px;vertical-align:-1px;
box-shadow:inset 0 0 0 1px rgb(0 0 0/.25)}
.chip b{font-weight:400;color:var(--quiet)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,420px),1fr));gap:16px;margin-top:16px}
article{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px}
article img{display:block;width:100%;height:auto;margin-bottom:4px;border-radius:3px}
.tag{font-size:12px;font-weight:400;color:var(--quiet);border:1px solid var(--line);border-radius:99px;
padding:0 8px;white-space:nowrap}
.facts{color:var(--quiet);font-size:14px;margin:0 0 8px}
.facts span+span::before{content:"\\b7";margin:0 6px}
.answers{list-style:none;padding:0;margin:10px 0}
.answers li{margin-bottom:4px}
.verdict{display:inline-block;width:52px;line-height:20px;margin-right:4px;text-align:center;font-size:13px;
border-radius:4px;border:1px solid currentColor}
.right{color:var(--good)}
.wrong{color:var(--bad);border-style:dashed}
.chips{display:flex;flex-wrap:wrap;gap:4px 14px;margin:0}
@media (max-width:560px){h1{font-size:24px}.bar{display:none}th,td{padding-right:12px}dl{grid-template-columns:1fr;gap:2px}
dd{margin-bottom:8px}}
""".strip().replace("\n", "")
