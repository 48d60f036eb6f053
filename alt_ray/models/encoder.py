"""The region-aware image encoder: a frozen CLIP ViT whose patch tokens merge into regions. Knows nothing of videos.

Shapes: B images, N patch tokens, L tokens in a block (class token first), R regions, H heads, C width, D embedding dim.
The blocks of any open_clip VisionTransformer are run by a loop of ours: the model itself is left as it is.
Source: ALT (arXiv 2311.15619), section 3.1; token merging (arXiv 2210.09461).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from open_clip import CLIP
from open_clip.transform import image_transform_v2
from torch import Tensor, nn
from torch.nn import functional as F

from alt_ray import bundled
from alt_ray.errors import ModelError
from alt_ray.models.merging import merge_tokens, plan_merge
from alt_ray.models.schedule import merge_schedule
from alt_ray.models.vit import attention_output, embed, pool, queries_keys_values
from alt_ray.models.weights import ModelSpec, build_model, build_tokenizer, resolve_model, weights_digest

RegionFeatures = Literal["final", "value"]
REGION_FEATURES: tuple[str, ...] = get_args(RegionFeatures)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TEXT_BATCH = 256


@dataclass(frozen=True)
class Regions:
    """The regions of B images, in the joint image-text space; index 0 of tokens is the class token.

    `tokens` [B, 1+R, D] come after ln_post and the visual projection and are not normalised. `sizes` [B, 1+R] float32
    is the number of patches in each (the class token counts 1). `region_of_patch` [B, N] int64 holds indices into
    tokens, never 0. `pooled` [B, D] is the image embedding. `align_tokens` [B, 1+R, D] are the features by which
    regions are compared with entities, index for index the same regions as tokens: tokens themselves, or with
    region_features="value" the last block's value path. tokens, pooled and align_tokens have the encoder's dtype.
    """

    tokens: Tensor
    sizes: Tensor
    region_of_patch: Tensor
    pooled: Tensor
    align_tokens: Tensor


class RegionEncoder(nn.Module):
    """A frozen CLIP: images to regions, text to embeddings. `load_encoder` makes one.

    `dtype` is the visual tower's; the text tower stays float32, so that text embeddings don't depend on it, and so
    does `weights_digest`, which is taken before any conversion.
    """

    clip: CLIP
    _scale_311: Tensor
    _shift_311: Tensor

    def __init__(
        self,
        clip: CLIP,
        spec: ModelSpec,
        *,
        merge_schedule: Sequence[int],
        pretrained: str = "none",
        region_features: str = "final",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.name = spec.name
        self.model_config = spec.config
        self.pretrained = pretrained
        self.seed = seed if pretrained == "none" else 0  # what random weights are rebuilt from
        self.weights_digest = weights_digest(clip)
        self.region_features = region_features
        self.merge_schedule = tuple(merge_schedule)

        self.clip = clip.eval().requires_grad_(False)
        visual = clip.visual
        self.dim: int = visual.output_dim
        self.image_size: int = visual.image_size[0]
        self.num_patches: int = visual.grid_size[0] * visual.grid_size[1]
        self.num_layers = len(visual.transformer.resblocks)
        self.logit_scale = float(clip.logit_scale)

        prepare = spec.preprocess
        self.mean, self.std = tuple(prepare.mean), tuple(prepare.std)
        self.resize_mode, self.interpolation = prepare.resize_mode, prepare.interpolation
        self.preprocess = image_transform_v2(prepare, is_train=False)
        mean_3, std_3 = torch.tensor(self.mean), torch.tensor(self.std)
        self.register_buffer("_scale_311", (1 / (255 * std_3))[:, None, None], persistent=False)
        self.register_buffer("_shift_311", (-mean_3 / std_3)[:, None, None], persistent=False)

    @property
    def device(self) -> torch.device:
        return self.clip.visual.proj.device

    @property
    def dtype(self) -> torch.dtype:
        return self.clip.visual.proj.dtype

    def train(self, mode: bool = True) -> "RegionEncoder":
        """Stay in evaluation mode, whatever the model around this one does: the encoder is frozen."""
        return super().train(False)

    def normalise(self, frames: Tensor) -> Tensor:
        """Turn uint8 RGB frames [B, H, W, 3] or [B, 3, H, W] into what encode_frames takes: [B, 3, H, W]."""
        if frames.dtype != torch.uint8 or frames.ndim != 4 or 3 not in (frames.shape[1], frames.shape[3]):
            raise ModelError(f"frames are {_describe(frames)}; uint8 [B, H, W, 3] or [B, 3, H, W] is accepted")
        frames = frames.to(self.device)
        if frames.shape[3] == 3:
            frames = frames.permute(0, 3, 1, 2)
        images = torch.addcmul(self._shift_311, frames.to(torch.float32).contiguous(), self._scale_311)
        return images.to(self.dtype)

    def encode_frames(self, images: Tensor) -> Regions:
        """Encode normalised images [B, 3, S, S]; S is image_size. With no merging `pooled` is open_clip's encode_image.

        Gradients flow to the images if they ask for them, not through the choice of what merges.
        """
        S = self.image_size
        if not images.is_floating_point() or images.ndim != 4 or images.shape[1:] != (3, S, S):
            hint = "; `normalise` makes it from uint8 frames" if images.dtype == torch.uint8 else ""
            raise ModelError(f"images are {_describe(images)}; {self.name} takes float [B, 3, {S}, {S}]{hint}")
        visual = self.clip.visual
        x_BLC = embed(visual, images.to(self.device, self.dtype))
        B, L, _ = x_BLC.shape
        sizes_BL: Tensor | None = None  # all ones: attention needs no mask until the first merge
        region_BN = torch.arange(1, L, device=x_BLC.device).repeat(B, 1)
        align_BLC: Tensor | None = None
        for index, (block, r) in enumerate(zip(visual.transformer.resblocks, self.merge_schedule, strict=True)):
            q, k, v = queries_keys_values(block, x_BLC)
            if self.region_features == "value" and index == self.num_layers - 1:
                align_BLC = attention_output(block, v)
            # Proportional attention: a region of s patches draws the attention that s equal patches would.
            bias = None if sizes_BL is None else sizes_BL.log().to(x_BLC.dtype)[:, None, None, :]
            x_BLC = x_BLC + attention_output(block, F.scaled_dot_product_attention(q, k, v, attn_mask=bias))
            if r > 0:
                plan = plan_merge(k.sum(dim=1), r)  # the mean over heads has the same cosines
                before_BL = x_BLC.new_ones(B, x_BLC.shape[1], dtype=torch.float32) if sizes_BL is None else sizes_BL
                x_BLC, sizes_BL = merge_tokens(x_BLC, before_BL, plan)
                region_BN = plan.output.gather(1, region_BN)
                if align_BLC is not None:
                    align_BLC, _ = merge_tokens(align_BLC, before_BL, plan)
            x_BLC = x_BLC + block.ls_2(block.mlp(block.ln_2(x_BLC)))
        if sizes_BL is None:
            sizes_BL = x_BLC.new_ones(x_BLC.shape[:2], dtype=torch.float32)
        tokens = visual.ln_post(x_BLC) @ visual.proj
        return Regions(
            tokens=tokens,
            sizes=sizes_BL,
            region_of_patch=region_BN,
            pooled=pool(visual, x_BLC, tokens, sizes_BL),
            align_tokens=tokens if align_BLC is None else visual.ln_post(align_BLC) @ visual.proj,
        )

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return the L2-normalised embeddings [len(texts), D], float32, on the encoder's device."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        chunks = [torch.empty(0, self.dim, device=self.device)]
        for start in range(0, len(texts), TEXT_BATCH):
            ids = self._tokenizer(texts[start : start + TEXT_BATCH])
            vocab_size = self.model_config["text_cfg"].get("vocab_size", 49408)
            if int(ids.max()) >= vocab_size and not self.model_config["text_cfg"].get("hf_model_name"):
                raise ModelError(
                    f"the text tower of {self.name} knows {vocab_size} tokens, fewer than its tokenizer makes; "
                    f"text_cfg.vocab_size must be at least {int(ids.max()) + 1}"
                )
            chunks.append(F.normalize(self.clip.encode_text(ids.to(self.device)).float(), dim=-1))
        return torch.cat(chunks)

    @cached_property
    def _tokenizer(self) -> Any:
        return build_tokenizer(self.model_config["text_cfg"])


def load_encoder(
    model: str | Path | dict[str, Any],
    pretrained: str | Path | None = None,
    *,
    merge_ratio: float = 0.0,
    merge_r: int | Sequence[int] = 0,
    schedule: str = "constant",
    region_features: str = "final",
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    seed: int = 0,
) -> RegionEncoder:
    """Build a frozen region-aware encoder.

    `model` is an open_clip model name, "pocket" (it ships with this package), a model config (open_clip's format), or
    the path of a JSON config. `pretrained` is an open_clip tag, "pocket", a checkpoint path (.safetensors, or .pt read
    with weights_only), "none" for random weights that follow `seed`, or None: the model's own if it ships with some
    ("pocket" does), or else random ones. `merge_ratio`, `merge_r` and `schedule` are those of `merge_schedule`. Raises
    ModelError.
    """
    if region_features not in REGION_FEATURES:
        raise ModelError(f"region_features is {region_features!r}; it must be one of {', '.join(REGION_FEATURES)}")
    if dtype not in DTYPES:
        raise ModelError(f"dtype is {dtype!r}; it must be one of {', '.join(DTYPES)}")
    target = _usable_device(device)
    if pretrained is None:
        pretrained = bundled.own_weights(model)
    pretrained = None if pretrained is None or str(pretrained) == "none" else str(pretrained)
    spec, checkpoint = resolve_model(model, pretrained)
    clip = build_model(spec, checkpoint, seed)
    num_patches = clip.visual.grid_size[0] * clip.visual.grid_size[1]
    encoder = RegionEncoder(
        clip,
        spec,
        pretrained=pretrained or "none",
        merge_schedule=merge_schedule(
            num_patches,
            len(clip.visual.transformer.resblocks),
            merge_r=merge_r,
            merge_ratio=merge_ratio,
            schedule=schedule,
        ),
        region_features=region_features,
        seed=seed,
    )
    encoder.clip.visual.to(DTYPES[dtype])
    if target.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32; the other formats are there for speed
    return encoder.to(target)


def _usable_device(device: str | torch.device) -> torch.device:
    try:
        target = torch.device(device)
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError) as exc:  # torch asserts that it was built with CUDA
        raise ModelError(f"device {str(device)!r} can't be used here: {str(exc).splitlines()[0]}") from exc
    return target


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
