"""Align regions with entities: every region chooses one, and a frame's choices make its query. Knows no entity's name.

Two ways to the same result. `align` is the paper's formula, dense over all K entities. `entity_queries` takes a
shortcut wherever no gradient can flow: A_hat is one-hot there, so A_hat S is a look-up in S, a noisy choice is a draw
from the softmax, which takes one random number and not K, and frames are taken in chunks, so that K = 20,000 costs no
more memory than K = 200. As regions and entities are frozen, training takes it too; the straight-through gradient
matters to whoever makes one of them learnable.

Legend: B clips, T frames, R tokens of a frame (index 0 the class token, then the regions), K entities, D joint
dimension.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from alt_ray.errors import ModelError
from alt_ray.models.configs import AlignmentConfig

__all__ = ["AlignmentConfig", "align", "entity_choice", "entity_queries", "entity_shares", "top_entities"]

# Similarities held at once by the look-up path. On a CPU 8 MiB of them stay in its cache until the largest are found: against
# 64 MiB that is 1.6 times as fast for ViT-B-16's regions, and twice for the pocket's. A GPU is kept busy by more.
CPU_CHUNK_ELEMENTS, GPU_CHUNK_ELEMENTS = 2**21, 2**24


def align(
    tokens_BTRD: Tensor,
    entities_KD: Tensor,
    config: AlignmentConfig,
    *,
    training: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return A_hat [B, T, R, K] (any leading dimensions), the weight of each entity in each token, rows summing to 1.

    Tokens need no normalisation, entities are L2-normalised. Hard: one-hot in value, with the gradient of the softmax.
    Noise comes from `generator` (the global one if None), in training only.
    Source: ALT (arXiv 2311.15619), A = GumbelSoftmax(cos / tau), A_hat = onehot(argmax A) + A - stopgrad(A).
    """
    logits = _logits(tokens_BTRD, entities_KD, config, training, generator)
    soft = logits.softmax(-1)
    if not config.hard:
        return soft
    one_hot = torch.zeros_like(soft).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
    # In this order the value is exactly one-hot: x - x is 0, while (1 + x) - x need not be 1.
    return one_hot + (soft - soft.detach())


