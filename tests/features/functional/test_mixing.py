"""Statistics and features of two images, mixed; channels, dropped."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

from anoaug import features
from anoaug.features import functional, randomness


@pytest.fixture
def maps() -> Tensor:
    draw = torch.Generator().manual_seed(0)
    scale = torch.rand(4, 6, 1, 1, generator=draw) + 0.5
    return torch.randn(4, 6, 5, 7, generator=draw) * scale + torch.randn(4, 6, 1, 1, generator=draw)


def keys(batch: int) -> Tensor:
    return features.keys(0, torch.arange(batch))


WEIGHT = torch.tensor([0.0, 0.25, 1.0, 0.6])
PARTNER = torch.tensor([1, 3, 0, 2])


def test_statistics_are_between_two_images(maps: Tensor) -> None:
    out = functional.mix_statistics(maps, weight=WEIGHT, partner=PARTNER)
    share = WEIGHT[:, None]
    mean = maps.mean((2, 3))
    deviation = (maps.var((2, 3)) + 1e-6).sqrt()
    torch.testing.assert_close(
        out.mean((2, 3)), share * mean + (1 - share) * mean[PARTNER], rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        out.std((2, 3)), share * deviation + (1 - share) * deviation[PARTNER], rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(out[2], maps[2])


def test_statistics_are_constants_for_the_gradient(maps: Tensor) -> None:
    maps.requires_grad_()
    functional.mix_statistics(maps, weight=WEIGHT, partner=PARTNER).sum().backward()
    deviation = (maps.detach().var((2, 3)) + 1e-6).sqrt()
    share = WEIGHT[:, None]
    expected = (share * deviation + (1 - share) * deviation[PARTNER]) / deviation
    assert maps.grad is not None
    torch.testing.assert_close(maps.grad, expected[..., None, None].expand_as(maps))


def test_one_position_has_no_deviation() -> None:
    x = torch.randn(4, 6, 1, 1)
    out = functional.mix_statistics(x, weight=WEIGHT, partner=PARTNER)
    share = WEIGHT[:, None, None, None]
    torch.testing.assert_close(out, share * x + (1 - share) * x[PARTNER])


@pytest.mark.slow
def test_features_are_between_two_images(maps: Tensor) -> None:
    mask = torch.zeros(4, 1, 5, 7)
    mask[..., :3] = 1
    out, soft = functional.masked_mix(maps, mask, weight=WEIGHT, partner=PARTNER)
    share = WEIGHT[:, None, None, None]
    mixed = share * maps + (1 - share) * maps[PARTNER]
    torch.testing.assert_close(out[..., :3], mixed[..., :3])
    assert torch.equal(out[..., 3:], maps[..., 3:])
    assert torch.equal(soft, mask * (1 - share))
    double = maps.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda one: functional.masked_mix(one, mask, weight=WEIGHT, partner=PARTNER)[0], (double,)
    )


def test_partners() -> None:
    found = functional.partners(keys(9))
    assert torch.equal(found.sort().values, torch.arange(9))
    crossed = functional.partners(keys(8), "crossdomain")
    assert torch.equal(crossed.sort().values, torch.arange(8))
    assert (crossed[:4] >= 4).all() and (crossed[4:] < 4).all()
    with pytest.raises(ValueError, match="an even batch"):
        functional.partners(keys(9), "crossdomain")


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 2.0, 8.0])
def test_weights_follow_the_beta_distribution(alpha: float) -> None:
    number = torch.arange(20_000), torch.tensor([3, 0])
    drawn = randomness.sample_beta(number, "test", alpha, torch.device("cpu"))
    assert drawn.min() >= 0 and drawn.max() <= 1
    # The lower half: float32 has no numbers close below 1, where an alpha of 0.1 puts many.
    low = drawn[drawn <= 0.5].double().numpy()
    assert abs(len(low) - 10_000) < 300
    law = stats.beta(alpha, alpha)
    assert stats.kstest(low, lambda x: 2 * law.cdf(x)).pvalue > 1e-3
    assert abs(drawn.mean().item() - 0.5) < 0.02


def test_dropout_drops_a_share_and_scales_the_rest(maps: Tensor) -> None:
    ones = torch.ones(50, 40, 6, 5)
    out = functional.feature_dropout(ones, None, keys(50), p=0.2)
    assert torch.equal(out[out > 0], torch.full_like(out[out > 0], 1 / 0.8))
    assert abs((out == 0).float().mean().item() - 0.2) < 0.01
    other = functional.feature_dropout(ones, None, features.keys(1, torch.arange(50)), p=0.2)
    assert not torch.equal(out, other)
    assert torch.equal(functional.feature_dropout(maps, None, keys(4), p=0.0), maps)
    with pytest.raises(ValueError, match="p: expected a number below 1"):
        functional.feature_dropout(maps, None, keys(4), p=1.0)


@pytest.mark.parametrize("backend", ["auto", "compiled"])
def test_dropout_drops_the_same_on_every_backend(maps: Tensor, backend: str) -> None:
    if backend == "compiled":
        pytest.importorskip("numba")
    inside = torch.rand(4, 1, 5, 7, generator=torch.Generator().manual_seed(1)) < 0.5
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        given = (maps.to(dtype), inside, keys(4))
        expected = functional.feature_dropout(*given, backend="torch")
        found = functional.feature_dropout(*given, backend=backend)
        assert found.dtype == dtype and torch.equal(found, expected)
        assert not torch.equal(found, given[0])


def test_bad_pairs(maps: Tensor) -> None:
    with pytest.raises(TypeError, match="weight: expected a tensor"):
        functional.masked_mix(maps, weight=0.5, partner=PARTNER)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="partner: expected int64"):
        functional.masked_mix(maps, weight=WEIGHT, partner=WEIGHT)
    with pytest.raises(ValueError, match="weight: expected 4 numbers, got 3"):
        functional.masked_mix(maps, weight=WEIGHT[:3], partner=PARTNER)
