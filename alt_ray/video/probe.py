"""What is known of a decoded video beside its frames. A record: knows nothing of how it was found out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Probe:
    """What is known of a video beside its frames. `width` x `height` are coded pixels, before rotation and pixel aspect.

    `frames_damaged` counts the packets that could not be decoded on the way, and the wanted moments that lay in a missing part
    of the file (their frames were taken from the part that is there). FFmpeg's own mark on frames (is_corrupt) is not counted:
    it also stands on every frame of sound files that begin without a full keyframe.
    """

    duration_s: float
    fps: float
    width: int
    height: int
    codec: str
    frames_damaged: int = 0
