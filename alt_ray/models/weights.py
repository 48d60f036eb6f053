"""Build an open_clip model from a name or a config and fill it with weights. Knows nothing of tokens or merging.

Nothing here unpickles: checkpoints are safetensors, or .pt files read with `weights_only`. What a region-aware
encoder can't do exactly is refused by name, before a model is built.
"""

import difflib
import hashlib
import json
import pickle
from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import CLIPVisionCfg, CustomTextCLIP, convert_to_custom_text_state_dict
from open_clip.pretrained import download_pretrained, get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from alt_ray import bundled
from alt_ray.errors import ModelError, SourceError

FAMILIES = "OpenAI, LAION, DataComp, DFN, MetaCLIP and CLIPA models named ViT-S, M, B, L, H, g or bigG"
CONFIG_KEYS = ("embed_dim", "vision_cfg", "text_cfg")
CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
# Entries of published checkpoints that are not weights.
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "text.transformer.embeddings.position_ids")


@dataclass(frozen=True)
class ModelSpec:
    """Which model to build: its name, open_clip config, and how its images are prepared."""

    name: str
    config: dict[str, Any]
    preprocess: PreprocessCfg


def resolve_model(model: str | Path | dict[str, Any], pretrained: str | None) -> tuple[ModelSpec, Path | None]:
    """Return what to build and the checkpoint file to fill it with (None: random weights).

    `model` is an open_clip name, the name of one that ships here, a config, or the path of a JSON config; `pretrained`
    an open_clip tag (downloaded unless cached), the name of weights that ship here, a checkpoint path, or None.
    ModelError names what is unknown and what would be accepted.
    """
    name, config, preprocess = _find_config(model)
    refuse_unsupported(name, config)
    path = None
    if pretrained is not None:
        tag = get_pretrained_cfg(name, pretrained) if isinstance(model, str) else {}
        if tag:
            # The tag knows which activation its weights were trained with; the wrong one ruins them silently.
            config["quick_gelu"] = bool(tag.get("quick_gelu", False))
            preprocess = {**preprocess, **tag}
            path = _download(name, pretrained, tag)
        else:
            path = _find_checkpoint(name, pretrained)
    size = config["vision_cfg"].get("image_size", CLIPVisionCfg.image_size)
    preprocess_cfg = PreprocessCfg(**merge_preprocess_dict(PreprocessCfg(), {**preprocess, "size": size}))
    return ModelSpec(name, config, preprocess_cfg), path


def refuse_unsupported(name: str, config: dict[str, Any]) -> None:
    """Raise ModelError, with the reason, unless the config's visual tower can be run block by block exactly."""
    vision = config["vision_cfg"]
    if timm_name := vision.get("timm_model_name"):
        reason = f"its visual tower is timm's {timm_name}"
    elif isinstance(vision.get("layers"), list | tuple):
        reason = "its visual tower is a ResNet"
    elif vision.get("attentional_pool"):
        reason = "it pools by attention (attentional_pool), which has no size-weighted equal"
    elif vision.get("pool_type") == "none":
        reason = "it does not pool (pool_type none), so there is no image embedding"
    elif vision.get("scaled_cosine_attn"):
        reason = "scaled_cosine_attn can't be run by open_clip itself, so there is nothing to be equal to"
    else:
        if unknown := sorted(set(vision) - {field.name for field in fields(CLIPVisionCfg)}):
            raise ModelError(f"vision_cfg of {name} holds {', '.join(unknown)}, which open_clip does not know")
        size = vision.get("image_size", CLIPVisionCfg.image_size)
        if not isinstance(size, int) and len(set(size)) != 1:
            raise ModelError(f"image_size of {name} is {size}; only square images are supported")
        return
    raise ModelError(f"{name} can't be a region-aware encoder: {reason}. Works: open_clip's own ViT ({FAMILIES})")


def build_model(spec: ModelSpec, checkpoint: Path | None, seed: int) -> open_clip.CLIP:
    """Return the whole CLIP model on the CPU in float32. Random weights follow `seed` and no global generator moves."""
    config = deepcopy(spec.config)
    custom_text = config.pop("custom_text", False) or config["text_cfg"].get("hf_model_name")
    plain = CustomTextCLIP if custom_text else open_clip.CLIP
    model_class = open_clip.CoCa if "multimodal_cfg" in config else plain
    if checkpoint is not None and "hf_model_name" in config["text_cfg"]:
        config["text_cfg"]["hf_model_pretrained"] = False
    try:
        # Not torch.manual_seed: it would reseed every GPU as well.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = model_class(**config)
    except (TypeError, ValueError, AssertionError, RuntimeError, ZeroDivisionError, ImportError, OSError) as exc:
        raise ModelError(f"open_clip can't build {spec.name} from its config: {type(exc).__name__}: {exc}") from exc
    if checkpoint is not None:
        _fill(model, spec.name, checkpoint)
    return model


