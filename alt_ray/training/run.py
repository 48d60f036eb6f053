"""One task on one worker: train on its share of every step, validate, keep states, test. The same code alone and on many workers.

Rank 0 writes and speaks; the others read and compute. Knows nothing of Ray, of protocols, or of how workers find each other.

N clips, V views, C labels.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from alt_ray.config_train import LearningOptions, ModelOptions
from alt_ray.evaluation.metrics import Metrics, measure, per_class_table
from alt_ray.evaluation.task import Task
from alt_ray.features.loader import BatchLoader, Share
from alt_ray.features.store import FeatureStore
from alt_ray.memory import peak_memory_mib
from alt_ray.models.checkpoint import save_checkpoint
from alt_ray.models.training import RegionClassifier, Trainer, TrainOptions
from alt_ray.schema import FORMAT_VERSION
from alt_ray.training.methods import ask, build_classifier, can_answer, checkpoint_of
from alt_ray.training.place import Place
from alt_ray.training.states import Progress, load_epoch, load_newest, save_state
from alt_ray.training.testing import scores_of
from alt_ray.training.texts import Texts
from alt_ray.versions import read_stamped, stamp

RESULT_FILE, BEST = "task.json", "best"


@dataclass
class TaskRun:
    """One task of a training, whose clips are rows of `store.clips()`. `folder` is its own."""

    task: Task
    store: FeatureStore
    texts: Texts
    model: ModelOptions
    learning: LearningOptions
    folder: Path
    place: Place
    clip_rows: np.ndarray  # [clips] view 0 of each clip in store.rows
    origin: dict[str, Any] = field(default_factory=dict)

    def run(self) -> dict[str, Any] | None:
        """Train (going on from where an earlier run stopped), test, write the folder; return its metrics on rank 0, else None."""
        finished = self.folder / RESULT_FILE
        if self.place.share(
            finished.exists()
        ):  # decided by one: a disk that caches shows another worker another folder
            return read_stamped(finished, FORMAT_VERSION, missing=1) if self.place.rank == 0 else None
        classifier = build_classifier(self.model, self.store.record, self.texts, self.task.labels, self.task.seed)
        classifier.to(self.place.device)
        progress = Progress()
        if any(parameter.requires_grad for parameter in classifier.parameters()):
            progress = self._train(classifier)
        tests = self._test(classifier)
        if self.place.rank:
            return None
        result = {
            "task": self.task.name,
            "protocol": self.task.description,
            "method": self.model.method,
            "seed": self.task.seed,
            "epochs": progress.epoch,
            "best_epoch": progress.best_epoch,
            "history": progress.history,
            "tests": {name: metrics.summary() for name, metrics in tests.items()},
        }
        with self.place.writing():
            self._write(classifier, tests, result)
        return result

    def _train(self, classifier: nn.Module) -> Progress:
        place, learning = self.place, self.learning
        initial = (
            {name: p.detach().clone() for name, p in classifier.named_parameters()} if learning.average < 1 else {}
        )
        loader = BatchLoader(
            self.store,
            self.clip_rows[self.task.train],
            self.task.target(self.task.train, self.task.labels),
            batch_clips=min(learning.batch, max(len(self.task.train), place.world_size * learning.accumulate)),
            seed=self.task.seed,
            share=Share(place.rank, place.world_size, learning.accumulate),
            pin=place.device.startswith("cuda"),
        )
        options = TrainOptions(
            epochs=learning.epochs,
            lr=learning.lr,
            weight_decay=learning.weight_decay,
            warmup_epochs=min(learning.warmup_epochs, learning.epochs),
            label_smoothing=learning.label_smoothing,
            max_norm=learning.max_norm,
            bfloat16=learning.bfloat16,
            muon_lr=learning.muon_lr,
        )
        trainer = Trainer(
            place.wrap(classifier),
            options,
            loader.steps_per_epoch,
            accumulate=learning.accumulate,
            reduce=place.reduce,
        )
        progress = load_newest(self.folder, classifier, trainer.optimizers, place)
        while progress.epoch < learning.epochs and not self._is_enough(progress):
            self._run_epoch(classifier, trainer, loader, progress)
            if place.rank == 0:
                save_state(self.folder, progress, classifier, trainer.optimizers, place)
            place.barrier()
        if progress.best_epoch:
            load_epoch(self.folder, progress.best_epoch, classifier, place)
        if initial:
            _average(classifier, initial, learning.average)
        return progress

    def _run_epoch(self, classifier: nn.Module, trainer: Trainer, loader: BatchLoader, progress: Progress) -> None:
        epoch, begun_s, waited_s = progress.epoch, time.perf_counter(), loader.wait_s
        if isinstance(classifier, RegionClassifier):
            # A stream of noise of its own for each epoch and worker, so that going on gives what not stopping would have given.
            key = np.random.SeedSequence((self.task.seed, epoch, self.place.rank)).generate_state(1)[0]
            classifier.generator = torch.Generator(self.place.device).manual_seed(int(key))
            torch.manual_seed(int(key))  # of dropout
        log = trainer.run_epoch(epoch, loader.epoch(epoch))
        took_s = time.perf_counter() - begun_s
        entry: dict[str, Any] = {
            **asdict(log),
            "clips_per_s": round(len(self.task.train) / took_s, 2),
            "data_wait_share": round((loader.wait_s - waited_s) / took_s, 4),
        }
        if len(self.task.val):
            metrics = self._predict(classifier, self.task.val, self.task.labels)
            entry["val_top_1"] = self.place.share(None if metrics is None else metrics.top_1)
        entry |= self._memory()
        progress.epoch = epoch + 1
        progress.history.append(entry)
        value = entry.get("val_top_1", float(progress.epoch))
        if value > progress.best_value:
            progress.best_value, progress.best_epoch = value, progress.epoch
        if self.place.rank == 0:
            self.place.say({"task": self.task.name, "of": self.learning.epochs, **entry})

    def _is_enough(self, progress: Progress) -> bool:
        patience = self.learning.patience
        return patience is not None and bool(len(self.task.val)) and progress.epoch - progress.best_epoch >= patience

    def _test(self, classifier: nn.Module) -> dict[str, Metrics]:
        found = {}
        for name, clips in self.task.tests.items():
            labels = self.task.test_labels[name]
            if not can_answer(classifier, self.task.labels, labels):
                self.place.warn(
                    f"{self.model.method} can't be asked for labels that it was not trained on: no test {name!r}"
                )
                continue
            metrics = self._predict(classifier, clips, labels)
            if metrics is not None:
                found[name] = metrics
        return found

    def _predict(self, classifier: nn.Module, clips: np.ndarray, labels: tuple[str, ...]) -> Metrics | None:
        """Return the metrics on rank 0, None elsewhere."""
        ask(classifier, self.texts, labels)
        scores_NC = scores_of(classifier, self.store, self.clip_rows[clips], len(labels), self.place)
        ask(classifier, self.texts, self.task.labels)
        return None if scores_NC is None else measure(scores_NC, self.task.target(clips, labels), labels)

    def _memory(self) -> dict[str, int]:
        """The most that any worker has held so far, in MiB: of its process, and on its GPU. Flat in the size of the store."""
        own = {"peak_memory_mib": peak_memory_mib()}
        if self.place.device.startswith("cuda"):
            own["peak_gpu_memory_mib"] = torch.cuda.max_memory_allocated(self.place.device) // 2**20
        workers = [worker for worker in self.place.gather(own) if worker is not None]
        return {name: max(worker[name] for worker in workers) for name in own}

    def _write(self, classifier: nn.Module, tests: dict[str, Metrics], result: dict[str, Any]) -> None:
        for left in self.folder.glob(f".{BEST}.*"):  # of a run that was killed while it wrote
            shutil.rmtree(left, ignore_errors=True)
        training = {"protocol": self.task.description, "seed": self.task.seed, **asdict(self.learning), **self.origin}
        checkpoint = checkpoint_of(classifier, self.store.record, self.texts, training)
        if checkpoint is not None:
            save_checkpoint(self.folder / BEST, checkpoint)
        for name, metrics in tests.items():
            np.savetxt(self.folder / f"confusion-{name}.csv", metrics.confusion, fmt="%d", delimiter=",")
            (self.folder / f"classes-{name}.txt").write_text(per_class_table(metrics) + "\n", encoding="utf-8")
        temporary = self.folder / f".{RESULT_FILE}"
        temporary.write_text(json.dumps({**stamp(FORMAT_VERSION), **result}, indent=2), encoding="utf-8")
        temporary.replace(self.folder / RESULT_FILE)


def _average(classifier: nn.Module, initial: dict[str, Tensor], share: float) -> None:
    """Weight averaging between the weights at the start and the trained ones (Wortsman et al., arXiv 2109.01903)."""
    with torch.no_grad():
        for name, parameter in classifier.named_parameters():
            parameter.lerp_(initial[name], 1 - share)


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """Let torch use `number` threads in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, number))
    try:
        yield
    finally:
        torch.set_num_threads(before)
