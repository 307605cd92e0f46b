"""Perlin masks: golden fields, equal backends, laws, and published statistics."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from anoaug import masks
from anoaug.reference.noise import gradient_noise
from tests.drawing import (
    DEVICE,
    expect_uniform,
    levels,
    mask_columns,
    needs_triton,
    sizes,
    some,
)

MANY = 4000


def cells(rows: float, columns: float) -> tuple[tuple[float, float], tuple[float, float]]:
    return (rows, rows), (columns, columns)


# ---- Perlin: the closed form ---------------------------------------------------------------------

GOLDEN = {
    "perlin_64x64_res2x8.npz": 1e-6,
    "perlin_64x64_res8x8.npz": 1e-6,
    "perlin_64x64_res32x4.npz": 1e-6,
    "perlin_256x256_res32x32.npz": 1e-6,
    "perlin_224x224_res8x8.npz": 1e-5,
}


def field_of_angles(turns: np.ndarray, shape: tuple[int, int]) -> torch.Tensor:
    """Our closed form in float32 with given lattice angles, in turns."""
    rows, columns = turns.shape[0] - 1, turns.shape[1] - 1
    cy = torch.arange(shape[0], dtype=torch.float32)[:, None] * np.float32(rows / shape[0])
    cx = torch.arange(shape[1], dtype=torch.float32)[None, :] * np.float32(columns / shape[1])
    iy, ix = cy.long(), cx.long()
    gy = torch.from_numpy(np.cos(2 * np.pi * turns).astype(np.float32))
    gx = torch.from_numpy(np.sin(2 * np.pi * turns).astype(np.float32))
    corners = [
        g[iy + down, ix + right]
        for down, right in ((0, 0), (1, 0), (0, 1), (1, 1))
        for g in (gy, gx)
    ]
    return gradient_noise(cy - iy, cx - ix, *corners)


@pytest.mark.parametrize("name", GOLDEN)
def test_closed_form_meets_the_golden_field(golden_dir: Path, name: str) -> None:
    golden = np.load(golden_dir / name)
    ours = field_of_angles(golden["u"], golden["noise"].shape).numpy()
    assert np.abs(ours - golden["noise"]).max() <= GOLDEN[name]


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.6])
@pytest.mark.parametrize("name", GOLDEN)
def test_no_pixel_of_a_golden_mask_flips(golden_dir: Path, name: str, threshold: float) -> None:
    golden = np.load(golden_dir / name)
    ours = field_of_angles(golden["u"], golden["noise"].shape).numpy()
    assert np.array_equal(ours > threshold, golden["noise"] > threshold)


# ---- Perlin: backends ----------------------------------------------------------------------------

fields = st.fixed_dictionaries(
    {
        "cells": st.tuples(*[st.floats(0.01, 40).map(lambda c: (c, c))] * 2),
        "rotation": st.floats(-180, 180) | st.sampled_from([0.0, 90.0, -90.0]),
        "rotation_fill": st.sampled_from(["zero", "continue"]),
        "threshold": st.sampled_from([0.0, 0.5]),
        "octaves": st.sampled_from([1, 1, 1, 2, 3]),
    }
)


@pytest.mark.slow
@some
@given(law=fields, size=sizes, index=st.integers(0, 2**47 - 2))
def test_the_cpu_driver_equals_the_reference(law: Any, size: Any, index: int) -> None:
    mask = masks.Perlin(**law)
    ours = levels(mask, size, [index], backend="auto")
    assert torch.equal(ours, levels(mask, size, [index], backend="torch"))


@pytest.mark.slow
@pytest.mark.triton_interpreter
@needs_triton
@settings(max_examples=12, deadline=None)
@given(law=fields, size=sizes, index=st.integers(0, 2**47 - 2))
def test_the_kernel_equals_the_reference(law: Any, size: Any, index: int) -> None:
    mask = masks.Perlin(**law)
    ours = levels(mask, size, [index, index + 1], backend="triton", device=DEVICE)
    truth = levels(mask, size, [index, index + 1], backend="torch", device=DEVICE)
    assert torch.equal(ours, truth)


# ---- Perlin: the field ---------------------------------------------------------------------------


@some
@given(law=fields, size=sizes, index=st.integers(0, 2**47 - 2))
def test_one_octave_lies_within_one(law: Any, size: Any, index: int) -> None:
    noise = levels(masks.Perlin(**{**law, "octaves": 1, "threshold": 0.0}), size, [index])
    assert noise.abs().max() <= 1.0 + 1e-5


@pytest.mark.parametrize(("ry", "rx"), [(1, 1), (4, 8), (2.5, 1.25), (0.5, 5)])
def test_noise_vanishes_at_lattice_nodes_of_any_spacing(ry: float, rx: float) -> None:
    noise = levels(
        masks.Perlin(threshold=0.0, rotation=0.0, cells=cells(ry, rx)), (80, 80), range(5)
    )
    nodes = noise[:, :: round(80 / ry), :: round(80 / rx)]
    assert nodes.abs().max() < 1e-5
    assert noise.abs().amax((1, 2)).min() > 0.1


@pytest.mark.parametrize("threshold", [-0.25, 0.3, 0.5])
def test_the_level_is_noise_minus_threshold(threshold: float) -> None:
    noise = levels(masks.Perlin(threshold=0.0), (40, 40), range(6))
    ours = levels(masks.Perlin(threshold=threshold), (40, 40), range(6))
    assert torch.equal(ours, noise - threshold)


def test_octaves_add_finer_fields_in_proportion_to_persistence() -> None:
    def octaves(count: int, persistence: float) -> torch.Tensor:
        law = {"threshold": 0.0, "rotation": 0.0, "cells": cells(4, 2)}
        mask = masks.Perlin(octaves=count, persistence=persistence, **law)
        return levels(mask, (64, 64), range(20)).double()

    coarse, half, whole = octaves(1, 0.5), octaves(2, 0.5) - octaves(1, 0.5), octaves(2, 1.0)
    whole = whole - coarse
    assert (whole - 2 * half).abs().max() < 1e-6
    # The finer field vanishes on nodes twice as dense, where the coarse one does not.
    assert half[:, ::8, ::16].abs().max() < 1e-6 < 0.05 < coarse[:, ::8, ::16].abs().max()
    assert abs(np.corrcoef(coarse.flatten(), half.flatten())[0, 1]) < 0.1
    third = octaves(3, 0.5) - octaves(2, 0.5)
    assert third[:, ::4, ::8].abs().max() < 1e-6
    assert 0.15 < third.abs().max() <= 0.25 + 1e-6


@pytest.mark.parametrize("size", [(48, 48), (37, 60)])
def test_an_unturned_field_has_no_border_to_fill(size: tuple[int, int]) -> None:
    zero, goes_on = (
        levels(masks.Perlin(rotation=0.0, rotation_fill=fill), size, range(30))
        for fill in ("zero", "continue")
    )
    assert torch.equal(zero, goes_on)


def turned(size: tuple[int, int], degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and offset from a pixel of the turned image to one of the unturned."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.array([[cos, -sin], [sin, cos]])
    middle = (np.array(size) - 1) / 2
    return matrix, middle - matrix @ middle


@pytest.mark.parametrize("degrees", [-80.0, -30.0, 17.0, 45.0, 90.0])
@pytest.mark.parametrize("size", [(96, 96), (96, 64)])
def test_a_turned_field_is_the_unturned_one_resampled(
    size: tuple[int, int], degrees: float
) -> None:
    law = {"threshold": 0.0, "cells": cells(3, 2)}
    plain = levels(masks.Perlin(rotation=0.0, **law), size, range(4)).numpy()
    ours = levels(masks.Perlin(rotation=degrees, **law), size, range(4)).numpy()
    matrix, offset = turned(size, degrees)
    where = np.einsum("ij,jhw->ihw", matrix, np.mgrid[: size[0], : size[1]]) + offset[:, None, None]
    last = np.array(size)[:, None, None] - 1.0
    # Pixels on an edge go either way by rounding.
    well_inside = ((where > 0.01) & (where < last - 0.01)).all(0)
    outside = ((where < -0.51) | (where > last + 0.51)).any(0)
    for n in range(4):
        resampled = ndimage.affine_transform(plain[n], matrix, offset, order=1)
        # Bilinear interpolation is off by an eighth of the curvature, at 32 pixels a cell 0.01.
        assert np.abs(ours[n] - resampled)[well_inside].max() < 0.015
        assert (ours[n][outside] == 0.0).all()
    assert well_inside.any() and (outside.any() or degrees == 90.0 and size[0] == size[1])


def test_a_field_that_goes_on_agrees_inside_and_has_no_empty_corner() -> None:
    law = {"threshold": 0.0, "rotation": 40.0, "cells": cells(6, 5)}
    zero, goes_on = (
        levels(masks.Perlin(rotation_fill=fill, **law), (64, 64), range(8))
        for fill in ("zero", "continue")
    )
    filled = zero == 0.0
    assert torch.equal(zero[~filled], goes_on[~filled])
    assert filled[:, 0, 0].all() and 0.1 < filled.float().mean() < 0.3
    assert (goes_on[filled] != 0.0).float().mean() > 0.99


def test_fields_of_different_samples_differ() -> None:
    noise = levels(masks.Perlin(cells=4.0, rotation=0.0), (32, 32), range(30)).flatten(1).numpy()
    correlation = np.corrcoef(noise) - np.eye(30)
    assert np.abs(correlation).max() < 0.7
    assert abs(correlation.sum() / (30 * 29)) < 0.03


# ---- Perlin: laws of its parameters --------------------------------------------------------------


def test_cells_are_powers_of_two_per_axis_each_equally_often() -> None:
    drawn = mask_columns(masks.Perlin(rotation=0.0), (64, 128), MANY)
    exponents = np.log2([drawn["yy"] * 64, drawn["xx"] * 128])
    assert np.array_equal(exponents, exponents.round())
    table = stats.contingency.crosstab(*exponents).count
    assert table.shape == (6, 6)
    # Thirty-six pairs equally often: each axis uniform, and neither knows of the other.
    assert stats.chisquare(table.ravel()).pvalue > 1e-4


@pytest.mark.parametrize(
    ("given_cells", "rows", "columns"),
    [
        (3.7, (3.7, 3.7), (3.7, 3.7)),
        ((2.0, 9.5), (2.0, 9.5), (2.0, 9.5)),
        (((1.0, 2.0), (3.0, 30.0)), (1.0, 2.0), (3.0, 30.0)),
    ],
)
def test_cells_may_be_any_float(given_cells: Any, rows: Any, columns: Any) -> None:
    drawn = mask_columns(masks.Perlin(cells=given_cells, rotation=0.0), (64, 100), MANY)
    for name, side, bounds in (("yy", 64, rows), ("xx", 100, columns)):
        found = drawn[name] * side
        if bounds[0] == bounds[1]:
            assert np.abs(found - bounds[0]).max() < 1e-5
        else:
            expect_uniform(found.clip(*bounds), *bounds)


def test_rotation_is_uniform() -> None:
    drawn = mask_columns(masks.Perlin(cells=1.0, rotation=(-90, 90)), (64, 64), MANY)
    angle = np.degrees(np.arctan2(drawn["xy"], drawn["yy"]))
    expect_uniform(angle.clip(-90, 90), -90, 90)


def test_the_threshold_is_uniform_in_its_range() -> None:
    drawn = mask_columns(masks.Perlin(threshold=(0.2, 0.6)), (64, 64), MANY)["threshold"]
    expect_uniform(drawn.clip(0.2, 0.6), 0.2, 0.6)


# ---- Perlin: statistics against the literature's code --------------------------------------------

# P(empty) of 2,000 fields each of DRAEM's function at 256 x 256, turned, threshold 0.5.
EMPTY = {(1, 1): 0.593, (1, 2): 0.371, (2, 1): 0.379, (2, 2): 0.165, (1, 4): 0.147, (4, 1): 0.154}
ORACLE = 2000


@lru_cache(maxsize=8)
def empties(pair: tuple[int, int], count: int) -> int:
    """How many of ``count`` masks are empty; the size hardly matters as long as cells are wide."""
    drawn = levels(masks.Perlin(cells=cells(*pair)), (64, 64), range(count), seed=1)
    return count - int((drawn > 0).flatten(1).any(1).sum())


def expect_same_share(found: int, count: int, share: float, of: int) -> None:
    """Refuse two binomial shares more than 3.5 standard errors apart."""
    pooled = (found + share * of) / (count + of)
    error = math.sqrt(pooled * (1 - pooled) * (1 / count + 1 / of))
    assert abs(found / count - share) < 3.5 * error


@pytest.mark.slow
@pytest.mark.parametrize("pair", EMPTY)
def test_masks_are_as_often_empty_as_the_original_s(pair: tuple[int, int]) -> None:
    expect_same_share(empties(pair, 1500), 1500, EMPTY[pair], ORACLE)


def test_coarse_masks_together_are_as_often_empty_as_the_original_s() -> None:
    found = sum(empties(pair, 1500) for pair in EMPTY)
    expect_same_share(found, 1500 * 6, sum(EMPTY.values()) / 6, ORACLE * 6)


@pytest.mark.slow
@pytest.mark.parametrize("pair", [(4, 4), (4, 8), (8, 4)])
def test_masks_of_four_cells_and_more_are_hardly_ever_empty(pair: tuple[int, int]) -> None:
    assert empties(pair, 200) <= 1


@lru_cache(maxsize=4)
def areas(**law: Any) -> np.ndarray:
    """Shares of the image that 600 of DRAEM's masks cover at 256 x 256."""
    drawn = levels(masks.Perlin(**law), (256, 256), range(600), seed=2)
    return (drawn > 0).float().mean((1, 2)).double().numpy()


