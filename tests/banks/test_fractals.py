"""Shapes of fractals: the law of their maps, attractors, bitmaps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, stats

from anoaug.banks import fractals


def drawn(count: int, seed: int = 0) -> tuple[fractals.Maps, np.ndarray]:
    generator = np.random.default_rng(seed)
    bits = generator.integers(0, 2**32, count, dtype=np.uint32)
    return fractals.draw_maps(generator.random((fractals.NUMBERS, count)), bits), bits


def pictures(packed: np.ndarray) -> np.ndarray:
    """Bitmaps as booleans ``[B, 64, 64]``."""
    side = fractals.SIDE
    rows = packed.astype("<i4").view(np.uint8).reshape(len(packed), side, side // 8)
    return np.unpackbits(rows, axis=2, bitorder="little") > 0


# ---- maps ----------------------------------------------------------------------------------------


def test_singular_values_are_those_of_the_published_law() -> None:
    maps, _ = drawn(4000)
    values = np.linalg.svd(maps.matrix, compute_uv=False)
    assert values.max() < 1.0 and values.min() >= 0.0
    total = (values[..., 0] + 2 * values[..., 1]).sum(1)
    assert total.min() >= 3.5 and total.max() <= 4.0
    assert stats.kstest((total - 3.5) / 0.5, "uniform").pvalue > 1e-4
    # The first map's larger value is uniform between a third of what the second leaves and one.
    low = (total - 3.0) / 3.0
    assert stats.kstest((values[:, 0, 0] - low) / (1.0 - low), "uniform").pvalue > 1e-4


def test_maps_turn_and_shift_every_way_and_one_in_two_mirrors() -> None:
    maps, _ = drawn(4000)
    for k in (0, 1):
        mirrored = np.linalg.det(maps.matrix[:, k]) < 0
        assert stats.binomtest(int(mirrored.sum()), 4000, 0.5).pvalue > 1e-4
        turn = np.arctan2(maps.matrix[:, k, 1, 0], maps.matrix[:, k, 0, 0]) / (2 * np.pi) + 0.5
        assert stats.kstest(turn, "uniform").pvalue > 1e-4
        for axis in (0, 1):
            shift = (maps.shift[:, k, axis] + 1) / 2
            assert stats.kstest(shift, "uniform").pvalue > 1e-4


def test_numbers_at_their_ends_give_maps_too() -> None:
    for value in (0.0, 1.0 - 2.0**-24):
        maps = fractals.draw_maps(np.full((fractals.NUMBERS, 1), value), np.zeros(1, np.uint32))
        assert np.isfinite(maps.matrix).all()
        assert np.linalg.svd(maps.matrix, compute_uv=False).max() <= 1.0 + 1e-12


# ---- attractors ----------------------------------------------------------------------------------


def test_two_halving_maps_give_a_line() -> None:
    matrix = np.broadcast_to(0.5 * np.eye(2), (1, 2, 2, 2))
    shift = np.array([[[0.0, 0.0], [0.5, 0.5]]])
    y, x = fractals.points(fractals.Maps(matrix, shift))[:, 0]
    # The binary fractions between 0 and 1 on the diagonal, evenly.
    assert np.array_equal(y, x) and y.min() >= 0.0 and y.max() <= 1.0
    assert y.std() == pytest.approx(1 / np.sqrt(12), abs=0.02) and len(np.unique(y)) > 5000


def test_an_attractor_is_the_union_of_its_images_under_the_maps() -> None:
    maps, _ = drawn(20, seed=1)
    found = fractals.points(maps)
    for n in range(20):
        cloud = found[:, n].T
        for k in (0, 1):
            image = cloud @ maps.matrix[n, k].T + maps.shift[n, k]
            low, high = cloud.min(0), cloud.max(0)
            # Images under a map of hardly any area are seldom visited: tips may be missing.
            slack = 0.02 * (high - low)
            inside = ((image >= low - slack) & (image <= high + slack)).all(1)
            assert inside.mean() > 0.95


def test_maps_are_chosen_in_proportion_to_their_areas() -> None:
    # Areas of 0.3 and 0.1; what the second map gives lies at 1 and above, the first's below 0.86.
    matrix = np.stack([np.diag([0.6, 0.5]), np.diag([0.3, 1 / 3])])[None]
    shift = np.array([[[0.0, 0.0], [1.0, 1.0]]])
    y = fractals.points(fractals.Maps(matrix, shift))[0, 0]
    assert (y >= 1.0).mean() == pytest.approx(0.25, abs=0.02)


# ---- bitmaps -------------------------------------------------------------------------------------


def test_bitmaps_fill_their_square_from_edge_to_edge() -> None:
    shapes = pictures(fractals.bitmaps(*drawn(200)))
    assert shapes.any(1)[:, [0, -1]].all() and shapes.any(2)[:, [0, -1]].all()
    area = shapes.mean((1, 2))
    assert area.min() > 0.02 and area.max() < 0.95
    assert 0.3 < area.mean() < 0.5 and area.std() > 0.1


def test_bits_lie_row_by_row_from_the_lowest() -> None:
    matrix = np.broadcast_to(0.5 * np.eye(2), (1, 2, 2, 2))
    shift = np.array([[[0.0, 0.0], [0.0, 0.5]]])  # a line along the columns
    packed = fractals.bitmaps(fractals.Maps(matrix, shift), np.zeros(1, np.uint32))
    assert packed.dtype == np.int32 and packed.shape == (1, 128)
    assert (packed[0, :2] == -1).all() and not packed[0, 2:].any()


def test_the_stamp_widens_every_point() -> None:
    maps, _ = drawn(30)
    plain, wide = (
        pictures(fractals.bitmaps(maps, np.full(30, bits, np.uint32)))
        for bits in (0, 0b111111111 << 2)
    )
    for n in range(30):
        assert np.array_equal(wide[n], ndimage.binary_dilation(plain[n], np.ones((3, 3))))


def test_a_shape_does_not_depend_on_its_batch() -> None:
    maps, bits = drawn(150)
    whole = fractals.bitmaps(maps, bits)
    alone = fractals.bitmaps(fractals.Maps(maps.matrix[99:100], maps.shift[99:100]), bits[99:100])
    assert np.array_equal(whole[99:100], alone)


def test_shapes_differ_and_hold_together() -> None:
    shapes = pictures(fractals.bitmaps(*drawn(100)))
    assert len({shape.tobytes() for shape in shapes}) == 100
    # Lone points would be dust of a bad iteration: most of a shape is in a few large pieces.
    for shape in shapes:
        pieces, count = ndimage.label(shape, np.ones((3, 3)))
        sizes = np.sort(np.bincount(pieces.ravel())[1:])[::-1]
        assert sizes[:16].sum() > 0.6 * shape.sum(), count
