"""Simplex masks: an independent field, equal backends, statistics, laws."""

from __future__ import annotations

import functools
import hashlib
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import anoaug
from anoaug import functional, masks, recipe, rng, sources
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
SQUEEZE = (math.sqrt(3.0) - 1.0) / 2.0
UNSQUEEZE = (3.0 - math.sqrt(3.0)) / 6.0


def fixed(rows: float, columns: float) -> tuple[tuple[float, float], tuple[float, float]]:
    return (rows, rows), (columns, columns)


# ---- an independent field ------------------------------------------------------------------------


def sum_over_all_nodes(cy: np.ndarray, cx: np.ndarray, key: int) -> np.ndarray:
    """Simplex noise in float64 without triangles: every lattice node within reach adds its part."""
    skew = (cy + cx) * SQUEEZE
    row, column = np.floor(cy + skew), np.floor(cx + skew)
    total = np.zeros(cy.shape)
    for down in range(-2, 4):
        for right in range(-2, 4):
            iy, ix = row + down, column + right
            y, x = cy - (iy - (iy + ix) * UNSQUEEZE), cx - (ix - (iy + ix) * UNSQUEEZE)
            nodes = [torch.from_numpy(i.astype(np.int64)) for i in (iy, ix)]
            word = rng.lattice_hash(torch.tensor(key), *nodes).numpy()
            turn = np.pi / 2 * ((word >> 30) + ((word >> 6) & 0xFFFFFF) / 2.0**24 - 0.5)
            reach = np.maximum(0.5 - y * y - x * x, 0.0)
            total += reach**4 * (np.cos(turn) * y + np.sin(turn) * x)
    return total


@functools.cache
def most() -> float:
    """The most that gradients of unit length can give, by search over a cell."""
    ty, tx = np.meshgrid(*[np.linspace(0.0, 1.0, 801)] * 2, indexing="ij")
    total = np.zeros(ty.shape)
    for down in range(-2, 4):
        for right in range(-2, 4):
            iy, ix = ty - down, tx - right
            y, x = iy - (iy + ix) * UNSQUEEZE, ix - (iy + ix) * UNSQUEEZE
            total += np.maximum(0.5 - y * y - x * x, 0.0) ** 4 * np.hypot(y, x)
    return float(total.max())


@pytest.mark.slow
@pytest.mark.parametrize("pair", [(1.0, 1.0), (7.3, 3.1), (0.2, 40.0)])
def test_the_field_is_the_sum_over_all_lattice_nodes(pair: tuple[float, float]) -> None:
    mask = masks.Simplex(fixed(*pair), threshold=0.0, rotation=30.0)
    ours = levels(mask, (61, 80), range(3)).double().numpy()
    drawn = mask_columns(mask, (61, 80), 3)
    y, x = np.mgrid[:61, :80].astype(np.float64)
    synth_keys = keys(mask, (61, 80), 3)
    for n in range(3):
        yy, yx, y0, xy, xx, x0 = (drawn[name][n] for name in ("yy", "yx", "y0", "xy", "xx", "x0"))
        cy, cx = yy * y + yx * x + y0, xy * y + xx * x + x0
        truth = sum_over_all_nodes(cy, cx, synth_keys[n]) / most()
        assert np.abs(ours[n] - truth).max() < 1e-5 * max(1.0, *pair)


def keys(mask: masks.Mask, size: tuple[int, int], rows: int) -> list[int]:
    """Lattice keys of some samples."""
    synth = anoaug.Synthesizer(anoaug.Layer(mask, sources.Constant()), seed=0)
    blank = torch.zeros(rows, 1, *size, dtype=torch.uint8)
    table = synth.sample(blank, index=torch.arange(rows), epoch=0).numpy()
    column = recipe.recipe(synth.laws(1)).describe(table)["layer0.mask.simplex.key"]
    return [int(word) for word in column.view(np.uint32)]


def test_the_gain_brings_the_most_to_one() -> None:
    noise = functional.simplex(64, (256, 256), (9.0, 9.0))
    assert 0.99 < noise.max() <= 1.0 + 1e-6 and -1.0 - 1e-6 <= noise.min() < -0.99


def test_the_bits_are_those_of_this_version() -> None:
    noise = functional.simplex(3, (48, 40), (4.0, 2.5), octaves=3, seed=7)
    assert hashlib.sha256(noise.numpy().tobytes()).hexdigest()[:16] == "65156e09ae1a43b1"


# ---- backends ------------------------------------------------------------------------------------

fields = st.fixed_dictionaries(
    {
        "cells": st.tuples(*[st.floats(0.01, 40).map(lambda c: (c, c))] * 2),
        "rotation": st.floats(-180, 180) | st.sampled_from([0.0, 90.0, -90.0]),
        "threshold": st.sampled_from([0.0, 0.5]),
        "octaves": st.sampled_from([1, 1, 2, 3]),
        "persistence": st.sampled_from([0.5, 0.6]),
    }
)


@pytest.mark.slow
@some
@given(law=fields, size=sizes, index=st.integers(0, 2**47 - 2))
def test_the_cpu_driver_equals_the_reference(law: Any, size: Any, index: int) -> None:
    mask = masks.Simplex(**law)
    ours = levels(mask, size, [index], backend="auto")
    assert torch.equal(ours, levels(mask, size, [index], backend="torch"))


@pytest.mark.slow
@pytest.mark.triton_interpreter
@needs_triton
@settings(max_examples=10, deadline=None)
@given(law=fields, size=sizes, index=st.integers(0, 2**47 - 2))
def test_the_kernel_equals_the_reference(law: Any, size: Any, index: int) -> None:
    mask = masks.Simplex(**law)
    ours = levels(mask, size, [index, index + 1], backend="triton", device=DEVICE)
    truth = levels(mask, size, [index, index + 1], backend="torch", device=DEVICE)
    assert torch.equal(ours, truth)


# ---- statistics ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_mean_deviation_and_marked_shares_are_the_documented_ones() -> None:
    noise = functional.simplex(200, (128, 128), (9.0, 9.0)).double()
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 0.539) < 0.01
    assert abs((noise > 0.8).double().mean() - 0.07) < 0.004


@pytest.mark.slow
def test_the_field_is_alike_in_every_direction() -> None:
    # A third of a cell apart along twelve directions: a lattice of squares shows at its diagonals.
    noise = functional.simplex(300, (160, 160), (10.0, 10.0))[:, 0].double()
    middle = noise[:, 40:120, 40:120]
    found = []
    for degrees in range(0, 180, 15):
        dy, dx = (round(5 * f(math.radians(degrees))) for f in (math.sin, math.cos))
        shifted = noise[:, 40 + dy : 120 + dy, 40 + dx : 120 + dx]
        at = math.hypot(dy, dx) / 16.0
        found.append((at, float((middle * shifted).mean() / noise.var())))
    # Whole pixels make the distances differ a little: compare with a line through them.
    distance, correlation = np.array(found).T
    line = np.polyfit(distance, correlation, 1)
    assert np.abs(correlation - np.polyval(line, distance)).max() < 0.02
    assert 0.2 < correlation.mean() < 0.8


def test_the_field_has_no_steps() -> None:
    # A hundred pixels a cell: neighbours differ by the slope, a hundredth of some units.
    noise = functional.simplex(20, (300, 300), (3.0, 3.0))
    for axis in (2, 3):
        assert noise.diff(dim=axis).abs().max() < 0.08
        assert noise.diff(n=2, dim=axis).abs().max() < 0.008


@pytest.mark.slow
def test_octaves_add_finer_fields_in_proportion_to_persistence() -> None:
    def octaves(count: int, persistence: float) -> torch.Tensor:
        mask = masks.Simplex(fixed(4, 2), 0.0, 0.0, octaves=count, persistence=persistence)
        return levels(mask, (64, 64), range(30)).double()

    coarse = octaves(1, 0.5)
    half, whole = octaves(2, 0.5) - coarse, octaves(2, 1.0) - coarse
    assert (whole - 2 * half).abs().max() < 1e-6
    assert 0.45 < half.abs().max() <= 0.5 + 1e-6
    third = octaves(3, 0.5) - octaves(2, 0.5)
    assert 0.22 < third.abs().max() <= 0.25 + 1e-6
    assert abs(np.corrcoef(coarse.flatten(), half.flatten())[0, 1]) < 0.1
    # Twice as fine: twice the steps from pixel to pixel, for its strength.
    steps = [field.diff(dim=1).std() / field.std() for field in (coarse, half, third)]
    assert 1.7 < steps[1] / steps[0] < 2.3 and 1.7 < steps[2] / steps[1] < 2.3


