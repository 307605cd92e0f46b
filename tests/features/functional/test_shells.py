"""Ascent steps and projections onto shells: closed forms, gradients, half precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from anoaug import features
from anoaug.features.functional import annulus_project, ascent_step

F64 = torch.float64


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def keys(count: int, seed: int = 0) -> Tensor:
    return features.keys(seed, torch.arange(count))


# ---- the step ------------------------------------------------------------------------------------


@given(eta=st.floats(1e-4, 10.0), size=st.floats(1e-12, 1e12), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_step_has_its_length_and_the_gradients_direction(
    eta: float, size: float, seed: int
) -> None:
    x = normal(1, 4, 6, seed=seed).double()
    grad = size * normal(1, 4, 6, seed=seed + 1).double()
    moved, _ = ascent_step(x, grad, eta=eta, eps=0.0)
    step = moved - x
    torch.testing.assert_close(step.norm(dim=-1), torch.full((1, 4), eta, dtype=F64))
    cosine = torch.cosine_similarity(step, grad / size, dim=-1)
    torch.testing.assert_close(cosine, torch.ones(1, 4, dtype=F64))


def test_the_step_is_the_published_formula() -> None:
    x, grad = normal(2, 3, 5), normal(2, 3, 5, seed=1) * 1e-9
    moved, mask = ascent_step(x, grad)
    expected = x + 0.001 * grad / (grad.norm(dim=-1, keepdim=True) + 1e-10)
    torch.testing.assert_close(moved, expected)
    assert mask.all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("eps", [1e-10, 0.0])
def test_a_gradient_of_zero_leaves_its_feature(dtype: torch.dtype, eps: float) -> None:
    # In float16 1e-10 is 0: alpha / (|h| + 1e-10) would be infinite.
    x = normal(1, 2, 8).to(dtype)
    grad = torch.zeros_like(x)
    grad[0, 1] = 1.0
    moved, _ = ascent_step(x, grad, eta=0.5, eps=eps)
    assert torch.equal(moved[0, 0], x[0, 0])
    wide = x[0, 1].float() + 0.5 / 8**0.5
    assert torch.equal(moved[0, 1], wide.to(dtype))


def test_the_step_is_a_constant_for_autograd() -> None:
    x = normal(1, 2, 3).requires_grad_()
    grad = normal(1, 2, 3, seed=1).requires_grad_()
    ascent_step(x, grad, eta=0.1)[0].sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x)) and grad.grad is None  # type: ignore[arg-type]


def test_a_step_on_maps_moves_positions_of_the_mask() -> None:
    x, grad = normal(2, 6, 3, 4), normal(2, 6, 3, 4, seed=1)
    mask = torch.zeros(2, 1, 3, 4)
    mask[0, 0, 1] = 1
    moved, shown = ascent_step(x, grad, mask, eta=0.1)
    assert torch.equal(shown, mask)
    expected = x + mask * 0.1 * grad / grad.norm(dim=1, keepdim=True)
    torch.testing.assert_close(moved, expected)
    assert torch.equal(moved[1], x[1])


# ---- the projection ------------------------------------------------------------------------------


@pytest.mark.slow
@given(
    r=st.floats(0.05, 20.0), size=st.sampled_from([0.0, 1e-6, 0.1, 1.0, 30.0]),
    channels=st.integers(1, 24), seed=st.integers(0, 2**32),
    dtype=st.sampled_from([torch.float32, F64]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_radii_are_within_the_shell(
    r: float, size: float, channels: int, seed: int, dtype: torch.dtype
) -> None:
    base = normal(1, 5, channels, seed=3).to(dtype)
    x = base + size * normal(1, 5, channels, seed=seed % 89).to(dtype)
    moved, _ = annulus_project(x, rng=keys(1, seed), r_lo=r, base=base, eps=0.0)
    h, before = (moved - base).double(), (x - base).double()
    far = h.norm(dim=-1)
    slack = 1e-5 * (r + float(base.abs().max()))
    assert (far >= r - slack).all() and (far <= 2 * r + slack).all()
    moving = before.norm(dim=-1) > 1e-3
    cosine = torch.cosine_similarity(h, before, dim=-1)[moving]
    torch.testing.assert_close(cosine, torch.ones_like(cosine), atol=1e-4, rtol=0)
    kept = (before.norm(dim=-1) > r * (1 + 1e-5)) & (before.norm(dim=-1) < 2 * r * (1 - 1e-5))
    assert torch.equal(moved[kept], x[kept])


def test_the_projection_is_the_published_formula() -> None:
    x, base = normal(2, 6, 5), normal(2, 6, 5, seed=1)
    h = x - base
    far = h.norm(dim=-1, keepdim=True)
    assert (far < 2.4).any() and (far > 3.2).any()
    expected = base + h * far.clamp(2.4, 3.2) / (far + 1e-10)
    moved, _ = annulus_project(x, rng=keys(2), r_lo=2.4, r_hi=3.2, base=base)
    torch.testing.assert_close(moved, expected)


def test_glass_at_its_defaults_clamps_nothing() -> None:
    # 0.015 sqrt(1536) = 0.588 within [0.5, 1]: rows keep their bits. At 768 channels all go up.
    for channels, share in ((1536, 0.0), (768, 1.0)):
        f = normal(1, 32, channels)
        g = f + 0.015 * normal(1, 32, channels, seed=1)
        moved, _ = annulus_project(g, rng=keys(1), r_lo=0.5, base=f)
        assert float((moved != g).any(-1).float().mean()) == share


def test_manifold_mode_passes_all_of_the_gradient() -> None:
    f = normal(1, 6, 5).double().requires_grad_()
    step = normal(1, 6, 5, seed=1).double() * torch.tensor([0.0, 0.1, 0.3, 0.6, 2.0, 9.0])[:, None]

    def moved(f: Tensor) -> Tensor:
        return annulus_project(f + step, rng=keys(1), r_lo=1.0, base=f, eps=0.0)[0]

    jacobian = torch.autograd.functional.jacobian(moved, f).reshape(30, 30)
    torch.testing.assert_close(jacobian, torch.eye(30, dtype=F64))


@pytest.mark.parametrize(("size", "radius"), [(0.5, 1.0), (1.5, None), (5.0, 2.0)])
def test_hypersphere_mode_loses_the_radial_component(size: float, radius: float | None) -> None:
    h = normal(1, 1, 5).double()
    x = (size * h / h.norm()).requires_grad_()

    def moved(x: Tensor) -> Tensor:
        return annulus_project(x, rng=keys(1), r_lo=1.0, eps=0.0)[0]

    jacobian = torch.autograd.functional.jacobian(moved, x).reshape(5, 5)
    found = torch.linalg.svdvals(jacobian)
    scale = 1.0 if radius is None else radius / size
    expected = [scale] * 4 + [1.0 if radius is None else 0.0]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=F64))


def test_radii_are_detached_or_not_as_they_come() -> None:
    x, base = normal(1, 4, 5), normal(1, 4, 5, seed=1)
    weight = normal(1, 4, 5, seed=2)
    r = torch.tensor(5.0, requires_grad=True)
    moved, _ = annulus_project(x, rng=keys(1), r_lo=r, r_hi=10.0, base=base)
    (moved * weight).sum().backward()
    h = x - base
    expected = (weight * h / h.norm(dim=-1, keepdim=True)).sum()
    torch.testing.assert_close(r.grad, expected)
    fixed, _ = annulus_project(x, rng=keys(1), r_lo=r.detach(), r_hi=10.0, base=base)
    assert torch.equal(fixed, moved) and not fixed.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_rows_at_the_base_are_defined(dtype: torch.dtype) -> None:
    base = normal(1, 3, 64).to(dtype)
    x = base.clone().requires_grad_()
    moved, _ = annulus_project(x, rng=keys(1), r_lo=2.0, base=base)
    far = (moved - base).float().norm(dim=-1)
    torch.testing.assert_close(far, torch.full((1, 3), 2.0), atol=0.05, rtol=0)
    moved.float().square().sum().backward()
    assert x.grad is not None and not x.grad.any()
    stay, _ = annulus_project(x, r_lo=2.0, base=base, on_zero="stay")
    assert torch.equal(stay, x)
    (given,) = torch.autograd.grad(stay.float().sum(), x)
    assert torch.equal(given, torch.ones_like(given))


def test_bases_of_every_kind_are_one() -> None:
    maps = normal(2, 6, 3, 4) * 3
    table = normal(12, 6, seed=1)
    like = table.T.reshape(1, 6, 3, 4).expand(2, 6, 3, 4)
    index = torch.arange(12).expand(2, 12)
    asked: dict[str, Any] = {"rng": keys(2), "r_lo": 0.5}
    expected, mask = annulus_project(maps, base=like, **asked)
    assert mask.shape == (2, 1, 3, 4)
    assert torch.equal(annulus_project(maps, base=table, **asked)[0], expected)
    assert torch.equal(annulus_project(maps, base=table, index=index, **asked)[0], expected)
    rows = maps.flatten(2).transpose(1, 2).flatten(0, 1)
    found, _ = annulus_project(rows, base=table, **asked)
    assert torch.equal(found, expected.flatten(2).transpose(1, 2).flatten(0, 1))
    origin, _ = annulus_project(maps, **asked)
    assert torch.equal(origin, annulus_project(maps, base=torch.zeros(6), **asked)[0])


def test_droccs_loop_projects_onto_its_shell() -> None:
    x = normal(1, 4, 8)
    g = x + normal(1, 4, 8, seed=1)
    for step in range(20):
        g, _ = ascent_step(g, normal(1, 4, 8, seed=step), eta=0.001, eps=0.0)
        if step % 10 == 9:
            g, _ = annulus_project(g, rng=keys(1), r_lo=0.2, r_hi=0.4, base=x, eps=0.0)
    far = (g - x).norm(dim=-1)
    # Onto 0.4 at the tenth step, and no farther than ten steps from it after that.
    assert (far <= 0.4 + 1e-5).all() and (far >= 0.39 - 1e-5).all()


def test_bad_input_is_refused() -> None:
    x = normal(2, 3, 4)
    with pytest.raises(ValueError, match="gradient: expected"):
        ascent_step(x, x[:1])
    with pytest.raises(ValueError, match="eta: expected a finite number"):
        ascent_step(x, x, eta=float("nan"))
    with pytest.raises(ValueError, match="r_hi: expected at least"):
        annulus_project(x, rng=keys(2), r_lo=2.0, r_hi=1.0)
    with pytest.raises(ValueError, match="r_lo: expected a finite number"):
        annulus_project(x, rng=keys(2), r_lo=-1.0)
    with pytest.raises(TypeError, match="rng: expected keys"):
        annulus_project(x, r_lo=1.0)
    with pytest.raises(ValueError, match="base: expected a tensor like the features"):
        annulus_project(x, rng=keys(2), r_lo=1.0, base=torch.zeros(5, 4))
    with pytest.raises(ValueError, match="index: expected"):
        annulus_project(
            x, rng=keys(2), r_lo=1.0, base=torch.zeros(5, 4), index=torch.zeros(1, 3).long()
        )
    with pytest.raises(ValueError, match="on_zero: expected one of"):
        annulus_project(x, rng=keys(2), r_lo=1.0, on_zero="nan")
