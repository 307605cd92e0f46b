"""The brushes of :mod:`.procedural`: numbers, coordinates, noise, cells, colours, light.

Only correctly rounded array operations are used here (add, multiply, divide, square root, compare,
gather), so that every machine makes the same bits; transcendental functions are taken of Python
scalars and rounded to float32 at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[Any]  # float32 [h, w], or [3, h, w] for colours
Colour = tuple[float, float, float]

_PERIOD = 128  # noise lattices repeat after this many cells
_BLOCK = 8192  # pixels worked on at once
_LUT = 1024  # entries of a colour ramp

# Hue, saturation and value ranges of common surfaces.
_MATERIALS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "steel": ((0.52, 0.66), (0.00, 0.15), (0.25, 0.95)),
    "stone": ((0.05, 0.15), (0.02, 0.25), (0.20, 0.85)),
    "wood": ((0.04, 0.11), (0.30, 0.75), (0.15, 0.85)),
    "rust": ((0.00, 0.08), (0.50, 0.95), (0.10, 0.75)),
    "leather": ((0.01, 0.08), (0.35, 0.80), (0.08, 0.50)),
    "leaf": ((0.18, 0.40), (0.30, 0.85), (0.10, 0.75)),
    "sand": ((0.08, 0.14), (0.15, 0.50), (0.45, 0.98)),
    "cloth": ((0.00, 1.00), (0.10, 0.55), (0.30, 0.95)),
    "ink": ((0.55, 0.80), (0.30, 1.00), (0.05, 0.60)),
    "brass": ((0.09, 0.14), (0.40, 0.80), (0.35, 0.95)),
    "paper": ((0.05, 0.18), (0.00, 0.15), (0.75, 1.00)),
    "soot": ((0.00, 1.00), (0.00, 0.12), (0.02, 0.30)),
}

T = TypeVar("T")


class Draw:
    """Uniform numbers of one texture."""

    def __init__(self, seed: int, index: int) -> None:
        mask = (1 << 64) - 1
        key = np.array([seed & mask, index & mask], dtype=np.uint64)
        self._stream = np.random.Philox(key=key)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """One number within [low, high)."""
        return low + (high - low) * ((int(self._stream.random_raw()) >> 40) * 2.0**-24)

    def logarithmic(self, low: float, high: float) -> float:
        """One number within [low, high), uniform in its logarithm."""
        return float(np.float32(low * math.pow(high / low, self.uniform())))

    def integer(self, low: int, high: int) -> int:
        """One integer within [low, high]."""
        return low + int(self.uniform() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.uniform() < probability

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self.uniform() * len(options))]

    def direction(self) -> tuple[float, float]:
        """Cosine and sine of a uniform angle."""
        angle = self.uniform(0.0, 2.0 * math.pi)
        return float(np.float32(math.cos(angle))), float(np.float32(math.sin(angle)))

    def array(self, *shape: int) -> Field:
        """Numbers within [0, 1) with 16 bits, four from each word of the stream."""
        count = math.prod(shape)
        words = self._stream.random_raw((count + 3) // 4).astype("<u8").view("<u2")
        numbers = words[:count].astype(np.float32) * np.float32(2.0**-16)
        return numbers.reshape(shape)


def smoothstep(low: float, high: float, field: Field) -> Field:
    """0 below ``low``, 1 above ``high``, a smooth cubic between (``low > high`` turns it over)."""
    t = np.clip((field - low) * (1.0 / (high - low)), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def triangle(field: Field) -> Field:
    """Wave of period 1 within [0, 1], 0 at the integers, rounded at its turning points."""
    t = 1.0 - np.abs(2.0 * (field - np.floor(field)) - 1.0)
    return t * t * (3.0 - 2.0 * t)


def unit(field: Field) -> Field:
    """Stretched to [0, 1]."""
    low, high = float(field.min()), float(field.max())
    return (field - low) * (1.0 / max(high - low, 1e-6))


def bias(field: Field, amount: float) -> Field:
    """Schlick's stand-in for a power: keeps [0, 1], sends 0.5 to ``amount``."""
    return field / ((1.0 / amount - 2.0) * (1.0 - field) + 1.0)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """RGB of a hue (turns), saturation and value."""

    def channel(shift: float) -> float:
        k = (shift + hue * 6.0) % 6.0
        return value - value * saturation * max(0.0, min(k, 4.0 - k, 1.0))

    return channel(5.0), channel(3.0), channel(1.0)


