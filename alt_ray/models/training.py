"""Train the adapter from regions: one loop, in pure torch. Knows nothing of where batches come from, nor of Ray or files.

The loop asks a module for logits and a function for the batches of an epoch. Alone, the module is `RegionClassifier` of an
AltModel; under DDP it is the same one wrapped, with every worker's own batches, as many on each.

Loss: cross-entropy over exp(logit_scale) * cos(z, t_c) with label smoothing (METHOD: training and evaluation). Frozen
encoder, frozen text: what trains is the adapter.

B clips, T frames, R tokens of a frame, N patches, D joint dimension, C labels.
"""

import contextlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alt_ray.errors import ModelError
from alt_ray.models.alt import AltModel


@dataclass(frozen=True)
class RegionBatch:
    """The stored regions of B clips and the index of each clip's label. Float tensors may be of any float type."""

    tokens: Tensor  # [B, T, R, D]
    sizes: Tensor  # [B, T, R]
    target: Tensor  # [B] int64, index into the model's labels
    region_of_patch: Tensor | None = None  # [B, T, N]
    pooled: Tensor | None = None  # [B, T, D]
    align_tokens: Tensor | None = None  # [B, T, R, D]
    weight: float = (
        1.0  # of this batch's mean loss in its step: below 1 for a part of one, 0 for clips that only fill up
    )

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device) -> "RegionBatch":
        """The batch on a device; from pinned memory without waiting for the copies."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "RegionBatch":
        """The batch in memory that a GPU copies from by itself. Needs a GPU."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "RegionBatch":
        tensors: dict[str, Any] = {name: change(v) for name, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **tensors)


