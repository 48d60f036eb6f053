"""What a language model says belongs to an action: an optional source of entities. Knows nothing of WordNet.

Answers come from a JSONL file, or from any endpoint that speaks OpenAI's chat protocol; what an endpoint answers is added to
the file, so that the same labels are never asked twice and a build can be repeated without it.

    {"label": "abseiling", "entities": [{"name": "rope", "category": "object", "description": "..."}, ...]}
"""

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from alt_ray.corpus.entities import CATEGORIES
from alt_ray.corpus.textfile import read_text
from alt_ray.errors import CorpusError

PROMPT = """Single frames of a video show this action: "{label}".
Name 8 to 12 visible things by which somebody who sees the frames would recognise it. Four categories are allowed:
body_part (parts of people or animals that act or are shown), object (tools, clothes, animals, food, materials, roles such as
"referee"), scene (the place), motion (elementary movements and postures as gerunds such as "throwing", never the action itself).
Names are lower-case, singular, common English, of one to three words. A description is one sentence about how the thing looks.
Answer with one JSON object and nothing else:
{{"entities": [{{"name": "...", "category": "...", "description": "..."}}]}}"""
_TRIES = 3
_MOST_IN_A_ROW = 3  # labels without a usable answer, after which asking on would only cost time
_FENCE = re.compile(r"^```\w*\n|\n```$")


@dataclass(frozen=True)
class Suggestion:
    """An entity that somebody or something proposes for a label."""

    name: str
    category: str
    description: str = ""


class NobodyAnswersError(CorpusError):
    """The language model can't be asked at all: no label would get an answer."""


class Source(Protocol):
    """Where suggestions come from."""

    def suggest(self, label: str) -> list[Suggestion]: ...


@dataclass
class Endpoint:
    """A language model behind OpenAI's chat protocol. `url` ends before /chat/completions; the key is read from a variable."""

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    timeout_s: float = 60.0

    def suggest(self, label: str) -> list[Suggestion]:
        """Ask for one label.

        Raises CorpusError if there is no answer, or it isn't what was asked for; NobodyAnswersError if no other label would
        get one either: the address is wrong, nobody listens there, or the key is refused.
        """
        question = {
            "model": self.model,
            "messages": [{"role": "user", "content": PROMPT.format(label=label)}],
            "temperature": 0,
        }
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.key_variable):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/chat/completions", json.dumps(question).encode(), headers
        )
        answer = self._answer(request)
        try:
            content = json.loads(answer)["choices"][0]["message"]["content"]
            return _suggestions(json.loads(_FENCE.sub("", content.strip())))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, CorpusError) as exc:
            raise CorpusError(f"{self.url} gave no usable answer for {label!r}: {exc}") from exc

    def _answer(self, request: urllib.request.Request) -> bytes:
        for attempt in range(_TRIES):
            error: type[CorpusError] = CorpusError
            try:
                with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
                    return response.read()
            except urllib.error.HTTPError as exc:
                reason = f"{exc.code} {exc.reason}"
                if exc.code < 500 and exc.code not in (408, 429):
                    error = NobodyAnswersError
                    break  # asking again would not help
            except TimeoutError:
                reason = f"no answer within {self.timeout_s:g} s"
            except (OSError, http.client.HTTPException) as exc:
                reason = str(getattr(exc, "reason", exc)) or type(exc).__name__
                error = NobodyAnswersError
            if attempt + 1 < _TRIES:
                time.sleep(2**attempt)
        raise error(f"{self.url} can't be asked: {reason}; check the address, and the key in {self.key_variable}")


@dataclass
class Answers:
    """Answers of a file, and of `model` for labels that the file lacks; these are appended to it.

    Raises CorpusError for a file that can't be read or written.
    """

    path: Path | None = None
    model: Source | None = None
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._in_a_row = 0
        self._unanswered: set[str] = set()  # not asked again by this process
        self._known = read_answers(self.path) if self.path is not None and self.path.exists() else {}
        if self.path is not None and self.model is None and not self.path.exists():
            raise CorpusError(f"{self.path}: no such file; expected answers, or a language model to ask for them")

    def suggest(self, label: str) -> list[Suggestion]:
        """Return what is known of a label, or what the model says now; nothing if neither does (`problems` says why).

        Raises NobodyAnswersError if asking for further labels is of no use. What was answered before is in the file.
        """
        if label in self._known or label in self._unanswered or self.model is None:
            return self._known.get(label, [])
        try:
            found = self.model.suggest(label)
        except NobodyAnswersError:
            raise
        except CorpusError as exc:
            self.problems.append(str(exc))
            self._unanswered.add(label)
            self._in_a_row += 1
            if self._in_a_row == _MOST_IN_A_ROW:
                raise NobodyAnswersError(
                    f"{self._in_a_row} labels in a row had no usable answer; the last: {exc}"
                ) from exc
            return []
        self._in_a_row = 0
        self._known[label] = found
        if self.path is not None:
            self._keep(self.path, json.dumps({"label": label, "entities": [_fields(entry) for entry in found]}))
        return found

    @staticmethod
    def _keep(path: Path, line: str) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as exc:
            raise CorpusError(f"{path}: answers can't be written ({exc.strerror or exc})") from exc


def read_answers(path: Path) -> dict[str, list[Suggestion]]:
    """Read a file of answers. Raises CorpusError that names every bad line by number."""
    found: dict[str, list[Suggestion]] = {}
    problems = []
    for number, line in enumerate(read_text(path, CorpusError).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
            if not isinstance(content, dict) or not isinstance(content.get("label"), str):
                raise CorpusError("expected an object with label and entities")
            found[content["label"]] = _suggestions(content)
        except (ValueError, CorpusError) as exc:
            problems.append(f"line {number}: {exc}")
    if problems:
        raise CorpusError("\n  ".join([f"{path}: {len(problems)} bad lines", *problems[:10]]))
    return found


def _suggestions(content: Any) -> list[Suggestion]:
    entries = content.get("entities") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise CorpusError("expected a list `entities`")
    return [_suggestion(entry) for entry in entries]


def _suggestion(entry: Any) -> Suggestion:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"].strip():
        raise CorpusError(f"{entry!r} is not an entity with a name")
    if entry.get("category") not in CATEGORIES:
        raise CorpusError(
            f"unknown category {entry.get('category')!r} of {entry['name']!r}; expected {', '.join(CATEGORIES)}"
        )
    return Suggestion(entry["name"].strip(), entry["category"], str(entry.get("description") or "").strip())


def _fields(entry: Suggestion) -> dict[str, str]:
    found = {"name": entry.name, "category": entry.category}
    return {**found, "description": entry.description} if entry.description else found
