"""What the corpus and its builder are worth; prints the tables of docs/corpus.md.

python benchmarks/corpus.py senses       the meaning chosen against 2 x 100 judged by hand (benchmarks/data/)
python benchmarks/corpus.py coverage     labels of the field's data sets covered by what ships; doubles; labels that share all
python benchmarks/corpus.py build        time of building from 600 labels, and what is found without a language model
python benchmarks/corpus.py cache        20,000 entities embedded, and read from the cache
python benchmarks/corpus.py ablation     the pocket's ALT with its corpus, half of it, random words, irrelevant ones added
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from alt_ray.corpus import quality
from alt_ray.corpus.build import build
from alt_ray.corpus.disambiguate import Disambiguator
from alt_ray.corpus.entities import Corpus
from alt_ray.corpus.extract import phrases
from alt_ray.corpus.files import load_corpus
from alt_ray.corpus.glosses import read_glosses
from alt_ray.corpus.labels import read_labels
from alt_ray.corpus.wordnet import open_wordnet
from alt_ray.models.alt import AltModel
from alt_ray.models.text import label_embeddings
from alt_ray.models.textcache import cached_text
from alt_ray.models.training import RegionClassifier, predict
from alt_ray.pocket.tasks import HELD_OUT_SEED, TEMPLATE, TRAIN_SEED
from alt_ray.pocket.train import PocketTraining, encode_actions, pocket_encoder, train_adapter
from alt_ray.pocket.vocabulary import SEEN_ACTIONS, UNSEEN_ACTIONS, pocket_corpus

HERE = Path(__file__).parent
LISTS = ("ucf101", "hmdb51", "kinetics400", "kinetics600", "pocket")
TEST_SEED = HELD_OUT_SEED + 200


def label_file(name: str) -> str:
    return str(HERE.parent / "corpus" / "labels" / f"{name}.txt")


def senses() -> None:
    wordnet = open_wordnet()
    glosses = read_glosses(wordnet)
    encoder = pocket_encoder(merge_r=0)

    def embed(texts: list[str]) -> np.ndarray:
        return encoder.encode_text(texts).numpy()

    print("| set | method | nouns (65) | verbs (35) | all (100) |\n|---|---|---|---|---|")
    for name in ("senses_dev", "senses_test"):
        gold = [json.loads(line) for line in (HERE / "data" / f"{name}.jsonl").read_text().splitlines()]
        for method in ("first", "cosine", "lesk", "lesk+cosine"):
            chooser = Disambiguator(glosses, method, embed)
            right: dict[str, list[bool]] = {"noun": [], "verb": []}
            for item in gold:
                found = phrases(item["label"], wordnet)
                own = {phrase.words for phrase in found if phrase.lemma == item["lemma"]}
                others = [wordnet.senses(phrase.lemma, phrase.pos) for phrase in found if phrase.words not in own]
                best = chooser.best(wordnet.senses(item["lemma"], item["pos"]), item["label"], others)
                right[item["pos"]].append(best.key in item["keys"])
            both = right["noun"] + right["verb"]
            shares = [f"{np.mean(values):.2f}" for values in (right["noun"], right["verb"], both)]
            print(f"| {name} | {method} | {' | '.join(shares)} |", flush=True)
    print("cosine: the pocket's text encoder, which knows the few hundred words of its world")


def coverage() -> None:
    corpus = load_corpus()
    print(f"{len(corpus)} entities: {quality.by_category(corpus)}")
    print("| labels | covered | entities a label | share all entities | in the corpus |\n|---|---|---|---|---|")
    for name in LISTS:
        labels = read_labels(label_file(name))
        found = quality.coverage_by_source(corpus, labels)
        mean = np.mean([len(found.entities[label]) for label in labels])
        same, overlap = found.sharing_all(), quality.overlap(corpus, labels)
        print(f"| {name} ({len(labels)}) | {found.share:.3f} | {mean:.1f} | {len(same)} groups | {len(overlap)} |")
    problems = quality.problems_of(corpus, wordnet=open_wordnet())
    words = [set(entity.description.lower().rstrip(".").split()) for entity in corpus.entities]
    pairs = sum(len(a & b) / len(a | b) > 0.7 for i, a in enumerate(words) for b in words[:i])
    print(f"{len(problems)} problems; {pairs} pairs of descriptions share more than 0.7 of their words")


def building() -> None:
    labels = list(read_labels(label_file("kinetics600")))
    begun = time.perf_counter()
    glosses = read_glosses(open_wordnet())
    read_s = time.perf_counter() - begun
    entities = build(labels, glosses, Disambiguator(glosses))
    all_s = time.perf_counter() - begun
    found = quality.coverage_by_source(Corpus(tuple(entities), "built"), labels)
    print(f"{len(labels)} labels: {all_s:.0f} s, of which {read_s:.0f} s reading WordNet; {len(entities)} entities")
    print(f"covered without a language model: {found.share:.3f}")


def cache() -> None:
    encoder = pocket_encoder(merge_r=0)
    names = [entity.name for entity in load_corpus().entities]
    rng = np.random.default_rng(0)
    texts = [f"{names[a]} and {names[b]} {i}" for i, (a, b) in enumerate(rng.integers(len(names), size=(20_000, 2)))]
    with tempfile.TemporaryDirectory() as folder:
        for what in ("embedded", "from the cache"):
            begun = time.perf_counter()
            cached_text(encoder, texts, Path(folder))
            print(f"20,000 entities {what}: {time.perf_counter() - begun:.2f} s")


def ablation(seeds: list[int], per_action: int, epochs: int, only: str | None) -> None:
    encoder = pocket_encoder()
    seen = encode_actions(encoder, SEEN_ACTIONS, 15, TEST_SEED)
    unseen = encode_actions(encoder, UNSEEN_ACTIONS, 30, TEST_SEED)
    unseen_labels_CD = label_embeddings(encoder, UNSEEN_ACTIONS, TEMPLATE)
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in seeds:
        data = encode_actions(encoder, SEEN_ACTIONS, per_action, TRAIN_SEED + 1 + seed)
        for name, corpus in corpora(seed).items():
            if only not in (None, name):
                continue
            begun = time.perf_counter()
            base = PocketTraining()
            training = replace(
                base, train=replace(base.train, epochs=epochs), adapter={**base.adapter, "mix": 0.0}, seed=seed
            )
            model = train_adapter(encoder, data, SEEN_ACTIONS, training, corpus=corpus)
            top_1 = share(model, seen)
            model.set_labels(unseen_labels_CD)
            found.setdefault(name, []).append((top_1, share(model, unseen)))
            print(f"  seed {seed}, {name}: {found[name][-1]} ({time.perf_counter() - begun:.0f} s)", flush=True)
    print("\n| corpus | entities | seen (34) | unseen (8) |\n|---|---|---|---|")
    for name, runs in found.items():
        cells = [f"{np.mean(values):.3f} ± {np.std(values):.3f}" for values in zip(*runs, strict=True)]
        print(f"| {name} | {len(corpora(0)[name])} | {' | '.join(cells)} |")
    print(f"chance {1 / 34:.3f}, {1 / 8:.3f}; {len(seeds)} seeds, {per_action} clips an action, {epochs} epochs, mix 0")


def corpora(seed: int) -> dict[str, Corpus]:
    rng = np.random.default_rng(seed)
    own = pocket_corpus()
    names = {entity.name for entity in own.entities}
    others = [entity for entity in load_corpus().entities if entity.name not in names]
    order = rng.permutation(len(others))
    half = sorted(rng.permutation(len(own))[: len(own) // 2])
    return {
        "the pocket's": own,
        "half of it": Corpus(tuple(own.entities[i] for i in half), "half"),
        "random words": Corpus(tuple(others[i] for i in order[: len(own)]), "random"),
        "10 x irrelevant ones added": Corpus((*own.entities, *(others[i] for i in order[: 10 * len(own)])), "more"),
    }


def share(model: AltModel, data: object) -> float:
    logits, target = predict(RegionClassifier(model), data.in_order(64))  # type: ignore[attr-defined]
    return float((logits.argmax(1) == target).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=("senses", "coverage", "build", "cache", "ablation"))
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--per-action", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--only", choices=corpora(0), help="ablation of one corpus, to run several side by side")
    given = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "senses": senses,
        "coverage": coverage,
        "build": building,
        "cache": cache,
        "ablation": lambda: ablation(given.seeds, given.per_action, given.epochs, given.only),
    }
    parts[given.part]()


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    main()
