"""Manifolds of constant curvature and random geodesic steps: identities of the geometry."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from anoaug import features
from anoaug.features.functional import geodesic_step, manifolds

F64 = torch.float64
CURVATURES = (-2.0, -0.5, -1e-9, 0.0, 1e-9, 0.5, 2.0)
every = pytest.mark.parametrize("curvature", CURVATURES)


def points(curvature: float, *shape: int, seed: int = 0) -> Tensor:
    """Within the ball where there is one."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)
    reach = 0.6 / math.sqrt(abs(curvature)) if abs(curvature) > 1e-3 else 1.0
    return (
        reach
        * torch.tanh(drawn.norm(dim=-1, keepdim=True))
        * drawn
        / drawn.norm(dim=-1, keepdim=True)
    )


def keys(count: int, seed: int = 0) -> Tensor:
    return features.keys(seed, torch.arange(count))


# ---- the geometry --------------------------------------------------------------------------------


@every
def test_zero_is_neutral_and_minus_x_inverts(curvature: float) -> None:
    x, y = points(curvature, 5, 3), points(curvature, 5, 3, seed=1)
    zero = torch.zeros_like(x)
    add = manifolds.gyro_add
    torch.testing.assert_close(add(zero, x, curvature), x)
    torch.testing.assert_close(add(x, zero, curvature), x)
    torch.testing.assert_close(add(-x, x, curvature), zero, atol=1e-12, rtol=0)
    # The left cancellation law.
    torch.testing.assert_close(add(-x, add(x, y, curvature), curvature), y)


@every
def test_distances_are_a_metric(curvature: float) -> None:
    x, y, z = (points(curvature, 20, 3, seed=n) for n in range(3))
    distance = manifolds.geodesic_distance
    xy = distance(x, y, curvature)
    torch.testing.assert_close(distance(y, x, curvature), xy)
    assert (distance(x, x, curvature) < 1e-6).all()
    yz, xz = distance(y, z, curvature), distance(x, z, curvature)
    assert (xz <= xy + yz + 1e-9).all()


@every
def test_geodesics_are_as_long_as_their_velocity(curvature: float) -> None:
    x = points(curvature, 20, 3)
    v = 0.3 * torch.randn(20, 3, generator=torch.Generator().manual_seed(4), dtype=F64)
    factor = manifolds.conformal_factor(x, curvature)[..., 0]
    end = manifolds.exponential_map(x, v, curvature)
    found = manifolds.geodesic_distance(x, end, curvature)
    wanted = factor * v.norm(dim=-1)
    if curvature > 0:
        # Around the sphere there is a shorter way back.
        wanted = wanted % (2 * math.pi / math.sqrt(curvature))
        wanted = torch.minimum(wanted, 2 * math.pi / math.sqrt(curvature) - wanted)
    torch.testing.assert_close(found, wanted, atol=1e-7, rtol=1e-6)
    still = manifolds.exponential_map(x, torch.zeros_like(v), curvature)
    torch.testing.assert_close(still, x)


def test_the_flat_limit_comes_from_both_sides() -> None:
    x, y = points(0.0, 9, 4), points(0.0, 9, 4, seed=1)
    for curvature in (-1e-9, 1e-9, 0.0):
        torch.testing.assert_close(manifolds.gyro_add(x, y, curvature), x + y, atol=1e-7, rtol=0)
        found = manifolds.geodesic_distance(x, y, curvature)
        torch.testing.assert_close(found, 2 * (x - y).norm(dim=-1), atol=1e-6, rtol=0)
        end = manifolds.exponential_map(x, y, curvature)
        torch.testing.assert_close(end, x + y, atol=1e-6, rtol=0)
    assert abs(manifolds.reach(0.7, 1e-9) - 0.35) < 1e-6 > abs(manifolds.reach(0.7, -1e-9) - 0.35)


def test_positive_curvature_is_the_sphere() -> None:
    # Stereographic coordinates of the unit sphere, projected from its pole.
    x, y = points(1.0, 9, 2), points(1.0, 9, 2, seed=1)

    def lifted(p: Tensor) -> Tensor:
        square = p.square().sum(-1, keepdim=True)
        return torch.cat((2 * p, 1 - square), -1) / (1 + square)

    angle = torch.acos((lifted(x) * lifted(y)).sum(-1))
    torch.testing.assert_close(manifolds.geodesic_distance(x, y, 1.0), angle)


@pytest.mark.slow
@every
def test_the_geometry_has_derivatives(curvature: float) -> None:
    x = points(curvature, 3, 3).requires_grad_()
    v = points(curvature, 3, 3, seed=1).requires_grad_()
    for function in (
        manifolds.gyro_add, manifolds.geodesic_distance, manifolds.exponential_map,
    ):  # fmt: skip
        assert torch.autograd.gradcheck(lambda a, b, f=function: f(a, b, curvature), (x, v))
    zero = torch.zeros(3, 3, dtype=F64, requires_grad=True)
    manifolds.exponential_map(x.detach(), zero, curvature).sum().backward()
    assert zero.grad is not None and zero.grad.isfinite().all()


