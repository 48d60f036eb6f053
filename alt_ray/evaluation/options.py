"""Options of the protocols, as checked values. Imports nothing heavy: the command line is made from these.

The docstring under a field is its help text.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import arg

from alt_ray.errors import UsageError

Protocol = Literal["supervised", "few-shot", "zero-shot", "base-to-novel"]


@dataclass(frozen=True)
class ProtocolOptions:
    """What is trained on, and what is tested on."""

    protocol: Protocol = "supervised"
    """supervised; few-shot: --shots of each label; zero-shot: labels of another data set; base-to-novel: half of the labels."""
    shots: int = 16
    """Training clips of each label in few-shot and base-to-novel."""
    seeds: Annotated[tuple[int, ...], arg(aliases=["--seed"])] = (0,)
    """One training for each; a seed decides the split, the shots, the draws."""
    test_share: float = 0.3
    """Share of the clips that is tested on, where no column split says which."""
    val_share: float = 0.1
    """Share of the clips for validation, where no column split says which; 0 for none."""
    leave_one_group_out: bool = False
    """One training for each value of the column group, tested on that group (supervised and few-shot)."""
    shot_list: str | None = None
    """File with the training clips of few-shot, one video id or path a line, instead of a draw; needs a column split."""
    test_lists: tuple[str, ...] = ()
    """Files with the clips of each test split, for zero-shot evaluation: mean and deviation over these."""
    class_splits: tuple[str, ...] = ()
    """Files with the labels of each test split, for zero-shot evaluation: mean and deviation over these."""
    half_class: bool = False
    """Zero-shot evaluation over random halves of the labels."""
    num_draws: int = 10
    """How many halves."""
    all_clips: bool = False
    """Zero-shot evaluation on every clip with a label, whatever the column split says."""

    def __post_init__(self) -> None:
        if self.shots < 1 or self.num_draws < 1:
            raise UsageError(f"--shots {self.shots}, --num-draws {self.num_draws}: expected at least 1")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise UsageError(f"--seeds {' '.join(map(str, self.seeds))}: expected different numbers, 0 or more")
        if not 0 < self.test_share < 1:
            raise UsageError(f"--test-share {self.test_share}: expected a share above 0 and below 1")
        if not 0 <= self.val_share < 1 - self.test_share:
            raise UsageError(
                f"--val-share {self.val_share}: expected 0 or more, and with --test-share {self.test_share} below 1 in total"
            )
        if self.leave_one_group_out and self.protocol not in ("supervised", "few-shot"):
            raise UsageError(f"--leave-one-group-out is for supervised and few-shot, not for {self.protocol}")
        if self.shot_list is not None and (self.protocol != "few-shot" or self.leave_one_group_out):
            raise UsageError("--shot-list is for --protocol few-shot, without --leave-one-group-out")
        chosen = {
            "--test-lists": bool(self.test_lists),
            "--class-splits": bool(self.class_splits),
            "--half-class": self.half_class,
            "--all-clips": self.all_clips,
        }
        given = [flag for flag, is_given in chosen.items() if is_given]
        if given and self.protocol != "zero-shot":
            raise UsageError(f"{', '.join(given)}: only for --protocol zero-shot, not for {self.protocol}")
        ways = [flag for flag in given if flag != "--all-clips"]
        if len(ways) > 1:
            raise UsageError(f"{' and '.join(ways)} are two ways to test: give one of them")
        if self.test_lists and self.all_clips:
            raise UsageError("--test-lists says which clips are tested: leave out --all-clips")