@pytest.mark.slow
def test_masks_are_empty_as_often_over_all_lattices() -> None:
    found = int((areas() == 0).sum())
    expect_same_share(found, 600, 0.052, 36 * ORACLE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("law", "mean"),
    [({}, 0.0476), ({"rotation": 0.0}, 0.053), ({"rotation_fill": "continue"}, 0.053)],
    ids=["zero", "unturned", "continue"],
)
def test_mean_area_is_the_original_s(law: dict[str, Any], mean: float) -> None:
    drawn = areas(**law)
    error = drawn.std() / math.sqrt(len(drawn))
    assert abs(drawn.mean() - mean) < 3.5 * error


def test_zero_fill_costs_the_corners_share_of_the_area() -> None:
    zero, goes_on = areas(), areas(rotation_fill="continue")
    assert (zero <= goes_on).all()
    # The original loses 0.9 of 10; the two share their keys, so that little noise is left.
    assert 0.05 < 1 - zero.sum() / goes_on.sum() < 0.15


@pytest.mark.parametrize(
    ("share", "quantile"), [(0.25, 0.036), (0.5, 0.046), (0.75, 0.055), (0.95, 0.091)]
)
def test_quantiles_of_the_area_are_the_original_s(share: float, quantile: float) -> None:
    below = int((areas() < quantile).sum())
    expect_same_share(below, 600, share, 1800)


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: masks.Perlin(log2_cells=(5, 0)), "log2_cells: expected .low, high."),
        (lambda: masks.Perlin(log2_cells=(0, 13)), "log2_cells: expected values within"),
        (lambda: masks.Perlin(log2_cells=(0.5, 2)), "log2_cells: expected integers"),
        (lambda: masks.Perlin(threshold=(0.6, 0.5)), "threshold: expected .low, high."),
        (lambda: masks.Perlin(threshold=math.nan), "threshold: expected"),
        (lambda: masks.Perlin(rotation=(10, -10)), "rotation: expected .low, high."),
        (lambda: masks.Perlin(rotation_fill="wrap"), "rotation_fill: expected one of"),
        (lambda: masks.Perlin(octaves=0), "octaves: expected an integer from 1 to 8"),
        (lambda: masks.Perlin(octaves=9), "octaves: expected an integer from 1 to 8"),
        (lambda: masks.Perlin(cells=0.0), "cells: expected values within"),
        (lambda: masks.Perlin(cells=((2, 1), (1, 2))), "cells: expected .low, high."),
        (lambda: masks.Perlin(cells=((1, 2),)), "cells: expected"),
        (lambda: masks.Perlin(cells=((1, 2), (3, 4), (5, 6))), "cells: expected"),
        (lambda: masks.Perlin(persistence=math.nan), "persistence: expected"),
    ],
)
def test_bad_settings_are_refused(build: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        build()
