"""Shapes drawn from a seed: what each kind promises."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from scipy import ndimage

from anoaug.banks import canvas, distances, outlines

# Least and greatest share of the square, and whether a shape is in one piece.
KINDS = {
    "blob": (0.08, 0.75, True),
    "scar": (0.03, 0.75, True),
    "clump": (0.02, 0.3, False),
    "polygon": (0.1, 0.8, True),
    "crack": (0.004, 0.12, True),
    "scratch": (0.004, 0.08, False),
    "stain": (0.05, 0.45, False),
    "holes": (0.02, 0.6, False),
    "islands": (0.015, 0.4, False),
    "fractal": (0.01, 0.8, False),
}


def shapes(kind: str, count: int = 12, side: int = 256) -> list[np.ndarray]:
    return [outlines.shape(kind, (5, n), side) for n in range(count)]


def pieces(inside: np.ndarray) -> int:
    return int(ndimage.label(inside, np.ones((3, 3)))[1])


def test_every_kind_is_listed_here() -> None:
    assert set(KINDS) == set(outlines.KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_area_pieces_and_free_edges(kind: str) -> None:
    low, high, whole = KINDS[kind]
    for inside in shapes(kind):
        assert inside.dtype == bool and inside.shape == (256, 256)
        assert low <= inside.mean() <= high
        assert not whole or pieces(inside) == 1
        assert not inside[[0, -1]].any() and not inside[:, [0, -1]].any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_shape_is_a_function_of_its_key(kind: str) -> None:
    first, again = (outlines.shape(kind, (3, 4), 96) for _ in range(2))
    assert np.array_equal(first, again)
    others = [outlines.shape(kind, key, 96) for key in ((3, 5), (4, 4), (3, 4 + (1 << 32)))]
    assert all(not np.array_equal(first, other) for other in others)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["blob", "scar", "polygon", "stain", "fractal"])
def test_another_side_is_another_sampling_of_the_same_shape(kind: str) -> None:
    for n in range(5):
        small, large = (outlines.shape(kind, (9, n), side) for side in (128, 256))
        # Pixels well inside or outside the large one have the small one's verdict.
        level = distances.levels(large).astype(int)
        sure = np.abs(level - distances.EDGE) > 2 * distances.STEPS
        assert np.array_equal(small[sure], level[sure] > distances.EDGE)


@pytest.mark.slow
def test_strokes_of_a_level_do_not_break() -> None:
    """Thinner than a pixel of the level they would."""
    for inside in shapes("crack", 40):
        assert pieces(distances.levels(inside) > distances.EDGE) == 1


def test_strokes_thin_out() -> None:
    c = canvas.Canvas(canvas.Draw(0, 0), 200, 200)
    inside = np.zeros((200, 200), bool)
    outlines.stroked(c, [(0.5, 0.1, 0.1), (0.5, 0.9, 0.02)], inside)
    thick, thin = inside[:, 20].sum(), inside[:, 179].sum()
    assert 37 <= thick <= 43 and 5 <= thin <= 11


@pytest.mark.parametrize("side", [40, 101])
def test_a_filled_outline_is_what_matplotlib_would_fill(side: int) -> None:
    """A star drawn in one line: its middle is run around twice."""
    turns = 2 * np.pi * np.arange(5) * 2 / 5
    points = 0.5 + 0.4 * np.stack([np.sin(turns), np.cos(turns)], 1)
    inside = outlines.filled(points, side)
    assert inside[side // 2, side // 2]
    # Area of the pentagram's hull of five points, by the shoelace over its ten corners.
    inner = 0.4 * np.cos(2 * np.pi / 5) / np.cos(np.pi / 5)
    area = 5 * 0.4 * inner * np.sin(np.pi / 5)
    assert abs(inside.mean() - area) < 4 / side


def test_a_filled_square_has_its_pixels() -> None:
    square = np.array([[0.25, 0.25], [0.25, 0.75], [0.75, 0.75], [0.75, 0.25]])
    inside = outlines.filled(square, 8)
    assert inside.sum() == 16 and inside[2:6, 2:6].all()
    assert np.array_equal(inside, outlines.filled(square[::-1], 8))


def test_blobs_span_their_box() -> None:
    for inside in shapes("blob", 10, 200):
        for axis in (0, 1):
            there = np.flatnonzero(inside.any(axis))
            assert there[-1] - there[0] >= 200 * (1 - 2 * outlines.MARGIN) - 4


def test_scars_have_the_aspects_of_their_boxes() -> None:
    """15 to 29 by 7 to 20 pixels: from 20 : 15 the other way to 7 : 29."""
    aspects = []
    for inside in shapes("scar", 60):
        rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
        aspects.append((rows[-1] - rows[0] + 1) / (columns[-1] - columns[0] + 1))
    assert 7 / 29 - 0.03 < min(aspects) < 0.4 and 0.9 < max(aspects) < 20 / 15 + 0.03


@pytest.mark.slow
def test_clumps_have_the_share_of_grains_of_their_noise() -> None:
    """Of joined uniform numbers 0.29 lie above 0.61 (measured), within blobs."""
    shares = [
        inside.sum() / outlines.KINDS["blob"](canvas.Canvas(canvas.Draw(5, n), 256, 256)).sum()
        for n, inside in enumerate(shapes("clump", 40))
    ]
    assert 0.15 < np.mean(shares) < 0.4


def test_the_bits_do_not_change() -> None:
    """Golden: a change of bits raises the version and goes into the changelog."""
    drawn = [outlines.shape(kind, (0, 0), 64) for kind in outlines.KINDS]
    digest = hashlib.sha256(np.packbits(np.stack(drawn)).tobytes()).hexdigest()[:16]
    assert digest == "f91cfddb68b4c6ad"
