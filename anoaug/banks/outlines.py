"""Shapes of defects drawn from a seed: blobs, scars, clumps, strokes, stains, holes, islands.

:func:`shape` draws one; shape i of a kind never depends on how many are drawn. A kind is a function
of a :class:`~.canvas.Canvas` of a square that returns its pixels as booleans; lengths are
fractions of the side. As in :mod:`.procedural`, numbers come from the raw Philox stream and
only correctly rounded array operations are used, so that a seed gives the same bits everywhere.

Bezier blob, scar and clump follow DefectMaker (Lyu et al., REB, Knowledge-Based Systems 2023), the
fractal is ASBench's; the others are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from . import fractals
from .canvas import Canvas, Draw, Field

Bools = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]  # [N, 2]: row and column

MARGIN = 0.03  # of the side, free at every edge
LEAST = 0.02  # share of the square that thresholded fields cover at least

_SAMPLES = 10  # points per Bezier segment


def shape(kind: str, key: tuple[int, int], side: int) -> Bools:
    """One shape, ``[side, side]``, free of the square's edges.

    Args:
        kind: A name of :data:`KINDS`.
        key: Two integers that choose it.
        side: Pixels; another side is another sampling of the same shape.
    """
    inside = KINDS[kind](Canvas(Draw(*key), side, side))
    free = max(1, math.ceil(MARGIN * side) - 1)
    edge = np.zeros_like(inside)
    edge[free:-free, free:-free] = inside[free:-free, free:-free]
    return edge


# ---- filled outlines -----------------------------------------------------------------------------


def filled(points: Points, side: int) -> Bools:
    """Pixels inside a closed outline, those it runs around more than once included."""
    y0, x0 = points.T * side - 0.5
    y1, x1 = np.roll(y0, -1), np.roll(x0, -1)
    rows = np.arange(side)[:, None]
    down, up = (y0 <= rows) & (y1 > rows), (y1 <= rows) & (y0 > rows)
    height = np.where(y1 == y0, 1.0, y1 - y0)
    cross = np.ceil(x0 + (rows - y0) / height * (x1 - x0))
    column = np.clip(cross, 0, side).astype(np.int64)
    turns = np.zeros((side, side + 1), np.int64)
    row = np.broadcast_to(rows, down.shape)
    np.add.at(turns, (row, column), down.astype(np.int64) - up)
    inside: Bools = np.cumsum(turns, axis=1)[:, :-1] != 0
    return inside


def stretched(points: Points, low: tuple[float, float], high: tuple[float, float]) -> Points:
    """Points stretched so that they span a box."""
    least, most = points.min(0), points.max(0)
    span = np.where(most > least, most - least, 1.0)
    return low + (points - least) / span * (np.array(high) - low)


def _bezier(c: Canvas, most: int, height: float = 1.0, width: float = 1.0) -> Bools:
    """DefectMaker's blob: a smoothed closed curve through a few points, stretched over a box.

    5 to ``most`` points are sorted by angle about their mean. The handles at a point lie along the
    line between its neighbours; one in two segments is straight, which leaves corners.
    """
    draw = c.draw
    count = draw.integer(5, most)
    points = np.array([[draw.uniform(), draw.uniform()] for _ in range(count)])
    # host: corners of one outline, when a bank is made
    middle = np.array([sum(axis) / count for axis in points.T.tolist()])
    angles = [math.atan2(y, x) for y, x in (points - middle).tolist()]
    points = points[np.argsort(angles, kind="stable")]
    handles = draw.pick((0.2, 0.3, 0.4)) * (np.roll(points, -1, 0) - np.roll(points, 1, 0))
    found = []
    for n in range(count):
        start, end = points[n], points[(n + 1) % count]
        first, second = start + handles[n], end - handles[(n + 1) % count]
        curved = draw.chance(0.5)
        for t in np.arange(_SAMPLES if curved else 1) / _SAMPLES:
            s = 1.0 - t
            found.append(
                (s * s * s) * start + (3.0 * s * s * t) * first
                + (3.0 * s * t * t) * second + (t * t * t) * end
            )  # fmt: skip
    margin = MARGIN + 1.0 / c.height
    half_h, half_w = (0.5 - margin) * height, (0.5 - margin) * width
    corners = (0.5 - half_h, 0.5 - half_w), (0.5 + half_h, 0.5 + half_w)
    return _outlined(c, stretched(np.array(found), *corners))


def _outlined(c: Canvas, points: Points) -> Bools:
    """A filled outline with the pixels it runs over, so that the thinnest tip holds on to it."""
    inside = filled(points, c.height)
    # host: corners of one outline, when a bank is made
    closed = [(y, x, 0.0) for y, x in [*points.tolist(), points[0].tolist()]]
    stroked(c, closed, inside, 0.75)
    return inside


def _blob(c: Canvas) -> Bools:
    """A Bezier blob."""
    return _bezier(c, 6)


def _scar(c: Canvas) -> Bools:
    """A Bezier blob in a box of 7 to 20 by 15 to 29, the shorter side across."""
    long, short = c.draw.integer(15, 29), c.draw.integer(7, 20)
    return _bezier(c, 6, min(short / long, 1.0), min(long / short, 1.0))


def _clump(c: Canvas) -> Bools:
    """Grains of thresholded noise in a Bezier blob.

    DefectMaker's noise has a grain of 5 to 7 pixels in a box of 2 to 15 % of 256 x 256 pixels, its
    values are uniform in 77 .. 177 and those above 138 are inside.
    """
    draw = c.draw
    blob = _bezier(c, 9)
    side = math.sqrt(draw.uniform(0.02, 0.15)) * 256.0
    aspect = math.sqrt(draw.logarithmic(0.5, 2.0))
    grain = draw.uniform(5.0, 7.0)
    rows, columns = (max(2, int(side * by / grain)) for by in (1.0 / aspect, aspect))
    lattice = draw.array(rows + 1, columns + 1)
    noise = _between_nodes(lattice, c.y * rows, c.x * columns)
    return _above(np.where(blob, noise, 0.0), (138 - 77) / 100)


def _between_nodes(lattice: Field, v: Field, u: Field) -> Field:
    """A lattice of numbers joined bilinearly."""
    row, column = np.floor(v).astype(np.int64), np.floor(u).astype(np.int64)
    fv, fu = v - row, u - column
    top = lattice[row, column] + fu * (lattice[row, column + 1] - lattice[row, column])
    row = row + 1
    low = lattice[row, column] + fu * (lattice[row, column + 1] - lattice[row, column])
    joined: Field = top + fv * (low - top)
    return joined


def _above(field: Field, level: float) -> Bools:
    """Where a field is above a level, or the highest :data:`LEAST` of it if that is more."""
    most = field.size - max(1, math.ceil(field.size * LEAST))
    inside: Bools = field > min(level, float(np.partition(field.reshape(-1), most - 1)[most - 1]))
    return inside


def _polygon(c: Canvas) -> Bools:
    """A flake or chip: 3 to 8 corners about a middle, some of them dented."""
    draw = c.draw
    count = draw.integer(3, 8)
    turn, dent = draw.uniform(), draw.pick((0.3, 0.6, 0.9))
    points = []
    for n in range(count):
        # No two neighbours are half a turn apart: the middle is inside.
        angle = 2.0 * math.pi * (turn + (n + draw.uniform(-0.24, 0.24)) / count)
        radius = draw.uniform(dent, 1.0)
        points.append([radius * math.sin(angle), radius * math.cos(angle)])
    margin = MARGIN + 1.0 / c.height
    box = (margin, margin), (1.0 - margin, 1.0 - margin)
    return _outlined(c, stretched(np.array(points), *box))


# ---- strokes -------------------------------------------------------------------------------------

Stroke = list[tuple[float, float, float]]  # row, column, half width


def stroked(c: Canvas, stroke: Stroke, inside: Bools, pixels: float = 2.0) -> None:
    """Draw a line of varying width with round ends into ``inside``.

    Its half width is at least ``pixels``: below 2 it would fall between the pixels of its level,
    below 0.75 between those drawn here.
    """
    least = pixels / c.height
    for (y0, x0, r0), (y1, x1, r1) in zip(stroke, stroke[1:], strict=False):
        dy, dx = y1 - y0, x1 - x0
        r0, r1 = max(r0, least), max(r1, least)
        reach = 0.5 * math.sqrt(dy * dy + dx * dx) + max(r0, r1)
        window = c.window(0.5 * (x0 + x1), 0.5 * (y0 + y1), reach)
        if window is None:
            continue
        place, x, y = window
        length = max(dy * dy + dx * dx, 1e-12)
        t = np.clip((y * dy + x * dx) * (1.0 / length) + 0.5, 0.0, 1.0)
        off_y, off_x = y - dy * (t - 0.5), x - dx * (t - 0.5)
        radius = r0 + t * (r1 - r0)
        inside[place] |= off_y * off_y + off_x * off_x <= radius * radius


def _drawn(c: Canvas, strokes: list[Stroke]) -> Bools:
    """Lines brought to the middle of the square, scaled so that the longer way across fills it."""
    reach = max(half for stroke in strokes for _, _, half in stroke)
    axes = [[point[axis] for stroke in strokes for point in stroke] for axis in (0, 1)]
    low_y, low_x = (min(axis) - reach for axis in axes)
    span_y, span_x = (max(axis) - min(axis) + 2.0 * reach for axis in axes)
    scale = (1.0 - 2.0 * (MARGIN + 3.0 / c.height)) / max(span_y, span_x)
    top, left = 0.5 * (1.0 - scale * span_y), 0.5 * (1.0 - scale * span_x)
    inside = np.zeros((c.height, c.width), bool)
    for stroke in strokes:
        moved = [
            (top + scale * (y - low_y), left + scale * (x - low_x), scale * half)
            for y, x, half in stroke
        ]
        stroked(c, moved, inside)
    return inside


def _walk(
    draw: Draw, start: tuple[float, float], angle: float, length: float, step: float, rough: float
) -> list[tuple[float, float, float]]:
    """A jagged way from a place: rows, columns and the direction at each point.

    The direction strays from ``angle``, which holds it back.
    """
    y, x = start
    stray = 0.0
    way = [(y, x, angle)]
    for _ in range(max(2, int(length / step))):
        stray = 0.75 * stray + rough * draw.uniform(-1.0, 1.0)
        ahead = step * draw.uniform(0.6, 1.4)
        y, x = y + ahead * math.sin(angle + stray), x + ahead * math.cos(angle + stray)
        way.append((y, x, angle + stray))
    return way


def _crack(c: Canvas) -> Bools:
    """A jagged line that thins out, with branches that have branches."""
    draw = c.draw
    strokes: list[Stroke] = []
    rough, step = draw.uniform(0.3, 1.0), draw.uniform(0.02, 0.05)
    width = draw.logarithmic(0.006, 0.025)
    budget = [draw.integer(0, 8)]

    def grow(start: tuple[float, float], angle: float, length: float, half: float) -> None:
        way = _walk(draw, start, angle, length, step, rough)
        last = len(way) - 1
        line = []
        for n, (y, x, _) in enumerate(way):
            left = 1.0 - n / last
            line.append((y, x, half * (0.25 + 0.75 * left) * draw.uniform(0.6, 1.4)))
        strokes.append(line)
        for n, (y, x, along) in enumerate(way[1:-1], 1):
            if budget[0] > 0 and draw.chance(2.5 / last):
                budget[0] -= 1
                side = draw.pick((-1.0, 1.0)) * draw.uniform(0.35, 1.2)
                rest = length * (1.0 - n / last) * draw.uniform(0.3, 0.9)
                grow((y, x), along + side, rest, half * draw.uniform(0.4, 0.8))

    grow((0.5, 0.0), draw.uniform(-0.25, 0.25), 1.0, width)
    return _drawn(c, strokes)


def _scratch(c: Canvas) -> Bools:
    """One to four slender, slightly bent lines side by side that begin and end in a point."""
    draw = c.draw
    strokes: list[Stroke] = []
    bend, slope = draw.uniform(-0.35, 0.35), draw.uniform(-0.3, 0.3)
    width = draw.logarithmic(0.004, 0.016)
    count = draw.pick((1, 1, 1, 2, 3, 4))
    for line in range(count):
        offset = (line - 0.5 * (count - 1)) * draw.uniform(0.02, 0.07)
        first, last = (0.06, 0.94) if line == 0 else (draw.uniform(0, 0.5), draw.uniform(0.6, 0.94))
        wave = draw.uniform(-0.01, 0.01)
        stroke = []
        for n in range(25):
            t = n / 24.0
            x = first + t * (last - first)
            y = 0.5 + offset + slope * (x - 0.5) + bend * ((x - 0.5) * (x - 0.5) - 0.08)
            # Thick in the middle, thin at the ends, pressed unevenly.
            half = width * (0.15 + 3.4 * t * (1.0 - t)) * draw.uniform(0.6, 1.2)
            stroke.append((y + wave * math.sin(12.0 * x), x, half))
        strokes.append(stroke)
    return _drawn(c, strokes)


# ---- thresholded fields --------------------------------------------------------------------------


def _stain(c: Canvas) -> Bools:
    """A spill with a frayed edge: a spot, a dried ring or a drip, splashes beside it."""
    draw = c.draw
    frequency = draw.uniform(3.0, 7.0)
    edge = c.fractal(c.x * frequency, c.y * frequency, draw.integer(2, 4), 0.55) - 0.5
    fray = draw.uniform(0.3, 0.9)
    radius, drip = draw.uniform(0.24, 0.32), draw.pick((1.0, 1.0, 1.3))
    y, x = (c.y - 0.5) * (1.0 / drip), c.x - 0.5
    level = 1.0 - np.sqrt(x * x + y * y) * (1.0 / radius) + fray * edge
    if draw.chance(0.3):
        ring = draw.uniform(0.1, 0.25)
        level = ring - np.abs(level - 1.3 * ring)
    for _ in range(draw.pick((0, 0, 2, 4, 7))):
        away, small = draw.uniform(1.2, 1.7) * radius, draw.logarithmic(0.015, 0.05)
        sine, cosine = draw.direction()
        dy, dx = c.y - (0.5 + away * sine), c.x - (0.5 + away * cosine)
        level = np.maximum(level, 1.0 - np.sqrt(dy * dy + dx * dx) * (1.0 / small) + 0.5 * edge)
    return _above(level, 0.0)


def _holes(c: Canvas) -> Bools:
    """Pits: one to twelve round or oval holes about a middle."""
    draw = c.draw
    level = np.full((c.height, c.width), -1.0, np.float32)
    count = draw.pick((1, 3, 5, 8, 12))
    reach = 0.0 if count == 1 else 0.34
    largest = 0.42 if count == 1 else 0.3 / math.sqrt(count)
    for _ in range(count):
        away, radius = reach * math.sqrt(draw.uniform()), largest * draw.uniform(0.35, 1.0)
        sine, cosine = draw.direction()
        tilt, oval = draw.direction(), draw.uniform(0.7, 1.0)
        dy, dx = c.y - (0.5 + away * sine), c.x - (0.5 + away * cosine)
        along, across = dx * tilt[0] + dy * tilt[1], (dy * tilt[0] - dx * tilt[1]) * (1.0 / oval)
        one = 1.0 - np.sqrt(along * along + across * across) * (1.0 / radius)
        level = np.maximum(level, one)
    return _above(level, 0.0)


def _islands(c: Canvas) -> Bools:
    """Perlin noise above a threshold, fading out towards the square's edge."""
    draw = c.draw
    u, v = c.axes(stretch=draw.pick((1.0, 1.0, 2.0)))
    frequency = draw.logarithmic(2.5, 10.0)
    noise = c.noise(u * frequency, v * frequency)
    y, x = c.y - 0.5, c.x - 0.5
    away = np.sqrt(x * x + y * y) * 2.0
    away = away * away
    return _above(noise - 0.8 * away * away, draw.uniform(0.0, 0.3))