@dataclass(frozen=True)
class TrainOptions:
    """How the adapter is trained. The defaults are those of the frozen-encoder method nearest to ALT.

    lr: at its highest, after `warmup_epochs` of linear rise; from there a cosine down to 0.
    max_norm: gradients are scaled down to this norm; 0 leaves them.
    seed: of the alignment's noise; weights and the order of batches are the caller's.
    bfloat16: whether matrix products run in it.
    muon_lr: with more than 0, the matrices inside the adapter's blocks are trained by Muon at this rate (same warm-up and
        cosine) and only the rest by AdamW. What tells a motion from its reverse is learned late; Muon gets there sooner
        (docs/pocket.md).
    """

    epochs: int = 30
    lr: float = 5e-5
    weight_decay: float = 0.2
    warmup_epochs: float = 5.0
    label_smoothing: float = 0.1
    max_norm: float = 1.0
    seed: int = 0
    bfloat16: bool = False
    muon_lr: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.lr <= 0:
            raise ModelError(f"training of {self.epochs} epochs at lr {self.lr}: expected at least 1 and more than 0")
        if self.muon_lr < 0:
            raise ModelError(f"muon_lr {self.muon_lr}: expected 0 (AdamW alone) or more, such as 0.02")
        if not 0 <= self.warmup_epochs <= self.epochs:
            raise ModelError(f"warmup_epochs {self.warmup_epochs}: expected 0 to epochs, {self.epochs}")
        if not 0 <= self.label_smoothing < 1:
            raise ModelError(f"label_smoothing {self.label_smoothing}: expected at least 0 and less than 1")

    def lr_share_at(self, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of a step (0-based) as a share of the highest."""
        warmup, total = self.warmup_epochs * steps_per_epoch, self.epochs * steps_per_epoch
        if step < warmup:
            return min(1.0, (step + 1) / max(warmup, 1))
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))


@dataclass(frozen=True)
class EpochLog:
    """One epoch: `epoch` is 1-based, loss and accuracy are means over its clips, with noise and smoothing."""

    epoch: int
    loss: float
    accuracy: float
    lr: float


class RegionClassifier(nn.Module):
    """An AltModel as a function from a batch of regions to logits [B, C], so that DDP can wrap it."""

    def __init__(self, model: AltModel, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.model = model
        self.generator = generator
        self.train(model.training)

    def forward(self, batch: RegionBatch) -> Tensor:
        return self.model.from_regions(
            batch.tokens,
            batch.sizes,
            align_tokens=batch.align_tokens,
            region_of_patch=batch.region_of_patch,
            pooled=batch.pooled,
            generator=self.generator,
        ).logits


def train(
    classifier: nn.Module,
    batches: Callable[[int], Iterable[RegionBatch]],
    steps_per_epoch: int,
    options: TrainOptions,
    *,
    on_epoch: Callable[[EpochLog], None] = lambda log: None,
) -> list[EpochLog]:
    """Train what of `classifier` asks for gradients, in place, and return the log.

    `batches(epoch)` (0-based) gives the `steps_per_epoch` batches of an epoch, and may be lazy. Raises ModelError when the
    loss is no number any more, or an epoch gives fewer batches than promised.
    """
    trainer = Trainer(classifier, options, steps_per_epoch)
    logs = []
    for epoch in range(options.epochs):
        logs.append(trainer.run_epoch(epoch, batches(epoch)))
        on_epoch(logs[-1])
    classifier.eval()
    return logs


def _alone(sums: Tensor) -> Tensor:
    return sums


class Trainer:
    """The loop, epoch by epoch: what `train` is made of, and what training on several workers is.

    accumulate: batches whose gradients add up to one step; each carries its `weight`. `reduce` sums a tensor over all workers, in
    place, and returns it; `classifier` is wrapped in DDP then. Raises ModelError where nothing asks for gradients.
    """

    def __init__(
        self,
        classifier: nn.Module,
        options: TrainOptions,
        steps_per_epoch: int,
        *,
        accumulate: int = 1,
        reduce: Callable[[Tensor], Tensor] = _alone,
    ) -> None:
        self.classifier, self.options, self.accumulate, self.reduce = classifier, options, accumulate, reduce
        self.steps_per_epoch = steps_per_epoch
        self.trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
        if not self.trained:
            raise ModelError("nothing to train: expected a model with an adapter")
        self.optimizers = _optimizers(classifier, options)
        self.device = self.trained[0].device

    def run_epoch(self, epoch: int, batches: Iterable[RegionBatch]) -> EpochLog:
        """Train on the batches of an epoch (0-based), `accumulate` for each of its steps, and return its log.

        Raises ModelError when the loss is no number any more, or there are fewer batches than promised.
        """
        self.classifier.train()
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)  # loss, right, clips
        step, waiting = epoch * self.steps_per_epoch, 0
        for batch in batches:
            if waiting == 0:
                share = self._prepare(step)
            waiting += 1
            is_last = waiting == self.accumulate
            with self._without_sync() if not is_last else contextlib.nullcontext():
                sums += self._backward(batch)
            if is_last:
                self._update()
                step, waiting = step + 1, 0
        done = step - epoch * self.steps_per_epoch
        if done != self.steps_per_epoch or waiting:
            raise ModelError(
                f"epoch {epoch + 1} had {done} steps and {waiting} batches: expected {self.steps_per_epoch} steps"
            )
        loss, right, clips = self.reduce(sums).tolist()
        if not math.isfinite(loss):
            raise ModelError(f"the loss of epoch {epoch + 1} is {loss}: a lower lr than {self.options.lr} may do")
        return EpochLog(epoch + 1, loss / clips, right / clips, self.options.lr * share)

    def _prepare(self, step: int) -> float:
        share = self.options.lr_share_at(step, self.steps_per_epoch)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = optimizer.defaults["lr"] * share
        return share

    def _backward(self, batch: RegionBatch) -> Tensor:
        batch = batch.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.bfloat16):
            logits_BC = self.classifier(batch).float()
        loss = F.cross_entropy(logits_BC, batch.target, label_smoothing=self.options.label_smoothing)
        (loss if batch.weight == 1 else loss * batch.weight).backward()
        if batch.weight == 0:
            return torch.zeros(3, dtype=torch.float64, device=self.device)
        right = (logits_BC.detach().argmax(-1) == batch.target).sum()
        return torch.stack([loss.detach().double() * len(batch), right.double(), right.new_tensor(len(batch)).double()])

    def _update(self) -> None:
        if self.options.max_norm:
            nn.utils.clip_grad_norm_(self.trained, self.options.max_norm)
        for optimizer in self.optimizers:
            optimizer.step()

    def _without_sync(self) -> contextlib.AbstractContextManager[None]:
        return getattr(self.classifier, "no_sync", contextlib.nullcontext)()


def _optimizers(classifier: nn.Module, options: TrainOptions) -> list[torch.optim.Optimizer]:
    named = [(name, p) for name, p in classifier.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if options.muon_lr and p.ndim == 2 and ".blocks." in name]
    rest = [p for _, p in named if not any(p is matrix for matrix in matrices)]
    adamw = torch.optim.AdamW(
        [
            {"params": [p for p in rest if p.ndim >= 2], "weight_decay": options.weight_decay},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=options.lr,
        fused=True,  # one pass over the weights instead of ten
    )
    return (
        [adamw, torch.optim.Muon(matrices, lr=options.muon_lr, weight_decay=options.weight_decay)]
        if matrices
        else [adamw]
    )


@torch.no_grad()
def predict(classifier: nn.Module, batches: Iterable[RegionBatch]) -> tuple[Tensor, Tensor]:
    """Return (logits [N, C] float32, target [N]) of all batches, in order, on the CPU, without noise."""
    was_training = classifier.training
    device = next((own.device for own in (*classifier.parameters(), *classifier.buffers())), torch.device("cpu"))
    classifier.eval()
    try:
        parts = [(classifier(batch.to(device)).float().cpu(), batch.target.cpu()) for batch in batches]
    finally:
        classifier.train(was_training)
    return torch.cat([logits for logits, _ in parts]), torch.cat([target for _, target in parts])
