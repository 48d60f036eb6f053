"""Which label or clip a name of a user's stands for: manifests, lists of shots, of tests, of classes. Knows no splits or scores.

C labels.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from alt_ray.corpus.extract import label_words
from alt_ray.corpus.labels import read_labels
from alt_ray.corpus.textfile import read_text
from alt_ray.errors import UsageError

_HEADERS = {"path", "uri", "video_id", "id", "video", "file"}


def texts(clips: pa.Table, column: str) -> np.ndarray:
    """Return a column of text as objects [N], None where it is null; all None for a column that the table lacks."""
    if column not in clips.column_names:
        return np.full(clips.num_rows, None, dtype=object)
    return np.array([*clips[column].to_pylist(), None], dtype=object)[:-1]


def some(names: Sequence[str], at_most: int = 5) -> str:
    """Return the first names, quoted, for a message."""
    return ", ".join(map(repr, names[:at_most])) + (f" and {len(names) - at_most} more" if len(names) > at_most else "")


def name_key(name: str) -> str:
    """Return what spellings of one label share: "BrushHair", "brush_hair" and "Brush hair" are the same.

    Without blanks: UCF101 itself writes both HandstandPushups and HandStandPushups.
    """
    key = re.sub(r"[\s_-]+", "", unicodedata.normalize("NFC", name).casefold())
    return key or name


class LabelNames:
    """Finds labels by name, whatever the spelling."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self._exact = {label: c for c, label in enumerate(labels)}
        self._by_key = defaultdict(list)
        for c, label in enumerate(labels):
            self._by_key[name_key(label)].append(c)

    def find(self, name: str) -> int | None:
        """Return the index of the label, None if there is none. Raises UsageError for a spelling that fits several."""
        if name in self._exact:
            return self._exact[name]
        found = self._by_key.get(name_key(name), [])
        if len(found) > 1:
            raise UsageError(
                f"label {name!r} may be any of {some([self.labels[c] for c in found])}: write it as one of them"
            )
        return found[0] if found else None


def resolve_labels(clips: pa.Table, labels: Sequence[str] | None) -> tuple[tuple[str, ...], pa.Table, int]:
    """Return the C >= 2 labels, the clips with these as their labels, and how many clips lost one that is none of them.

    Without `labels` they are those of the clips, sorted; of several spellings of one label the most frequent stands for it.
    Labels of clips may be ids too, counted from 0 or 1, if `labels` gives their names. Raises UsageError: no clip has a
    label or one of these, fewer than 2 labels, ids without names or out of range, spellings that fit several labels, video ids
    that are repeated.
    """
    repeated = [name for name, count in Counter(texts(clips, "video_id")).items() if count > 1]
    if repeated:
        raise UsageError(
            f"{len(repeated)} video ids stand in several rows ({some(repeated)}): expected one row per clip"
        )
    named = texts(clips, "label")
    counts = Counter(name for name in named if name is not None)
    if not counts:
        raise UsageError("no clip has a label; give a manifest with a column 'label'")
    are_ids = all(re.fullmatch(r"[0-9]{1,9}", name) for name in counts)
    if labels is None:
        if are_ids:
            raise UsageError(
                f"the labels of the clips are numbers ({some(sorted(counts, key=int))}): their names are needed, as "
                "--labels FILE with one name a line in the order of the numbers, or id,name"
            )
        labels = _spellings(counts)
    if len(labels) < 2:
        raise UsageError(f"the only label is {some(labels)}, which would always be right; expected at least 2 labels")
    names = LabelNames(labels)
    meaning = {name: names.find(name) for name in counts}
    if are_ids and None in meaning.values():
        meaning = _by_id(sorted(map(int, counts)), names.labels, counts)
    if all(c is None for c in meaning.values()):
        raise UsageError(
            f"no clip has one of the labels {some(names.labels)}: those of the clips are {some(sorted(counts))}"
        )
    found = [None if name is None or (c := meaning[name]) is None else names.labels[c] for name in named]
    other = sum(count for name, count in counts.items() if meaning[name] is None)
    place = clips.column_names.index("label")
    return names.labels, clips.set_column(place, "label", pa.array(found, pa.string())), other


def _spellings(counts: Counter[str]) -> list[str]:
    best: dict[str, str] = {}
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        best.setdefault(name_key(name), name)
    return sorted(best.values())


def _by_id(ids: list[int], labels: tuple[str, ...], names: Counter[str]) -> dict[str, int | None]:
    if ids[0] > 0 and ids[-1] < len(labels):
        raise UsageError(
            f"the labels of the clips are numbers from {ids[0]} to {ids[-1]}, of {len(labels)} labels: whether they count "
            "from 0 or from 1 can't be told; write names"
        )
    first = 0 if ids[0] == 0 else 1
    if ids[-1] - first >= len(labels):
        raise UsageError(
            f"label {ids[-1]} of the clips is out of range: {len(labels)} labels are {first} to {len(labels) - 1 + first}"
        )
    return {name: int(name) - first for name in names}


