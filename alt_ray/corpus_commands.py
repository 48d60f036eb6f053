"""The commands `alt-ray corpus build | check | show | stats`: read options, call alt_ray.corpus, print the result."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from alt_ray.config_corpus import (
    CorpusBuildOptions,
    CorpusCheckOptions,
    CorpusShowOptions,
    CorpusStatsOptions,
    TextEncoderOptions,
)
from alt_ray.corpus import quality
from alt_ray.corpus.answers import Answers, Endpoint
from alt_ray.corpus.build import BuildOptions, build
from alt_ray.corpus.corrections import corrected, read_corrections
from alt_ray.corpus.disambiguate import Disambiguator, Embed
from alt_ray.corpus.entities import Corpus, Entity
from alt_ray.corpus.files import load_corpus
from alt_ray.corpus.glosses import read_glosses
from alt_ray.corpus.labels import read_labels
from alt_ray.corpus.wordnet import open_wordnet
from alt_ray.errors import CorpusError, UsageError

_FEW_SHOWN = 12


def corpus_build(options: CorpusBuildOptions) -> int:
    """Write the corpus; exit status 0. Raises UsageError and CorpusError for what is missing."""
    labels = list(dict.fromkeys(label for given in options.labels for label in read_labels(given)))
    corrections = read_corrections(Path(options.corrections)) if options.corrections else []
    answers = _answers(options)
    embed = _embed(options.text)
    begun = time.monotonic()
    out = sys.stderr if options.json else sys.stdout
    if answers is not None:
        for label in labels:
            answers.suggest(label)  # before anything that takes long: an endpoint may not be there
    print(f"{len(labels)} labels; reading WordNet", file=out, flush=True)
    glosses = read_glosses(open_wordnet())
    entities = build(
        labels,
        glosses,
        Disambiguator(glosses, options.method, embed),
        suggestions=answers,
        embed=embed,
        options=BuildOptions(options.per_label, options.min_strength),
    )
    entities, unused = corrected(entities, corrections)
    corpus = Corpus(tuple(entities), options.out)
    write_corpus(corpus, Path(options.out))
    coverage = quality.coverage_by_source(corpus, labels)
    poor = [label for label in labels if not coverage.is_covered(label)]
    for problem in [*(answers.problems if answers else ()), *unused]:
        print(f"warning: {problem}", file=sys.stderr)
    print(f"{len(corpus)} entities in {time.monotonic() - begun:.0f} s: {options.out}", file=out)
    _print_counts(corpus, out)
    print(
        f"  {coverage.share:.1%} of the labels have {quality.ENOUGH_ENTITIES} or more entities of "
        f"{quality.ENOUGH_CATEGORIES} or more categories{_listed('; these have not', poor)}",
        file=out,
    )
    if options.json:
        summary = {"entities": len(corpus), "labels": len(labels), "coverage": coverage.share, "digest": corpus.digest}
        print(json.dumps(summary))
    return 0


def corpus_check(options: CorpusCheckOptions) -> int:
    """Print every problem; 1 if there is any."""
    corpus = load_corpus(options.file)
    embed = _embed(options.text)
    wordnet = None
    if any(entity.sense for entity in corpus.entities):
        try:
            wordnet = open_wordnet()
        except CorpusError as exc:
            print(f"warning: sense keys are not checked: {exc}", file=sys.stderr)
    found = quality.problems_of(
        corpus,
        embedded_KD=embed(corpus.texts()) if embed is not None else None,
        wordnet=wordnet,
        same=options.same,
    )
    out = sys.stderr if options.json else sys.stdout
    for problem in found:
        print(problem, file=out)
    print(f"{options.file}: {len(corpus)} entities, {len(found)} problems", file=out)
    if options.json:
        print(json.dumps({"entities": len(corpus), "problems": found, "digest": corpus.digest}))
    return 1 if found else 0


def corpus_show(options: CorpusShowOptions) -> int:
    """Print the entities of one label."""
    corpus = load_corpus(options.corpus)
    embed = _embed(options.text)
    out = sys.stderr if options.json else sys.stdout
    rows: list[dict[str, Any]]
    if embed is not None:
        from alt_ray.models.text import prompts

        label_D = embed(prompts([options.label], options.template))[0]
        near = quality.nearest(corpus, embed(corpus.texts()), label_D, options.count)
        rows = [{"name": name, "category": category, "cosine": cosine} for name, category, cosine in near]
        print(f"{options.label!r}: the nearest of {len(corpus)} entities, by cosine", file=out)
    else:
        names = quality.coverage_by_source(corpus, [options.label]).entities[options.label]
        known = {entity.name: entity for entity in corpus.entities}
        rows = [{"name": name, "category": known[name].category} for name in names[: options.count]]
        print(f"{options.label!r}: {len(names)} of {len(corpus)} entities were drawn from it", file=out)
        if not names:
            print("  none; --encoder NAME --pretrained WEIGHTS shows the nearest of any label", file=out)
    description = {entity.name: entity.description for entity in corpus.entities}
    for row in rows:
        cosine = f"{row['cosine']:.3f}  " if "cosine" in row else ""
        print(f"  {cosine}{row['category']:9}  {row['name']}: {description[row['name']]}", file=out)
    if options.json:
        print(json.dumps({"label": options.label, "entities": rows}))
    return 0


def corpus_stats(options: CorpusStatsOptions) -> int:
    """Print counts by category, and the coverage of each list of labels."""
    corpus = load_corpus(options.corpus)
    embed = _embed(options.text)
    out = sys.stderr if options.json else sys.stdout
    print(f"{options.corpus}: {len(corpus)} entities, {corpus.digest}", file=out)
    _print_counts(corpus, out)
    found: dict[str, Any] = {"entities": quality.by_category(corpus), "digest": corpus.digest, "labels": {}}
    for given in options.labels:
        labels = read_labels(given)
        if embed is None:
            coverage = quality.coverage_by_source(corpus, labels)
        else:
            from alt_ray.models.text import prompts

            labels_CD = embed(prompts(labels, options.template))
            coverage = quality.coverage_by_cosine(corpus, labels, embed(corpus.texts()), labels_CD, options.within)
        poor = [label for label in labels if not coverage.is_covered(label)]
        same = coverage.sharing_all()
        overlap = quality.overlap(corpus, labels)
        counts = [len(coverage.entities[label]) for label in labels]
        how = "drawn from them" if embed is None else f"within a cosine of {options.within:g}"
        print(f"{given}: {len(labels)} labels, entities {how}", file=out)
        print(f"  a label has {min(counts)} to {max(counts)} entities, {np.mean(counts):.1f} on average", file=out)
        print(
            f"  {coverage.share:.1%} have {quality.ENOUGH_ENTITIES} or more of {quality.ENOUGH_CATEGORIES} or more categories"
            f"{_listed('; not', poor)}",
            file=out,
        )
        print(
            f"  {len(same)} groups share all their entities{_listed(':', [' = '.join(group) for group in same])}",
            file=out,
        )
        print(f"  {len(overlap)} are themselves names of entities{_listed(':', overlap)}", file=out)
        found["labels"][given] = {
            "labels": len(labels),
            "coverage": coverage.share,
            "not_covered": poor,
            "sharing_all": same,
            "in_corpus": overlap,
        }
    if options.json:
        print(json.dumps(found))
    return 0


def write_corpus(corpus: Corpus, path: Path) -> None:
    """Write one entity a line; a reader finds the old file or the new one."""
    temporary = path.with_name(f"{path.name}.part")
    lines = [json.dumps(_fields(entity), ensure_ascii=False) for entity in corpus.entities]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        temporary.rename(path)
    except OSError as exc:
        raise UsageError(f"--out {path}: can't be written ({exc.strerror or exc})") from exc


def _fields(entity: Entity) -> dict[str, Any]:
    return {key: value for key, value in asdict(entity).items() if value not in ("", ())}


def _answers(options: CorpusBuildOptions) -> Answers | None:
    if options.answers is None and options.llm_url is None:
        return None
    model = Endpoint(options.llm_url, options.llm_model, options.llm_key) if options.llm_url else None
    return Answers(Path(options.answers) if options.answers else None, model)


def _embed(options: TextEncoderOptions) -> Embed | None:
    """Return a function from texts to embeddings [n, D], or None where no encoder is named."""
    if options.encoder is None:
        if options.pretrained is not None:
            raise UsageError("--pretrained names weights; name the --encoder that they are for as well")
        return None
    from alt_ray.bundled import own_weights
    from alt_ray.models.encoder import load_encoder
    from alt_ray.models.textcache import cached_text

    if options.pretrained is None and own_weights(options.encoder) is None:
        raise UsageError(
            f"--encoder {options.encoder} has no weights: name them (--pretrained openai, or a file), or say "
            "--pretrained none for random ones, whose cosines mean nothing"
        )
    encoder = load_encoder(options.encoder, options.pretrained)
    return lambda texts: cached_text(encoder, texts).numpy()


def _print_counts(corpus: Corpus, out: Any) -> None:
    counts = quality.by_category(corpus)
    print("  " + ", ".join(f"{count} {category}" for category, count in counts.items()), file=out)


def _listed(head: str, entries: Sequence[str]) -> str:
    if not entries:
        return ""
    more = f" and {len(entries) - _FEW_SHOWN} more" if len(entries) > _FEW_SHOWN else ""
    return f"{head} {'; '.join(entries[:_FEW_SHOWN])}{more}"
