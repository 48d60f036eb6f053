"""Train the pocket's tiny CLIP on single frames of the pocket world and true captions of them. Knows nothing of clips or regions.

    python -m alt_ray.pocket.pretrain OUT --steps 20000 --seed 0

Image tower: average pooling, since a CLIP that pools by its class token was never asked to put patch tokens into the joint
space, and regions are aligned there. Half of the patches are dropped in training: it halves the cost, and the average has to
be right from any half of them. Loss: the sigmoid loss of SigLIP (arXiv 2303.15343), a yes or no for every picture and
caption of a batch: captions are short and often true of several pictures, and the world knows of which.

B pictures and captions, D embedding dim.
"""

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from alt_ray.models.encoder import load_encoder
from alt_ray.models.weights import build_tokenizer
from alt_ray.pocket.samples import samples, truth_of_pairs

MODEL: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {
        "image_size": 64,
        "patch_size": 8,
        "width": 144,
        "layers": 4,
        "head_width": 36,
        "pool_type": "avg",
        "final_ln_after_pool": False,
    },
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 3},
}
MEAN_STD = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)  # open_clip's, as its configs assume


LOG_STEPS = 250


@dataclass(frozen=True)
class PretrainOptions:
    """How the CLIP is trained. The seed decides weights, samples and dropped patches."""

    steps: int = 20_000
    batch: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.1
    warmup: int = 500
    patch_dropout: float = 0.5
    seed: int = 0


class Batches(IterableDataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """Ready batches: pictures [B, 64, 64, 3] uint8, token ids [B, L], is_true and is_known [B, B] (bool)."""

    def __init__(self, options: PretrainOptions) -> None:
        self.options = options

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        tokens_of = lru_cache(maxsize=None)(build_tokenizer(MODEL["text_cfg"]))
        size_px, count = MODEL["vision_cfg"]["image_size"], self.options.batch
        stream = samples(self.options.seed + 1, size_px)
        while batch := list(itertools.islice(stream, count)):
            is_true, is_known = truth_of_pairs(batch)
            yield (
                torch.from_numpy(np.stack([sample.picture for sample in batch])),
                torch.cat([tokens_of(sample.caption.text) for sample in batch]),
                torch.from_numpy(is_true),
                torch.from_numpy(is_known),
            )


def sigmoid_loss(logits_BB: Tensor, is_true_BB: Tensor, is_known_BB: Tensor) -> Tensor:
    """SigLIP's loss over the pairs whose truth is known, per picture."""
    signs = is_true_BB.float() * 2 - 1
    return -(F.logsigmoid(signs * logits_BB) * is_known_BB).sum() / len(logits_BB)


def pretrain(out: Path, options: PretrainOptions, *, say: Any = print) -> None:
    """Train and write `model.json`, `pocket_clip.safetensors` (float16) and `pretrain.json` (options and log) to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    # Words that no caption of a batch holds leave tiny second moments behind, and a square root of a denormal number takes
    # a hundred times as long as another: without this a step takes 1.2 s instead of the figure in docs/pocket.md.
    torch.set_flush_denormal(True)
    config: dict[str, Any] = {**MODEL, "vision_cfg": {**MODEL["vision_cfg"], "patch_dropout": options.patch_dropout}}
    encoder = load_encoder(config, seed=options.seed)
    clip = encoder.clip.train().requires_grad_(True)
    bias = nn.Parameter(torch.tensor(-6.0))
    decayed = [p for p in clip.parameters() if p.ndim >= 2]
    rest = [p for p in clip.parameters() if p.ndim < 2] + [bias]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": options.weight_decay}, {"params": rest, "weight_decay": 0.0}],
        lr=options.lr,
        betas=(0.9, 0.98),
        fused=True,
    )
    loader = DataLoader(Batches(options), batch_size=None, num_workers=1, prefetch_factor=8)
    scale, shift = (1 / (255 * torch.tensor(MEAN_STD[1]))), -torch.tensor(MEAN_STD[0]) / torch.tensor(MEAN_STD[1])
    log, begun, losses = [], time.time(), []
    for step, (pictures, tokens, is_true, is_known) in zip(range(options.steps), loader, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = options.lr * _schedule(step, options)
        images = (pictures.float() * scale + shift).permute(0, 3, 1, 2)
        with torch.autocast("cpu", torch.bfloat16):
            image_BD = F.normalize(clip.encode_image(images).float(), dim=-1)
            text_BD = F.normalize(clip.encode_text(tokens).float(), dim=-1)
        loss = sigmoid_loss(clip.logit_scale.exp() * image_BD @ text_BD.T + bias, is_true, is_known)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(0, math.log(100))
        losses.append(loss.item())
        if (step + 1) % LOG_STEPS == 0 or step + 1 == options.steps:
            entry = {"step": step + 1, "loss": float(np.mean(losses)), "minutes": round((time.time() - begun) / 60, 2)}
            losses = []
            log.append(entry)
            say(json.dumps(entry))
            write(out, clip, options, log)


def write(out: Path, clip: nn.Module, options: PretrainOptions, log: list[dict[str, float]]) -> None:
    """Publish the weights so far; a reader finds old ones or new ones, never half."""
    state = {
        name: tensor.detach().half().contiguous() for name, tensor in clip.state_dict().items() if name != "attn_mask"
    }
    temporary = out / "pocket_clip.part"
    save_file(state, temporary)
    temporary.rename(out / "pocket_clip.safetensors")
    (out / "model.json").write_text(json.dumps(MODEL, indent=2) + "\n")
    (out / "pretrain.json").write_text(json.dumps({"options": asdict(options), "log": log}, indent=2) + "\n")


def _schedule(step: int, options: PretrainOptions) -> float:
    if step < options.warmup:
        return (step + 1) / options.warmup
    return 0.5 * (1 + math.cos(math.pi * (step - options.warmup) / max(options.steps - options.warmup, 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    for name, value in asdict(PretrainOptions()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    given = vars(parser.parse_args())
    pretrain(given.pop("out"), PretrainOptions(**given), say=lambda text: print(text, file=sys.stderr, flush=True))


if __name__ == "__main__":
    main()
