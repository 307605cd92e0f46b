"""Steps and projections against closed forms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anoaug.features.ascent import shell


def rows(count: int, channels: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, generator=generator, dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000), low=st.floats(0.01, 3.0), spread=st.floats(1.0, 4.0),
    scale=st.floats(1e-6, 1e3),
)  # fmt: skip
def test_projected_rows_lie_in_the_shell_and_keep_their_direction(
    seed: int, low: float, spread: float, scale: float
) -> None:
    offset = rows(7, 5, seed) * scale
    found = shell.project(offset, low, low * spread, shell.units(offset))
    length = found.norm(dim=1)
    assert (length >= low * (1 - 1e-9)).all() and (length <= low * spread * (1 + 1e-9)).all()
    cosine = (found * offset).sum(1) / (length * offset.norm(dim=1))
    torch.testing.assert_close(cosine, torch.ones_like(cosine))
    free = (offset.norm(dim=1) > low) & (offset.norm(dim=1) < low * spread)
    torch.testing.assert_close(found[free], offset[free])


def test_a_row_of_zeros_goes_where_it_is_told_and_has_no_gradient() -> None:
    offset = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
    way = shell.units(rows(2, 4))
    found = shell.project(offset, 0.5, 1.0, way)
    torch.testing.assert_close(found, 0.5 * way)
    found.sum().backward()
    assert torch.equal(offset.grad, torch.zeros_like(offset))


def test_a_zero_row_gets_a_unit_direction_all_the_same() -> None:
    torch.testing.assert_close(shell.units(torch.zeros(3, 9)).norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("low", [0.1, 5.0])
def test_jacobian_inside_is_the_identity_and_clamped_loses_the_radius(low: float) -> None:
    offset = rows(1, 6)[0]
    high = 2 * low if low > offset.norm() else 100.0

    def projected(value: torch.Tensor) -> torch.Tensor:
        return shell.project(value, low, high, shell.units(value.detach()))

    jacobian = torch.autograd.functional.jacobian(projected, offset)
    values = torch.linalg.svdvals(jacobian)
    if low < offset.norm():
        torch.testing.assert_close(jacobian, torch.eye(6, dtype=torch.float64))
        return
    expected = torch.full((6,), low / float(offset.norm()), dtype=torch.float64)
    expected[-1] = 0.0
    torch.testing.assert_close(values, expected)


def test_gradcheck_of_projection_and_radius() -> None:
    offset = rows(6, 3).requires_grad_()
    radius = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    way = shell.units(offset.detach())
    assert torch.autograd.gradcheck(
        lambda o, r: shell.project(o, r, 1.4 * r, way), (offset, radius)
    )


def test_a_step_has_one_length_and_a_row_without_gradient_stays() -> None:
    offset, gradient = rows(4, 8), rows(4, 8, 1)
    gradient[2] = 0.0
    gradient[3] *= 1e-25
    moved = shell.step(offset, gradient, 0.01, 0.0) - offset
    torch.testing.assert_close(
        moved.norm(dim=1), torch.tensor([0.01, 0.01, 0.0, 0.01], dtype=torch.float64)
    )
    assert (shell.step(offset, gradient, 0.01, 1e-10)[3] - offset[3]).norm() < 1e-10
