"""Which moments of a video to look at, and how a frame becomes a square. Pure arithmetic: knows nothing of files or codecs.

V test views, A augmented views, T frames per view.
"""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from alt_ray.errors import UsageError
from alt_ray.video.augment import Augmentation

ResizeMode = Literal["shortest", "squash"]
Interpolation = Literal["bicubic", "bilinear"]

CROPS = (1, 3)
DEFAULT_FRAMES = 8  # as in the published comparisons of frozen-encoder methods


@dataclass(frozen=True)
class ClipSpec:
    """What a decoded clip looks like: V views of `num_frames` RGB pictures of `image_size` x `image_size` pixels.

    V = `num_views` x `num_crops`: moments in time, and for each of them one crop (the centre) or three along the longer side (the
    field's 4 x 3 is 4 and 3), those of one moment together.
    `resize_mode` "shortest" scales the shorter side to `image_size` and crops; "squash" scales both sides.
    After these views come `train_views` more, which `augmentation` varies by `seed`; the others are the same without them.
    """

    num_frames: int = DEFAULT_FRAMES
    num_views: int = 1
    num_crops: int = 1
    image_size: int = 224
    resize_mode: ResizeMode = "shortest"
    interpolation: Interpolation = "bicubic"
    train_views: int = 0
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("num_frames", "num_views", "image_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.num_crops not in CROPS:
            raise UsageError(f"num_crops must be one of {CROPS}, got {self.num_crops}")
        if self.num_crops > 1 and self.resize_mode == "squash":
            raise UsageError(
                "3 crops of a picture need an encoder that crops; this one sees all of it, squashed: take 1"
            )
        if self.train_views < 0:
            raise UsageError(f"train_views must be at least 0, got {self.train_views}")
        if self.resize_mode not in get_args(ResizeMode):
            raise UsageError(f"resize_mode must be one of {get_args(ResizeMode)}, got {self.resize_mode!r}")
        if self.interpolation not in get_args(Interpolation):
            raise UsageError(f"interpolation must be one of {get_args(Interpolation)}, got {self.interpolation!r}")

    @property
    def test_views(self) -> int:
        """V."""
        return self.num_views * self.num_crops

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """[V + A, T, H, W, 3], the shape of a decoded clip (uint8): the test views, then the augmented ones."""
        return (self.test_views + self.train_views, self.num_frames, self.image_size, self.image_size, 3)

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape)


def sample_times(start_s: float, end_s: float, num_frames: int, num_views: int = 1) -> list[list[float]]:
    """Return the moments [V][T] in seconds at which to look at `start_s` .. `end_s`.

    The span is cut into T equal segments. One view looks at the middle of each (the field's test sampling); V views
    look at V evenly spaced moments of each segment, so that every view covers the whole span and no two coincide.
    """
    segment_s = (end_s - start_s) / num_frames
    return [[start_s + (i + (v + 0.5) / num_views) * segment_s for i in range(num_frames)] for v in range(num_views)]


def resized(width: float, height: float, spec: ClipSpec) -> tuple[int, int]:
    """Return the (width, height) in pixels to scale a picture of the displayed size `width` x `height` to.

    The longer side is rounded down, as torchvision's Resize does, so that the centre crop falls on the same pixels.
    """
    size = spec.image_size
    if spec.resize_mode == "squash":
        return size, size
    if width <= height:
        return size, max(size, int(size * height / width))
    return max(size, int(size * width / height)), size


def crop(width: int, height: int, size: int, number: int = 0, num_crops: int = 1) -> tuple[slice, slice]:
    """Return the (rows, columns) of crop `number` of a picture whose shorter side is `size` pixels.

    One crop is the centre, rounded as torchvision's CenterCrop does; three are the beginning, the centre and the end of the
    longer side.
    """
    top, left = round((height - size) / 2), round((width - size) / 2)
    if num_crops > 1 and number != 1:
        top, left = (0, 0) if number == 0 else (height - size, width - size)
    return slice(top, top + size), slice(left, left + size)
