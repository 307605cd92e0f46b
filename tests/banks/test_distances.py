"""Levels: signed distances to a shape's edge, against scipy's exact transform."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from anoaug.banks import distances
from tests.drawing import some

masks = st.integers(0, 2**32 - 1).map(
    lambda seed: (
        ndimage.gaussian_filter(np.random.default_rng(seed).random((64, 52)), 1 + seed % 4) > 0.5
    )
)


def exact(inside: np.ndarray) -> np.ndarray:
    """The level before it is rounded, by scipy."""
    padded = np.pad(inside, 40)
    signed = np.where(
        padded,
        ndimage.distance_transform_edt(padded) - 0.5,
        0.5 - ndimage.distance_transform_edt(~padded),
    )[40:-40, 40:-40]
    fine = np.clip(signed, -32.5, 32.5)
    height, width = (side // distances.FINER for side in fine.shape)
    mean = fine.reshape(height, 2, width, 2).mean((1, 3)) / distances.FINER
    return np.clip(mean * distances.STEPS + distances.EDGE, 0, 255)


@some
@given(masks)
def test_levels_are_signed_distances(inside: np.ndarray) -> None:
    found = distances.levels(inside)
    assert found.dtype == np.uint8
    assert np.abs(found - exact(inside)).max() <= 0.5 + 1e-9


@some
@given(masks)
def test_levels_change_by_a_pixel_from_one_pixel_to_the_next(inside: np.ndarray) -> None:
    found = distances.levels(inside).astype(int)
    for axis in (0, 1):
        # One more for the rounding of both.
        assert np.abs(np.diff(found, axis=axis)).max() <= distances.STEPS + 1


def test_nothing_and_everything() -> None:
    assert (distances.levels(np.zeros((80, 80), bool)) == 0).all()
    full = distances.levels(np.ones((160, 160), bool))
    assert full[40, 40] == 255 and full[0, 40] == distances.EDGE + distances.STEPS // 2


@pytest.mark.parametrize("size", [64, 256])
@pytest.mark.parametrize("shape", [(9, 9), (3, 40), (200, 30)])
def test_a_cut_out_fills_the_square_with_its_longer_side(shape: tuple[int, int], size: int) -> None:
    mask = np.zeros((240, 300), bool)
    mask[7 : 7 + shape[0], 50 : 50 + shape[1]] = True
    found = distances.resampled(mask, size, 8)
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    sides = len(rows), len(columns)
    assert abs(max(sides) - (size - 16)) <= 2
    wanted = shape[0] / shape[1]
    assert abs(sides[0] - wanted * sides[1]) <= 3 + 3 * wanted
    # In the middle, but for a pixel.
    assert abs(rows[0] + rows[-1] - (size - 1)) <= 2
    assert abs(columns[0] + columns[-1] - (size - 1)) <= 2


def test_a_disc_stays_a_disc_when_it_is_enlarged() -> None:
    y, x = np.mgrid[:41, :41] - 20
    found = distances.resampled(y * y + x * x <= 100, 256, 8)
    y, x = np.mgrid[:256, :256] - 127.5
    away = np.sqrt(y * y + x * x)
    # A pixel of the small disc is 11 of these.
    assert found[away < 109].all() and not found[away > 131].any()


def test_an_empty_mask_is_an_empty_square() -> None:
    assert not distances.resampled(np.zeros((5, 6), bool), 32, 4).any()
