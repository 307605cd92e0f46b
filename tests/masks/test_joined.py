"""Two masks joined as each sample draws: inside either, inside both, the first alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from anoaug import masks
from tests.drawing import DEVICE, levels, mask_columns, needs_triton

FIRST, SECOND = masks.Perlin((1, 3), 0.0), masks.Rectangle()
SIZE = (37, 45)


def modes(odds: Any, rows: int) -> np.ndarray:
    column = mask_columns(masks.joined(FIRST, SECOND, odds), (8, 8), rows)["mode"]
    return column.astype(np.float32).view(np.int32)


def test_each_choice_is_its_formula() -> None:
    mode = modes((1, 1, 1), 40)
    a, b = (levels(mask, SIZE, range(40)) for mask in (FIRST, SECOND))
    joined = levels(masks.joined(FIRST, SECOND), SIZE, range(40))
    expected = {0: torch.maximum(a, b), 1: torch.minimum(a, b), 2: a}
    assert set(mode.tolist()) == {0, 1, 2}
    for row, chosen in enumerate(mode.tolist()):
        assert torch.equal(joined[row], expected[chosen][row])


@pytest.mark.parametrize("odds", [(1, 1, 1), (5, 3, 2), (0, 0.2, 0.6)])
def test_odds(odds: tuple[float, float, float]) -> None:
    tally = np.bincount(modes(odds, 6000), minlength=3)
    for count, odd in zip(tally, odds, strict=True):
        assert stats.binomtest(int(count), 6000, odd / sum(odds)).pvalue > 1e-3


@pytest.mark.parametrize("odds", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_one_choice_alone_is_the_operator(odds: Any) -> None:
    operator = {(1, 0, 0): FIRST | SECOND, (0, 1, 0): FIRST & SECOND, (0, 0, 1): FIRST}
    joined = levels(masks.joined(FIRST, SECOND, odds), SIZE, range(5))
    assert torch.equal(joined, levels(operator[odds], SIZE, range(5)))


def test_joins_expressions() -> None:
    both = levels(masks.joined(FIRST & SECOND, ~SECOND, (0, 0, 1)), SIZE, range(5))
    assert torch.equal(both, levels(FIRST & SECOND, SIZE, range(5)))


@pytest.mark.slow
@pytest.mark.triton_interpreter
@needs_triton
def test_the_kernel_equals_the_reference() -> None:
    ours, true = (
        levels(masks.joined(FIRST, SECOND), SIZE, range(8), backend=backend, device=DEVICE)
        for backend in ("triton", "torch")
    )
    assert torch.equal(ours, true)


@pytest.mark.parametrize("odds", [(1, 1), (0, 0, 0), (1, -1, 1), (1, 1, float("inf"))])
def test_bad_odds_are_refused(odds: Any) -> None:
    with pytest.raises(ValueError, match="odds: expected three numbers"):
        masks.joined(FIRST, SECOND, odds)


def test_what_is_no_mask_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a mask to combine with"):
        masks.joined(FIRST, 3)  # type: ignore[arg-type]
