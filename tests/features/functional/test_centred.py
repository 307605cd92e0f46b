"""PBAS's push and CRAS's noise about centres: closed forms, zero distances, averages."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from anoaug import features
from anoaug.features.functional import distance_scaled_noise, radial_push


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def keys(count: int, seed: int = 0) -> Tensor:
    return features.keys(seed, torch.arange(count))


# ---- the push ------------------------------------------------------------------------------------


@given(k=st.floats(0.01, 4.0), channels=st.integers(1, 32), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_all_move_by_one_length_straight_away(k: float, channels: int, seed: int) -> None:
    f, c = normal(2, 6, channels, seed=seed).double(), normal(6, channels, seed=seed + 1).double()
    moved, mask, far = radial_push(f, rng=keys(2), centres=c, k=k)
    away, step = f - c, moved - f
    mean = away.norm(dim=-1).mean()
    torch.testing.assert_close(far, away.norm(dim=-1))
    torch.testing.assert_close(step.norm(dim=-1), (k * mean).expand(2, 6))
    cosine = torch.cosine_similarity(step, away, dim=-1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine), atol=1e-6, rtol=0)
    assert mask.all()


def test_the_offset_is_a_constant_and_the_mean_distance_a_loss() -> None:
    f = normal(1, 5, 4).double().requires_grad_()
    c = normal(5, 4, seed=1).double()
    moved, _, far = radial_push(f, rng=keys(1), centres=c)
    weight = normal(1, 5, 4, seed=2).double()
    (given,) = torch.autograd.grad((moved * weight).sum(), f)
    assert torch.equal(given, weight)
    _, _, far = radial_push(f, rng=keys(1), centres=c)
    (given,) = torch.autograd.grad(far.mean(), f)
    torch.testing.assert_close(given, ((f - c) / (f - c).norm(dim=-1, keepdim=True) / 5).detach())


def test_features_at_their_centre_get_a_direction_or_stay() -> None:
    f = normal(1, 4, 8)
    c = f[0].clone()
    c[1:] += 1.0
    moved, _, far = radial_push(f, rng=keys(1), centres=c, k=0.5)
    assert far[0, 0] == 0
    length = (moved - f).norm(dim=-1)
    torch.testing.assert_close(length, (0.5 * far.mean()).expand(1, 4))
    stay, _, _ = radial_push(f, centres=c, k=0.5, on_zero="stay")
    assert torch.equal(stay[0, 0], f[0, 0]) and torch.equal(stay[0, 1:], moved[0, 1:])


def test_the_mean_may_be_taken_elsewhere() -> None:
    f, c = normal(1, 5, 4), normal(5, 4, seed=1)
    moved, _, _ = radial_push(
        f, rng=keys(1), centres=c, k=0.5, average=lambda far: torch.full((), 8.0)
    )
    torch.testing.assert_close((moved - f).norm(dim=-1), torch.full((1, 5), 4.0))


def test_a_mask_confines_the_push_and_not_the_mean() -> None:
    f, c = normal(1, 6, 4), normal(6, 4, seed=1)
    mask = torch.tensor([[1.0, 0, 0, 1, 0, 0]])
    moved, shown, _ = radial_push(f, mask, keys(1), centres=c)
    whole, _, _ = radial_push(f, rng=keys(1), centres=c)
    assert torch.equal(shown, mask)
    assert torch.equal(moved, torch.where(mask[..., None] > 0, whole, f))


# ---- the noise -----------------------------------------------------------------------------------


@given(
    k=st.floats(0.0, 1.0), sigma=st.floats(0.001, 2.0), seed=st.integers(0, 2**32),
    channels=st.integers(1, 24),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_scales_have_mean_one_and_a_floor(k: float, sigma: float, seed: int, channels: int) -> None:
    f, c = normal(2, 8, channels, seed=seed % 91), normal(8, channels, seed=5)
    moved, _, scale = distance_scaled_noise(f, rng=keys(2, seed), centres=c, sigma=sigma, k=k)
    assert abs(float(scale.mean()) - 1.0) < 1e-4
    assert float(scale.min()) >= 1.0 - k - 1e-5
    assert moved.isfinite().all()


def test_the_noise_is_the_published_formula() -> None:
    f, c, e = normal(2, 6, 5), normal(6, 5, seed=1), normal(2, 6, 5, seed=2)
    moved, _, scale = distance_scaled_noise(f, centres=c, noise=e)
    n, d = (0.015 * e).norm(dim=-1), (f - c).norm(dim=-1)
    s = 1 + 0.3 * (n / d / (n / d).mean() - 1)
    torch.testing.assert_close(scale, s)
    torch.testing.assert_close(moved, f + s[..., None] * 0.015 * e)


def test_drawn_noise_is_that_of_the_keys() -> None:
    f, c = normal(2, 6, 7), normal(6, 7, seed=1)
    plain, _ = features.functional.gaussian_noise(f, rng=keys(2), sigma=0.1)
    moved, _, scale = distance_scaled_noise(f, rng=keys(2), centres=c, sigma=0.1)
    torch.testing.assert_close(moved - f, scale[..., None] * (plain - f), atol=1e-6, rtol=1e-5)


def test_features_at_their_centre_get_plain_noise() -> None:
    f = normal(1, 6, 5)
    c = f[0].clone()
    c[2:] += 1.0
    _, _, scale = distance_scaled_noise(f, rng=keys(1), centres=c)
    assert (scale[0, :2] == 1).all() and abs(float(scale[0, 2:].mean()) - 1) < 1e-5
    _, _, scale = distance_scaled_noise(f, rng=keys(1), centres=f[0])
    assert (scale == 1).all()


def test_the_noise_is_a_constant_for_autograd() -> None:
    f, c = normal(1, 6, 5).requires_grad_(), normal(6, 5, seed=1)
    moved, _, scale = distance_scaled_noise(f, rng=keys(1), centres=c, sigma=1.0)
    moved.sum().backward()
    assert not scale.requires_grad and torch.equal(f.grad, torch.ones_like(f))  # type: ignore[arg-type]


def test_an_empty_batch_is_empty() -> None:
    f, c = torch.zeros(0, 6, 5), normal(6, 5)
    assert radial_push(f, rng=keys(0), centres=c)[0].shape == (0, 6, 5)
    assert distance_scaled_noise(f, rng=keys(0), centres=c)[0].shape == (0, 6, 5)


def test_bad_input_is_refused() -> None:
    f = normal(2, 6, 5)
    with pytest.raises(ValueError, match="centres: expected a tensor like the features"):
        radial_push(f, rng=keys(2), centres=torch.zeros(7, 5))
    with pytest.raises(TypeError, match="centres: expected a tensor"):
        radial_push(f, rng=keys(2), centres=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"k: expected a number in \[0, 1\]"):
        distance_scaled_noise(f, rng=keys(2), centres=f, k=2.0)
    with pytest.raises(ValueError, match="k: expected a finite number"):
        radial_push(f, rng=keys(2), centres=f, k=-1.0)
