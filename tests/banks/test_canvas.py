"""The brushes: noise, cells, colours and numbers against what they are defined to be."""

from __future__ import annotations

import colorsys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anoaug.banks import canvas
from anoaug.banks.canvas import Canvas, Draw


def make(seed: int = 0, height: int = 24, width: int = 40) -> Canvas:
    return Canvas(Draw(seed, 0), height, width)


def test_numbers_are_the_raw_philox_stream() -> None:
    raw = np.random.Philox(key=np.array([5, 7], dtype=np.uint64)).random_raw(2)
    draw = Draw(5, 7)
    assert draw.uniform() == (int(raw[0]) >> 40) * 2.0**-24
    assert draw.uniform(2.0, 4.0) == 2.0 + 2.0 * (int(raw[1]) >> 40) * 2.0**-24


def test_a_word_makes_four_numbers_lowest_first() -> None:
    word = int(np.random.Philox(key=np.array([5, 7], dtype=np.uint64)).random_raw())
    expected = [((word >> shift) & 0xFFFF) * 2.0**-16 for shift in (0, 16, 32)]
    assert Draw(5, 7).array(1, 3).tolist() == [expected]


def test_negative_seeds_are_seeds_too() -> None:
    assert Draw(-1, 0).uniform() != Draw(1, 0).uniform()


@given(st.integers(0, 2**32), st.integers(-5, 5), st.integers(0, 9))
def test_integers_stay_within_both_bounds(seed: int, low: int, more: int) -> None:
    draw = Draw(seed, 0)
    drawn = {draw.integer(low, low + more) for _ in range(20)}
    assert drawn <= set(range(low, low + more + 1))


def test_integers_reach_both_bounds() -> None:
    draw = Draw(0, 0)
    assert {draw.integer(0, 2) for _ in range(60)} == {0, 1, 2}


def test_noise_vanishes_on_its_lattice() -> None:
    places = np.arange(60, dtype=np.float32).reshape(6, 10) - 20.0
    assert not make().noise(places, places * 3.0).any()


def test_noise_is_continuous_across_cells() -> None:
    u = np.linspace(-3.0, 3.0, 6001, dtype=np.float32)[None]
    field = make().noise(u, u * 0.0 + 0.3)
    assert np.abs(np.diff(field)).max() < 0.01
    assert field.std() > 0.1


def test_noise_does_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    first = make()
    whole = first.noise(first.x * 9.0, first.y * 9.0)
    monkeypatch.setattr(canvas, "_BLOCK", 100)
    second = make()
    assert np.array_equal(second.noise(second.x * 9.0, second.y * 9.0), whole)


@pytest.mark.parametrize("kind", ["plain", "ridged", "billow"])
def test_fractal_noise_fills_the_unit_interval(kind: str) -> None:
    c = make()
    field = c.fractal(c.x * 7.0, c.y * 7.0, 4, 0.5, kind)
    assert (field.min(), field.max()) == (0.0, pytest.approx(1.0, abs=1e-6))
    assert field.dtype == np.float32


@pytest.mark.parametrize("metric", ["round", "diamond", "square"])
def test_cells_find_the_two_nearest_points(metric: str) -> None:
    c = make()
    c.draw = Draw(1, 1)
    offset = Draw(1, 1)
    shift = [offset.integer(0, 127) for _ in range(2)]
    u, v = c.x * 5.0, c.y * 5.0
    first, second, number = c.cells(u, v, 1.0, metric)
    points, numbers = [], []
    for row in range(-2, 9):
        for column in range(-2, 13):
            place = ((row + shift[1]) & 127) * 128 + ((column + shift[0]) & 127)
            points.append((column + c._points[0][place], row + c._points[1][place]))
            numbers.append(c._points[2][place])
    across = np.abs(u.ravel()[:, None] - np.array(points)[:, 0])
    along = np.abs(v.ravel()[:, None] - np.array(points)[:, 1])
    distance = {
        "round": np.hypot(across, along),
        "diamond": across + along,
        "square": np.maximum(across, along),
    }[metric]
    order = np.sort(distance, axis=1)
    # The 3 x 3 cells searched always hold the nearest point of a round metric at these densities.
    near = order[:, 0] < 0.9
    assert np.allclose(first.ravel()[near], order[near, 0], atol=1e-4)
    assert (second >= first).all()
    clear = near & (order[:, 1] - order[:, 0] > 1e-3)
    assert np.array_equal(number.ravel()[clear], np.array(numbers)[distance.argmin(axis=1)][clear])


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_hsv_is_the_usual_one(hue: float, saturation: float, value: float) -> None:
    expected = colorsys.hsv_to_rgb(hue, saturation, value)
    assert canvas.hsv(hue, saturation, value) == pytest.approx(expected, abs=1e-9)


