"""What a model costs, in multiply-adds and parameters, by arithmetic alone. Knows nothing of torch, nor of weights.

One multiply-add counts as one, as in the published figures (and half of what most counters of "FLOPs" print).
Counted: patch embedding, linear layers, attention products, the matching of token merging, convolutions. Not counted:
normalisations, activations, softmax, the averaging of merged tokens: together well under 1 %.

Legend: T frames, N patch tokens, R tokens that leave the encoder (class token and regions), K entities, D joint
dimension, W width inside a tower or adapter.
"""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alt_ray import bundled
from alt_ray.errors import ModelError
from alt_ray.models.configs import AdapterConfig
from alt_ray.models.schedule import max_merge, merge_schedule, tokens_per_block

GIGA = 1e9


@dataclass(frozen=True)
class VisionShape:
    """The numbers of an open_clip vision transformer that its cost follows from."""

    layers: int
    width: int
    mlp_hidden: int
    head_width: int
    patch_size: int
    num_patches: int
    dim: int

    @classmethod
    def from_config(cls, model_config: Mapping[str, Any]) -> "VisionShape":
        """Read an open_clip config. Raise ModelError for a vision tower other than open_clip's own ViT."""
        vision = model_config.get("vision_cfg", {})
        missing = [key for key in ("layers", "width", "patch_size", "image_size") if key not in vision]
        if missing or "embed_dim" not in model_config or not isinstance(vision["layers"], int):
            raise ModelError(
                f"cost of vision_cfg {dict(vision)}: expected open_clip's own ViT, with embed_dim and with layers (a "
                "number), width, patch_size and image_size in vision_cfg; timm and ResNet towers are not supported"
            )
        width, size, patch = vision["width"], vision["image_size"], vision["patch_size"]
        height, breadth = size if isinstance(size, (list, tuple)) else (size, size)
        return cls(
            layers=vision["layers"],
            width=width,
            mlp_hidden=int(width * vision.get("mlp_ratio", 4.0)),
            head_width=vision.get("head_width", 64),
            patch_size=patch,
            num_patches=(height // patch) * (breadth // patch),
            dim=model_config["embed_dim"],
        )


@dataclass(frozen=True)
class CostReport:
    """Cost of one model on one video, in units of 1e9 multiply-adds ("GFLOPs" in the paper's convention).

    gflops_per_view = num_frames * gflops_per_frame + gflops_adapter + gflops_alignment, the last two per view;
    gflops_per_video is that times num_views. The adapter's cross-attention is counted as it is written, every region
    projected to a key and a value; it is computed with less (`adapter_macs`). Of the published totals K is not known:
    compare with num_entities = 0.
    `parameters` holds total, vision, adapter (trained) and text; the text tower runs once per label or entity, never
    per video, and is not part of the total, as in the paper.
    """

    gflops_per_frame: float
    gflops_adapter: float
    gflops_alignment: float
    gflops_per_view: float
    gflops_per_video: float
    tokens_out: int
    num_frames: int
    num_views: int
    num_entities: int
    parameters: dict[str, int]


def cost(
    model: str | Path | Mapping[str, Any],
    merge_r: int | Sequence[int] = 0,
    *,
    merge_ratio: float = 0.0,
    schedule: str = "constant",
    adapter: AdapterConfig | None = None,
    num_frames: int = 8,
    num_views: int = 1,
    num_entities: int = 0,
    region_features: str = "final",
) -> CostReport:
    """Cost of a model (an open_clip name, config or JSON path); adapter None is frozen CLIP without one.

    merge_r, merge_ratio and schedule are those of `load_encoder`. Raise ModelError for an unknown model or a merging
    that it can't do.
    """
    if min(num_frames, num_views) < 1 or num_entities < 0:
        raise ModelError(
            f"cost of {num_frames} frames, {num_views} views, {num_entities} entities: expected at least 1, 1 and 0"
        )
    config = read_model_config(model)
    shape = VisionShape.from_config(config)
    merges = merge_schedule(
        shape.num_patches, shape.layers, merge_r=merge_r, merge_ratio=merge_ratio, schedule=schedule
    )
    tokens_out = 1 + shape.num_patches - sum(merges)
    per_frame = encoder_macs(config, merges, region_features)
    per_adapter = adapter_macs(adapter, num_frames, tokens_out) if adapter else 0
    per_alignment = num_frames * tokens_out * shape.dim * num_entities
    per_view = num_frames * per_frame + per_adapter + per_alignment
    vision = encoder_parameters(config)
    trained = adapter_parameters(adapter) if adapter else 0
    return CostReport(
        gflops_per_frame=per_frame / GIGA,
        gflops_adapter=per_adapter / GIGA,
        gflops_alignment=per_alignment / GIGA,
        gflops_per_view=per_view / GIGA,
        gflops_per_video=num_views * per_view / GIGA,
        tokens_out=tokens_out,
        num_frames=num_frames,
        num_views=num_views,
        num_entities=num_entities,
        parameters={
            "total": vision + trained,
            "vision": vision,
            "adapter": trained,
            "text": text_parameters(config),
        },
    )


def read_model_config(model: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """An open_clip config as dict, from a dict, a JSON path, or a name that open_clip or this package knows; imports no model."""
    if isinstance(model, Mapping):
        return dict(model)
    path = bundled.encoder_config(model) or Path(model)
    if path.suffix != ".json":
        spec = importlib.util.find_spec("open_clip")
        folders = [Path(folder) / "model_configs" for folder in (spec and spec.submodule_search_locations) or ()]
        # open_clip takes the names of OpenAI's models with a slash, and its files are named with a dash.
        found = [folder / f"{str(model).replace('/', '-')}.json" for folder in folders]
        path = next((file for file in found if file.is_file()), path)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ModelError(
            f"model {str(model)!r}: expected a name of open_clip, such as ViT-B-16, {bundled.POCKET}, or a JSON config"
        ) from exc
    except ValueError as exc:
        raise ModelError(f"model config {path}: expected JSON ({exc})") from exc
    if not isinstance(config, dict):
        raise ModelError(f"model config {path}: expected a JSON object with embed_dim, vision_cfg and text_cfg")
    # A file from the Hugging Face hub wraps the config.
    return config.get("model_cfg", config)


def encoder_macs(model_config: Mapping[str, Any], schedule: Sequence[int] = (), region_features: str = "final") -> int:
    """Multiply-adds of the vision tower for one frame; `schedule` holds r of each block, empty for no merging.

    Merging acts between attention and MLP, so a block's own MLP profits. region_features="value" runs the last block's
    output projection and the joint projection a second time.
    """
    shape = VisionShape.from_config(model_config)
    width = shape.width
    counts = tokens_per_block(1 + shape.num_patches, schedule or (0,) * shape.layers)
    macs = shape.num_patches * 3 * shape.patch_size**2 * width
    for before, after in counts:
        macs += 4 * before * width**2 + 2 * before**2 * width
        macs += 2 * after * width * shape.mlp_hidden
        if after < before:
            macs += max_merge(before) * (before // 2) * shape.head_width
    # Regions live in the joint space, so every token is projected: 0.2 to 0.5 % above figures that project one.
    last_in, last_out = counts[-1]
    macs += last_out * width * shape.dim
    if region_features == "value":
        macs += last_in * width**2 + last_out * width * shape.dim
    return macs


def adapter_macs(config: AdapterConfig, num_frames: int, num_tokens: int, *, projected: bool = True) -> int:
    """Multiply-adds of the adapter for one view of T frames with `num_tokens` tokens each.

    `projected` counts as papers do, each token projected to a key and a value; False counts what models/adapter.py computes,
    which is less where there are few queries.
    """
    width, regions = config.width, num_frames * num_tokens
    queries = num_frames if config.queries == "entity" else config.num_queries
    mlp_in = config.dim * config.io_hidden + config.io_hidden * width
    inputs = regions + (queries if config.queries == "entity" else 0)
    block = 4 * queries * width**2 + 2 * queries**2 * width  # self-attention over the queries
    if projected or config.num_heads * queries >= width:
        block += 2 * queries * width**2 + 2 * regions * width**2 + 2 * queries * regions * width  # cross-attention
    else:
        block += 4 * queries * width**2 + 2 * config.num_heads * queries * regions * width
    block += 2 * queries * width * config.mlp_hidden
    if config.conv != "none":
        rows = num_frames if config.conv_over == "frame" else regions
        block += rows * config.conv_kernel * width * (width if config.conv == "dense" else 1)
        if config.conv_over == "overlap":
            block += (config.conv_kernel - 1) * regions * num_tokens * width
    result = width * config.io_hidden + config.io_hidden * config.dim
    return inputs * mlp_in + config.num_blocks * block + result


def adapter_parameters(config: AdapterConfig) -> int:
    """Trained parameters of the adapter, biases and norms included."""
    dim, width, hidden = config.dim, config.width, config.io_hidden
    mlp_in = 2 * dim + _linear(dim, hidden) + _linear(hidden, width)
    queries = mlp_in if config.queries == "entity" else config.num_queries * width
    result = 2 * width + _linear(width, hidden) + _linear(hidden, dim)
    attention = _linear(width, width) + _linear(width, 2 * width) + _linear(width, width)
    feed_forward = _linear(width, config.mlp_hidden) + _linear(config.mlp_hidden, width)
    conv = {
        "dense": _linear(config.conv_kernel * width, width),
        "depthwise": _linear(config.conv_kernel, width),
        "none": 0,
    }[config.conv]
    norms = 4 * 2 * width  # before self-attention, on both sides of cross-attention, before the feed-forward
    return mlp_in + queries + config.num_blocks * (2 * attention + feed_forward + conv + norms) + result


def encoder_parameters(model_config: Mapping[str, Any]) -> int:
    """Parameters of the vision tower, biases and norms included."""
    shape = VisionShape.from_config(model_config)
    width = shape.width
    embedding = shape.num_patches * width + 2 * width + 3 * shape.patch_size**2 * width  # positions, class token
    norms = 4 * width - (2 * width if model_config["vision_cfg"].get("no_ln_pre") else 0)
    blocks = shape.layers * _block_parameters(width, shape.mlp_hidden)
    return embedding + norms + blocks + width * shape.dim


def text_parameters(model_config: Mapping[str, Any]) -> int:
    """Parameters of open_clip's own text tower; 0 for a config without one or with one of another library."""
    text = model_config.get("text_cfg", {})
    if not {"width", "layers", "vocab_size", "context_length"} <= set(text):
        return 0
    width = text["width"]
    blocks = text["layers"] * _block_parameters(width, int(width * text.get("mlp_ratio", 4.0)))
    return (
        (text["vocab_size"] + text["context_length"]) * width + blocks + 2 * width + width * model_config["embed_dim"]
    )


def _block_parameters(width: int, hidden: int) -> int:
    attention = _linear(width, 3 * width) + _linear(width, width)
    return attention + _linear(width, hidden) + _linear(hidden, width) + 4 * width


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs
