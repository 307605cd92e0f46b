"""Fractal masks: where the square lies, bits as levels, equal backends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import anoaug
from anoaug import masks, recipe, sources
from anoaug.banks import fractals
from tests.drawing import (
    DEVICE,
    expect_uniform,
    levels,
    mask_columns,
    needs_triton,
    sizes,
    some,
)

MANY = 1500

# ---- backends ------------------------------------------------------------------------------------

laws = st.fixed_dictionaries(
    {
        "side": st.sampled_from([(0.1, 0.5), 0.02, 1.0]),
        "rotation": st.floats(-180, 180) | st.sampled_from([0.0, 90.0]),
        "margin": st.sampled_from([0.0, 0.1, 0.5]),
    }
)


@pytest.mark.slow
@some
@given(law=laws, size=sizes, index=st.integers(0, 2**47 - 2))
def test_the_cpu_driver_equals_the_reference(law: Any, size: Any, index: int) -> None:
    mask = masks.Fractal(**law)
    ours = levels(mask, size, [index], backend="auto")
    assert torch.equal(ours, levels(mask, size, [index], backend="torch"))


@pytest.mark.slow
@pytest.mark.triton_interpreter
@needs_triton
@settings(max_examples=12, deadline=None)
@given(law=laws, size=sizes, index=st.integers(0, 2**47 - 2))
def test_the_kernel_equals_the_reference(law: Any, size: Any, index: int) -> None:
    mask = masks.Fractal(**law)
    ours = levels(mask, size, [index, index + 1], backend="triton", device=DEVICE)
    truth = levels(mask, size, [index, index + 1], backend="torch", device=DEVICE)
    assert torch.equal(ours, truth)


@pytest.mark.slow
@some
@given(law=laws, size=st.tuples(st.integers(2, 70), st.integers(2, 70)))
def test_no_pixel_is_missed_by_the_window_that_the_cpu_works_in(law: Any, size: Any) -> None:
    images = torch.zeros(3, 1, *size, dtype=torch.uint8)
    layer = anoaug.Layer(masks.Fractal(**law), sources.Constant(1.0))
    ours, truth = (
        anoaug.Synthesizer(layer, p=1.0, seed=5, backend=name)(images, index=range(3), epoch=0)
        for name in ("auto", "torch")
    )
    assert torch.equal(ours.mask, truth.mask) and torch.equal(ours.image, truth.image)


# ---- levels --------------------------------------------------------------------------------------


def bits_of(mask: masks.Mask, size: tuple[int, int], rows: int) -> np.ndarray:
    """Bitmaps of some samples, ``[B, 64, 64]``."""
    synth = anoaug.Synthesizer(anoaug.Layer(mask, sources.Constant()), seed=0)
    blank = torch.zeros(rows, 1, *size, dtype=torch.uint8)
    table = synth.sample(blank, index=torch.arange(rows), epoch=0).numpy()
    words = recipe.recipe(synth.laws(1)).describe(table)["layer0.mask.fractal.bits"]
    packed = np.ascontiguousarray(words).view(np.uint8).reshape(rows, fractals.SIDE, -1)
    return np.unpackbits(packed, axis=2, bitorder="little").astype(np.float64)


def test_a_square_of_as_many_pixels_as_bits_shows_the_bits() -> None:
    mask = masks.Fractal(side=1.0, rotation=0.0, margin=0.0)
    drawn = levels(mask, (64, 64), range(6)).numpy()
    assert np.abs(drawn - (bits_of(mask, (64, 64), 6) - 0.5)).max() < 1e-4


@pytest.mark.parametrize("degrees", [0.0, 33.0, -120.0])
def test_bits_are_joined_bilinearly_and_turned(degrees: float) -> None:
    mask = masks.Fractal(side=0.6, rotation=degrees, margin=0.0)
    drawn = levels(mask, (150, 150), range(4)).numpy()
    bits, box = bits_of(mask, (150, 150), 4), mask_columns_of(mask, (150, 150), 4)
    y, x = np.mgrid[:150, :150].astype(np.float64)
    for n in range(4):
        where = (
            box["yy"][n] * y + box["yx"][n] * x + box["y0"][n],
            box["xy"][n] * y + box["xx"][n] * x + box["x0"][n],
        )
        joined = ndimage.map_coordinates(np.pad(bits[n], 2), np.stack(where) + 2, order=1)
        assert np.abs(drawn[n] - (joined - 0.5)).max() < 1e-4
        turn = np.degrees(np.arctan2(box["xy"][n], box["yy"][n]))
        assert abs(turn - degrees) < 1e-3


def mask_columns_of(mask: masks.Mask, size: tuple[int, int], rows: int) -> dict[str, np.ndarray]:
    return {name: v for name, v in mask_columns(mask, size, rows).items() if name != "bits"}


# ---- laws ----------------------------------------------------------------------------------------


def squares(mask: masks.Mask, size: tuple[int, int], rows: int) -> dict[str, np.ndarray]:
    """Sides, angles and centres of the squares of some samples."""
    found = mask_columns_of(mask, size, rows)
    scale = np.hypot(found["yy"], found["xy"])
    middle = (fractals.SIDE - 1) / 2
    cy = (found["xx"] * (middle - found["y0"]) - found["yx"] * (middle - found["x0"])) / scale**2
    cx = (found["yy"] * (middle - found["x0"]) - found["xy"] * (middle - found["y0"])) / scale**2
    angle = np.degrees(np.arctan2(found["xy"], found["yy"]))
    return {"side": fractals.SIDE / scale, "angle": angle, "cy": cy, "cx": cx}


@pytest.mark.slow
def test_side_and_rotation_are_uniform_in_their_ranges() -> None:
    box = squares(masks.Fractal(), (256, 300), MANY)
    side = box["side"].round(2)
    assert np.array_equal(side, side.round())
    expect_uniform((side + 0.5 - 25.6) / (128 - 25.6), -0.01, 1.01)
    expect_uniform(box["angle"].clip(15, 75), 15, 75)


@pytest.mark.slow
def test_turned_squares_leave_the_margin_free() -> None:
    box = squares(masks.Fractal(margin=0.1), (200, 300), MANY)
    angle = np.radians(box["angle"])
    reach = box["side"] / 2 * (np.cos(angle) + np.sin(angle))
    for centre, size in ((box["cy"], 200), (box["cx"], 300)):
        assert (centre - reach + 0.5).min() > 0.1 * size - 1.01
        assert (centre + reach + 0.5).max() < 0.9 * size + 1.01
        assert (centre - reach).min() < 0.12 * size and (centre + reach).max() > 0.88 * size


def test_a_layer_s_patch_comes_from_a_square_of_the_same_size() -> None:
    # A ramp tells where a pixel is from.
    ramp = torch.arange(96).expand(3, 96, 96).clone()
    ramp[1] = ramp[0].T
    images = ramp.to(torch.uint8).expand(30, -1, -1, -1)
    layer = anoaug.Layer(masks.Fractal(side=0.4), sources.Own())
    out = anoaug.Synthesizer(layer, p=1.0, seed=0)(images, index=range(30), epoch=0)
    for n in range(30):
        inside = out.mask[n, 0] > 0
        for channel in (0, 1):
            taken = out.image[n, channel][inside]
            assert int(taken.max()) - int(taken.min()) < 38


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ({"side": 1.5}, "side: expected values within"),
        ({"side": (0.5, 0.1)}, "side: expected .low, high."),
        ({"rotation": (9, 1)}, "rotation: expected .low, high."),
        ({"margin": 0.6}, "margin: expected values within"),
    ],
)
def test_bad_settings_are_refused(law: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        masks.Fractal(**law)
