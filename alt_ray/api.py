"""`alt_ray.load`: a trained model that labels frames, or a video by its path, in this process. Knows nothing of Ray.

T frames, H x W pixels.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alt_ray.models.alt import AltModel, AltOutput, ClipLabels
from alt_ray.models.checkpoint import CheckpointConfig, encoder_of, load_checkpoint
from alt_ray.models.encoder import RegionEncoder
from alt_ray.models.text import label_embeddings
from alt_ray.video.isolation import DecoderProcess
from alt_ray.video.sampling import DEFAULT_FRAMES, ClipSpec
from alt_ray.video.uris import canonical_uri


class VideoModel:
    """A checkpoint with its encoder. `model` is the AltModel, `config` what the checkpoint says of itself."""

    def __init__(self, model: AltModel, encoder: RegionEncoder, config: CheckpointConfig) -> None:
        self.model = model
        self.encoder = encoder
        self.config = config
        self._decoder: DecoderProcess | None = None

    def __call__(self, frames_BT3HW: Tensor) -> AltOutput:
        """The raw output for preprocessed frames."""
        with torch.no_grad():
            return self.model(frames_BT3HW)

    def set_labels(self, labels: tuple[str, ...] | list[str], template: str | None = None) -> None:
        """Recognise other labels from now on; nothing else changes."""
        names = tuple(labels)
        self.model.set_labels(label_embeddings(self.encoder, names, template or self.config.template), names)

    def label(
        self, source: Tensor | str | Path, top: int = 5, *, start_s: float | None = None, end_s: float | None = None
    ) -> list[ClipLabels]:
        """Label frames ([T, 3, H, W] or [B, T, 3, H, W]; preprocessed, or uint8), or one video by path or address.

        A video is sampled as the checkpoint's training was, between the bounds. Raises DecodeError if it can't be decoded.
        """
        if isinstance(source, Tensor):
            return self.model.label(source, top)
        frames_THW3 = self.frames_of(source, start_s, end_s)
        return self.model.label(torch.from_numpy(frames_THW3).permute(0, 3, 1, 2), top)

    def frames_of(self, source: str | Path, start_s: float | None = None, end_s: float | None = None) -> np.ndarray:
        """Return the frames [T, H, W, 3], uint8 RGB, that `label` looks at in a video. Raises DecodeError."""
        if self._decoder is None:
            self._decoder = DecoderProcess(self._spec())
        frames_VTHW3, _ = self._decoder.decode(canonical_uri(str(source)), start_s, end_s)
        return frames_VTHW3[0].copy()  # the decoder uses its memory again

    def _spec(self) -> ClipSpec:
        preprocess: dict[str, Any] = self.config.encoder.preprocess
        return ClipSpec(
            num_frames=int(self.config.sampling.get("frames", DEFAULT_FRAMES)),
            image_size=self.encoder.image_size,
            resize_mode=preprocess["resize_mode"],
            interpolation=preprocess["interpolation"],
        )


def load(
    checkpoint: str | Path, *, pretrained: str | None = None, device: str = "cpu", dtype: str = "float32"
) -> VideoModel:
    """The whole model of a checkpoint folder, encoder included; "pocket" is the one that ships with this package.

    `pretrained` says where the encoder's weights are now, if they moved. Raises CheckpointError if they are not those that
    the checkpoint was trained with.
    """
    loaded = load_checkpoint(checkpoint, device=device)
    encoder = encoder_of(loaded.config.encoder, pretrained=pretrained, device=device, dtype=dtype)
    return VideoModel(loaded.model(encoder), encoder, loaded.config)
