"""Subsets of tokens: exact sizes, permutations within them, masks that match."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from anoaug import features
from anoaug.features import functional
from anoaug.features.functional import patch_copy, patch_noise, patch_shuffle, token_select

P, C = 12, 5


def tokens(batch: int, positions: int = P) -> Tensor:
    """Every token is known by its first channel."""
    values = torch.randn(batch, positions, C, generator=torch.Generator().manual_seed(0))
    values[..., 0] = torch.arange(positions)
    return values


def keys(batch: int, seed: int = 0) -> Tensor:
    return features.keys(seed, torch.arange(batch))


def test_sizes_are_uniform_and_places_too() -> None:
    mask = token_select(torch.empty(24_000, P, 1), None, keys(24_000))
    sizes = mask.sum(1).long().bincount(minlength=P + 1)
    assert sizes[0] == 0
    # Chi squared of 11 degrees of freedom: above 31.3 once in a thousand.
    assert ((sizes[1:] - 2000.0).square() / 2000.0).sum() < 31.3
    # Half of the tokens and a half on average; a place's standard deviation is 0.0032.
    assert (mask.mean(0) - (P + 1) / (2 * P)).abs().max() < 0.013


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    count=st.none() | st.integers(1, 15),
    allowed=st.lists(st.booleans(), min_size=P, max_size=P),
    by=st.sampled_from([None, "even", "ties"]),
)
def test_subsets_have_exact_sizes_within_what_is_allowed(
    seed: int, count: int | None, allowed: list[bool], by: str | None
) -> None:
    where = torch.tensor([allowed, [True] * P])
    saliency = None
    if by is not None:
        saliency = torch.rand(2, P) if by == "even" else torch.zeros(2, P)
    mask = token_select(tokens(2), where, keys(2, seed), count=count, saliency=saliency)
    inside = mask.bool()
    assert not (inside & ~where).any()
    for row, free in zip(inside.sum(1).tolist(), where.sum(1).tolist(), strict=True):
        if count is not None:
            assert row == min(count, free)
        else:
            assert (row == 0) == (free == 0) and row <= free


def test_the_most_salient_are_chosen() -> None:
    saliency = torch.rand(300, P)
    saliency[0, 3] = float("nan")
    inside = token_select(tokens(300), None, keys(300), saliency=saliency).bool()
    low = torch.where(inside, saliency, torch.inf).amin(1)
    high = torch.where(inside, -torch.inf, saliency).amax(1)
    assert (low[1:] >= high[1:]).all()
    assert not inside[0, 3] or inside[0].all()


def test_each_image_draws_a_head() -> None:
    heads = torch.zeros(600, 3, P)
    for n in range(3):
        heads[:, n, n] = 1
    inside = token_select(tokens(600), None, keys(600), count=1, saliency=heads)
    found = inside.argmax(1).bincount()
    assert inside.sum() == 600 and len(found) == 3 and (found - 200).abs().max() < 60


def test_most_bounds_the_number() -> None:
    sizes = token_select(tokens(2000), None, keys(2000), most=4).sum(1).long()
    assert sizes.bincount().tolist()[0] == 0 and sizes.max() == 4
    assert (sizes.bincount()[1:] - 500).abs().max() < 100


def test_noise_is_on_the_subset() -> None:
    x, noise = tokens(20), torch.randn(20, P, C)
    moved, mask = patch_noise(x, None, keys(20), sigma=0.25, noise=noise)
    assert torch.equal(mask, token_select(x, None, keys(20)))
    assert torch.equal(moved, torch.where(mask[..., None] > 0, x + 0.25 * noise, x))


def test_a_permutation_stays_within_the_subset() -> None:
    x = tokens(500)
    moved, mask = patch_shuffle(x, None, keys(500))
    inside = mask > 0
    source = moved[..., 0].long()
    assert torch.equal(source.sort(1).values, torch.arange(P).expand(500, P))
    assert torch.equal(moved, x.gather(1, source[..., None].expand_as(x)))
    assert torch.equal(source[~inside], torch.arange(P).expand(500, P)[~inside])
    assert inside.gather(1, source)[inside].all()


def test_permutations_are_uniform() -> None:
    moved, mask = patch_shuffle(tokens(6000, 3), None, keys(6000), count=3)
    assert mask.all()
    code = (moved[..., 0].long() * torch.tensor([9, 3, 1])).sum(1)
    found = code.bincount()
    found = found[found > 0]
    # Five degrees of freedom: above 20.5 once in a thousand.
    assert len(found) == 6 and ((found - 1000.0).square() / 1000.0).sum() < 20.5


def test_copies_come_from_the_image_and_no_token_twice() -> None:
    x = tokens(2000)
    moved, mask = patch_copy(x, None, keys(2000), count=4)
    inside, source = mask > 0, moved[..., 0].long()
    assert torch.equal(moved, x.gather(1, source[..., None].expand_as(x)))
    copied = source[inside].view(2000, 4)
    assert (copied.sort(1).values.diff(dim=1) > 0).all()
    # Some come from outside the subset, and every token is copied alike.
    assert not inside.gather(1, source)[inside].all()
    assert (copied.flatten().bincount() - 8000 / P).abs().max() < 120
    assert torch.equal(moved[~inside], x[~inside])


def test_tokens_that_stay_count_as_perturbed() -> None:
    x = tokens(3000)
    moved, mask = patch_shuffle(x, None, keys(3000))
    same = (moved == x).all(2) & (mask > 0)
    assert abs(same.sum(1).double().mean().item() - 1.0) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("op", [patch_copy, patch_shuffle])
def test_gradients_follow_the_tokens(op: Any) -> None:
    x = tokens(2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda one: op(one, None, keys(2))[0], (x,))


@pytest.mark.parametrize("op", [patch_copy, patch_shuffle])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_bits_of_tokens_are_kept(op: Any, dtype: torch.dtype) -> None:
    x = tokens(3).to(dtype)
    moved, _ = op(x, None, keys(3))
    assert moved.dtype == dtype
    assert torch.equal(moved.float(), op(x.float(), None, keys(3))[0])


def test_masking_hides_the_share_and_puts_the_token() -> None:
    x, token = tokens(4000), torch.full((C,), 7.0, requires_grad=True)
    moved, mask = functional.token_mask(x, None, keys(4000), token=token)
    hidden = mask > 0
    assert torch.equal(moved[hidden], token.expand(int(hidden.sum()), C))
    assert torch.equal(moved[~hidden], x[~hidden])
    found = hidden.sum(1).bincount(minlength=P)
    assert len(found) == P and ((found - 4000 / P).square() / (4000 / P)).sum() < 31.3
    moved.sum().backward()
    assert token.grad is not None and token.grad[0] == hidden.sum()
    half, mask = functional.token_mask(x, None, keys(4000), share=0.5)
    assert (mask.sum(1) == 6).all() and not half[mask > 0].any()


def test_prefix_tokens_are_left_alone() -> None:
    x = tokens(50, P + 2)
    for op in (patch_copy, patch_shuffle):
        moved, mask = op(x, None, keys(50), prefix=2)
        assert torch.equal(moved[:, :2], x[:, :2]) and mask.shape == (50, P)
        assert (moved[:, 2:, 0] >= 2).all()


def test_bad_input() -> None:
    x = tokens(2)
    with pytest.raises(TypeError, match="rng: expected keys"):
        token_select(x)
    with pytest.raises(ValueError, match="count: expected a whole number"):
        token_select(x, None, keys(2), count=0)
    with pytest.raises(ValueError, match="most: expected a whole number"):
        token_select(x, None, keys(2), most=1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="saliency: expected a tensor"):
        token_select(x, None, keys(2), saliency=[1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"saliency: expected shape \[2, 12\]"):
        token_select(x, None, keys(2), saliency=torch.zeros(2, P + 1))
    with pytest.raises(ValueError, match=r"token: expected shape \[5\]"):
        functional.token_mask(x, None, keys(2), token=torch.zeros(4))
    with pytest.raises(ValueError, match="exactly one of"):
        patch_noise(x, None, keys(2))
