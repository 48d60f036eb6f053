"""Train the pocket's tiny CLIP on single frames of the pocket world and true captions of them. Knows nothing of clips or regions.

    python -m alt_ray.pocket.pretrain OUT --steps 7000 --seed 0

Image tower: average pooling, since a CLIP that pools by its class token was never asked to put patch tokens into the joint
space, and regions are aligned there. Half of the patches are dropped in training: it halves the cost, and the average has to
be right from any half of them. Also the averages over parts of the pictures are held against the captions: average pooling
alone pays every patch for naming what is anywhere in the picture (docs/decisions/pocket.md). Captions are short and often true
of several pictures of a batch, and the world knows of which: the loss counts on it. Muon, since AdamW took half as many steps
again to the same loss.

B pictures, M pictures and parts of them, C captions, D embedding dim, N patches, P patches that are not dropped.
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
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, IterableDataset

from alt_ray.models.encoder import load_encoder
from alt_ray.models.weights import build_tokenizer
from alt_ray.pocket.captions import fact_captions
from alt_ray.pocket.contrast import contrastive_loss
from alt_ray.pocket.samples import GRID, Sample, Truth, crossed_captions, samples, truth_of_pairs

MODEL: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {
        "image_size": 64,
        "patch_size": 8,
        "width": 128,
        "layers": 4,
        "head_width": 32,
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
SHORT_TEXT = 12  # tokens; a fifth of the captions, descriptions of the corpus, are longer
ROWS_STEP = 32


@dataclass(frozen=True)
class PretrainOptions:
    """How the CLIP is trained. The seed decides weights, samples and dropped patches; `start` is a file of weights to go on from,
    with another seed, for other samples."""

    steps: int = 7_000
    batch: int = 128
    lr: float = 3e-3  # of AdamW
    muon_lr: float = 0.02
    weight_decay: float = 0.1
    warmup: int = 200
    patch_dropout: float = 0.5
    seed: int = 0
    start: str | None = None

    @property
    def num_kept(self) -> int:
        return max(1, round(GRID * GRID * (1 - self.patch_dropout)))


@dataclass(frozen=True)
class Batch:
    """Pictures [B, 64, 64, 3] uint8; which of their patches are not dropped [B, P]; over which of these to average for each
    embedding, with the row of its picture: [M, P], [M]; token ids [C, L] of the pictures' own captions, then of one of each
    fact, then of crossed ones; what is true of what and whether that is known [M, C] (bool). The first B embeddings are those
    of whole pictures, the others of parts."""

    pictures: Tensor
    kept: Tensor
    weights: Tensor
    picture_of: Tensor
    tokens: Tensor
    is_true: Tensor
    is_known: Tensor


class Batches(IterableDataset[Batch]):
    """Ready batches, for ever."""

    def __init__(self, options: PretrainOptions) -> None:
        self.options = options

    def __iter__(self) -> Iterator[Batch]:
        tokens_of = lru_cache(maxsize=None)(build_tokenizer(MODEL["text_cfg"]))
        size_px, count = MODEL["vision_cfg"]["image_size"], self.options.batch
        stream = samples(self.options.seed + 1, size_px)
        rng = np.random.default_rng(self.options.seed)
        while batch := list(itertools.islice(stream, count)):
            captions = [
                *(sample.caption for sample in batch),
                *fact_captions(rng),
                *crossed_captions(batch, rng),
            ]
            kept_BP = np.argsort(rng.random((len(batch), GRID * GRID)), 1)[:, : self.options.num_kept]
            weights, picture_of, truths = _embeddings_of(batch, kept_BP)
            is_true, is_known = truth_of_pairs(truths, captions)
            yield Batch(
                torch.from_numpy(np.stack([sample.picture for sample in batch])),
                torch.from_numpy(kept_BP),
                torch.from_numpy(weights),
                torch.from_numpy(picture_of),
                torch.cat([tokens_of(caption.text) for caption in captions]),
                torch.from_numpy(is_true),
                torch.from_numpy(is_known),
            )


def _embeddings_of(batch: list[Sample], kept_BP: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[Truth]]:
    """Return the weights, the picture and the truth of each embedding: of whole pictures and of parts that keep a patch."""
    B, P = kept_BP.shape
    weights, picture_of = [np.full(P, 1 / P, np.float32)] * B, list(range(B))
    truths = [sample.truth for sample in batch]
    row_BP, column_BP = np.divmod(kept_BP, GRID)
    for b, sample in enumerate(batch):
        for part in sample.parts:
            row, column, rows, columns = part.cells
            is_in = (row_BP[b] - row) // rows == 0
            is_in &= (column_BP[b] - column) // columns == 0
            if is_in.any():
                weights.append((is_in / is_in.sum()).astype(np.float32))
                picture_of.append(b)
                truths.append(part.truth)
    return np.stack(weights), np.array(picture_of), truths


def pretrain(out: Path, options: PretrainOptions, *, say: Any = print) -> None:
    """Train and write `model.json`, `pocket_clip.safetensors` (float16) and `pretrain.json` (options and log) to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    # Words that no caption of a batch holds leave tiny second moments behind, and a square root of a denormal number takes
    # a hundred times as long as another: without this a step takes 1.2 s instead of the figure in docs/pocket.md.
    torch.set_flush_denormal(True)
    encoder = load_encoder(MODEL, options.start, seed=options.seed)
    clip = encoder.clip.train().requires_grad_(True)
    optimizers = _optimizers(clip, options)
    loader = DataLoader(Batches(options), batch_size=None, num_workers=1, prefetch_factor=8)
    scale, shift = (1 / (255 * torch.tensor(MEAN_STD[1]))), -torch.tensor(MEAN_STD[0]) / torch.tensor(MEAN_STD[1])
    log, begun, losses = [], time.time(), []
    for step, batch in zip(range(options.steps), loader, strict=False):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = optimizer.defaults["lr"] * _schedule(step, options)
            optimizer.zero_grad(set_to_none=True)
        images = (batch.pictures.float() * scale + shift).permute(0, 3, 1, 2)
        # For sequences as short as these the fused attention takes twice as long as plain matrix products.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            patches_BPD = encode_patches(clip.visual, images, batch.kept).float()
            text_CD = encode_tokens(clip, batch.tokens).float()
        image_MD = torch.einsum("mp,mpd->md", batch.weights, patches_BPD[batch.picture_of])
        image_MD, text_CD = F.normalize(image_MD, dim=-1), F.normalize(text_CD, dim=-1)
        logits_MC = clip.logit_scale.exp() * image_MD @ text_CD.T
        loss = contrastive_loss(logits_MC, batch.is_true, batch.is_known, len(images))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        for optimizer in optimizers:
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


