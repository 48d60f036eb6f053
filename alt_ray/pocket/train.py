"""Train the pocket's adapter on its seen actions and write it as a checkpoint. Knows nothing of Ray.

    python -m alt_ray.pocket.train OUT

Clips are drawn, encoded once, and kept in memory: the encoder is frozen. Every setting below was chosen by measuring
(docs/pocket.md).
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from alt_ray.corpus.entities import Corpus
from alt_ray.models.adapter import VideoAdapter
from alt_ray.models.alt import AltModel
from alt_ray.models.checkpoint import Checkpoint, CheckpointConfig, EncoderRecord, save_checkpoint
from alt_ray.models.configs import AdapterConfig, AlignmentConfig
from alt_ray.models.encoder import RegionEncoder, load_encoder
from alt_ray.models.regionset import RegionSet, encode_clips
from alt_ray.models.text import label_embeddings
from alt_ray.models.training import EpochLog, RegionClassifier, TrainOptions, predict, train
from alt_ray.pocket.tasks import HELD_OUT_SEED, TEMPLATE, TRAIN_SEED, ActionClips
from alt_ray.pocket.vocabulary import SEEN_ACTIONS, pocket_corpus

BATCH = 32
FRAMES = 8
MERGE_R = 4


@dataclass(frozen=True)
class PocketTraining:
    """One training of a pocket adapter. `alignment` and `adapter` hold what differs from the encoder's defaults."""

    train: TrainOptions = field(
        default_factory=lambda: TrainOptions(epochs=15, lr=2e-3, muon_lr=0.02, warmup_epochs=1, bfloat16=True)
    )
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    adapter: dict[str, object] = field(default_factory=lambda: {"conv_over": "frame", "mix": 0.5})
    batch: int = BATCH
    seed: int = 0


def pocket_encoder(merge_r: int = MERGE_R) -> RegionEncoder:
    """The shipped encoder."""
    return load_encoder("pocket", "pocket", merge_r=merge_r)


def encode_actions(
    encoder: RegionEncoder, actions: Sequence[str], per_action: int, seed: int, num_frames: int = FRAMES
) -> RegionSet:
    """Draw and encode `per_action` clips of each action; targets are indices into `actions`."""
    clips = ActionClips(tuple(actions), per_action, seed, num_frames, encoder.image_size)
    return encode_clips(encoder, clips, clips.target)


def train_adapter(
    encoder: RegionEncoder,
    data: RegionSet,
    labels: Sequence[str],
    training: PocketTraining,
    *,
    corpus: Corpus | None = None,
    on_epoch: Callable[[EpochLog], None] = lambda log: None,
) -> AltModel:
    """Return a model whose adapter was trained on `data`, whose targets are indices into `labels`; by default with the pocket's
    corpus."""
    corpus = corpus or pocket_corpus()
    torch.manual_seed(training.seed)
    model = AltModel(
        encoder,
        encoder.encode_text(corpus.texts()),
        label_embeddings(encoder, labels, TEMPLATE),
        alignment=training.alignment,
        adapter=VideoAdapter(AdapterConfig.for_model(encoder.model_config, **training.adapter)),
        entity_names=[entity.name for entity in corpus.entities],
        label_names=labels,
    )
    train(
        RegionClassifier(model, torch.Generator().manual_seed(training.train.seed + training.seed)),
        lambda epoch: data.shuffled(training.batch, training.seed, epoch),
        data.num_batches(training.batch),
        training.train,
        on_epoch=on_epoch,
    )
    return model.eval()


def accuracy(model: AltModel, data: RegionSet) -> float:
    """Return the top-1 share of `data`."""
    logits_NC, target_N = predict(RegionClassifier(model), data.in_order(64))
    return float((logits_NC.argmax(-1) == target_N).float().mean())


def checkpoint_of(model: AltModel, training: PocketTraining, record: dict[str, object]) -> Checkpoint:
    """Return the model's adapter with all that is needed to rebuild the model."""
    corpus, encoder = pocket_corpus(), model.encoder
    assert encoder is not None and model.adapter is not None
    config = CheckpointConfig(
        encoder=EncoderRecord.of(encoder),
        adapter=model.adapter.config,
        alignment=model.alignment,
        labels=model.label_names,
        template=TEMPLATE,
        corpus_digest=corpus.digest,
        entity_names=model.entity_names,
        entity_categories=tuple(entity.category for entity in corpus.entities),
        sampling={"frames": FRAMES},
        training={**asdict(training.train), "batch": training.batch, "seed": training.seed, **record},
    )
    return Checkpoint(config, model.adapter, model.entities, model.labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--per-action", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=PocketTraining().train.epochs)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    begun_s = time.time()
    encoder = pocket_encoder()
    data = encode_actions(encoder, SEEN_ACTIONS, given.per_action, TRAIN_SEED + given.seed)
    held_out = encode_actions(encoder, SEEN_ACTIONS, 15, HELD_OUT_SEED + given.seed)
    say(f"{len(data)} clips of {len(SEEN_ACTIONS)} actions encoded in {time.time() - begun_s:.0f} s")
    defaults = PocketTraining()
    training = PocketTraining(TrainOptions(**{**asdict(defaults.train), "epochs": given.epochs}), seed=given.seed)
    logs: list[EpochLog] = []

    def on_epoch(log: EpochLog) -> None:
        logs.append(log)
        say(f"{json.dumps(asdict(log))} {(time.time() - begun_s) / 60:.1f} min")

    model = train_adapter(encoder, data, SEEN_ACTIONS, training, on_epoch=on_epoch)
    top_1 = accuracy(model, held_out)
    record = {"per_action": given.per_action, "held_out_top_1": round(top_1, 4), "log": [asdict(log) for log in logs]}
    save_checkpoint(given.out, checkpoint_of(model, training, record))
    say(f"held-out top-1 of {len(held_out)} clips: {top_1:.3f}; {given.out}")


if __name__ == "__main__":
    main()
