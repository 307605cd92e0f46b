"""Cutout: one square of one colour, its size and place."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from scipy import stats

import anoaug

MANY = 400


def pictures(rows: int, size: tuple[int, int] = (256, 256)) -> torch.Tensor:
    """White images, so that black shows."""
    return torch.full((rows, 1, *size), 255, dtype=torch.uint8)


@lru_cache(maxsize=4)
def boxes(place: str) -> np.ndarray:
    """First row, last row, first column and last column of the squares of many samples."""
    out = anoaug.create("cutout", seed=4, p=1.0, place=place)(
        pictures(MANY), index=range(MANY), epoch=0
    )
    black = out.image == 0
    assert torch.equal(black, out.mask > 0) and (out.image[~black] == 255).all()
    rows, columns = (black[:, 0].any(axis).numpy() for axis in (2, 1))
    ends = [(side.argmax(1), 255 - side[:, ::-1].argmax(1)) for side in (rows, columns)]
    (top, bottom), (left, right) = ends
    area = black.sum((1, 2, 3)).numpy()
    assert np.array_equal(area, (bottom - top + 1) * (right - left + 1))
    return np.stack([top, bottom, left, right], 1)


@pytest.mark.slow
def test_half_of_the_samples_are_anomalous() -> None:
    out = anoaug.create("cutout", seed=4)(pictures(800, (40, 40)), index=range(800), epoch=0)
    assert stats.binomtest(int(out.label.sum()), 800, 0.5).pvalue > 1e-3


@pytest.mark.slow
def test_squares_are_20_to_50_pixels_at_256() -> None:
    top, bottom, left, right = boxes("inside").T
    assert np.array_equal(bottom - top, right - left)
    tally = np.bincount(bottom - top + 1)[20:]
    assert len(tally) == 31 and stats.chisquare(tally).pvalue > 1e-4


@pytest.mark.slow
def test_the_centre_is_any_pixel_and_the_edge_cuts() -> None:
    top, bottom, left, right = boxes("anywhere").T
    assert (bottom - top + 1).max() <= 50 and (right - left + 1).max() <= 50
    for first, last in ((top, bottom), (left, right)):
        cut = (first == 0) | (last == 255)
        # The chance that a centre lies within half a side of an edge: 35 / 256 on average.
        assert stats.binomtest(int(cut.sum()), MANY, 35 / 256).pvalue > 1e-3
        whole = (first + last + 1)[~cut] / 2
        assert stats.kstest((whole - 25) / (256 - 50), "uniform").statistic < 0.1


def test_squares_grow_with_the_image() -> None:
    synth = anoaug.create("cutout", seed=4, p=1.0, place="inside")
    small, large = (
        synth(pictures(40, (n, n)), index=range(40), epoch=0).mask.mean((1, 2, 3))
        for n in (128, 512)
    )
    assert (small.sqrt() - large.sqrt()).abs().max() < 1 / 128 + 1e-6


@pytest.mark.parametrize(
    ("value", "levels"), [(0.5, (128, 128, 128)), ((1.0, 0.0, 0.2), (255, 0, 51))]
)
def test_the_colour_can_be_chosen(value: float, levels: tuple[int, ...]) -> None:
    images = torch.full((4, 3, 64, 64), 7, dtype=torch.uint8)
    out = anoaug.create("cutout", seed=4, p=1.0, value=value)(images, index=range(4), epoch=0)
    for channel, level in enumerate(levels):
        inside = out.image[:, channel][out.mask[:, 0] > 0]
        assert (inside == level).all()
