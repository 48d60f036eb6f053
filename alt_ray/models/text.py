"""Label names as prompts and prompts as embeddings. Knows nothing of entities: a name here is only words.

Shapes: C labels, D embedding dim.
"""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from alt_ray.errors import ModelError

TEMPLATES = {"photo": "a photo of a {}.", "video": "This is a video about {}", "bare": "{}"}


class TextEncoder(Protocol):
    """Anything that turns texts into L2-normalised embeddings, such as a RegionEncoder."""

    def encode_text(self, texts: Sequence[str], /) -> Tensor: ...


def split_camel_case(name: str) -> str:
    """Return a label name as words: "ApplyEyeMakeup" as "apply eye makeup", "brush_hair" as "brush hair".

    Words are lower-cased, acronyms ("TVShow", "3DPrinting") are not. A name with spaces is a phrase already, and
    only its underscores become spaces.
    """
    if any(char.isspace() for char in name.strip()):
        return " ".join(name.replace("_", " ").split())
    words = "".join(
        f" {char}" if _starts_word(name[i - 1 : i], char, name[i + 1 : i + 2]) else char for i, char in enumerate(name)
    )
    return " ".join(
        word if word.isupper() and len(word) > 1 else word.lower()
        for word in words.replace("_", " ").replace("-", " ").split()
    )


def prompts(names: Sequence[str], template: str = "photo") -> list[str]:
    """Put each label name, split into words, into a template: one of TEMPLATES or any text with exactly one {}."""
    text = TEMPLATES.get(template, template)
    if text.count("{}") != 1:
        raise ModelError(
            f"template {template!r} is neither one of {', '.join(TEMPLATES)} nor a text with exactly one {{}}"
        )
    return [text.replace("{}", split_camel_case(name)) for name in names]


def label_embeddings(encoder: TextEncoder, names: Sequence[str], template: str = "photo") -> Tensor:
    """Return the L2-normalised embedding of every label under the template, [C, D] float32."""
    return encoder.encode_text(prompts(names, template))


def _starts_word(before: str, char: str, after: str) -> bool:
    """Say whether `char` begins a word: the M of "eyeMakeup", the S of "TVShow", the 3 of "take360"."""
    if char.isupper():
        return before.islower() or ((before.isupper() or before.isdigit()) and after.islower())
    return char.isdigit() and before.islower()
