"""Quantiles without a sort: equal to torch.quantile where that works, and beyond."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anoaug.features import functional

# Of one process, as it is summed over ranks: then the bits are counted, as on a device.
COUNTED = {"total": lambda counts: counts}


@pytest.mark.slow
@given(
    values=st.lists(
        st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40
    ),
    q=st.floats(0, 1),
    double=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_it_is_torch_quantile(values: list[float], q: float, double: bool) -> None:
    # Halved, because the distance of two neighbours must be finite.
    tensor = torch.tensor(values, dtype=torch.float64 if double else torch.float32) * 0.5
    expected = torch.quantile(tensor.double(), q).to(tensor.dtype)
    whole = torch.ones_like(tensor, dtype=torch.bool)
    span = float((tensor.max() - tensor.min()).abs())
    for found in (
        functional.quantile(tensor, q),
        functional.quantile(tensor, q, whole),
        functional.quantile(tensor, q, whole, **COUNTED),
    ):
        assert found.dtype == tensor.dtype
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * span + 1e-38)


@pytest.mark.parametrize("how", [{}, COUNTED], ids=["selected", "counted"])
def test_the_order_statistics_are_exact(how: dict[str, Any]) -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    values[::7] = -0.0
    mask = torch.rand(1000, generator=torch.Generator().manual_seed(1)) < 0.3
    ordered = values[mask].sort().values
    for k in range(0, len(ordered), 11):
        assert functional.quantile(values, k / (len(ordered) - 1), mask, **how) == ordered[k]


@pytest.mark.parametrize("how", [{}, COUNTED], ids=["selected", "counted"])
def test_a_mask_chooses_and_none_gives_the_default(how: dict[str, Any]) -> None:
    values = torch.tensor([5.0, 1.0, 3.0, float("nan")])
    mask = torch.tensor([True, False, True, False])
    assert functional.quantile(values, 0.5, mask, **how) == 4.0
    assert functional.quantile(values, 0.5, mask & False, **how) == 0.0
    assert functional.quantile(values[:0], 0.5, mask[:0], empty=7.0, **how) == 7.0


@pytest.mark.slow
def test_more_values_than_torch_takes() -> None:
    count = (1 << 24) + 2
    values = torch.arange(count, dtype=torch.float64).to(torch.float32)
    with pytest.raises(RuntimeError, match="too large"):
        torch.quantile(values, 0.5)
    assert functional.quantile(values, 0.25) == pytest.approx((count - 1) / 4, rel=1e-6)


def test_sixteen_bits_are_taken_as_float32() -> None:
    values = torch.tensor([60000.0, 65504.0], dtype=torch.float16)
    assert functional.quantile(values, 0.5).item() == 62752.0


@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_is_the_interpolation(masked: bool) -> None:
    values = torch.tensor([4.0, 1.0, 3.0, 2.0], requires_grad=True)
    mask = torch.ones(4, dtype=torch.bool) if masked else None
    functional.quantile(values, 0.5, mask).backward()
    assert values.grad is not None and values.grad.tolist() == [0.0, 0.0, 0.5, 0.5]


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="q: expected"):
        functional.quantile(torch.ones(3), 1.5)
    with pytest.raises(TypeError, match="floats"):
        functional.quantile(torch.ones(3).long(), 0.5)
    with pytest.raises(ValueError, match="mask: expected shape"):
        functional.quantile(torch.ones(3), 0.5, torch.ones(4).bool())
