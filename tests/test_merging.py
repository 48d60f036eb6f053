"""Merging against a slow version written straight from its description, and the schedules' arithmetic."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from alt_ray.errors import ModelError
from alt_ray.models.merging import merge_tokens, plan_merge
from alt_ray.models.schedule import max_merge, merge_schedule, tokens_per_block


def merge_by_hand(keys_LC: Tensor, x_LC: Tensor, sizes: list[float], r: int) -> tuple[Tensor, list[float], list[int]]:
    """One frame, token by token. Return tokens, sizes and the output position of every input token."""
    L = len(keys_LC)
    if r <= 0:
        return x_LC, sizes, list(range(L))
    proposals = []
    for a in range(2, L, 2):
        scores = [float(F.cosine_similarity(keys_LC[a], keys_LC[b], dim=0)) for b in range(1, L, 2)]
        proposals.append((max(scores), a, 1 + 2 * scores.index(max(scores))))
    accepted = {a: b for _, a, b in sorted(proposals, reverse=True)[: max(0, min(r, (L - 1) // 2))]}
    groups = [[i] for i in range(0, L, 2) if i not in accepted]
    groups += [[b, *(a for a in accepted if accepted[a] == b)] for b in range(1, L, 2)]
    totals = [sum(sizes[i] for i in group) for group in groups]
    means = [
        torch.stack([sizes[i] * x_LC[i] for i in g]).sum(0) / total for g, total in zip(groups, totals, strict=True)
    ]
    return torch.stack(means), totals, [next(n for n, g in enumerate(groups) if i in g) for i in range(L)]


@pytest.mark.parametrize("num_tokens", [1, 2, 3, 8, 9, 14, 17])
@pytest.mark.parametrize("r", [-1, 0, 1, 3, 5, 100])
def test_merging_equals_the_description_token_by_token_and_the_cap_bites(num_tokens: int, r: int) -> None:
    generator = torch.Generator().manual_seed(num_tokens)
    keys = torch.randn(4, num_tokens, 3, generator=generator)  # few channels: several tokens choose the same target
    x = torch.randn(4, num_tokens, 5, generator=generator)
    sizes = torch.randint(1, 6, (4, num_tokens), generator=generator).float()

    plan = plan_merge(keys, r)
    merged, merged_sizes = merge_tokens(x, sizes, plan)

    for frame in range(4):
        tokens, totals, positions = merge_by_hand(keys[frame], x[frame], sizes[frame].tolist(), r)
        torch.testing.assert_close(merged[frame], tokens, atol=1e-5, rtol=1e-5)
        assert merged_sizes[frame].tolist() == totals
        assert plan.output[frame].tolist() == positions
    assert merged.shape[1] == num_tokens - max(0, min(r, max_merge(num_tokens)))


def test_several_tokens_merge_into_one_as_their_size_weighted_mean() -> None:
    keys = torch.tensor([[[9.0, 9.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [-1.0, 0.0]]])
    x = torch.tensor([[[7.0], [1.0], [2.0], [50.0], [4.0], [60.0]]])
    sizes = torch.tensor([[1.0, 1.0, 2.0, 1.0, 5.0, 1.0]])
    plan = plan_merge(keys, 2)
    merged, merged_sizes = merge_tokens(x, sizes, plan)
    assert plan.output.tolist() == [[0, 1, 1, 2, 1, 3]]
    torch.testing.assert_close(merged, torch.tensor([[[7.0], [(1 + 2 * 2 + 5 * 4) / 8], [50.0], [60.0]]]))
    assert merged_sizes.tolist() == [[1, 8, 1, 1]]


def test_the_class_token_stays_first_and_alone_even_if_it_is_the_best_match() -> None:
    keys = torch.randn(2, 9, 4)
    keys[:, 1] = keys[:, 0]
    x = torch.randn(2, 9, 3)
    plan = plan_merge(keys, 100)
    merged, sizes = merge_tokens(x, torch.ones(2, 9), plan)
    torch.testing.assert_close(merged[:, 0], x[:, 0])
    assert sizes[:, 0].tolist() == [1, 1]
    assert (plan.output[:, 1:] > 0).all()


def test_nothing_to_merge_gives_back_the_very_same_tokens() -> None:
    x, sizes = torch.randn(2, 9, 3), torch.ones(2, 9)
    merged, merged_sizes = merge_tokens(x, sizes, plan_merge(x, 0))
    assert merged is x
    assert merged_sizes is sizes


def test_gradients_flow_through_the_mean_and_not_through_the_choice() -> None:
    keys = torch.randn(1, 9, 4, requires_grad=True)
    x = torch.randn(1, 9, 4, requires_grad=True)
    merge_tokens(x, torch.ones(1, 9), plan_merge(keys, 3))[0].sum().backward()
    assert keys.grad is None
    assert x.grad is not None
    torch.testing.assert_close(x.grad.sum(), torch.tensor(24.0))  # 6 means of 4 channels, shares adding up to 1


def test_one_r_for_all_blocks_is_constant_and_cut_where_few_tokens_are_left() -> None:
    assert merge_schedule(196, 12, merge_r=8) == (8,) * 12
    assert merge_schedule(8, 4, merge_r=3) == (3, 2, 1, 1)
    assert merge_schedule(196, 3, merge_r=[1, 0, 5]) == (1, 0, 5)


def test_tokens_left_match_the_published_table() -> None:
    for patches, layers, r, left in [(196, 12, 4, 149), (196, 12, 16, 11), (256, 24, 10, 17), (576, 24, 23, 25)]:
        assert tokens_per_block(patches + 1, merge_schedule(patches, layers, merge_r=r))[-1][1] == left


@pytest.mark.parametrize("schedule", ["constant", "decreasing"])
@pytest.mark.parametrize(("patches", "layers"), [(196, 12), (256, 24), (64, 6), (49, 12)])
@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.25, 0.5, 0.75, 0.9])
def test_a_ratio_merges_exactly_that_share_away(schedule: str, patches: int, layers: int, ratio: float) -> None:
    merges = merge_schedule(patches, layers, merge_ratio=ratio, schedule=schedule)
    assert sum(merges) == round(ratio * patches)
    assert len(merges) == layers
    assert list(merges) == sorted(merges, reverse=True)
    assert tokens_per_block(patches + 1, merges)[-1][1] == patches + 1 - round(ratio * patches)


def test_a_constant_ratio_differs_by_one_at_most_and_a_decreasing_one_falls_to_nothing() -> None:
    constant = merge_schedule(196, 12, merge_ratio=0.5)
    assert max(constant) - min(constant) <= 1
    assert merge_schedule(196, 12, merge_r=6, schedule="decreasing") == (13, 11, 10, 9, 8, 6, 5, 4, 3, 2, 1, 0)


def test_tokens_enter_attention_before_a_blocks_merge_and_its_mlp_after() -> None:
    assert tokens_per_block(9, (2, 100, 1)) == ((9, 7), (7, 4), (4, 3))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"merge_ratio": 1.0}, "less than 1"),
        ({"merge_ratio": -0.1}, "at least 0"),
        ({"merge_ratio": float("nan")}, "merge_ratio is nan"),
        ({"merge_ratio": 0.99, "schedule": "decreasing"}, "at most"),
        ({"merge_r": -1}, "merge_r is -1"),
        ({"merge_r": [1, 2]}, "4 blocks"),
        ({"merge_r": [1, 2, -3, 4]}, "-3"),
        ({"merge_r": [1, 2, 3, 4], "schedule": "decreasing"}, "already"),
        ({"merge_r": 2, "merge_ratio": 0.5}, "give one of them"),
        ({"merge_r": 2, "schedule": "linear"}, "constant, decreasing"),
    ],
)
def test_an_illegal_schedule_is_refused_with_what_is_accepted(options: dict, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        merge_schedule(64, 4, **options)