def entity_queries(
    tokens_BTRD: Tensor,
    entities_KD: Tensor,
    config: AlignmentConfig,
    *,
    sizes_BTR: Tensor | None = None,
    training: bool = False,
    generator: torch.Generator | None = None,
    chunk_elements: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return (pool_i(A_hat S) [B, T, D] in float32, the entity that each token chose [B, T, R]).

    `sizes` (patches per token) are needed by pooling "size" alone. Equals the formula with `align`; see the module's
    docstring for what it saves. Source: ALT (arXiv 2311.15619), q_t before its MLP.
    """
    first = 0 if config.class_token else 1
    weights_BTR = torch.ones(tokens_BTRD.shape[:-1], device=tokens_BTRD.device)
    if config.pooling == "size":
        if sizes_BTR is None:
            raise ModelError("alignment pooling 'size' needs sizes_BTR, the number of patches in each token")
        weights_BTR = sizes_BTR.to(weights_BTR)
    weights_BTR = torch.cat([torch.zeros_like(weights_BTR[..., :first]), weights_BTR[..., first:]], dim=-1)
    weights_BTR = weights_BTR / weights_BTR.sum(-1, keepdim=True)

    tokens_FRD, weights_FR = tokens_BTRD.flatten(0, 1), weights_BTR.flatten(0, 1)
    entities_KD = entities_KD.float()
    learns = torch.is_grad_enabled() and (tokens_BTRD.requires_grad or entities_KD.requires_grad)
    frames = _frames_at_once(tokens_FRD, entities_KD, chunk_elements)
    queries, choices = [], []
    for tokens, weights in zip(tokens_FRD.split(frames), weights_FR.split(frames), strict=True):
        if learns or not config.hard:
            A_hat = align(tokens, entities_KD, config, training=training, generator=generator)
            chosen, embeddings = A_hat.argmax(-1), A_hat @ entities_KD
        else:
            chosen = _choice(tokens, entities_KD, config, training, generator)
            embeddings = entities_KD[chosen]
        if config.pooling == "entity":
            weights = _each_entity_once(chosen, weights, len(entities_KD))
        queries.append(torch.einsum("frd,fr->fd", embeddings, weights))
        choices.append(chosen)
    B, T = tokens_BTRD.shape[:2]
    return torch.cat(queries).unflatten(0, (B, T)), torch.cat(choices).unflatten(0, (B, T))


def _choice(
    tokens: Tensor, entities_KD: Tensor, config: AlignmentConfig, training: bool, generator: torch.Generator | None
) -> Tensor:
    """Return the entity that each token chooses [...]: the likeliest, or with noise a draw from softmax(cos / tau).

    argmax(logits + Gumbel noise) is such a draw (Maddison et al., arXiv 1411.0030). Drawn by its distribution function it costs
    one random number a token instead of K.
    """
    if not (training and config.gumbel):
        return _logits(tokens, entities_KD, config, False, None).argmax(-1)
    up_to = _logits(tokens, entities_KD, config, False, None).softmax(-1).cumsum_(-1)
    threshold = torch.rand(*up_to.shape[:-1], 1, device=up_to.device, generator=generator) * up_to[..., -1:]
    return torch.searchsorted(up_to, threshold, right=True)[..., 0].clamp_(max=len(entities_KD) - 1)


def entity_choice(tokens_BTRD: Tensor, entities_KD: Tensor, config: AlignmentConfig) -> Tensor:
    """Return the entity that each token chose [B, T, R], as `entity_queries` does outside training, without the queries."""
    tokens_FRD, entities_KD = tokens_BTRD.flatten(0, 1), entities_KD.float()
    chunks = tokens_FRD.split(_frames_at_once(tokens_FRD, entities_KD, None))
    choices = [_logits(tokens, entities_KD, config, False, None).argmax(-1) for tokens in chunks]
    return torch.cat(choices).unflatten(0, tokens_BTRD.shape[:2])


def _frames_at_once(tokens_FRD: Tensor, entities_KD: Tensor, chunk_elements: int | None) -> int:
    most = GPU_CHUNK_ELEMENTS if tokens_FRD.is_cuda else CPU_CHUNK_ELEMENTS
    return max(1, (chunk_elements or most) // (tokens_FRD.shape[1] * len(entities_KD)))


def _each_entity_once(chosen_FR: Tensor, weights_FR: Tensor, num_entities: int) -> Tensor:
    """Return weights [F, R] by which every entity that a frame's tokens chose weighs the same; tokens of weight 0 keep it."""
    total_FK = weights_FR.new_zeros(len(chosen_FR), num_entities).scatter_add_(1, chosen_FR, weights_FR)
    shared_FR = weights_FR / total_FK.gather(1, chosen_FR).clamp(min=torch.finfo(weights_FR.dtype).tiny)
    return shared_FR / shared_FR.sum(-1, keepdim=True)


def entity_shares(choice_BTR: Tensor, sizes_BTR: Tensor, num_entities: int) -> Tensor:
    """Return, per clip, the share of its patches whose region chose each entity: [B, K] float32, rows summing to 1.

    The class token is left out: it is not a patch. Sums are of whole numbers, so they are exact.
    """
    shares_BK = torch.zeros(len(choice_BTR), num_entities, device=choice_BTR.device)
    shares_BK.scatter_add_(1, choice_BTR[:, :, 1:].flatten(1), sizes_BTR[:, :, 1:].flatten(1).to(shares_BK))
    return shares_BK / shares_BK.sum(1, keepdim=True)


def top_entities(shares_BK: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return (indices [B, n], shares [B, n]), largest first, of equal shares the lower index; n is capped at K."""
    shares, indices = shares_BK.sort(dim=1, descending=True, stable=True)
    return indices[:, :n], shares[:, :n]


def _logits(
    tokens: Tensor, entities_KD: Tensor, config: AlignmentConfig, training: bool, generator: torch.Generator | None
) -> Tensor:
    """cos / tau [..., K], with Gumbel noise in training. In float32: half precision ties entities that differ."""
    logits = F.normalize(tokens.float(), dim=-1) @ entities_KD.float().T / config.temperature
    if training and config.gumbel:
        # -log of a standard exponential draw is a standard Gumbel draw; the clamp keeps a draw of 0 finite.
        noise = torch.empty_like(logits).exponential_(generator=generator).clamp_(min=1e-20)
        logits = logits - noise.log_()
    return logits
