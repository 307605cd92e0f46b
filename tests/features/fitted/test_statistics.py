"""Channel statistics: moments over any batches, a factor that always exists."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anoaug.features import fitted, functional, keys
from anoaug.features.fitted.statistics import factor


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_moments_are_those_of_all_positions() -> None:
    rows = drawn(100, 5) * torch.tensor([1.0, 2.0, 0.5, 3.0, 0.1]) + 7.0
    module = fitted.ChannelStatistics(covariance=True)
    module.fit(rows.split(33), progress=False)
    torch.testing.assert_close(module.mean, rows.mean(0))
    torch.testing.assert_close(module.std, rows.std(0, unbiased=False))
    torch.testing.assert_close(module.covariance, torch.cov(rows.T, correction=0))
    assert module.count == 100
    plain = fitted.ChannelStatistics().fit(rows.split(7), progress=False)
    torch.testing.assert_close(plain.std, module.std)


def test_a_large_mean_costs_no_digits() -> None:
    rows = drawn(4000, 3).double() * 0.01 + 1000.0
    module = fitted.ChannelStatistics().fit(rows.float().split(100), progress=False)
    exact = rows.float().double().std(0, unbiased=False).float()
    torch.testing.assert_close(module.std, exact, rtol=1e-3, atol=0)
    naive = (rows.float().square().mean(0) - rows.float().mean(0).square()).clamp(min=0).sqrt()
    assert ((naive - exact).abs() / exact).max() > 0.1  # the hazard is real


def test_a_mask_says_which_positions_count() -> None:
    maps, mask = drawn(2, 3, 4, 4), torch.zeros(2, 1, 4, 4)
    mask[:, :, :2] = 1.0
    maps[:, :, 2:] = float("nan")  # defects may hold anything
    module = fitted.ChannelStatistics(covariance=True)
    module.update(maps, mask)
    rows = maps[:, :, :2].flatten(2).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(module.mean, rows.mean(0))
    torch.testing.assert_close(module.covariance, torch.cov(rows.T, correction=0))


def test_the_factor_exists_where_the_covariance_is_singular() -> None:
    direction = drawn(64)
    covariance = 1e4 * torch.outer(direction, direction)
    lower = factor(covariance)
    assert lower.isfinite().all() and (lower.diagonal() > 0).all()
    torch.testing.assert_close(lower @ lower.T, covariance, rtol=1e-3, atol=10.0)
    assert factor(torch.zeros(4, 4), ridge=1e-4).diagonal().allclose(torch.tensor(0.01))


def test_the_deviation_serves_a_strength_in_z() -> None:
    scale = torch.tensor([1.0, 10.0])
    module = fitted.ChannelStatistics().fit([drawn(500, 2) * scale], progress=False)
    rows = torch.zeros(4000, 2)
    rng = keys(0, torch.tensor([0]))
    moved, _ = functional.gaussian_noise(rows, rng=rng, z=0.5, deviation=module.std)
    torch.testing.assert_close(moved.std(0), module.std * 0.5, rtol=0.05, atol=0)


def test_bad_input_is_refused() -> None:
    module = fitted.ChannelStatistics()
    with pytest.raises(RuntimeError, match="expected a fitted one"):
        _ = module.std
    module.fit([drawn(4, 3)], progress=False)
    with pytest.raises(RuntimeError, match="covariance=True"):
        _ = module.covariance
    with pytest.raises(ValueError, match=r"channels \[3\]"):
        module.update(drawn(4, 5))
    with pytest.raises(ValueError, match="ridge"):
        fitted.ChannelStatistics(ridge=-1.0)
