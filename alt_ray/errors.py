"""Every error that this package raises on purpose, as one small tree. Knows nothing of how they are shown.

    AltRayError
      UsageError        what the user asked for can't be done as asked: the command ends with 2
        SourceError       a source, manifest or file list that can't be read
        ModelError        a model, its weights or its options
        CorpusError       an entity corpus
        CheckpointError   a checkpoint folder, or one that does not fit the encoder or the corpus
        FeatureError      a feature store
      JobError          the job was asked for rightly and failed: the command ends with 1
      DecodeError       one video could not be decoded: that video becomes a row of `failures`, nothing else changes

A message names the bad value, where it came from and what would be accepted.
"""

from typing import Literal, get_args

DecodeReason = Literal[
    "not_found",  # no such file, bucket or address
    "unreadable",  # it is there, but is not a video container, is broken, or may not be read
    "no_video_stream",  # a sound file, or sound with a cover picture
    "no_frames",  # a video stream of which not one frame could be decoded
    "encrypted",  # the container says that its video is encrypted
    "unsupported_codec",  # no decoder for this codec in the FFmpeg that PyAV ships
    "too_large",  # a frame has more pixels than the limit allows
    "timeout",  # the time limit for one file passed
    "crashed",  # the decoder process died (a native crash, or killed by the system)
]
DECODE_REASONS: tuple[str, ...] = get_args(DecodeReason)

Stage = Literal["open", "probe", "decode", "encode"]
STAGES: tuple[str, ...] = get_args(Stage)


class AltRayError(Exception):
    """Base of every error that this package raises on purpose."""


class UsageError(AltRayError):
    """What was asked for can't be done as asked; the message says what would be accepted."""


class SourceError(UsageError):
    """A source, manifest or list of files can't be read, or holds no videos."""


class ModelError(UsageError):
    """A model, its weights, or an option of it is unknown or does not fit."""


class CorpusError(UsageError):
    """An entity corpus can't be read or holds bad lines."""


class CheckpointError(UsageError):
    """A checkpoint folder can't be read, or does not fit the encoder or the corpus."""


class FeatureError(UsageError):
    """A feature store can't be read, holds none, or does not fit what is asked of it."""


class JobError(AltRayError):
    """The job was asked for rightly and failed."""


class DecodeError(AltRayError):
    """One video could not be decoded. `reason` is one of DECODE_REASONS, `stage` one of STAGES."""

    def __init__(self, reason: DecodeReason, message: str, *, stage: Stage = "decode") -> None:
        super().__init__(message)
        self.reason: DecodeReason = reason
        self.stage: Stage = stage

    @property
    def message(self) -> str:
        return str(self)

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments don't survive pickling by default, and these cross processes.
        return _decode_error, (self.reason, str(self), self.stage)


def _decode_error(reason: DecodeReason, message: str, stage: Stage) -> DecodeError:
    return DecodeError(reason, message, stage=stage)
