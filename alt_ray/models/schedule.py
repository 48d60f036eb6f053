"""How many tokens each block merges and how many are left: plain arithmetic. Knows nothing of torch, nor which merge.

A block never merges its class token, and at most the other tokens at even positions (token merging, arXiv 2210.09461).
"""

from collections.abc import Sequence
from itertools import count
from typing import Literal, get_args

from alt_ray.errors import ModelError

Schedule = Literal["constant", "decreasing"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)


def max_merge(num_tokens: int) -> int:
    """Return how many of `num_tokens` tokens one step can merge away: the even positions but the class token."""
    return max(0, (num_tokens - 1) // 2)


def merge_schedule(
    num_patches: int,
    num_layers: int,
    *,
    merge_r: int | Sequence[int] = 0,
    merge_ratio: float = 0.0,
    schedule: str = "constant",
) -> tuple[int, ...]:
    """Return r for each block.

    `merge_r` is r of every block, or one r per block; more than a block can merge is cut to what it can.
    `merge_ratio` in [0, 1) is instead the share of the patch tokens that the last block leaves merged away: the r
    add up to round(merge_ratio * num_patches) or ModelError says what could be reached. "constant" spreads the total
    evenly, "decreasing" lets r fall linearly to 0 with the same total; earlier blocks take what does not divide.
    """
    if schedule not in SCHEDULES:
        raise ModelError(f"schedule is {schedule!r}; it must be one of {', '.join(SCHEDULES)}")
    if not 0 <= merge_ratio < 1:
        raise ModelError(f"merge_ratio is {merge_ratio}; it must be at least 0 and less than 1")
    if merge_r and merge_ratio:
        raise ModelError(f"merge_r={merge_r} and merge_ratio={merge_ratio} were both given; give one of them")
    if isinstance(merge_r, Sequence):
        return _listed(num_patches, num_layers, merge_r, schedule)
    if merge_r < 0:
        raise ModelError(f"merge_r is {merge_r}; it must be 0 (no merging) or more")
    if not merge_ratio:
        return _capped(num_patches + 1, _apportion(merge_r * num_layers, num_layers, schedule))

    def achieved(asked: int) -> tuple[int, ...]:
        return _capped(num_patches + 1, _apportion(asked, num_layers, schedule))

    total = round(merge_ratio * num_patches)
    most = sum(achieved(num_patches * num_layers**2))  # enough for every block that merges to meet its cap
    if total > most:
        raise ModelError(
            f"merge_ratio={merge_ratio} means {total} of {num_patches} patch tokens, but a block merges less than half "
            f"of its tokens and so {num_layers} blocks ({schedule}) merge {most}: {most / num_patches:.3f} at most"
        )
    # Where the cap bites, in late blocks that have few tokens left, asking for more makes earlier ones take the rest.
    return next(r for asked in count(total) if sum(r := achieved(asked)) == total)


def tokens_per_block(num_tokens: int, schedule: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return for each block how many tokens enter its attention and how many, after its merge, enter its MLP."""
    counts = []
    for r in schedule:
        left = num_tokens - min(max(r, 0), max_merge(num_tokens))
        counts.append((num_tokens, left))
        num_tokens = left
    return tuple(counts)


def _listed(num_patches: int, num_layers: int, merge_r: Sequence[int], schedule: str) -> tuple[int, ...]:
    if len(merge_r) != num_layers:
        raise ModelError(f"merge_r lists {len(merge_r)} values; this encoder has {num_layers} blocks, one value each")
    if bad := [r for r in merge_r if not isinstance(r, int) or r < 0]:
        raise ModelError(f"merge_r holds {bad[0]!r}; every value must be a whole number of at least 0")
    if schedule != "constant":
        raise ModelError(f"schedule={schedule!r} goes with one merge_r; a list of r per block is a schedule already")
    return _capped(num_patches + 1, merge_r)


def _apportion(total: int, num_layers: int, schedule: str) -> list[int]:
    """Share `total` among the blocks in proportion to the schedule's weights, never rising from block to block."""
    weights = [1] * num_layers if schedule == "constant" else list(range(num_layers))[::-1]
    if not any(weights):  # one block: nothing to fall towards
        weights = [1] * num_layers
    shares = [total * weight // sum(weights) for weight in weights]
    rest = total - sum(shares)
    return [share + (block < rest) for block, share in enumerate(shares)]


def _capped(num_tokens: int, schedule: Sequence[int]) -> tuple[int, ...]:
    return tuple(before - after for before, after in tokens_per_block(num_tokens, schedule))
