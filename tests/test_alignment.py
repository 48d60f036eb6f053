"""Alignment against the formula of the paper, on small tensors. Knows nothing of encoders."""

import math

import pytest
import torch
from torch import Tensor

from alt_ray.errors import ModelError
from alt_ray.models.alignment import AlignmentConfig, align, entity_queries, entity_shares, top_entities

B, T, R, K, D = 2, 3, 5, 7, 8
SIZES_BTR = torch.tensor([1.0, 1, 4, 2, 3]).expand(B, T, R)


def features(requires_grad: bool = False) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    tokens_BTRD = 9 * torch.randn(B, T, R, D, generator=random)
    entities_KD = torch.nn.functional.normalize(torch.randn(K, D, generator=random), dim=-1)
    return tokens_BTRD.requires_grad_(requires_grad), entities_KD.requires_grad_(requires_grad)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_straight_through_is_one_hot_in_value() -> None:
    A_hat = align(*features(), AlignmentConfig(temperature=0.1), training=True)
    assert set(A_hat.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(A_hat.sum(-1), torch.ones(B, T, R))


def test_straight_through_has_the_gradient_of_the_soft_alignment() -> None:
    weight = torch.randn(B, T, R, K, generator=seeded(1))
    gradients = []
    for hard in (True, False):
        tokens, entities = features(requires_grad=True)
        A_hat = align(tokens, entities, AlignmentConfig(0.1, hard=hard), training=True, generator=seeded(2))
        gradients.append(torch.autograd.grad((A_hat * weight).sum(), (tokens, entities)))
    for hard_gradient, soft_gradient in zip(*gradients, strict=True):
        assert hard_gradient.abs().max() > 0
        assert torch.equal(hard_gradient, soft_gradient)


def test_soft_alignment_without_noise_is_the_softmax_of_cosines_over_temperature() -> None:
    tokens, entities = features()
    cosine = torch.nn.functional.cosine_similarity(tokens[..., None, :], entities, dim=-1)
    expected = (cosine / 0.05).softmax(-1)
    config = AlignmentConfig(0.05, gumbel=False, hard=False)
    assert torch.allclose(align(tokens, entities, config, training=True), expected, atol=1e-6)


def test_evaluation_is_deterministic_and_noise_is_in_training_only() -> None:
    tokens, entities = features()
    config = AlignmentConfig(temperature=1.0)
    assert torch.equal(align(tokens, entities, config), align(tokens, entities, config))
    first = align(tokens, entities, config, training=True, generator=seeded(1))
    assert not torch.equal(first, align(tokens, entities, config, training=True, generator=seeded(2)))
    assert torch.equal(first, align(tokens, entities, config, training=True, generator=seeded(1)))
    quiet = AlignmentConfig(temperature=1.0, gumbel=False)
    assert torch.equal(align(tokens, entities, quiet, training=True), align(tokens, entities, config))


def test_gumbel_noise_draws_entities_with_their_softmax_probability() -> None:
    tokens, entities = features()
    tokens = tokens[:1, :1, :1].expand(1, 1, 20_000, D)
    config = AlignmentConfig(temperature=0.3)
    drawn = align(tokens, entities, config, training=True, generator=seeded(0)).mean((0, 1, 2))
    expected = align(tokens[:, :, 0], entities, AlignmentConfig(temperature=0.3, hard=False)).flatten()
    assert (drawn - expected).abs().max() < 4 * math.sqrt(0.25 / 20_000)  # four standard errors
    _, choice = entity_queries(tokens, entities, config, training=True, generator=seeded(1))
    looked_up = choice.flatten().bincount(minlength=K) / 20_000
    assert (looked_up - expected).abs().max() < 4 * math.sqrt(0.25 / 20_000)


@pytest.mark.parametrize("pooling", ["mean", "size"])
@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("chunk_elements", [1, 2 * R * K, 2**24])
def test_queries_in_chunks_equal_the_dense_formula(
    pooling: str, class_token: bool, hard: bool, chunk_elements: int
) -> None:
    tokens, entities = features()
    config = AlignmentConfig(0.1, hard=hard, class_token=class_token, pooling=pooling)  # type: ignore[arg-type]
    A_hat = align(tokens, entities, config)
    weights = SIZES_BTR if pooling == "size" else torch.ones(B, T, R)
    weights = weights * (torch.arange(R) > 0) if not class_token else weights
    expected = ((A_hat @ entities) * weights[..., None]).sum(2) / weights.sum(2, keepdim=True)
    queries, choice = entity_queries(tokens, entities, config, sizes_BTR=SIZES_BTR, chunk_elements=chunk_elements)
    assert torch.allclose(queries, expected, atol=1e-6)
    assert torch.equal(choice, A_hat.argmax(-1))


def test_queries_are_the_same_with_and_without_gradient() -> None:
    config = AlignmentConfig(0.1, gumbel=False)  # with noise both draw by the same probabilities, in different ways
    looked_up, choice = entity_queries(*features(), config, training=True)
    tokens, entities = features(requires_grad=True)
    dense, dense_choice = entity_queries(tokens, entities, config, training=True)
    assert torch.equal(choice, dense_choice)
    assert torch.allclose(looked_up, dense, atol=1e-6)
    dense.sum().backward()
    assert tokens.grad is not None and tokens.grad.abs().max() > 0


def test_size_pooling_without_sizes_is_refused() -> None:
    with pytest.raises(ModelError, match="sizes"):
        entity_queries(*features(), AlignmentConfig(pooling="size"))


def test_entity_shares_count_patches_without_the_class_token_and_sum_to_one() -> None:
    choice = torch.tensor([[[6, 0, 0, 1, 2], [6, 2, 2, 2, 2]]])
    sizes = torch.tensor([[[1.0, 1, 4, 2, 3], [1, 1, 4, 2, 3]]])
    shares = entity_shares(choice, sizes, K)
    assert torch.equal(shares, torch.tensor([[5.0, 2, 13, 0, 0, 0, 0]]) / 20)
    assert shares.sum().item() == 1.0


def test_top_entities_are_sorted_with_ties_in_index_order() -> None:
    indices, shares = top_entities(torch.tensor([[0.25, 0.0, 0.5, 0.25]]), 3)
    assert indices.tolist() == [[2, 0, 3]] and shares.tolist() == [[0.5, 0.25, 0.25]]
    assert top_entities(torch.ones(1, 4), 9)[0].shape == (1, 4)


@pytest.mark.parametrize("bad", [{"temperature": 0.0}, {"temperature": float("nan")}, {"pooling": "max"}])
def test_bad_alignment_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="expected"):
        AlignmentConfig(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("class_token", [True, False])
def test_pooling_by_entity_counts_each_entity_chosen_once(class_token: bool) -> None:
    entities_KD = torch.eye(4)
    # One frame: the class token chose 3; of four regions three chose 0 and one chose 2.
    tokens_BTRD = entities_KD[[3, 0, 0, 2, 0]][None, None]
    config = AlignmentConfig(pooling="entity", class_token=class_token)
    query_BTD, choice_BTR = entity_queries(tokens_BTRD, entities_KD, config)
    share = 1 / 3 if class_token else 1 / 2
    expected = torch.tensor([share, 0, share, share if class_token else 0])
    torch.testing.assert_close(query_BTD[0, 0], expected)
    assert choice_BTR[0, 0].tolist() == [3, 0, 0, 2, 0]


def test_pooling_by_entity_is_the_same_with_gradients() -> None:
    config = AlignmentConfig(pooling="entity")
    plain, _ = entity_queries(*features(), config)
    learned, _ = entity_queries(*features(requires_grad=True), config)
    torch.testing.assert_close(plain, learned.detach())
    assert torch.autograd.grad(learned.sum(), learned, retain_graph=True)


def test_pooling_by_entity_needs_choices() -> None:
    with pytest.raises(ModelError, match="soft alignment chooses none"):
        AlignmentConfig(pooling="entity", hard=False)