def encode_patches(visual: Any, images_B3HW: Tensor, kept_BP: Tensor) -> Tensor:
    """Return the tokens [B, P, D] in the joint space of the patches kept; their mean is what `visual` returns if all are."""
    x_BNC = visual.conv1(images_B3HW).flatten(2).transpose(1, 2) + visual.positional_embedding[1:]
    x_BPC = x_BNC.gather(1, kept_BP[..., None].expand(-1, -1, x_BNC.shape[2]))
    class_1C = visual.class_embedding[None] + visual.positional_embedding[:1]
    x = torch.cat([class_1C.expand(len(x_BPC), 1, -1).to(x_BPC.dtype), x_BPC], dim=1)
    return visual.ln_post(visual.transformer(visual.ln_pre(x)))[:, 1:] @ visual.proj


def encode_tokens(clip: Any, tokens_CL: Tensor) -> Tensor:
    """Return what `clip.encode_text` does [C, D], at a third of its cost: most captions are short, and what follows the end of a
    text can't change it. Tokens: those of open_clip's tokenizer, 0 after the end."""
    lengths_C = (tokens_CL != 0).sum(1)
    text_CD = clip.text_projection.new_empty(len(tokens_CL), clip.text_projection.shape[1])
    for is_asked_C, L in (
        (lengths_C <= SHORT_TEXT, SHORT_TEXT),
        (lengths_C > SHORT_TEXT, tokens_CL.shape[1]),
    ):
        rows = is_asked_C.nonzero().flatten()
        if not len(rows):
            continue
        # Few shapes: every new one costs oneDNN the making of kernels, which takes longer than running them.
        padded = F.pad(rows, (0, -len(rows) % ROWS_STEP), value=int(rows[0]))
        x = clip.token_embedding(tokens_CL[padded, :L]) + clip.positional_embedding[:L]
        x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask[:L, :L]))
        ends = x[torch.arange(len(rows)), lengths_C[rows] - 1]
        text_CD = text_CD.index_put((rows,), (ends @ clip.text_projection).to(text_CD.dtype))
    return text_CD


def _optimizers(clip: nn.Module, options: PretrainOptions) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the transformers, AdamW for the rest: embeddings, norms, projections, biases."""
    named = list(clip.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "resblocks" in name]
    rest = [p for name, p in named if not (p.ndim == 2 and "resblocks" in name)]
    return [
        torch.optim.Muon(matrices, lr=options.muon_lr, weight_decay=options.weight_decay, momentum=0.95),
        torch.optim.AdamW(rest, lr=options.lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def write(out: Path, clip: nn.Module, options: PretrainOptions, log: list[dict[str, float]]) -> None:
    """Publish the weights so far; a reader finds old ones or new ones, never half."""
    state = {
        name: tensor.detach().half().contiguous() for name, tensor in clip.state_dict().items() if name != "attn_mask"
    }
    temporary = out / "pocket_clip.part"
    temporary.write_bytes(save(state))
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
        parser.add_argument(f"--{name.replace('_', '-')}", type=str if value is None else type(value), default=value)
    given = vars(parser.parse_args())
    pretrain(given.pop("out"), PretrainOptions(**given), say=lambda text: print(text, file=sys.stderr, flush=True))


if __name__ == "__main__":
    main()
