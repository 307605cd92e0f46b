"""VOS and NPOS as methods: whose class an outlier is of, and what comes of a queue not full."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from anoaug import features

NPOS = {"k": 4, "boundary": 8, "candidates": 20}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(name: str, **keywords: Any) -> Any:
    law = NPOS if name == "npos" else {}
    return features.create(name, seed=0, length=30, **law, **keywords)


both = pytest.mark.parametrize("name", ["vos", "npos"])


@both
def test_a_queue_that_is_not_full_gives_nothing(name: str) -> None:
    perturb, rows = made(name, categories=2), drawn(40, 6)
    perturb.update(rows, category=[0] * 29 + [1] * 11)
    asked = drawn(4, 6, seed=1)
    out = perturb(asked, index=range(4), epoch=0, category=[0, 1, 0, 1])
    assert torch.equal(out.features, asked) and not out.mask.any() and not out.label.any()
    assert not out.extras["distance"].any()
    perturb.update(rows[:1], category=[0])  # now the first class has 30
    out = perturb(asked, index=range(4), epoch=0, category=[0, 1, 0, 1])
    assert out.label.tolist() == [1, 0, 1, 0] and out.mask.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert torch.equal(out.features[1::2], asked[1::2])
    assert out.features.isfinite().all() and (out.extras["distance"][::2] > 0).all()


@both
def test_outliers_are_of_the_images_own_class(name: str) -> None:
    perturb = made(name, categories=2)
    perturb.update(torch.cat((drawn(30, 6), 1000.0 + drawn(30, 6))), category=[0] * 30 + [1] * 30)
    out = perturb(torch.zeros(4, 6), index=range(4), epoch=0, category=[0, 1, 1, 0])
    assert (out.features[1:3] > 900).all() and (out.features[::3].abs() < 100).all()


@both
def test_an_empty_queue_is_an_error(name: str) -> None:
    with pytest.raises(RuntimeError, match="expected a fitted one"):
        made(name)(drawn(4, 6))
    perturb = made(name)
    perturb.update(drawn(30, 6))
    with pytest.raises(ValueError, match="classes and channels"):
        perturb(drawn(4, 5))


@both
def test_calls_leave_the_queue_alone_and_state_travels(name: str) -> None:
    perturb, fresh = made(name), made(name)
    perturb.update(drawn(30, 6))
    before = {key: value.clone() for key, value in perturb.named_buffers()}
    expected = perturb(drawn(3, 2, 6), index=range(3), epoch=0)
    assert all(torch.equal(value, before[key]) for key, value in perturb.named_buffers())
    fresh.load_state_dict(perturb.state_dict())
    found = fresh(drawn(3, 2, 6), index=range(3), epoch=0)
    assert torch.equal(found.features, expected.features)


def test_vos_takes_the_gaussians_of_its_queue() -> None:
    perturb = features.create("vos", seed=0, categories=2, length=500, draws=1)
    spread = torch.tensor([1.0, 3.0, 0.2])
    rows = torch.cat((drawn(500, 3) * spread, 5.0 + drawn(500, 3, seed=1) * spread))
    perturb.update(rows, category=[0] * 500 + [1] * 500)
    means = torch.stack((rows[:500].mean(0), rows[500:].mean(0)))
    torch.testing.assert_close(perturb.gaussians.means, means)
    apart = torch.cat((rows[:500] - means[0], rows[500:] - means[1]))
    lower = perturb.gaussians.lower
    expected = apart.T @ apart / 1000 + 1e-4 * torch.eye(3)
    torch.testing.assert_close(lower @ lower.T, expected, rtol=1e-3, atol=1e-4)
    # Of one draw an outlier is any sample of the class.
    out = perturb(torch.zeros(1, 4000, 3), index=[0], epoch=0, category=[1])
    torch.testing.assert_close(out.features[0].mean(0), means[1], rtol=0, atol=0.2)
    torch.testing.assert_close(out.features[0].std(0), apart.std(0), rtol=0.1, atol=0)


def test_vos_outliers_are_as_far_as_the_tail() -> None:
    perturb = features.create("vos", seed=0)
    perturb.update(drawn(1000, 8))
    out = perturb(torch.zeros(300, 8), index=range(300), epoch=0)
    gaussians = perturb.gaussians
    apart = torch.linalg.solve_triangular(
        gaussians.lower, (out.features - gaussians.means[0]).T, upper=False
    ).norm(dim=0)  # fmt: skip
    torch.testing.assert_close(apart, out.extras["distance"][:, 0], rtol=1e-3, atol=1e-3)
    longest = drawn(20, 10_000, 8, seed=3).norm(dim=2).amax(1)
    assert apart.mean() == pytest.approx(float(longest.mean()), rel=0.03)


def test_every_position_may_be_a_class() -> None:
    perturb = features.create("vos", seed=0, length=20, per="position")
    place = torch.arange(6.0)[:, None] * 100
    perturb.update(drawn(20, 6, 3) + place)
    out = perturb(torch.zeros(2, 6, 3), index=range(2), epoch=0)
    assert (out.features.mean(2) - place[:, 0]).abs().max() < 50 and out.mask.all()


@both
def test_count_says_how_many_positions_of_an_image(name: str) -> None:
    perturb = made(name, count=3)
    perturb.update(drawn(30, 6))
    out = perturb(torch.zeros(5, 20, 6), index=range(5), epoch=0)
    assert out.mask.sum(1).tolist() == [3.0] * 5
    assert len(out.mask.unique(dim=0)) > 1  # not the same positions everywhere
    where = torch.zeros(5, 20)
    where[:, 4:6] = 1
    found = perturb(torch.zeros(5, 20, 6), where=where, index=range(5), epoch=0)
    assert torch.equal(found.mask, where)


def test_npos_takes_the_farthest_first() -> None:
    perturb = made("npos")
    perturb.update(drawn(30, 6))
    every = perturb(torch.zeros(1, 6, 6), index=[3], epoch=0).extras["distance"]
    assert every.shape == (1, 6) and (every.diff(dim=1) <= 0).all()
    one = perturb(torch.zeros(1, 1, 6), index=[3], epoch=0)
    assert one.extras["distance"][0, 0] == every[0, 0]


def test_gaussians_are_renewed_every_so_many_updates() -> None:
    perturb = features.create("vos", seed=0, length=10, every=3)
    perturb.update(drawn(10, 4))
    first = perturb.gaussians.means.clone()
    for seed in (1, 2):
        perturb.update(drawn(10, 4, seed=seed))
        assert torch.equal(perturb.gaussians.means, first)
    perturb.update(drawn(10, 4, seed=3))
    torch.testing.assert_close(perturb.gaussians.means[0], drawn(10, 4, seed=3).mean(0))


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"k: expected a whole number in \[1, 50\], got 300"):
        features.create("npos", length=50)
    with pytest.raises(ValueError, match="count"):
        made("npos", count=7)
    with pytest.raises(ValueError, match="select"):
        features.create("vos", draws=3, select=4)
    perturb = made("vos", categories=2)
    perturb.update(drawn(2, 6), category=[0, 1])
    with pytest.raises(ValueError, match="category: expected one in"):
        perturb(drawn(2, 6), index=range(2), epoch=0)