def test_fields_of_different_samples_differ() -> None:
    noise = functional.simplex(30, (32, 32), (6.0, 6.0)).flatten(1).numpy()
    correlation = np.corrcoef(noise) - np.eye(30)
    assert np.abs(correlation).max() < 0.7 and abs(correlation.sum() / (30 * 29)) < 0.03


@pytest.mark.parametrize("threshold", [-0.25, 0.3, 0.8])
def test_the_level_is_noise_minus_threshold(threshold: float) -> None:
    noise = levels(masks.Simplex(threshold=0.0), (40, 40), range(6))
    assert torch.equal(
        levels(masks.Simplex(threshold=threshold), (40, 40), range(6)), noise - threshold
    )


def test_a_turned_field_goes_on_beyond_the_image() -> None:
    noise = functional.simplex(20, (64, 64), (6.0, 6.0), rotation=45.0)
    assert (noise[:, :, :4, :4] != 0.0).float().mean() > 0.99
    assert noise[:, :, :4, :4].std() > 0.3


def test_a_quarter_turn_turns_the_field() -> None:
    plain = functional.simplex(3, (64, 64), (4.0, 4.0))
    turned = functional.simplex(3, (64, 64), (4.0, 4.0), rotation=90.0)
    assert (turned - torch.rot90(plain, -1, (2, 3))).abs().max() < 1e-4


# ---- laws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "rows", "columns"),
    [
        (3.7, (3.7, 3.7), (3.7, 3.7)),
        ((2.0, 9.5), (2.0, 9.5), (2.0, 9.5)),
        (((1.0, 2.0), (3.0, 30.0)), (1.0, 2.0), (3.0, 30.0)),
    ],
)
def test_cells_may_be_any_float(cells: Any, rows: Any, columns: Any) -> None:
    drawn = mask_columns(masks.Simplex(cells=cells, rotation=0.0), (64, 100), MANY)
    for name, side, bounds in (("yy", 64, rows), ("xx", 100, columns)):
        found = drawn[name] * side
        if bounds[0] == bounds[1]:
            assert np.abs(found - bounds[0]).max() < 1e-5
        else:
            expect_uniform(found.clip(*bounds), *bounds)


def test_rotation_and_threshold_are_uniform_in_their_ranges() -> None:
    law = {"cells": 1.0, "rotation": (-90, 90), "threshold": (0.2, 0.6)}
    drawn = mask_columns(masks.Simplex(**law), (64, 64), MANY)
    expect_uniform(np.degrees(np.arctan2(drawn["xy"], drawn["yy"])).clip(-90, 90), -90, 90)
    expect_uniform(drawn["threshold"].clip(0.2, 0.6), 0.2, 0.6)


def test_the_function_is_the_level_of_a_mask_without_threshold() -> None:
    noise = functional.simplex(4, (30, 41), (3.0, 5.0), 20.0, 2, 0.7, seed=9, index=[3, 1, 4, 1])
    mask = masks.Simplex(fixed(3, 5), 0.0, 20.0, octaves=2, persistence=0.7)
    assert torch.equal(noise[:, 0], levels(mask, (30, 41), [3, 1, 4, 1], seed=9))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: masks.Simplex(threshold=(0.6, 0.5)), "threshold: expected .low, high."),
        (lambda: masks.Simplex(threshold=math.nan), "threshold: expected"),
        (lambda: masks.Simplex(rotation=(10, -10)), "rotation: expected .low, high."),
        (lambda: masks.Simplex(octaves=0), "octaves: expected an integer from 1 to 8"),
        (lambda: masks.Simplex(octaves=2.0), "octaves: expected an integer from 1 to 8"),
        (lambda: masks.Simplex(cells=0.0), "cells: expected values within"),
        (lambda: masks.Simplex(cells=((1, 2),)), "cells: expected"),
        (lambda: masks.Simplex(persistence=1.5), "persistence: expected"),
        (lambda: functional.simplex(1, (4, 4), 8.0), "cells: expected a pair"),
        (lambda: functional.simplex(-1, (4, 4)), "batch: expected at least 0"),
    ],
)
def test_bad_settings_are_refused(build: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        build()
