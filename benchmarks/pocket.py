"""What the shipped pocket model is worth, on clips that no training saw; prints the tables of docs/pocket.md.

python benchmarks/pocket.py frozen               frames, zero-shot, beside chance
python benchmarks/pocket.py regions              regions and entities against the masks, for several r
python benchmarks/pocket.py methods --seeds 5    ALT, learned queries, frozen CLIP: all clips, few shots, unseen actions, pairs
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from alt_ray.models.alt import AltModel
from alt_ray.models.regionset import RegionSet
from alt_ray.models.text import label_embeddings
from alt_ray.models.training import RegionClassifier, predict
from alt_ray.pocket.probe import zero_shot
from alt_ray.pocket.region_truth import masked_frames, region_report
from alt_ray.pocket.tasks import HELD_OUT_SEED, TEMPLATE, TRAIN_SEED, within
from alt_ray.pocket.train import PocketTraining, encode_actions, pocket_encoder, train_adapter
from alt_ray.pocket.vocabulary import MOTION_ONLY_PAIRS, SEEN_ACTIONS, UNSEEN_ACTIONS

METHODS: dict[str, dict[str, object]] = {
    "ALT": {"queries": "entity"},
    "learned queries": {"queries": "learned"},
}
SHOTS_EPOCHS = 50  # of 2 and 4 shots, as few-shot runs of the field have


def frozen(per_action: int) -> None:
    found = zero_shot(pocket_encoder(merge_r=0), per_action=per_action)
    print("| asked of a frame | top-1 | chance |\n|---|---|---|")
    for name in ("seen_action", "unseen_action", "object", "scene", "body_part"):
        print(f"| {name.replace('_', ' ')} | {found[name]:.3f} | {found[f'chance_{name}']:.3f} |")


def regions(num_frames: int) -> None:
    frames = masked_frames(num_frames, pocket_encoder().image_size)
    columns = ("all", "body_part", "object", "scene")
    print("| r | regions | " + " | ".join(columns) + " | balanced | per patch | purity | grid |\n" + "|---" * 10 + "|")
    for r in (0, 2, 4, 6):
        report = region_report(pocket_encoder(merge_r=r), frames)
        shares = " | ".join(f"{report.named_right[name]:.3f}" for name in columns)
        print(
            f"| {r} | {report.regions} | {shares} | {report.balanced:.3f} | {report.patches_right['all']:.3f} "
            f"| {report.purity:.3f} | {report.grid_purity:.3f} |"
        )
    print(f"chance {report.chance:.4f}; regions asked at r = 6: {report.count}")


@dataclass
class Tests:
    """What a trained model is asked, each a RegionSet of held-out clips with the labels that compete."""

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


def methods(seeds: int, per_action: int, adapter: dict[str, object], out: Path | None, shots: list[int]) -> None:
    encoder = pocket_encoder()
    tests = Tests(
        encode_actions(encoder, SEEN_ACTIONS, 15, HELD_OUT_SEED),
        encode_actions(encoder, UNSEEN_ACTIONS, 30, HELD_OUT_SEED),
        label_embeddings(encoder, UNSEEN_ACTIONS, TEMPLATE),
    )
    found: dict[str, list[dict[str, float]]] = {}

    def note(name: str, figures: dict[str, float], begun_s: float) -> None:
        found.setdefault(name, []).append(figures)
        print(f"  {name}: {figures} ({time.time() - begun_s:.0f} s)", flush=True)
        if out is not None:
            out.write_text(json.dumps(found, indent=1))

    plain = AltModel(encoder, model_entities(encoder), label_embeddings(encoder, SEEN_ACTIONS, TEMPLATE)).eval()
    note("frozen CLIP, mean of frames", tests.ask(plain), time.time())
    for seed in range(seeds):
        pool = encode_actions(encoder, SEEN_ACTIONS, per_action, TRAIN_SEED + seed)
        for shot in shots:
            # In a RegionSet clips come in turns, one of each action: the first ones are so many of each.
            data = pool.subset(torch.arange(len(SEEN_ACTIONS) * (shot or per_action)))
            for method, settings in METHODS.items():
                begun_s = time.time()
                base = PocketTraining()
                training = replace(base, adapter={**base.adapter, **adapter, **settings}, seed=seed)
                if shot:
                    training = replace(training, train=replace(training.train, epochs=SHOTS_EPOCHS, warmup_epochs=5))
                model = train_adapter(encoder, data, SEEN_ACTIONS, training)
                note(f"{method}, {f'{shot} shots' if shot else 'all'}", tests.ask(model), begun_s)
    print("\n| method, training clips | seen (34) | motion-only pairs (2) | unseen (8) |\n|---|---|---|---|")
    for name, runs in found.items():
        cells = [f"{np.mean([r[k] for r in runs]):.3f} ± {np.std([r[k] for r in runs]):.3f}" for k in runs[0]]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(f"chance: {1 / 34:.3f}, 0.500, {1 / 8:.3f}; mean and standard deviation over {seeds} seeds")


def model_entities(encoder) -> torch.Tensor:  # type: ignore[no-untyped-def]
    from alt_ray.pocket.vocabulary import pocket_corpus

    return encoder.encode_text(pocket_corpus().texts())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=("frozen", "regions", "methods"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--per-action", type=int, default=60)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--shots", default="2,4,0", help="0 means all clips")
    parser.add_argument("--adapter", type=json.loads, default={}, help='settings as JSON, such as {"residual": false}')
    parser.add_argument("--out", type=Path, default=None, help="JSON file of every run")
    given = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "frozen": lambda: frozen(30),
        "regions": lambda: regions(given.frames),
        "methods": lambda: methods(
            given.seeds, given.per_action, given.adapter, given.out, [int(n) for n in given.shots.split(",")]
        ),
    }
    parts[given.part]()


if __name__ == "__main__":
    main()
