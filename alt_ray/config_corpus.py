"""Options of `alt-ray corpus build | check | show | stats`. Knows nothing of torch or WordNet."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from alt_ray.errors import UsageError

Method = Literal["lesk", "first", "cosine", "lesk+cosine"]
NEAR_IDENTICAL = 0.985  # cosine of two texts that an encoder can't tell apart


@dataclass(frozen=True)
class TextEncoderOptions:
    """Whose text encoder embeds entities and labels, where the command needs one."""

    encoder: str | None = None
    """open_clip model name, a JSON model config, or pocket."""
    pretrained: str | None = None
    """open_clip tag, a checkpoint file, or "none" for random weights; pocket has its own."""


@dataclass(frozen=True)
class CorpusBuildOptions:
    """Build an entity corpus from action labels: nouns and verbs of the labels, their parts, tools and places, by WordNet."""

    labels: tuple[str, ...]
    """Label files, one name a line, or a list with commas."""
    out: str
    """File to write (.jsonl)."""
    per_label: int = 12
    """Entities that a label brings at most from WordNet."""
    min_strength: float = 0.45
    """How strongly the labels together must bring an entity: 1 a word of a label, 0.7 of its gloss, 0.3 to 0.5 a relative."""
    method: Method = "lesk"
    """How the meaning of a word is chosen: by glosses, the most frequent, or by cosines of an --encoder."""
    answers: str | None = None
    """JSONL file of a language model's answers; with --llm-url, labels that it lacks are asked for and added to it."""
    llm_url: str | None = None
    """Endpoint of a language model that speaks OpenAI's chat protocol, such as http://localhost:8000/v1."""
    llm_model: str = "default"
    """Its model name."""
    llm_key: str = "OPENAI_API_KEY"
    """Environment variable that holds its key."""
    corrections: str | None = None
    """JSONL file of corrections by hand, applied last."""
    text: TextEncoderOptions = field(default_factory=TextEncoderOptions)
    json: bool = False
    """End standard output with one line of JSON."""

    def __post_init__(self) -> None:
        if not self.out.endswith(".jsonl"):
            raise UsageError(f"--out {self.out}: a corpus is written as .jsonl")
        if "cosine" in self.method and self.text.encoder is None:
            raise UsageError(f"--method {self.method} compares embeddings: name an --encoder, and its weights")


@dataclass(frozen=True)
class CorpusCheckOptions:
    """Say what is wrong with a corpus; exit status 1 if anything is."""

    file: Annotated[Positional[str], arg(metavar="FILE")]
    """Corpus (.jsonl, .csv, .txt), or "default" for the one that comes with this package."""
    same: float = NEAR_IDENTICAL
    """Cosine from which two entities count as the same (with an --encoder)."""
    text: TextEncoderOptions = field(default_factory=TextEncoderOptions)
    json: bool = False
    """End standard output with one line of JSON."""


@dataclass(frozen=True)
class CorpusShowOptions:
    """Show the entities of a label: those drawn from it, or with an --encoder those nearest to it."""

    label: str
    """The label's name."""
    corpus: str | None = None
    """Corpus; none: the one that comes with this package."""
    template: str = "photo"
    """Text around the label, with an --encoder."""
    count: int = 15
    """Entities shown."""
    text: TextEncoderOptions = field(default_factory=TextEncoderOptions)
    json: bool = False
    """End standard output with one line of JSON."""


@dataclass(frozen=True)
class CorpusStatsOptions:
    """Count a corpus by category, and say how well it covers a list of labels.

    An entity counts for a label that it was drawn from; with an --encoder, if it comes within --within of the label's embedding.
    """

    corpus: Annotated[Positional[str], arg(metavar="FILE")] = "default"
    """Corpus; none: the one that comes with this package."""
    labels: tuple[str, ...] = ()
    """Label files, each reported on its own; a list with commas is one of its own, too."""
    within: float = 0.3
    """Cosine within which an entity counts for a label."""
    template: str = "photo"
    """Text around the labels, with an --encoder."""
    text: TextEncoderOptions = field(default_factory=TextEncoderOptions)
    json: bool = False
    """End standard output with one line of JSON."""