def test_great_circles() -> None:
    x = torch.nn.functional.normalize(points(0.0, 6, 5), dim=-1)
    v = torch.randn(6, 5, generator=torch.Generator().manual_seed(2), dtype=F64)
    end = manifolds.sphere_exponential(x, v)
    torch.testing.assert_close(end.norm(dim=-1), torch.ones(6, dtype=F64))
    across = v - (v * x).sum(-1, keepdim=True) * x
    angle = across.norm(dim=-1)
    torch.testing.assert_close((end * x).sum(-1), torch.cos(angle))
    torch.testing.assert_close(manifolds.sphere_exponential(x, 0 * v), x)
    tiny = manifolds.sphere_exponential(x, 1e-9 * v)
    torch.testing.assert_close(tiny - x, 1e-9 * across, atol=1e-15, rtol=0)
    torch.testing.assert_close(manifolds.sphere_exponential(x, 2 * x), x)


# ---- the step ------------------------------------------------------------------------------------


@given(
    angle=st.floats(0.0, 180.0), channels=st.integers(2, 64), seed=st.integers(0, 2**32),
    size=st.sampled_from([1e-6, 1.0, 1e6]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_steps_on_the_sphere_keep_lengths_and_turn_by_the_angle(
    angle: float, channels: int, seed: int, size: float
) -> None:
    x = size * torch.randn(1, 6, channels, generator=torch.Generator().manual_seed(seed % 83))
    moved, mask = geodesic_step(x, rng=keys(1, seed), angle=angle)
    far = x.double().norm(dim=-1)
    torch.testing.assert_close(moved.double().norm(dim=-1), far, atol=0, rtol=1e-6)
    cosine = (moved.double() * x.double()).sum(-1) / far / moved.double().norm(dim=-1)
    wanted = torch.full_like(cosine, math.cos(math.radians(angle)))
    torch.testing.assert_close(cosine, wanted, atol=1e-5, rtol=0)
    assert mask.all()


def test_a_range_of_angles_is_drawn_from_evenly() -> None:
    x = torch.nn.functional.normalize(torch.randn(1, 2000, 16), dim=-1)
    moved, _ = geodesic_step(x, rng=keys(1), angle=(10.0, 50.0))
    angle = torch.rad2deg(torch.acos((x * moved).sum(-1)))
    assert 9.9 < angle.min() < 10.5 and 49.5 < angle.max() < 50.1
    assert abs(float(angle.mean()) - 30.0) < 1.0


@every
def test_steps_on_manifolds_are_as_long_as_asked(curvature: float) -> None:
    x = points(curvature, 1, 30, 4)
    moved, _ = geodesic_step(x, rng=keys(1), length=0.8, curvature=curvature)
    found = manifolds.geodesic_distance(x, moved, curvature)
    torch.testing.assert_close(found, torch.full_like(found, 0.8), atol=1e-7, rtol=1e-6)


def test_steps_stay_within_the_ball() -> None:
    x = 3.0 * points(0.0, 1, 30, 4).float()
    moved, _ = geodesic_step(x, rng=keys(1), length=2.0, curvature=-1.0)
    assert moved.isfinite().all() and (moved.norm(dim=-1) < 1.0).all()
    half, _ = geodesic_step(x.half(), rng=keys(1), length=0.01, curvature=-1.0)
    assert half.isfinite().all() and (half.float().norm(dim=-1) < 1.0).all()


@pytest.mark.parametrize("step", [{"angle": 35.0}, {"length": 0.5, "curvature": -0.5}])
def test_steps_have_derivatives(step: dict[str, float]) -> None:
    x = points(-0.5, 1, 3, 4).requires_grad_()
    noise = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(3), dtype=F64)
    assert torch.autograd.gradcheck(lambda x: geodesic_step(x, noise=noise, **step)[0], (x,))


def test_zero_features_stay_on_their_sphere() -> None:
    x = torch.zeros(1, 3, 4, requires_grad=True)
    moved, _ = geodesic_step(x, rng=keys(1), angle=30.0)
    moved.sum().backward()
    assert torch.equal(moved, x) and x.grad is not None and x.grad.isfinite().all()


def test_bad_input_is_refused() -> None:
    x = torch.ones(1, 3, 4)
    for wrong in ({}, {"angle": 1.0, "length": 1.0, "curvature": 1.0}, {"length": 1.0},
                  {"angle": 1.0, "curvature": 1.0}):  # fmt: skip
        with pytest.raises(ValueError, match="strength: expected angle="):
            geodesic_step(x, rng=keys(1), **wrong)
    with pytest.raises(ValueError, match="the way to the other pole"):
        geodesic_step(x, rng=keys(1), length=4.0, curvature=1.0)
    with pytest.raises(ValueError, match="angle: expected values within"):
        geodesic_step(x, rng=keys(1), angle=200.0)
