"""Token merging: which tokens of a block become one, and what becomes of them. Knows nothing of attention or models.

Shapes: B frames, L tokens (class token first), r tokens merged away, M = L - r tokens left, C channels.
Source: token merging (arXiv 2210.09461); the class token stays at position 0 and never merges.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from alt_ray.models.schedule import max_merge, merge_schedule, tokens_per_block

__all__ = ["MergePlan", "max_merge", "merge_schedule", "merge_tokens", "plan_merge", "tokens_per_block"]


@dataclass(frozen=True)
class MergePlan:
    """What one merge does to a block's tokens, as indices: it applies to any features of these tokens.

    `kept` [B, M] is the input position of the token that each output token grows from, `merged` [B, r] the input
    positions of those merged away, `output` [B, L] the output position of every input token. All are int64.
    """

    kept: Tensor
    merged: Tensor
    output: Tensor


@torch.no_grad()
def plan_merge(keys_BLC: Tensor, r: int) -> MergePlan:
    """Choose the `r` tokens at even positions (never 0) that are most like one at an odd position by cosine of keys.

    Output order: the even tokens that stay, in order, then all odd ones. `r` is capped at `max_merge(L)`; r <= 0
    gives the identity. Several tokens may merge into one. No gradient flows through the choice.
    """
    B, L, _ = keys_BLC.shape
    r = min(r, max_merge(L))
    if r <= 0:
        identity_BL = torch.arange(L, device=keys_BLC.device).expand(B, L)
        return MergePlan(identity_BL, identity_BL[:, :0], identity_BL)
    keys_BLC = F.normalize(keys_BLC, dim=-1)
    similarity, target = (keys_BLC[:, 2::2] @ keys_BLC[:, 1::2].transpose(1, 2)).max(dim=-1)
    chosen_Br = similarity.topk(r, dim=-1, sorted=False).indices
    merged_Br = 2 * chosen_Br + 2

    # Everything below is scatter and cumsum: no sort, and no `nonzero`, which would make a GPU wait for the host.
    position_L = torch.arange(L, device=keys_BLC.device)
    num_even = (L + 1) // 2 - r
    output_BL = torch.empty(B, L, dtype=torch.int64, device=keys_BLC.device)
    stays_BL = torch.ones_like(output_BL).scatter_(1, merged_Br, 0)
    output_BL[:, 0::2] = stays_BL[:, 0::2].cumsum(1) - 1
    output_BL[:, 1::2] = num_even + position_L[: L // 2]
    output_BL.scatter_(1, merged_Br, num_even + target.gather(1, chosen_Br))

    kept_BM = torch.empty(B, L - r, dtype=torch.int64, device=keys_BLC.device)
    # A merged token writes into the slot of its odd target here, which the next line sets right.
    kept_BM.scatter_(1, output_BL[:, 0::2], position_L[0::2].expand(B, -1))
    kept_BM[:, num_even:] = position_L[1::2]
    return MergePlan(kept_BM, merged_Br, output_BL)


def merge_tokens(tokens_BLC: Tensor, sizes_BL: Tensor, plan: MergePlan) -> tuple[Tensor, Tensor]:
    """Return the tokens [B, M, C] as size-weighted means of their members, and their sizes [B, M], which add up."""
    if plan.merged.shape[1] == 0:
        return tokens_BLC, sizes_BL
    frame_B1 = torch.arange(len(tokens_BLC), device=tokens_BLC.device)[:, None]
    slot_Br = plan.output.gather(1, plan.merged)
    merged_sizes_Br = sizes_BL.gather(1, plan.merged)
    sizes_BM = sizes_BL.gather(1, plan.kept).scatter_add_(1, slot_Br, merged_sizes_Br)
    share_Br1 = (merged_sizes_Br / sizes_BM.gather(1, slot_Br)).unsqueeze(-1).to(tokens_BLC.dtype)

    # mean = x_0 + sum_i (s_i / S)(x_i - x_0), x_0 the token that the others join: only the r rows are computed.
    tokens_BMC = tokens_BLC[frame_B1, plan.kept]
    change_BrC = (tokens_BLC[frame_B1, plan.merged] - tokens_BMC[frame_B1, slot_Br]) * share_Br1
    return tokens_BMC.index_put_((frame_B1, slot_Br), change_BrC, accumulate=True), sizes_BM