def _fractal(c: Canvas) -> Bools:
    """The attractor of two random affine maps, as ``masks.Fractal`` has it."""
    draw = c.draw
    u = np.array([[draw.uniform()] for _ in range(fractals.NUMBERS)])
    # Two bits mirror the maps; all nine neighbours of a point are set, or the finest are dust.
    bits = np.array([draw.integer(0, 3) + (511 << 2)], dtype=np.uint32)
    packed = fractals.bitmaps(fractals.draw_maps(u, bits), bits)
    side = fractals.SIDE
    dots = np.unpackbits(packed.astype("<i4").view(np.uint8), bitorder="little").reshape(side, side)
    lattice = np.pad(dots, 2).astype(np.float32)
    for _ in range(2):  # bits are blurred, so that edges are not stairs
        lattice = (0.25 * lattice[:-2] + 0.5 * lattice[1:-1] + 0.25 * lattice[2:]).T
    scale = side / (1.0 - 2.0 * MARGIN)
    v, u2 = ((at - MARGIN) * scale + 0.5 for at in (c.y, c.x))
    v, u2 = (np.clip(at, 0.0, side + 0.999) for at in (v, u2))
    return _between_nodes(lattice, v, u2) > 0.45


KINDS: dict[str, Callable[[Canvas], Bools]] = {
    "blob": _blob,
    "scar": _scar,
    "clump": _clump,
    "polygon": _polygon,
    "crack": _crack,
    "scratch": _scratch,
    "stain": _stain,
    "holes": _holes,
    "islands": _islands,
    "fractal": _fractal,
}