def read_shot_list(path: str) -> tuple[str, ...]:
    """Return the lines of a list of clips, without blank ones and a header. Raises UsageError if it can't be read or is empty.

    Each line is a video id, a uri or the end of a path, perhaps with a label after it. Which part is which is told by the
    clips (`find_listed`): file names hold blanks and commas.
    """
    lines = [line.strip() for line in read_text(Path(path), UsageError).split("\n") if line.strip()]
    if lines and re.split(r"[,;\t ]", lines[0])[0].strip('"').lower() in _HEADERS:
        lines = lines[1:]
    if not lines:
        raise UsageError(f"{path}: no clips; expected one video id or path a line, perhaps with a label after it")
    return tuple(lines)


def find_listed(clips: pa.Table, lines: Sequence[str], where: str) -> np.ndarray:
    """Return the indices (int64, sorted) of the clips that the lines of a list name; all clips of a file that is named.

    A path may lack folders in front and its extension. Raises UsageError for lines that name no clip or several files, and
    for a label that is not the clip's; a label that is a number is not compared.
    """
    places = _Places(clips)
    label = texts(clips, "label")
    found: set[int] = set()
    unknown = []
    for line in lines:
        # From the right: what is left of a blank or comma is the name, the longest that there is.
        ends = [len(line), *(match.start() for match in reversed(list(re.finditer(r"[\s,;]+", line))))]
        for end in ends:
            if rows := places.find(line[:end], where):
                break
        else:
            unknown.append(line)
            continue
        said = line[end:].strip(' \t,;"')
        own = label[rows[0]]
        if said and not said.isdecimal() and own is not None and name_key(said) != name_key(own):
            raise UsageError(f"{where}: {line!r} says {said!r}, but the label of that clip is {own!r}")
        found.update(rows)
    if unknown:
        raise UsageError(
            f"{where}: {len(unknown)} of {len(lines)} lines name no clip: {some(unknown)}; expected a video id, a uri or the "
            "end of a path, perhaps with a label after it"
        )
    return np.array(sorted(found), np.int64)


class _Places:
    """Finds clips by id, uri or the end of a path."""

    def __init__(self, clips: pa.Table) -> None:
        self._by_id = {name: row for row, name in enumerate(texts(clips, "video_id"))}
        self._uris = texts(clips, "uri")
        self._by_name = defaultdict(list)
        for row, uri in enumerate(self._uris):
            if uri is not None:
                name = uri.rpartition("/")[2]
                for spelling in {name, _without_extension(name)}:
                    self._by_name[spelling].append(row)

    def find(self, name: str, where: str) -> list[int]:
        if len(name) > 1 and name[0] == name[-1] == '"':
            name = name[1:-1].replace('""', '"')
        if name in self._by_id:
            return [self._by_id[name]]
        name = name.removeprefix("./")
        rows = [
            row
            for row in self._by_name.get(name.rpartition("/")[2], [])
            if any(
                uri == name or uri.endswith(f"/{name}")
                for uri in (self._uris[row], _without_extension(self._uris[row]))
            )
        ]
        files = sorted({self._uris[row] for row in rows})
        if len(files) > 1:
            raise UsageError(f"{where}: {name!r} may be any of {some(files)}: write more of the path")
        return rows


def _without_extension(uri: str) -> str:
    return re.sub(r"(?<=[^/])\.[^./\s]+$", "", uri)


def read_class_splits(files: Sequence[str], labels: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return, for each file of class names, its labels in label order (K600-style: three splits of 160 new classes).

    Raises UsageError for a file that can't be read or holds fewer than 2 names, and names those that are no labels.
    """
    names = LabelNames(labels)
    splits = []
    for file in files:
        found = {name: names.find(name) for name in read_labels(file)}
        if unknown := [name for name, c in found.items() if c is None]:
            raise UsageError(f"{file}: {len(unknown)} names are no labels: {some(unknown)}; expected of {some(labels)}")
        splits.append(tuple(labels[c] for c in sorted({c for c in found.values() if c is not None})))
    return tuple(splits)


def disclosure(test_labels: Sequence[str], corpus_names: Sequence[str]) -> list[str]:
    """Return the test labels that are names of entities (give aliases too): to be said beside any zero-shot figure.

    As alt_ray.corpus.quality.overlap, for a corpus of which only the names are known.
    """
    known = {" ".join(label_words(name)) for name in corpus_names}
    return [label for label in test_labels if " ".join(label_words(label)) in known]
