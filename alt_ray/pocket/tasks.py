"""What the pocket asks of a model: clips of its actions with their labels, from seeds that no training shares. Knows no model.

Seeds: pretraining draws from seed + 1 (a small number), adapters are trained on TRAIN_SEED and asked about HELD_OUT_SEED,
each plus the number of the repetition.

T frames, S pixels a side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from alt_ray.pocket.plan import ClipPlan, plan_clip
from alt_ray.pocket.vocabulary import ACTION_BY_NAME
from alt_ray.pocket.world import DEFAULT_SIZE_PX, draw_frame
from alt_ray.video.sampling import DEFAULT_FRAMES, sample_times

HELD_OUT_SEED = 10_000_019
TRAIN_SEED = 20_000_003
TEMPLATE = "a photo of a person {}"  # as the captions of the pretraining have it


@dataclass(frozen=True)
class ActionClips:
    """`per_action` clips of each of `actions`, in turns; `target` is the index into `actions`. Drawn when asked for."""

    actions: tuple[str, ...]
    per_action: int
    seed: int
    num_frames: int = DEFAULT_FRAMES
    size_px: int = DEFAULT_SIZE_PX

    def __len__(self) -> int:
        return len(self.actions) * self.per_action

    @property
    def target(self) -> list[int]:
        return [index % len(self.actions) for index in range(len(self))]

    def plans(self) -> Iterator[ClipPlan]:
        """Yield the plans. That of an action is the same whatever other actions are asked for."""
        names = tuple(ACTION_BY_NAME)
        for index in range(len(self)):
            turn, place = divmod(index, len(self.actions))
            number = turn * len(names) + names.index(self.actions[place])
            yield plan_clip(self.seed, number, actions=(self.actions[place],))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the clips [T, S, S, 3], uint8: of a whole clip the frames that labelling would look at."""
        for plan in self.plans():
            yield draw_sampled(plan, self.num_frames, self.size_px)


def draw_sampled(plan: ClipPlan, num_frames: int, size_px: int) -> np.ndarray:
    """Draw the T frames of a clip that labelling looks at: [T, S, S, 3], uint8."""
    return np.stack([draw_frame(plan, frame, size_px) for frame in sampled_frames(plan, num_frames)])


def sampled_frames(plan: ClipPlan, num_frames: int) -> list[int]:
    """Return the indices of the frames that are shown at the moments of test sampling."""
    return [int(time_s * plan.fps) for time_s in sample_times(0.0, plan.duration_s, num_frames)[0]]


def within(logits: np.ndarray, target: np.ndarray, groups: Sequence[Sequence[int]]) -> float:
    """Return the share of right answers to the clips of `groups` (indices of labels) when only the labels of a group compete."""
    right = []
    for group in groups:
        rows = np.isin(target, group)
        right.append(np.asarray(group)[logits[rows][:, group].argmax(1)] == target[rows])
    return float(np.concatenate(right).mean())
