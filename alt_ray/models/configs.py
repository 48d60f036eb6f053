"""What can be chosen about the alignment and the adapter, as checked values. Knows nothing of torch.

They live apart from the code that they configure so that the cost of a model is known without loading torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from alt_ray.errors import ModelError

Pooling = Literal["mean", "size", "entity"]
Conv = Literal["dense", "depthwise", "none"]
ConvOver = Literal["frame", "overlap", "index"]
Queries = Literal["entity", "learned"]


@dataclass(frozen=True)
class AlignmentConfig:
    """How regions choose entities (ALT, arXiv 2311.15619, entity-to-region alignment).

    temperature: tau > 0. The paper leaves it open. 0.01 is where CLIP itself was trained to: softmax(cos / 0.01) is
        its own posterior over the entities, and with Gumbel noise (standard deviation 1.28 on cos / tau) a draw from
        it. Far above, the noise outweighs cosines, which differ by a few hundredths between entities.
    gumbel: add Gumbel noise in training. Evaluation never does.
    hard: one entity per region, straight-through; otherwise the soft mixture.
    class_token: whether the class token takes part in the query. Of a CLIP that pools by its class token it is the
        one token that was trained to lie near text.
    pooling: over the regions of a frame, "mean" (the paper's formula), "size" (each patch counts the same) or "entity" (each
        entity chosen counts the same, however many regions chose it: most of a frame is background).
    """

    temperature: float = 0.01
    gumbel: bool = True
    hard: bool = True
    class_token: bool = True
    pooling: Pooling = "mean"

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ModelError(
                f"alignment temperature {self.temperature}: expected a finite number above 0, such as 0.01"
            )
        _one_of("alignment pooling", self.pooling, get_args(Pooling))
        if self.pooling == "entity" and not self.hard:
            raise ModelError("alignment pooling 'entity' counts the entities chosen, and a soft alignment chooses none")


@dataclass(frozen=True)
class AdapterConfig:
    """Shape of the video adapter (docs/decisions/adapter-structure.md has the reasons and the measured costs).

    The defaults are those of ViT-B/16; `for_model` gives those of any other encoder.

    dim: D, of the joint image-text space: what comes in and goes out.
    width: inside the adapter. The encoder's own width fits the published parameter count.
    num_heads: attention heads; they divide `width`.
    mlp_ratio: hidden width of a block's feed-forward, as a multiple of `width`.
    io_ratio: the same for the MLPs on queries, regions and the result.
    conv, conv_kernel: temporal convolution; the kernel is odd, so that a frame has as many frames before as after.
    conv_over: what it runs over. "frame": the mean over a frame's patches, added to every region of the frame.
        "overlap": the un-merged patch grid, re-pooled per region (needs region_of_patch). "index": regions
        matched by their position, which means nothing once tokens are merged; an ablation.
    size_bias: log(size) on the cross-attention logits, as in the encoder. The paper doesn't mention it.
    queries: "entity" is ALT; "learned" the baseline that adapts before it aligns, with `num_queries` free vectors.
    residual: z = mean frame embedding + MLP(...), the last layer starting at zero, so that an untrained adapter is
        frozen CLIP. Not in the paper.
    mix: outside training, the result is normalise(z + mix * mean frame embedding), both of length 1. What an adapter
        unlearns of labels that it was not trained on comes back (docs/pocket.md has the price). Not in the paper; 0 is.
    """

    dim: int = 512
    width: int = 768
    num_blocks: int = 4
    num_heads: int = 12
    mlp_ratio: float = 4.0
    io_ratio: float = 1.0
    dropout: float = 0.0
    conv: Conv = "dense"
    conv_kernel: int = 3
    conv_over: ConvOver = "frame"
    size_bias: bool = False
    queries: Queries = "entity"
    num_queries: int = 8
    residual: bool = False
    mix: float = 0.0

    def __post_init__(self) -> None:
        for name in ("dim", "width", "num_blocks", "num_heads", "num_queries", "conv_kernel"):
            if getattr(self, name) < 1:
                raise ModelError(f"adapter {name} {getattr(self, name)}: expected 1 or more")
        if self.width % self.num_heads:
            raise ModelError(f"adapter num_heads {self.num_heads}: expected a divisor of the width {self.width}")
        if self.mlp_ratio <= 0 or self.io_ratio <= 0:
            raise ModelError(f"adapter mlp_ratio {self.mlp_ratio}, io_ratio {self.io_ratio}: expected numbers above 0")
        if not 0 <= self.mix < float("inf"):
            raise ModelError(f"adapter mix {self.mix}: expected a finite number, 0 or more, such as 0.3")
        if not 0 <= self.dropout < 1:
            raise ModelError(f"adapter dropout {self.dropout}: expected at least 0 and less than 1")
        if self.conv_kernel % 2 == 0:
            raise ModelError(f"adapter conv_kernel {self.conv_kernel}: expected an odd number, such as 3")
        _one_of("adapter conv", self.conv, get_args(Conv))
        _one_of("adapter conv_over", self.conv_over, get_args(ConvOver))
        _one_of("adapter queries", self.queries, get_args(Queries))

    @classmethod
    def for_model(cls, model_config: Mapping[str, Any], **changes: Any) -> "AdapterConfig":
        """The default adapter of an encoder given as open_clip config: its dim, its width and its heads."""
        try:
            vision = model_config["vision_cfg"]
            dim, width = int(model_config["embed_dim"]), int(vision["width"])
        except (KeyError, TypeError) as exc:
            raise ModelError(
                f"model config without {exc}: expected an open_clip ViT config with embed_dim and vision_cfg.width"
            ) from exc
        heads = max(1, width // int(vision.get("head_width", 64)))
        return cls(**{"dim": dim, "width": width, "num_heads": heads, **changes})

    @property
    def needs_frames(self) -> bool:
        """Whether the adapter asks for the frames' image embeddings beside their regions."""
        return self.residual or self.mix > 0

    @property
    def mlp_hidden(self) -> int:
        return int(self.width * self.mlp_ratio)

    @property
    def io_hidden(self) -> int:
        return int(self.width * self.io_ratio)


def _one_of(what: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise ModelError(f"{what} {value!r}: expected one of {', '.join(accepted)}")
