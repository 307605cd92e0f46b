"""Jitter in proportion to the feature, and noise on a shell: their closed forms and laws."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from anoaug import features
from anoaug.features import functional

F64 = torch.float64


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def keys(count: int, seed: int = 0) -> Tensor:
    return features.keys(seed, torch.arange(count))


def lengths(moved: Tensor, x: Tensor) -> Tensor:
    return (moved - x).norm(dim=-1)


# ---- UniAD's formula -----------------------------------------------------------------------------


def test_jitter_is_the_published_formula() -> None:
    x, noise = normal(2, 5, 12), normal(2, 5, 12, seed=1)
    moved, mask = functional.norm_scaled_jitter(x, scale=20.0, noise=noise)
    expected = x + 20.0 * (x.norm(dim=-1, keepdim=True) / 12) * noise
    torch.testing.assert_close(moved, expected)
    assert mask.shape == (2, 5) and mask.all()


@pytest.mark.parametrize(("channels", "ratio"), [(272, 1.21), (768, 0.72), (1024, 0.63)])
def test_relative_strength_is_alpha_over_the_root_of_the_channels(
    channels: int, ratio: float
) -> None:
    x = normal(1, 64, channels)
    moved, _ = functional.norm_scaled_jitter(x, rng=keys(1), scale=20.0)
    found = (lengths(moved, x) / x.norm(dim=-1)).mean()
    assert abs(float(found) - ratio) < 0.02


@pytest.mark.parametrize("direction", ["gaussian", "unit"])
def test_a_ratio_is_that_of_lengths(direction: str) -> None:
    x = normal(1, 200, 64)
    moved, _ = functional.norm_scaled_jitter(x, rng=keys(1), ratio=0.5, direction=direction)
    found = lengths(moved, x) / x.norm(dim=-1)
    spread = 1e-6 if direction == "unit" else 0.2
    torch.testing.assert_close(found, torch.full_like(found, 0.5), atol=spread, rtol=0)
    assert abs(float(found.mean()) - 0.5) < 0.01


def test_dinomalys_unit_variant_moves_by_its_scale() -> None:
    x = normal(2, 400, 32)
    moved, mask = functional.norm_scaled_jitter(
        x, rng=keys(2), scale=8.0, direction="unit", per="token", p=0.25
    )
    on = mask > 0
    assert 0.2 < float(mask.mean()) < 0.3
    assert torch.equal(moved[~on], x[~on])
    torch.testing.assert_close(lengths(moved, x)[on], 8.0 / 32 * x.norm(dim=-1)[on])


def test_a_batch_has_one_coin_a_sample_its_own() -> None:
    x = normal(8, 6, 4)
    seen = []
    for seed in range(40):
        _, mask = functional.norm_scaled_jitter(x, rng=keys(8, seed), scale=1.0, p=0.5)
        assert mask.unique().numel() == 1
        seen.append(float(mask[0, 0]))
    assert 10 < sum(seen) < 30
    _, mask = functional.norm_scaled_jitter(x, rng=keys(8), scale=1.0, p=0.5, per="sample")
    assert (mask == mask[:, :1]).all() and 0 < mask.sum() < mask.numel()


@pytest.mark.parametrize("per", ["batch", "sample", "token"])
def test_a_probability_of_zero_is_never(per: str) -> None:
    x = normal(2, 6, 4)
    moved, mask = functional.norm_scaled_jitter(x, rng=keys(2), scale=1.0, p=0.0, per=per)
    assert torch.equal(moved, x) and not mask.any()


def test_gradients_have_the_lengths_part() -> None:
    x = normal(1, 3, 4).double().requires_grad_()
    noise = normal(1, 3, 4, seed=1).double()
    assert torch.autograd.gradcheck(
        lambda x: functional.norm_scaled_jitter(x, scale=3.0, noise=noise)[0], (x,)
    )


# ---- the shell -----------------------------------------------------------------------------------


@given(
    radius=st.floats(0.01, 100.0), channels=st.integers(1, 40), seed=st.integers(0, 2**32),
    size=st.floats(0.0, 50.0),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_noise_without_width_has_one_length(
    radius: float, channels: int, seed: int, size: float
) -> None:
    x = size * normal(1, 7, channels, seed=seed % 97).double()
    moved, _ = functional.annulus_noise(x, rng=keys(1, seed), radius=radius, rel_width=0.0)
    expected = torch.full((1, 7), radius, dtype=F64)
    torch.testing.assert_close(lengths(moved, x), expected, atol=1e-6 * size, rtol=1e-6)


def test_the_width_is_the_gaussians_unless_it_is_given() -> None:
    x = torch.zeros(1, 4000, 50)
    moved, _ = functional.annulus_noise(x, rng=keys(1), sigma=0.1)
    found = lengths(moved, x)
    mean = 0.1 * math.sqrt(50)
    assert abs(float(found.mean()) / mean - 1) < 0.01
    assert abs(float(found.std()) / mean - 1 / math.sqrt(100)) < 0.005
    wide, _ = functional.annulus_noise(x, rng=keys(1), radius=1.0, rel_width=0.5)
    assert abs(float(lengths(wide, x).std()) - 0.5) < 0.04


def test_directions_are_uniform() -> None:
    x = torch.zeros(1, 4000, 3)
    moved, _ = functional.annulus_noise(x, rng=keys(1), radius=1.0, rel_width=0.0)
    assert moved.mean((0, 1)).abs().max() < 0.04
    torch.testing.assert_close(moved[0].T @ moved[0] / 4000, torch.eye(3) / 3, atol=0.02, rtol=0)


def test_shell_noise_is_a_constant_for_autograd() -> None:
    x = normal(1, 5, 8).requires_grad_()
    moved, _ = functional.annulus_noise(x, rng=keys(1), ratio=0.5)
    weight = normal(1, 5, 8, seed=2)
    (moved * weight).sum().backward()
    assert x.grad is not None and torch.equal(x.grad, weight)


# ---- storage -------------------------------------------------------------------------------------


def test_lengths_are_float32_under_autocast() -> None:
    x = (normal(1, 64, 512) * 30).to(torch.bfloat16)
    noise = normal(1, 64, 512, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        moved, _ = functional.norm_scaled_jitter(x, scale=20.0, noise=noise)
    wide, _ = functional.norm_scaled_jitter(x.float(), scale=20.0, noise=noise)
    assert moved.dtype == torch.bfloat16 and torch.equal(moved, wide.to(torch.bfloat16))


def test_float16_lengths_do_not_overflow() -> None:
    x = torch.full((1, 2, 2048), 300.0, dtype=torch.float16)
    moved, _ = functional.norm_scaled_jitter(x, rng=keys(1), scale=20.0)
    assert moved.isfinite().all() and not torch.equal(moved, x)


# ---- bad input -----------------------------------------------------------------------------------


def test_bad_input_is_refused() -> None:
    x = normal(2, 3, 4)
    jitter = functional.norm_scaled_jitter
    with pytest.raises(ValueError, match="exactly one of scale and ratio"):
        jitter(x, rng=keys(2))
    with pytest.raises(ValueError, match="exactly one of scale and ratio"):
        jitter(x, rng=keys(2), scale=1.0, ratio=1.0)
    with pytest.raises(ValueError, match=r"p: expected a number in \[0, 1\]"):
        jitter(x, rng=keys(2), scale=1.0, p=1.5)
    with pytest.raises(ValueError, match="scale: expected a finite number of at least 0"):
        jitter(x, rng=keys(2), scale=-1.0)
    with pytest.raises(TypeError, match="scale: expected a number"):
        jitter(x, rng=keys(2), scale="20")
    with pytest.raises(ValueError, match="per: expected one of"):
        jitter(x, rng=keys(2), scale=1.0, per="image")
    with pytest.raises(TypeError, match="rng: expected keys"):
        jitter(x, scale=1.0)
    with pytest.raises(TypeError, match="rng: expected keys"):
        jitter(x, scale=1.0, p=0.5, noise=x)
    with pytest.raises(ValueError, match="noise: expected .* like the features"):
        jitter(x, scale=1.0, noise=x[:1])
    with pytest.raises(ValueError, match="exactly one of"):
        functional.annulus_noise(x, rng=keys(2), sigma=1.0, radius=1.0)
