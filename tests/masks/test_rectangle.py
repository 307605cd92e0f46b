"""Rectangles as squares, as shares of the image, and cut by its edge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from anoaug import masks
from tests.drawing import levels, mask_columns

MANY = 4000


def sides(mask: masks.Mask, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    box = mask_columns(mask, size, MANY)
    return (2 * box["half_h"]).astype(int), (2 * box["half_w"]).astype(int)


def test_a_square_has_one_side_uniform_in_whole_pixels() -> None:
    height, width = sides(masks.Rectangle(side=(5, 12)), (40, 60))
    assert np.array_equal(height, width)
    tally = np.bincount(height)[5:]
    assert len(tally) == 7 and stats.chisquare(tally).pvalue > 1e-4


def test_shares_are_of_height_and_width() -> None:
    mask = masks.Rectangle(height=(0.25, 0.5), width=(0.05, 0.1), unit="share")
    height, width = sides(mask, (80, 200))
    for found, low, high in ((height, 20, 40), (width, 10, 20)):
        tally = np.bincount(found)[low:]
        assert found.min() == low and len(tally) == high - low
        assert stats.chisquare(tally).pvalue > 1e-4


@pytest.mark.parametrize("size", [(80, 200), (200, 80)])
def test_the_share_of_a_square_is_of_the_shorter_side(size: tuple[int, int]) -> None:
    height, width = sides(masks.Rectangle(side=0.25, unit="share"), size)
    assert (height == 20).all() and (width == 20).all()


def test_a_share_too_small_is_one_pixel() -> None:
    height, width = sides(masks.Rectangle(side=0.0, unit="share"), (9, 9))
    assert (height == 1).all() and (width == 1).all()


@pytest.mark.parametrize("side", [7, 8])
def test_a_box_anywhere_has_its_centre_on_any_pixel(side: int) -> None:
    box = mask_columns(masks.Rectangle(side=side, place="anywhere"), (20, 30), MANY)
    for name, size in (("cy", 20), ("cx", 30)):
        middle = box[name] + (0.5 if side % 2 == 0 else 0.0)
        assert np.array_equal(middle, middle.round())
        tally = np.bincount(middle.astype(int), minlength=size)
        assert len(tally) == size and stats.chisquare(tally).pvalue > 1e-4


@pytest.mark.parametrize("side", [7, 8])
def test_a_box_anywhere_is_cut_by_the_image_s_edge(side: int) -> None:
    mask = masks.Rectangle(side=side, place="anywhere")
    drawn = (levels(mask, (20, 30), range(300)) > 0).numpy()
    box = mask_columns(mask, (20, 30), 300)
    for n in range(300):
        low_y, low_x = (int(np.ceil(box[c][n] - side / 2)) for c in ("cy", "cx"))
        expected = np.zeros((20, 30), bool)
        expected[max(low_y, 0) : low_y + side, max(low_x, 0) : low_x + side] = True
        assert np.array_equal(drawn[n], expected)
    # Of a square about a corner a quarter is left.
    assert drawn.any((1, 2)).all() and drawn.sum((1, 2)).min() < 0.5 * side**2


def test_boxes_inside_are_whole() -> None:
    drawn = levels(masks.Rectangle(side=8), (20, 30), range(100)) > 0
    assert (drawn.sum((1, 2)) == 64).all()


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ({"side": 0}, "side: expected values within"),
        ({"side": 1.5, "unit": "share"}, "side: expected values within"),
        ({"height": 2, "width": 2, "unit": "share"}, "height: expected values within"),
        ({"height": 2, "width": 2, "side": 2}, "expected height and width, or side"),
        ({"unit": "metres"}, "unit: expected one of"),
        ({"place": "outside"}, "place: expected one of"),
    ],
)
def test_bad_settings_are_refused(law: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        masks.Rectangle(**law)


@pytest.mark.parametrize("angle", [0.0, (-90.0, 90.0)])
def test_a_box_in_the_middle(angle: Any) -> None:
    """Its centre is the image's, however much of it lies beyond."""
    mask = masks.Rectangle(height=1.0, width=1.0, unit="share", rotation=angle, place="middle")
    box = mask_columns(mask, (20, 31), MANY)
    assert (box["cy"] == 9.5).all() and (box["cx"] == 15).all()
    assert (box["half_h"] == 10).all() and (box["half_w"] == 15.5).all()
