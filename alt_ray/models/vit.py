"""The steps of open_clip's VisionTransformer one by one, computing what its own forward does. Knows nothing of merging.

Shapes: B images, N patch tokens, L tokens in a block (class token first), R regions, H heads, d = C/H, C width, D
embedding dim. A block is a ResidualAttentionBlock or a CustomResidualAttentionBlock.
"""

from typing import TypeAlias

import torch
from open_clip.transformer import CustomResidualAttentionBlock, ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

Block: TypeAlias = ResidualAttentionBlock | CustomResidualAttentionBlock


def embed(visual: VisionTransformer, images: Tensor) -> Tensor:
    """Return the tokens [B, 1+N, C] that enter the first block. Patch dropout is for training: it has no part here."""
    patches_BNC = visual.conv1(images).flatten(2).transpose(1, 2)
    class_B1C = visual.class_embedding.expand(len(images), 1, -1)
    return visual.ln_pre(torch.cat([class_B1C, patches_BNC], dim=1) + visual.positional_embedding)


def queries_keys_values(block: Block, x_BLC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the block's attention mixes, [B, H, L, C/H] each, keys and queries normalised if it does that."""
    attn = block.attn
    qkv = F.linear(block.ln_1(x_BLC), attn.in_proj_weight, attn.in_proj_bias)
    q, k, v = qkv.unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    if not isinstance(attn, nn.MultiheadAttention):
        q, k = attn.ln_q(q), attn.ln_k(k)
    return q, k, v


def attention_output(block: Block, values_BHLd: Tensor) -> Tensor:
    """Return what the block adds to its tokens [B, L, C] for these mixed values, as its own attention would.

    Given values that were not mixed, that is what it would add if every token attended to itself alone.
    """
    attn = block.attn
    if isinstance(attn, nn.MultiheadAttention):
        return block.ls_1(attn.out_proj(values_BHLd.transpose(1, 2).flatten(2)))
    if attn.head_scale is not None:
        values_BHLd = values_BHLd * attn.head_scale
    return block.ls_1(block.ln_attn(attn.out_proj(attn.ln_inner(values_BHLd.transpose(1, 2).flatten(2)))))


def pool(visual: VisionTransformer, x_BLC: Tensor, tokens_BLD: Tensor, sizes_BL: Tensor) -> Tensor:
    """Return the image embedding [B, D]: the class token, or the mean over patches, in the model's own order."""
    if visual.pool_type == "tok":
        return tokens_BLD[:, 0]
    share_B1R = (sizes_BL[:, None, 1:] / visual.positional_embedding[1:].shape[0]).to(x_BLC.dtype)
    if visual.final_ln_after_pool:
        return visual.ln_post(share_B1R @ x_BLC[:, 1:]).squeeze(1) @ visual.proj
    return (share_B1R @ tokens_BLD[:, 1:]).squeeze(1)