def _blocks(field: Field) -> list[slice]:
    """Groups of rows whose temporaries stay in a core's cache, which is several times faster."""
    count, width = field.shape
    step = max(1, _BLOCK // width)
    return [slice(row, row + step) for row in range(0, count, step)]


class Canvas:
    """One texture in the making: its numbers, its coordinates and its brushes.

    Attributes:
        draw: The numbers.
        height: Rows.
        width: Columns.
        x: Column coordinate of each pixel's centre, ``[h, w]``, in units of the shorter side.
        y: Row coordinate, likewise.
    """

    def __init__(self, draw: Draw, height: int, width: int) -> None:
        self.draw, self.height, self.width = draw, height, width
        scale = 1.0 / min(height, width)
        rows = (np.arange(height, dtype=np.float32) + 0.5) * scale
        columns = (np.arange(width, dtype=np.float32) + 0.5) * scale
        self.y: Field = np.repeat(rows[:, None], width, axis=1)
        self.x: Field = np.repeat(columns[None], height, axis=0)
        self._gradients = draw.array(2, _PERIOD * _PERIOD) * 2.0 - 1.0
        self._points = draw.array(3, _PERIOD * _PERIOD)

    def axes(self, stretch: float = 1.0, upright: float = 0.3) -> tuple[Field, Field]:
        """Coordinates turned by a random angle, the second divided by ``stretch``.

        Args:
            stretch: How much longer features are along the second axis.
            upright: Probability of a multiple of 90 degrees, as products often have.
        """
        cosine, sine = self.draw.direction()
        if self.draw.chance(upright):
            cosine, sine = self.draw.pick([(1.0, 0.0), (0.0, 1.0)])
        u = self.x * cosine + self.y * sine
        v = self.y * cosine - self.x * sine
        return u, v * (1.0 / stretch)

    def noise(self, u: Field, v: Field) -> Field:
        """Gradient noise, one cell per unit, about [-1, 1], at a random place of the lattice."""
        shift_u, shift_v = self.draw.integer(0, _PERIOD - 1), self.draw.integer(0, _PERIOD - 1)
        result = np.empty_like(u)
        for rows in _blocks(u):
            result[rows] = self._noise(u[rows] + shift_u, v[rows] + shift_v)
        return result

    def _noise(self, u: Field, v: Field) -> Field:
        u0, v0 = np.floor(u), np.floor(v)
        fu, fv = u - u0, v - v0
        column = u0.astype(np.int32) & (_PERIOD - 1)
        row = (v0.astype(np.int32) & (_PERIOD - 1)) * _PERIOD
        right = (column + 1) & (_PERIOD - 1)
        below = (row + _PERIOD) & (_PERIOD * _PERIOD - 1)
        gu, gv = self._gradients

        def corner(place: npt.NDArray[np.int32], du: Field, dv: Field) -> Field:
            dot: Field = gu.take(place) * du + gv.take(place) * dv
            return dot

        wu = fu * fu * fu * (fu * (fu * 6.0 - 15.0) + 10.0)
        wv = fv * fv * fv * (fv * (fv * 6.0 - 15.0) + 10.0)
        top_left = corner(row + column, fu, fv)
        top = top_left + wu * (corner(row + right, fu - 1.0, fv) - top_left)
        low_left = corner(below + column, fu, fv - 1.0)
        low = low_left + wu * (corner(below + right, fu - 1.0, fv - 1.0) - low_left)
        return top + wv * (low - top)

    def fractal(
        self, u: Field, v: Field, octaves: int = 4, gain: float = 0.5, kind: str = "plain"
    ) -> Field:
        """Octaves of noise in [0, 1]: plain, ridged (sharp crests) or billow (pillows)."""
        total = np.zeros_like(u)
        weight = 1.0
        for octave in range(octaves):
            layer = self.noise(u * 2.0**octave, v * 2.0**octave)
            if kind != "plain":
                layer = np.abs(layer)
            if kind == "ridged":
                layer = (1.0 - layer) * (1.0 - layer)
            total += weight * layer
            weight *= gain
        return unit(total)

    def warped(self, u: Field, v: Field, strength: float, scale: float) -> tuple[Field, Field]:
        """Coordinates pushed about by up to ``strength`` with noise of ``scale`` cells per unit."""
        du = self.noise(u * scale, v * scale) + 0.5 * self.noise(u * scale * 2.0, v * scale * 2.0)
        dv = self.noise(u * scale, v * scale) + 0.5 * self.noise(u * scale * 2.0, v * scale * 2.0)
        return u + du * strength, v + dv * strength

    def at_random(self, u: Field, v: Field, layer: int = 2) -> Field:
        """One number in [0, 1) for each unit cell (floor of the coordinates)."""
        column = np.floor(u).astype(np.int32) & (_PERIOD - 1)
        row = np.floor(v).astype(np.int32) & (_PERIOD - 1)
        return self._points[layer].take(row * _PERIOD + column)

    def cells(
        self, u: Field, v: Field, jitter: float = 1.0, metric: str = "round"
    ) -> tuple[Field, Field, Field]:
        """Worley cells: distances to the nearest and second point, the nearest's number."""
        shift_u, shift_v = self.draw.integer(0, _PERIOD - 1), self.draw.integer(0, _PERIOD - 1)
        result = np.empty((3, *u.shape), dtype=np.float32)
        for rows in _blocks(u):
            result[:, rows] = self._cells(u[rows] + shift_u, v[rows] + shift_v, jitter, metric)
        return result[0], result[1], result[2]

    def _cells(self, u: Field, v: Field, jitter: float, metric: str) -> tuple[Field, Field, Field]:
        u0, v0 = np.floor(u), np.floor(v)
        fu, fv = u - u0, v - v0
        column, row = u0.astype(np.int32), v0.astype(np.int32)
        first = np.full(u.shape, 9.0, dtype=np.float32)
        second = first.copy()
        number = np.zeros_like(first)
        for dv in (-1, 0, 1):
            there = ((row + dv) & (_PERIOD - 1)) * _PERIOD
            for du in (-1, 0, 1):
                place = there + ((column + du) & (_PERIOD - 1))
                across = self._points[0].take(place) * jitter + (0.5 - 0.5 * jitter + du) - fu
                along = self._points[1].take(place) * jitter + (0.5 - 0.5 * jitter + dv) - fv
                if metric == "round":
                    distance = across * across + along * along
                elif metric == "diamond":
                    distance = np.abs(across) + np.abs(along)
                else:
                    distance = np.maximum(np.abs(across), np.abs(along))
                nearer = distance < first
                second = np.where(nearer, first, np.minimum(second, distance))
                number = np.where(nearer, self._points[2].take(place), number)
                first = np.where(nearer, distance, first)
        if metric == "round":
            first, second = np.sqrt(first), np.sqrt(second)
        return first, second, number

    def palette(self, count: int) -> list[Colour]:
        """Colours that go together: a material, a hue, neighbours, opposites, any, greys."""
        draw = self.draw
        scheme = draw.pick(["material"] * 5 + ["shades", "near", "far", "any", "grey"])
        name = draw.pick(sorted(_MATERIALS))
        hue, saturation = draw.uniform(), draw.uniform(0.1, 0.85)
        low = draw.uniform(0.0, 0.6)
        high = draw.uniform(low + 0.15, 1.0)
        if scheme == "grey":
            saturation = draw.uniform(0.0, 0.06)
        colours = []
        for index in range(count):
            value = low + (high - low) * (index + draw.uniform(-0.3, 0.3)) / max(count - 1, 1)
            value = min(max(value, 0.02), 1.0)
            shade = min(1.0, saturation * draw.uniform(0.7, 1.2))
            if scheme == "material":
                ranges = _MATERIALS[name]
                value = ranges[2][0] + (ranges[2][1] - ranges[2][0]) * value
                colours.append(hsv(draw.uniform(*ranges[0]), draw.uniform(*ranges[1]), value))
            elif scheme == "any":
                colours.append(hsv(draw.uniform(), draw.uniform(0.0, 0.9), draw.uniform(0.05, 1.0)))
            else:
                turn = {"near": draw.uniform(-0.1, 0.1), "far": 0.5 * (index % 2)}.get(scheme, 0.0)
                colours.append(hsv((hue + turn) % 1.0, shade, value))
        if draw.chance(0.4):
            colours.reverse()
        return colours

    def colour(self) -> Colour:
        """One colour."""
        return self.palette(2)[0]

    def ramp(self, field: Field, colours: Sequence[Colour] | None = None) -> Field:
        """Colours ``[3, h, w]`` of a field in [0, 1], through 2 to 5 colours at random places."""
        stops = list(colours or self.palette(self.draw.integer(2, 5)))
        places = sorted(self.draw.uniform(0.08, 0.92) for _ in stops[2:])
        places = [0.0, *places, 1.0]
        at = np.arange(_LUT, dtype=np.float32) * (1.0 / (_LUT - 1))
        table = np.empty((3, _LUT), dtype=np.float32)
        for low, high, first, last in zip(
            places[:-1], places[1:], stops[:-1], stops[1:], strict=True
        ):
            here = (at >= low) & (at <= high)
            part = (at[here] - low) * (1.0 / max(high - low, 1e-3))
            for channel in range(3):
                table[channel, here] = first[channel] + part * (last[channel] - first[channel])
        index = np.clip(field * (_LUT - 1) + 0.5, 0.0, _LUT - 1).astype(np.int32)
        return np.stack([channel.take(index) for channel in table])

    def window(
        self, x: float, y: float, reach: float
    ) -> tuple[tuple[slice, slice], Field, Field] | None:
        """Pixels within ``reach`` of a place given as fractions of width and height, per axis.

        Returns:
            Their slices and their coordinates relative to the place; None when all are outside.
        """
        short = min(self.height, self.width)
        x, y = x * self.width / short, y * self.height / short
        left, right = self._span(x, reach, self.width)
        top, bottom = self._span(y, reach, self.height)
        if left >= right or top >= bottom:
            return None
        place = slice(top, bottom), slice(left, right)
        return place, self.x[place] - x, self.y[place] - y

    def _span(self, centre: float, reach: float, count: int) -> tuple[int, int]:
        short = min(self.height, self.width)
        low, high = math.floor((centre - reach) * short), math.ceil((centre + reach) * short)
        return max(0, low), min(count, high)

    def plain(self, colour: Colour) -> Field:
        """One colour everywhere, ``[3, h, w]``."""
        image = np.empty((3, self.height, self.width), dtype=np.float32)
        image[...] = np.array(colour, dtype=np.float32)[:, None, None]
        return image

    def shade(self, image: Field, relief: Field, depth: float) -> Field:
        """Light from a random side on a relief whose heights are in units of the shorter side."""
        slope = depth * min(self.height, self.width)
        cosine, sine = self.draw.direction()
        padded = np.pad(relief, 1, mode="edge")
        across = padded[1:-1, 2:] - padded[1:-1, :-2]
        along = padded[2:, 1:-1] - padded[:-2, 1:-1]
        lit = (across * cosine + along * sine) * slope
        # A soft limit keeps steep edges from going black or white.
        lit = lit / (1.0 + np.abs(lit))
        return image * (1.0 + 0.55 * np.minimum(lit, 0.0)) + 0.35 * np.maximum(lit, 0.0)

    def speckle(self, radius: int = 0) -> Field:
        """Independent numbers about [-1, 1] per pixel, blurred ``radius`` times."""
        field = self.draw.array(self.height, self.width) * 2.0 - 1.0
        for _ in range(radius):
            padded = np.pad(field, 1, mode="edge")
            rows = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
            field = 0.25 * rows[:, :-2] + 0.5 * rows[:, 1:-1] + 0.25 * rows[:, 2:]
            field = field * 1.6
        return field


def mix(first: Field, second: Field, weight: Field) -> Field:
    """``first`` where the weight is 0, ``second`` where it is 1."""
    return first + weight * (second - first)