def test_smoothstep_turns_over_when_its_edges_do() -> None:
    field = np.array([0.0, 0.25, 0.5, 0.75, 1.0], dtype=np.float32)
    rising = canvas.smoothstep(0.25, 0.75, field)
    assert rising.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert np.array_equal(canvas.smoothstep(0.75, 0.25, field), 1.0 - rising)


def test_triangle_has_period_one_and_peaks_between_integers() -> None:
    field = np.array([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 1.5], dtype=np.float32)
    assert canvas.triangle(field).tolist() == [0.0, 1.0, 0.0, 0.5, 1.0, 0.0, 1.0]


def test_bias_keeps_the_ends_and_moves_the_middle() -> None:
    field = np.array([0.0, 0.5, 1.0], dtype=np.float32)
    assert canvas.bias(field, 0.8) == pytest.approx([0.0, 0.8, 1.0])


def test_a_ramp_runs_through_its_colours_in_order() -> None:
    c = make()
    colours = [(0.0, 0.0, 0.0), (0.2, 0.5, 0.1), (1.0, 0.9, 0.3)]
    field = np.linspace(0.0, 1.0, 1024, dtype=np.float32)[None]
    image = c.ramp(field, colours)
    assert image[:, 0, 0] == pytest.approx(colours[0])
    assert image[:, 0, -1] == pytest.approx(colours[-1])
    assert np.abs(image[:, 0] - np.array(colours[1])[:, None]).sum(axis=0).min() < 0.01
    assert (np.diff(image[0, 0]) >= 0).all()


def test_colours_are_colours() -> None:
    c = make()
    for count in (2, 3, 6) * 30:
        colours = c.palette(count)
        assert len(colours) == count
        assert all(0.0 <= channel <= 1.0 for colour in colours for channel in colour)


def test_axes_keep_lengths_when_they_do_not_stretch() -> None:
    c = make()
    u, v = c.axes()
    assert u * u + v * v == pytest.approx(c.x * c.x + c.y * c.y, abs=1e-5)


def test_a_window_holds_exactly_the_pixels_within_reach() -> None:
    c = make(height=24, width=40)
    window = c.window(0.9, 0.5, 0.2)
    assert window is not None
    place, x, y = window
    inside = np.zeros((24, 40), dtype=bool)
    inside[place] = True
    near = (np.abs(c.x - 0.9 * 40 / 24) < 0.2) & (np.abs(c.y - 0.5) < 0.2)
    assert not (near & ~inside).any()
    assert inside.sum() <= near.sum() + 2 * (24 + 40)
    assert np.array_equal(x, c.x[place] - np.float32(0.9 * 40 / 24))


def test_a_window_outside_the_canvas_is_none() -> None:
    assert make().window(1.6, 0.5, 0.05) is None


def test_light_comes_from_one_side() -> None:
    c = make()
    dome = np.clip(0.2 - (c.x - 0.8) ** 2 - (c.y - 0.5) ** 2, 0.0, None).astype(np.float32)
    lit = c.shade(c.plain((0.5, 0.5, 0.5)), dome, 1.0) - 0.5
    assert lit.min() < -0.02 and lit.max() > 0.02
    assert lit[:, dome == dome.max()] == pytest.approx(0.0, abs=0.05)


def test_different_octaves_are_different_fields() -> None:
    c = make()
    fields = [c.noise(c.x * 9.0, c.y * 9.0) for _ in range(3)]
    assert all(np.abs(a - b).mean() > 0.05 for a, b in pairwise(fields))