def build_tokenizer(text_cfg: dict[str, Any]) -> HFTokenizer | SimpleTokenizer:
    """Return open_clip's tokenizer for a model config; ModelError if it needs files or a package that are not here."""
    options = {"context_length": text_cfg.get("context_length", 77), **(text_cfg.get("tokenizer_kwargs") or {})}
    name = text_cfg.get("hf_tokenizer_name")
    if not name:
        return SimpleTokenizer(**options)
    try:
        return HFTokenizer(name, tokenizer_mode=text_cfg.get("tokenizer_mode"), **options)
    except (ImportError, OSError) as exc:
        raise ModelError(
            f"the tokenizer {name} of this model can't be loaded ({exc}); it needs the transformers package and the "
            f"tokenizer's files, from the network or its cache"
        ) from exc


def weights_digest(model: open_clip.CLIP) -> str:
    """Return "sha256:<hex>" over the state dict: names in order, with dtype, shape and bytes of each tensor."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return f"sha256:{digest.hexdigest()}"


def _find_config(model: str | Path | dict[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    if isinstance(model, dict):
        name, found = "custom", deepcopy(model)
    elif isinstance(model, str) and (config := open_clip.get_model_config(model.replace("/", "-"))):
        return model.replace("/", "-"), config, {}
    elif (path := bundled.encoder_config(model) or Path(model)).suffix == ".json":
        name = str(model) if bundled.encoder_config(model) else path.stem
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as exc:
            raise ModelError(f"model config {model} can't be read: {exc}") from exc
    else:
        close = difflib.get_close_matches(str(model), open_clip.list_models(), n=3, cutoff=0.4)
        hint = f"close: {', '.join(close)}; " if close else ""
        raise ModelError(
            f"unknown model {str(model)!r}; {hint}accepted: an open_clip model name, {bundled.POCKET}, a model config, "
            f"or the path of a JSON config"
        )
    # A file from the Hugging Face hub wraps the config and says how to prepare images.
    config = found.get("model_cfg", found) if isinstance(found, dict) else {}
    if missing := [key for key in CONFIG_KEYS if key not in config]:
        raise ModelError(f"model config {name} lacks {', '.join(missing)}; an open_clip config has {CONFIG_KEYS}")
    return name, config, found.get("preprocess_cfg") or {}


def _download(name: str, tag: str, tag_config: dict[str, Any]) -> Path:
    try:
        return Path(download_pretrained(tag_config))
    except (OSError, RuntimeError) as exc:  # urllib's and the hub's errors are OSErrors
        raise ModelError(
            f"weights {tag!r} of {name} can't be downloaded ({exc}); without a network, download the checkpoint "
            f"elsewhere and give its path ({', '.join(CHECKPOINT_SUFFIXES)})"
        ) from exc


def _find_checkpoint(name: str, pretrained: str) -> Path:
    if shipped := bundled.encoder_weights(pretrained):
        return shipped
    path = _fetched(name, pretrained) if "://" in pretrained else Path(pretrained)
    if not path.is_file():
        own = bundled.own_weights(name)
        tags = own or ", ".join(list_pretrained_tags_by_model(name)) or "none for this model"
        raise ModelError(f"pretrained={pretrained!r} is neither a file nor a tag of {name}; tags: {tags}")
    if path.suffix not in CHECKPOINT_SUFFIXES:
        raise ModelError(f"checkpoint {path} must end in one of {', '.join(CHECKPOINT_SUFFIXES)}")
    return path


def _fetched(name: str, uri: str) -> Path:
    from alt_ray.remote.fetch import fetched

    try:
        return fetched(uri)
    except SourceError as exc:
        raise ModelError(f"weights of {name}: {exc}") from exc


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, pickle.UnpicklingError) as exc:
        raise ModelError(
            f"checkpoint {path} can't be read as plain weights: {str(exc).splitlines()[0]} (accepted: safetensors, or "
            f"a state dict that torch.load reads with weights_only=True)"
        ) from exc
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    weights = {str(key).removeprefix("module."): value for key, value in state.items() if isinstance(value, Tensor)}
    if not weights:
        raise ModelError(f"checkpoint {path} holds no weights: a dict of tensors was expected")
    return weights


def _fill(model: open_clip.CLIP, name: str, path: Path) -> None:
    state = {key: value for key, value in _read_checkpoint(path).items() if key not in NOT_WEIGHTS}
    if "positional_embedding" in state and hasattr(model, "text"):  # older checkpoints keep the text tower at the top
        state = convert_to_custom_text_state_dict(state)
    wanted = model.state_dict()
    if "logit_scale" in state:  # published with shape [] or [1]
        state["logit_scale"] = state["logit_scale"].reshape(wanted["logit_scale"].shape)
    problems = {
        "missing": sorted(wanted.keys() - state.keys()),
        "not in the model": sorted(state.keys() - wanted.keys()),
        "of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
            for key in sorted(wanted.keys() & state.keys())
            if state[key].shape != wanted[key].shape
        ],
    }
    if any(problems.values()):
        shown = "; ".join(
            f"{len(keys)} {problem}: {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''}"
            for problem, keys in problems.items()
            if keys
        )
        raise ModelError(f"checkpoint {path} does not fit {name}: {shown}")
    model.load_state_dict(state)
