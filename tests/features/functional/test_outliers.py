"""Outliers: the shortcut of VOS has the distribution of the long way; NPOS keeps what is far."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from anoaug import features
from anoaug.features.functional import knn_boundary, low_density_gaussian
from anoaug.reference.features.outliers import chi_upper, kth_distances, tail_lengths


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def keys(groups: int, seed: int = 0) -> Tensor:
    return features.keys(seed, torch.arange(groups))


@pytest.mark.parametrize("channels", [1, 2, 3, 17, 128, 1024])
def test_chi_lengths_are_exceeded_by_their_share(channels: int) -> None:
    share = torch.tensor([1.0, 0.999, 0.5, 1e-2, 1e-6, 1e-12, 1e-18], dtype=torch.float64)
    length = chi_upper(share, channels)
    half = torch.full((), channels / 2, dtype=torch.float64)
    found = torch.special.gammaincc(half, length.square() / 2)
    torch.testing.assert_close(found, share, rtol=1e-8, atol=1e-9)


def test_two_channels_have_a_closed_form() -> None:
    share = torch.logspace(-15, 0, 40, dtype=torch.float64)
    torch.testing.assert_close(chi_upper(share, 2), (-2 * share.log()).sqrt(), rtol=1e-9, atol=1e-5)


def test_the_longest_of_many_has_the_distribution_of_the_long_way() -> None:
    draws, channels, count = 50, 6, 1500
    short = tail_lengths(keys(1), count, channels, draws)[0]
    long = drawn(count, draws, channels).norm(dim=2).amax(1).double()
    # Kolmogorov and Smirnov: 1.95 sqrt(2 / n) is passed by chance once in 1000.
    both = torch.cat((short, long)).sort().values
    below = [torch.searchsorted(each.sort().values, both, right=True) for each in (short, long)]
    assert (below[0] - below[1]).abs().max() / count < 1.95 * math.sqrt(2 / count)


def test_several_of_the_same_draws_come_in_order() -> None:
    lengths = tail_lengths(keys(3), 4000, 8, 30, select=4).view(3, -1, 4)
    assert (lengths.diff(dim=2) < 0).all()
    long = drawn(6000, 30, 8).norm(dim=2).sort(1, descending=True).values[:, :4].double()
    error = long.std(0) * math.sqrt(1 / 6000 + 1 / 3000)
    assert ((lengths.flatten(0, 1).mean(0) - long.mean(0)).abs() < 5 * error).all()
    alone = tail_lengths(keys(2), 5, 8, 1)  # of one draw: any length
    assert alone.shape == (2, 5)


def test_facts_of_ten_thousand_draws() -> None:
    assert tail_lengths(keys(1), 500, 128, 10_000).mean() / 128**0.5 == pytest.approx(
        1.25, abs=0.02
    )
    assert tail_lengths(keys(1), 500, 1024, 10_000).mean() / 32 == pytest.approx(1.08, abs=0.01)


def test_a_sample_is_as_far_as_its_length_says() -> None:
    spread = drawn(5, 5)
    covariance = spread @ spread.T + 0.1 * torch.eye(5)
    lower = torch.linalg.cholesky(covariance)
    mean = drawn(3, 5, seed=1)
    samples, lengths = low_density_gaussian(mean, lower, keys(3), 200, draws=100)
    apart = torch.linalg.solve_triangular(lower, (samples - mean[:, None]).mT, upper=False)
    torch.testing.assert_close(apart.norm(dim=1), lengths, rtol=1e-4, atol=1e-4)
    direction = (apart / lengths[:, None]).mT.flatten(0, 1)
    # Directions are uniform on the sphere: mean 0, second moments 1 / C.
    assert direction.mean(0).abs().max() < 5 / math.sqrt(600 * 5)
    assert (direction.T @ direction / 600 - torch.eye(5) / 5).abs().max() < 0.06


def test_the_longest_is_the_least_dense() -> None:
    # The identity the shortcut rests on, of samples drawn the long way.
    lower = torch.linalg.cholesky(torch.cov(drawn(6, 100)) + 0.1 * torch.eye(6))
    normal = drawn(2000, 6, seed=2)
    law = torch.distributions.MultivariateNormal(torch.zeros(6), scale_tril=lower)
    assert law.log_prob(normal @ lower.T).argmin() == normal.norm(dim=1).argmax()


def test_distances_to_the_kth_neighbour() -> None:
    unit = torch.nn.functional.normalize(drawn(40, 6), dim=1)
    expected = torch.cdist(unit, unit).sort(1).values[:, 4]
    torch.testing.assert_close(kth_distances(unit, unit, 5), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        kth_distances(unit, unit, 5, tile=100), expected, rtol=1e-4, atol=1e-4
    )


def test_each_point_keeps_its_own_farthest() -> None:
    rows = drawn(80, 6) + 2.0
    law = {"k": 5, "boundary": 10, "points": 3, "candidates": 40, "keep": 2}
    samples, apart = knn_boundary(rows, keys(2), sigma=0.3, **law)
    assert samples.shape == (2, 6, 6) and apart.shape == (2, 6)
    unit = torch.nn.functional.normalize(rows, dim=1)
    again = kth_distances(torch.nn.functional.normalize(samples[0], dim=1), unit, 5)
    torch.testing.assert_close(again, apart[0], rtol=1e-4, atol=1e-5)
    # Every candidate of every point once more: the kept ones are each point's two farthest.
    from anoaug.reference.features import gaussians

    edge = kth_distances(unit, unit, 5).topk(10).indices
    noise = 0.3 * gaussians(keys(2), 120, 6)[0].view(3, 40, 6)
    for point in range(3):
        offset = (samples[0, 2 * point] - noise[point])[:, None] - rows[edge]
        candidate, row = (offset.norm(dim=2) < 1e-5).nonzero()[0].tolist()
        made = rows[edge[row]] + noise[point]
        far = kth_distances(torch.nn.functional.normalize(made, dim=1), unit, 5)
        assert far.topk(2).indices[0] == candidate
        torch.testing.assert_close(far.topk(2).values, apart[0, 2 * point : 2 * point + 2])


def test_kept_samples_lie_outside() -> None:
    rows = drawn(200, 8) * 0.1 + torch.eye(8)[0]
    samples, apart = knn_boundary(rows, keys(1), k=20, boundary=20, candidates=100)
    unit = torch.nn.functional.normalize(rows, dim=1)
    inner = kth_distances(unit, unit, 20)
    assert apart.min() > inner.quantile(0.9) and samples.isfinite().all()


def test_points_differ_and_classes_have_their_own_rows() -> None:
    rows = torch.stack((drawn(30, 4), 100.0 + drawn(30, 4, seed=1)))
    law = {"k": 3, "boundary": 6, "points": 6, "candidates": 5, "keep": 1}
    samples, _ = knn_boundary(rows, keys(2), sigma=0.0, **law)
    assert len(samples[0].unique(dim=0)) == 6  # all points, none twice
    assert samples[0].abs().max() < 10 and samples[1].min() > 90
    alone, _ = knn_boundary(rows[1], keys(2)[1:], sigma=0.0, **law)
    assert torch.equal(alone[0], samples[1])


def test_nothing_to_do_is_defined() -> None:
    samples, lengths = low_density_gaussian(torch.zeros(0, 4), torch.eye(4), keys(0), 3)
    assert samples.shape == (0, 3, 4) and lengths.shape == (0, 3)
    samples, apart = knn_boundary(drawn(300, 4), keys(0))
    assert samples.shape == (0, 6, 4) and apart.shape == (0, 6)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="factor: expected"):
        low_density_gaussian(torch.zeros(2, 4), torch.eye(5), keys(2))
    with pytest.raises(ValueError, match="select"):
        low_density_gaussian(torch.zeros(2, 4), torch.eye(4), keys(2), draws=3, select=4)
    with pytest.raises(ValueError, match=r"k: expected a whole number in \[1, 50\], got 300"):
        knn_boundary(drawn(50, 4), keys(1))
    with pytest.raises(ValueError, match="points"):
        knn_boundary(drawn(50, 4), keys(1), k=3, boundary=2)
