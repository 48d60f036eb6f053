"""What the shipped pocket model is worth, on clips that no training saw; prints the tables of docs/pocket.md.

python benchmarks/pocket.py frozen               frames, zero-shot, beside chance
python benchmarks/pocket.py regions              regions and entities against the masks, for several r
python benchmarks/pocket.py methods              ALT, learned queries, frozen CLIP: all clips, few shots, unseen actions, pairs
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from alt_ray.corpus.entities import Corpus
from alt_ray.models.alt import AltModel
from alt_ray.models.configs import AlignmentConfig
from alt_ray.models.encoder import RegionEncoder
from alt_ray.models.regionset import RegionSet
from alt_ray.models.text import label_embeddings
from alt_ray.models.training import RegionClassifier, predict
from alt_ray.pocket.probe import zero_shot
from alt_ray.pocket.region_truth import masked_frames, region_report
from alt_ray.pocket.tasks import HELD_OUT_SEED, TEMPLATE, TRAIN_SEED, within
from alt_ray.pocket.train import PocketTraining, encode_actions, pocket_encoder, train_adapter
from alt_ray.pocket.vocabulary import MOTION_ONLY_PAIRS, SEEN_ACTIONS, UNSEEN_ACTIONS, pocket_corpus

BY_ENTITY = AlignmentConfig(pooling="entity", class_token=False)
METHODS: dict[str, tuple[dict[str, object], AlignmentConfig]] = {
    "ALT": ({"queries": "entity"}, AlignmentConfig()),
    "ALT, pooled by entity": ({"queries": "entity"}, BY_ENTITY),
    "learned queries": ({"queries": "learned"}, AlignmentConfig()),
    # Why the one wins or the other: run on demand (--methods).
    "ALT, no scenes in the corpus": ({"queries": "entity"}, AlignmentConfig()),
    "ALT, no noise": ({"queries": "entity"}, AlignmentConfig(gumbel=False)),
    "ALT, temperature 0.1": ({"queries": "entity"}, AlignmentConfig(temperature=0.1)),
}
ON_DEMAND = tuple(METHODS)[3:]
FEW_SHOTS = {"epochs": 50, "warmup_epochs": 5.0}  # as few-shot runs of the field have
TEST_SEED = HELD_OUT_SEED + 100  # settings were chosen on clips of HELD_OUT_SEED itself
MIXES = (0.0, 0.5)


def frozen(per_action: int) -> None:
    found = zero_shot(pocket_encoder(merge_r=0), per_action=per_action)
    print("| asked of a frame | top-1 | chance |\n|---|---|---|")
    for name in ("seen_action", "unseen_action", "object", "scene", "body_part"):
        print(f"| {name.replace('_', ' ')} | {found[name]:.3f} | {found[f'chance_{name}']:.3f} |")


def regions(num_frames: int) -> None:
    frames = masked_frames(num_frames, pocket_encoder().image_size)
    columns = ("all", "body_part", "object", "scene")
    print("named right (68 names; own category's alone) by r\n")
    heads = [*columns, *(f"{name} among own" for name in columns[1:]), "balanced", "per patch", "purity", "grid"]
    print(f"| r | regions | {' | '.join(heads)} |\n" + "|---" * (len(heads) + 2) + "|")
    for r in (0, 2, 4, 6):
        report = region_report(pocket_encoder(merge_r=r), frames)
        shares = [report.named_right[name] for name in columns]
        shares += [report.named_among_own[name] for name in columns[1:]]
        shares += [report.balanced, report.patches_right["all"], report.purity, report.grid_purity]
        print(f"| {r} | {report.regions} | {' | '.join(f'{share:.3f}' for share in shares)} |")
    print(f"chance {report.chance:.4f}; regions asked at r = 6: {report.count}")


@dataclass
class Tests:
    """What a model is asked: held-out clips of the actions that it was trained on, and of others with their own labels."""

    seen: RegionSet
    unseen: RegionSet
    unseen_labels_CD: torch.Tensor

    def ask(self, model: AltModel) -> dict[str, float]:
        logits, target = (t.numpy() for t in predict(RegionClassifier(model), self.seen.in_order(64)))
        pairs = [[SEEN_ACTIONS.index(name) for name in pair] for pair in MOTION_ONLY_PAIRS]
        seen_labels_CD = model.labels
        model.set_labels(self.unseen_labels_CD)
        unseen_logits, unseen_target = predict(RegionClassifier(model), self.unseen.in_order(64))
        model.set_labels(seen_labels_CD)
        return {
            "seen": float((logits.argmax(1) == target).mean()),
            "pairs": within(logits, target, pairs),
            "unseen": float((unseen_logits.argmax(1) == unseen_target).float().mean()),
        }


def methods(given: argparse.Namespace) -> None:
    """Train and ask ALT and its rival. One trained model is asked twice: as it is, and mixed with the frozen embedding."""
    encoder = pocket_encoder()
    tests = Tests(
        encode_actions(encoder, SEEN_ACTIONS, 15, TEST_SEED),
        encode_actions(encoder, UNSEEN_ACTIONS, 30, TEST_SEED),
        label_embeddings(encoder, UNSEEN_ACTIONS, TEMPLATE),
    )
    plain = AltModel(encoder, entities(encoder), label_embeddings(encoder, SEEN_ACTIONS, TEMPLATE)).eval()
    found: dict[str, list[dict[str, float]]] = {"frozen CLIP, mean of frames": [tests.ask(plain)]}
    for seed in given.seeds:
        pool = encode_actions(encoder, SEEN_ACTIONS, given.per_action, TRAIN_SEED + 1 + seed)
        for shot in given.shots:
            # In a RegionSet clips come in turns, one of each action: the first ones are so many of each.
            data = pool.subset(torch.arange(len(SEEN_ACTIONS) * (shot or given.per_action)))
            for method in given.methods or [name for name in METHODS if name not in ON_DEMAND]:
                queries, alignment = METHODS[method]
                begun_s = time.time()
                base = PocketTraining()
                adapter = {**base.adapter, **given.adapter, **queries}
                training = replace(base, adapter=adapter, alignment=alignment, seed=seed)
                options = replace(training.train, epochs=given.epochs)
                if shot:
                    options = replace(options, **{**FEW_SHOTS, "lr": given.shot_lr, "muon_lr": 10 * given.shot_lr})
                corpus = without_scenes() if "no scenes" in method else None
                model = train_adapter(encoder, data, SEEN_ACTIONS, replace(training, train=options), corpus=corpus)
                assert model.adapter is not None
                for mix in MIXES:
                    model.adapter.config = replace(model.adapter.config, mix=mix)
                    name = f"{method}{f' + {mix} frozen' if mix else ''}, {f'{shot} shots' if shot else 'all'}"
                    found.setdefault(name, []).append(tests.ask(model))
                    print(f"  seed {seed}: {name}: {found[name][-1]} ({time.time() - begun_s:.0f} s)", flush=True)
                if given.out is not None:
                    given.out.write_text(json.dumps(found, indent=1))
    table(found)


def table(found: dict[str, list[dict[str, float]]]) -> None:
    print("\n| method, training clips | seen (34) | motion-only pairs (2) | unseen (8) |\n|---|---|---|---|")
    for name, runs in found.items():
        columns = [[run[asked] for run in runs] for asked in ("seen", "pairs", "unseen")]
        cells = [f"{np.mean(values):.3f}" + (f" ± {np.std(values):.3f}" if len(runs) > 1 else "") for values in columns]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(
        f"chance: {1 / 34:.3f}, 0.500, {1 / 8:.3f}; mean and standard deviation over {max(map(len, found.values()))} seeds"
    )


def merged(parts: list[Path]) -> dict[str, list[dict[str, float]]]:
    """Return the runs of several --out files as one."""
    found: dict[str, list[dict[str, float]]] = {}
    for part in parts:
        for name, runs in json.loads(part.read_text()).items():
            found[name] = found.get(name, []) + runs if "frozen CLIP" not in name else runs
    return found


def entities(encoder: RegionEncoder) -> torch.Tensor:
    return encoder.encode_text(pocket_corpus().texts())


def without_scenes() -> Corpus:
    return Corpus(tuple(entity for entity in pocket_corpus().entities if entity.category != "scene"), "no scenes")


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=("frozen", "regions", "methods"))
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2, 3, 4])
    parser.add_argument("--per-action", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--shots", type=numbers, default=[2, 4, 0], help="0 means all clips")
    parser.add_argument("--shot-lr", type=float, default=2e-4)
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="instead of all of them")
    parser.add_argument("--adapter", type=json.loads, default={}, help='settings as JSON, such as {"residual": true}')
    parser.add_argument("--out", type=Path, default=None, help="JSON file of every run")
    parser.add_argument("--tables", type=Path, nargs="+", help="instead of running, print the table of such files")
    given = parser.parse_args()
    if given.tables:
        table(merged(given.tables))
        return
    parts: dict[str, Callable[[], None]] = {
        "frozen": lambda: frozen(30),
        "regions": lambda: regions(given.frames),
        "methods": lambda: methods(given),
    }
    parts[given.part]()


if __name__ == "__main__":
    main()
