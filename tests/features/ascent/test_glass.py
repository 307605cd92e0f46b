"""What GLASS does around its ascent."""

from __future__ import annotations

import pytest
import torch

import anoaug
from anoaug.features import ascent


def test_local_rows_go_to_their_shell_in_hypersphere_mode_alone() -> None:
    rows = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(40) % 2
    centre = torch.full((6,), 0.5)
    moved = ascent.local_rows(rows, mask, centre, 1.0, mode="hypersphere")
    assert torch.equal(moved[mask == 0], rows[mask == 0])
    length = (moved - centre)[mask == 1].norm(dim=1)
    assert (length >= 2 - 1e-5).all() and (length <= 4 + 1e-5).all()
    assert not torch.equal(moved, rows)
    assert ascent.local_rows(rows, mask) is rows


def test_local_rows_on_their_centre_are_defined() -> None:
    centre = torch.ones(2, 4, requires_grad=True)
    rows = torch.ones(2, 4, requires_grad=True)
    moved = ascent.local_rows(rows, torch.ones(2), centre, 0.5, mode="hypersphere")
    torch.testing.assert_close((moved - 1).norm(dim=1), torch.ones(2))
    moved.sum().backward()
    assert rows.grad.isfinite().all() and centre.grad is None


def test_hard_focal_is_the_formula_on_the_hard_rows() -> None:
    logits = torch.tensor([2.0, -1.0, 0.5, -3.0], dtype=torch.float64)
    target = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    # Squared errors 0.014, 0.534, 0.387, 0.002: the median leaves the second and the third.
    chance = torch.sigmoid(logits)
    right = torch.stack((chance[1], 1 - chance[2]))
    expected = -((1 - right) ** 2 * right.log()).mean()
    found = ascent.hard_focal(logits, target, smooth=0.0)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ascent.hard_focal(logits, target), expected, rtol=1e-4, atol=0)


def test_hard_focal_of_certain_and_of_no_rows_is_finite() -> None:
    logits = torch.tensor([200.0, -200.0], requires_grad=True)
    loss = ascent.hard_focal(logits, torch.tensor([0.0, 1.0]), quantile=0.0)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()
    assert ascent.hard_focal(torch.zeros(0), torch.zeros(0)) == 0


@pytest.mark.filterwarnings("ignore:textures=None")
def test_conventions_name_keywords_that_exist() -> None:
    assert set(ascent.CONVENTIONS) == {"original", "anomalib"}
    for convention in ascent.CONVENTIONS.values():
        anoaug.create("glass_las", seed=0, **convention.image_anomalies)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="expected both in mode='hypersphere'"):
        ascent.local_rows(torch.zeros(3, 2), torch.zeros(3), mode="hypersphere")
    with pytest.raises(ValueError, match="mask: expected shape"):
        ascent.local_rows(torch.zeros(3, 2), torch.zeros(4))
    with pytest.raises(ValueError, match="logits' shape"):
        ascent.hard_focal(torch.zeros(3), torch.zeros(3, 1))
