"""Pull one video embedding out of frames, with the aligned entities as queries. Knows nothing of encoders or labels.

Per block m, with E the regions and Q the queries (ALT, arXiv 2311.15619, video adapter):
    E_m = E + Conv1D_m(E),  Q'_m = SelfAttention_m(Q_{m-1}),  Q_m = FeedForward_m(CrossAttention_m(Q'_m, E_m))
with residuals and LayerNorm before each part, and z = MLP(mean Q_M), L2-normalised. Order in time enters by the
convolution alone: with conv="none" the result does not depend on the order of the frames. Outside training, `mix` adds the
frozen embedding.

Legend: B clips, T frames, R tokens of a frame (index 0 the class token), N patches, Q queries, D joint dimension,
W width inside, H heads, J positions of the convolution's kernel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alt_ray.errors import ModelError
from alt_ray.models.configs import AdapterConfig

__all__ = ["AdapterConfig", "VideoAdapter", "region_overlap"]


class VideoAdapter(nn.Module):
    """The part of ALT that trains. Queries and regions in the joint space go in, a video embedding comes out."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.config = config
        dim, width, hidden = config.dim, config.width, config.io_hidden
        self.regions_in = _mlp(dim, hidden, width)
        if config.queries == "entity":
            self.queries_in = _mlp(dim, hidden, width)
        else:
            self.learned_queries = nn.Parameter(torch.randn(config.num_queries, width) * width**-0.5)
        self.blocks = nn.ModuleList(AdapterBlock(config) for _ in range(config.num_blocks))
        self.result = _mlp(width, hidden, dim)
        # torch's own start leaves the order of frames a 20th of the signal; it then takes training long to notice it.
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv1d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if config.residual:
            for parameter in self.result[-1].parameters():
                nn.init.zeros_(parameter)

    def forward(
        self,
        queries_BTD: Tensor,
        tokens_BTRD: Tensor,
        sizes_BTR: Tensor | None = None,
        region_of_patch_BTN: Tensor | None = None,
        frames_BTD: Tensor | None = None,
    ) -> Tensor:
        """Return the video embedding [B, D], L2-normalised.

        queries: pooled A_hat S, before its MLP (its shape alone matters to learned queries). tokens: not normalised.
        sizes: patches per token, all equal if None. region_of_patch: needed by conv_over="overlap". frames: the
        frames' image embeddings, L2-normalised, needed by residual and mix. Raise ModelError when one is missing.
        """
        return self.attend(queries_BTD, tokens_BTRD, sizes_BTR, region_of_patch_BTN, frames_BTD)[0]

    def attend(
        self,
        queries_BTD: Tensor,
        tokens_BTRD: Tensor,
        sizes_BTR: Tensor | None = None,
        region_of_patch_BTN: Tensor | None = None,
        frames_BTD: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `forward`, and with `need_weights` where each block's queries look: [B, M, Q, T, R], mean over heads."""
        B, T, R, _ = tokens_BTRD.shape
        if sizes_BTR is None:
            sizes_BTR = tokens_BTRD.new_ones(B, T, R)
        overlap_JBTRR = None
        if self.config.conv != "none" and self.config.conv_over == "overlap":
            if region_of_patch_BTN is None:
                raise ModelError(
                    'adapter conv_over="overlap" needs region_of_patch, which tells the patches of a region'
                )
            overlap_JBTRR = region_overlap(region_of_patch_BTN, R, self.config.conv_kernel).to(tokens_BTRD.dtype)
        if self.config.needs_frames and frames_BTD is None:
            raise ModelError("adapter with residual or mix needs the frames' image embeddings")

        regions_BTRW = self.regions_in(tokens_BTRD)
        if self.config.queries == "entity":
            queries_BQW = self.queries_in(queries_BTD)
        else:
            queries_BQW = self.learned_queries.expand(B, -1, -1)
        weights = []
        for block in self.blocks:
            queries_BQW, weight = block(queries_BQW, regions_BTRW, sizes_BTR, overlap_JBTRR, need_weights)
            weights.append(weight)
        embedding_BD = self.result(queries_BQW.mean(1))
        if frames_BTD is not None and self.config.residual:
            embedding_BD = embedding_BD + frames_BTD.mean(1)
        embedding_BD = F.normalize(embedding_BD, dim=-1)
        if frames_BTD is not None and self.config.mix and not self.training:
            frozen_BD = F.normalize(frames_BTD.mean(1), dim=-1)
            embedding_BD = F.normalize(embedding_BD + self.config.mix * frozen_BD, dim=-1)
        maps = torch.stack(weights, 1).unflatten(-1, (T, R)) if need_weights else None
        return embedding_BD, maps


class AdapterBlock(nn.Module):
    """Temporal convolution, self-attention over the queries, cross-attention to all T x R tokens, feed-forward."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        width = config.width
        self.size_bias = config.size_bias
        self.conv = None if config.conv == "none" else TemporalConv(config)
        self.norm_self = nn.LayerNorm(width)
        self.self_attention = Attention(width, config.num_heads, config.dropout)
        self.norm_cross = nn.LayerNorm(width)
        self.norm_regions = nn.LayerNorm(width)
        self.cross_attention = Attention(width, config.num_heads, config.dropout)
        self.norm_forward = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, config.mlp_hidden),
            nn.GELU(),
            nn.Linear(config.mlp_hidden, width),
            nn.Dropout(config.dropout),
        )

    def forward(
        self,
        queries_BQW: Tensor,
        regions_BTRW: Tensor,
        sizes_BTR: Tensor,
        overlap_JBTRR: Tensor | None,
        need_weights: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the queries [B, Q, W] and, if asked, the cross-attention [B, Q, T*R], mean over heads."""
        if self.conv is not None:
            regions_BTRW = regions_BTRW + self.conv(regions_BTRW, sizes_BTR, overlap_JBTRR)
        queries = self.norm_self(queries_BQW)
        queries_BQW = queries_BQW + self.self_attention(queries, queries)[0]
        bias = sizes_BTR.flatten(1).log()[:, None, None, :].to(regions_BTRW.dtype) if self.size_bias else None
        regions = self.norm_regions(regions_BTRW.flatten(1, 2))
        pulled, weights = self.cross_attention(self.norm_cross(queries_BQW), regions, bias, need_weights)
        queries_BQW = queries_BQW + pulled
        return queries_BQW + self.feed_forward(self.norm_forward(queries_BQW)), weights


class TemporalConv(nn.Module):
    """Convolution over the frames, zero beyond both ends, of tokens that have no common index from frame to frame."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        groups = config.width if config.conv == "depthwise" else 1
        self.over = config.conv_over
        self.conv = nn.Conv1d(config.width, config.width, config.conv_kernel, padding="same", groups=groups)

    def forward(self, regions_BTRW: Tensor, sizes_BTR: Tensor, overlap_JBTRR: Tensor | None) -> Tensor:
        """Return what is to be added to the regions [B, T, R or 1, W]."""
        if self.over == "frame":
            share_BTR = (sizes_BTR / sizes_BTR.sum(-1, keepdim=True)).to(regions_BTRW.dtype)
            regions_BTRW = torch.einsum("btrw,btr->btw", regions_BTRW, share_BTR)[:, :, None]
        # Un-merging, convolving each patch and averaging per region are all linear: the same result comes from the
        # neighbour's regions weighted by the patches that they share, at R rows a frame instead of N. A product for
        # each position of the kernel is a convolution; in torch's own, in bfloat16, threads wait by spinning: six
        # times as long where cores are shared.
        reach = self.conv.kernel_size[0] // 2
        assert self.conv.bias is not None  # Conv1d has one unless told otherwise
        added = self.conv.bias
        for tap in range(2 * reach + 1):
            neighbour = _shift(regions_BTRW, tap - reach)
            pulled = neighbour if overlap_JBTRR is None or tap == reach else overlap_JBTRR[tap] @ neighbour
            weight = self.conv.weight[..., tap]
            added = added + (pulled * weight[:, 0] if self.conv.groups > 1 else pulled @ weight.T)
        return added


class Attention(nn.Module):
    """Multi-head attention with its own projections. Dropout acts on what it returns.

    Few queries look at many tokens, so no token is projected: q . (W_k x) = (W_k^T q) . x, and the weighted sum of W_v x is W_v
    times that of x. The same function, rounded otherwise, at 2 H Q multiply-adds a token and channel instead of 2 W.
    """

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, queries_BQW: Tensor, tokens_BLW: Tensor, bias: Tensor | None = None, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Return what the queries pull out of the tokens [B, Q, W] and, if asked, their weights [B, Q, L].

        bias: [B, 1, 1, L], added to the logits.
        """
        B, Q, W = queries_BQW.shape
        H = self.num_heads
        scale = (W // H) ** -0.5
        query_BQW = self.query(queries_BQW)
        # Of the key's own bias nothing is left in a softmax over the tokens: it adds the same to all logits of a query.
        key_HdW, value_HdW = self.key_value.weight.unflatten(0, (2, H, W // H))
        if H * Q < W:
            asked_BSW = self._asked(query_BQW, key_HdW)  # S = H * Q
            tokens = tokens_BLW[:, None]
            seen_BSW = F.scaled_dot_product_attention(asked_BSW[:, None], tokens, tokens, attn_mask=bias, scale=scale)[
                :, 0
            ]
            seen_HxW = seen_BSW.unflatten(1, (H, Q)).transpose(0, 1).flatten(1, 2)  # x = B * Q
            pulled_HBQd = (seen_HxW @ value_HdW.transpose(1, 2)).unflatten(1, (B, Q))
            pulled_BQW = pulled_HBQd.permute(1, 2, 0, 3).flatten(2) + self.key_value.bias[W:]
        else:
            query, key, value = (
                x.unflatten(-1, (H, -1)).transpose(1, 2) for x in (query_BQW, *self.key_value(tokens_BLW).chunk(2, -1))
            )
            pulled_BQW = F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(2)
        weights = None
        if need_weights:
            logits = (self._asked(query_BQW, key_HdW) @ tokens_BLW.transpose(1, 2) * scale).unflatten(1, (H, Q))
            weights = (logits if bias is None else logits + bias).softmax(-1).mean(1)
        return self.dropout(self.out(pulled_BQW)), weights

    def _asked(self, query_BQW: Tensor, key_HdW: Tensor) -> Tensor:
        """Return W_k^T q of each head and query: [B, H * Q, W]."""
        B, Q, _ = query_BQW.shape
        query_HxD = query_BQW.flatten(0, 1).unflatten(-1, (self.num_heads, -1)).transpose(0, 1)
        return (query_HxD @ key_HdW).unflatten(1, (B, Q)).transpose(0, 1).flatten(1, 2)


def region_overlap(region_of_patch_BTN: Tensor, num_tokens: int, kernel: int) -> Tensor:
    """Return [J, B, T, R, R]: the share of a token's patches that lie in each token of the frame J - kernel // 2 later.

    Rows sum to 1 (0 for a region without patches). The class token (0), which has no patches, goes with the class
    token. Beyond the ends of the clip, where shifted frames are zero, all rows point at it.
    """
    B, T, _ = region_of_patch_BTN.shape
    overlaps = []
    for offset in range(-(kernel // 2), kernel // 2 + 1):
        pair_BTN = region_of_patch_BTN * num_tokens + _shift(region_of_patch_BTN, offset)
        count = torch.zeros(B, T, num_tokens**2, device=pair_BTN.device)
        count = count.scatter_add_(2, pair_BTN, torch.ones_like(pair_BTN, dtype=count.dtype))
        count = count.unflatten(2, (num_tokens, num_tokens))
        count[:, :, 0, 0] = 1
        overlaps.append(count / count.sum(-1, keepdim=True).clamp(min=1))
    return torch.stack(overlaps)


def _shift(frames_BT: Tensor, offset: int) -> Tensor:
    """Put frame t + offset in the place of frame t, and zeros where there is none."""
    shifted = torch.zeros_like(frames_BT)
    T = frames_BT.shape[1]
    if abs(offset) < T:
        shifted[:, max(0, -offset) : T - max(0, offset)] = frames_BT[:, max(0, offset) : T - max(0, -offset)]
    return shifted


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """LayerNorm first: image tokens and means of text embeddings differ in scale by two orders of magnitude."""
    return nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))
