"""Label names as prompts and prompts as embeddings. Knows nothing of entities: a name here is only words.

Shapes: C labels, D embedding dim.
"""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from alt_ray.errors import ModelError
from alt_ray.words import split_camel_case

TEMPLATES = {"photo": "a photo of a {}.", "video": "This is a video about {}", "bare": "{}"}


class TextEncoder(Protocol):
    """Anything that turns texts into L2-normalised embeddings, such as a RegionEncoder."""

    def encode_text(self, texts: Sequence[str], /) -> Tensor: ...


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
