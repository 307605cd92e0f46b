"""Textures made from a seed: materials to paint anomalies with when there are no files.

:func:`texture` makes one; its family is its index modulo the number of :data:`FAMILIES`, so that a
set of any size is balanced and texture i never depends on how many are made. Numbers come from the
raw Philox stream, which NumPy promises never to change, and images are computed with correctly
rounded operations only (no ``sin``, ``exp`` or ``sum`` on arrays), so that a seed gives the same
bits on every machine.

A family is a function of a :class:`~.canvas.Canvas` that returns float32 ``[3, h, w]`` within
about [0, 1]. Lengths are fractions of the shorter side, frequencies are cycles along it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from anoaug.banks.canvas import Canvas, Draw, Field, bias, mix, smoothstep, triangle, unit
from anoaug.banks.imagefolder import luma

Bytes = npt.NDArray[np.uint8]


def texture(index: int, size: tuple[int, int], seed: int = 0, channels: int = 3) -> Bytes:
    """One texture, uint8 ``[channels, h, w]``.

    Args:
        index: Which one, at least 0; also chooses the family.
        size: Height and width in pixels. Another size is another sampling of the same texture,
            except for what is drawn per pixel (grain).
        seed: Any integer.
        channels: 3 (RGB) or 1 (its luma).
    """
    names = tuple(FAMILIES)
    draw = Draw(seed, index)
    canvas = Canvas(draw, *size)
    image = FAMILIES[names[index % len(names)]](canvas)
    if draw.chance(0.2):
        image = _patina(canvas, image)
    image = _finish(canvas, image)
    pixels = (np.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return pixels if channels == 3 else luma(pixels)


def _fractal(c: Canvas) -> Field:
    """Clouds, marble, rock, rust, camouflage."""
    frequency = c.draw.logarithmic(1.5, 14.0)
    u, v = c.axes(stretch=c.draw.pick([1.0, 1.0, 1.5, 3.0, 8.0]))
    u, v = u * frequency, v * frequency
    if c.draw.chance(0.6):
        u, v = c.warped(u, v, c.draw.uniform(0.3, 1.4), c.draw.uniform(0.4, 1.0))
    kind = c.draw.pick(["plain", "plain", "ridged", "billow"])
    field = c.fractal(u, v, c.draw.integer(3, 6), c.draw.uniform(0.4, 0.68), kind)
    if c.draw.chance(0.35):
        field = triangle(u * c.draw.uniform(0.3, 1.0) + field * c.draw.uniform(1.0, 4.0))
    elif c.draw.chance(0.3):
        field = smoothstep(0.5 - c.draw.logarithmic(0.02, 0.3), 0.55, field)
    image = c.ramp(field)
    if c.draw.chance(0.5):
        image = c.shade(image, field, c.draw.logarithmic(0.02, 0.15) / frequency * 6.0)
    return image


def _cells(c: Canvas) -> Field:
    """Pebbles, leather, foam, cracked earth, mosaics, crystals."""
    frequency = c.draw.logarithmic(4.0, 36.0)
    u, v = c.axes(stretch=c.draw.pick([1.0, 1.0, 1.0, 1.6, 3.0]))
    if c.draw.chance(0.5):
        u, v = c.warped(u, v, c.draw.uniform(0.1, 0.5) / frequency, frequency * 0.7)
    metric = c.draw.pick(["round", "round", "round", "diamond", "square"])
    first, second, number = c.cells(u * frequency, v * frequency, c.draw.uniform(0.45, 1.0), metric)
    gap = second - first
    style = c.draw.pick(["mosaic", "cracks", "pebbles", "leather", "crystals"])
    rough = c.fractal(u * frequency, v * frequency, 3, 0.6)
    if style == "mosaic":
        joint = smoothstep(0.0, c.draw.uniform(0.06, 0.25), gap)
        body = c.ramp(unit(number + c.draw.uniform(0.0, 0.4) * rough))
        image = mix(c.plain(c.colour()), body, joint)
        return c.shade(image, joint, c.draw.uniform(0.0, 0.3) / frequency)
    if style == "cracks":
        crack = smoothstep(0.0, c.draw.logarithmic(0.03, 0.12), gap + 0.06 * (rough - 0.5))
        body = c.ramp(unit(rough + c.draw.uniform(0.0, 0.8) * number), c.palette(3))
        dark = body * c.draw.uniform(0.1, 0.5)
        return c.shade(mix(dark, body, crack), crack, 0.3 / frequency)
    if style == "pebbles":
        height = np.clip(1.0 - first * first * 1.6, 0.0, 1.0) * smoothstep(0.0, 0.2, gap)
        body = c.ramp(unit(number * 0.8 + rough * 0.4))
        image = mix(c.plain(c.colour()) * 0.4, body, smoothstep(0.0, 0.35, height))
        return c.shade(image, height + 0.1 * rough, c.draw.uniform(0.4, 1.2) / frequency)
    if style == "leather":
        height = bias(unit(gap), c.draw.uniform(0.5, 0.8)) + 0.15 * rough
        return c.shade(c.ramp(unit(height), c.palette(2)), height, 0.8 / frequency)
    image = c.ramp(unit(first + 0.5 * number))
    return c.shade(image, first, c.draw.uniform(-1.0, 1.0) / frequency)


def _stripes(c: Canvas) -> Field:
    """Bars, corrugation, wood, tartan, barcodes, zigzags."""
    frequency = c.draw.logarithmic(3.0, 36.0)
    u, v = c.axes(upright=0.5)
    style = c.draw.pick(["wave", "bars", "wood", "tartan", "barcode", "zigzag", "rings"])
    if style == "zigzag":
        u = u + triangle(v * frequency * c.draw.uniform(0.4, 1.0)) * (
            c.draw.uniform(0.4, 1.2) / frequency
        )
    elif style in ("wave", "bars") and c.draw.chance(0.6):
        u, v = c.warped(u, v, c.draw.logarithmic(0.01, 0.12), c.draw.uniform(1.0, 3.0))
    if style == "wood":
        far = c.draw.uniform(0.0, 0.6)
        rings = np.sqrt(u * u + (v * 0.12 + far) * (v * 0.12 + far))
        rings = rings + 0.03 * c.noise(u * 3.0, v * 0.8)
        phase = rings * frequency * 2.5
        grain = c.fractal(u * 90.0, v * 4.0, 3, 0.6)
        field = 0.75 * (phase - np.floor(phase)) + 0.25 * c.noise(u * 4.0, v * 0.5)
        field = unit(0.7 * unit(field) + c.draw.uniform(0.2, 0.6) * grain)
        return c.ramp(field, sorted(c.palette(3), key=sum))
    if style == "tartan":
        # Both threads repeat one mirrored order of colours, as a kilt does.
        order = c.draw.integer(3, 6)
        period = 1.2 * frequency / order
        folded = [2.0 * np.abs(a * period - np.floor(a * period + 0.5)) * order for a in (u, v)]
        threads = [c.at_random(axis, axis * 0.0 + 0.5) for axis in folded]
        crossing = triangle((u + v) * c.draw.uniform(40.0, 90.0))
        colours = c.palette(c.draw.integer(3, 5))
        return mix(c.ramp(threads[0], colours), c.ramp(threads[1], colours), 0.3 + 0.4 * crossing)
    if style == "barcode":
        number = c.at_random(u * frequency * 2.0, v * 0.0 + 0.5)
        return c.ramp(np.floor(number * c.draw.integer(2, 5)) / 4.0)
    if style == "rings":
        x, y = c.x - c.draw.uniform(-0.3, 1.3), c.y - c.draw.uniform(-0.3, 1.3)
        u = np.sqrt(x * x + y * y * c.draw.uniform(0.5, 2.0))
    wave = triangle(u * frequency)
    if style in ("bars", "zigzag"):
        duty, soft = c.draw.uniform(0.25, 0.75), c.draw.logarithmic(0.03, 0.3)
        wave = smoothstep(duty - soft, duty + soft, wave)
    rough = c.fractal(u * frequency * 0.7, v * frequency * 0.3, 4, 0.6)
    image = c.ramp(unit(wave + c.draw.uniform(0.0, 0.6) * rough))
    return c.shade(image, wave, c.draw.uniform(0.0, 0.35) / frequency)


def _weave(c: Canvas) -> Field:
    """Plain weave, twill, basket, satin, mesh, knit."""
    frequency = c.draw.logarithmic(10.0, 48.0)
    u, v = c.axes(upright=0.5)
    u, v = c.warped(u, v, c.draw.uniform(0.0, 0.35) / frequency, c.draw.uniform(2.0, 6.0))
    u, v = u * frequency, v * frequency * c.draw.uniform(0.7, 1.0)
    style = c.draw.pick(["plain", "twill", "basket", "satin", "knit"])
    if style == "knit":
        across = u - np.floor(u) - 0.5
        loop = v + 1.3 * np.abs(across) * (1.0 - np.abs(across))
        lane = np.abs(np.abs(across) - 0.25) * 4.0
        height = triangle(loop) * (1.0 - 0.7 * lane * lane)
        row = c.at_random(u * 0.0 + 0.5, np.floor(loop) * c.draw.pick([0.0, 0.5, 0.25]))
        body = c.ramp(row, c.palette(3)) * (0.85 + 0.15 * c.fractal(u * 3.0, v * 2.0, 2))
        return c.shade(body * (0.35 + 0.65 * np.clip(height, 0.0, 1.0)), height, 0.4 / frequency)
    column, row = np.floor(u), np.floor(v)
    step = {"plain": (1, 2), "twill": (1, c.draw.integer(3, 4)), "basket": (1, 2), "satin": (2, 5)}
    slope, period = step[style]
    if style == "basket":
        column, row = np.floor(column * 0.5), np.floor(row * 0.5)
    phase = (column + row * slope) * (1.0 / period)
    over = (phase - np.floor(phase)) < (0.5 if period == 2 else 1.0 / period + 1e-3)
    fu, fv = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    round_u, round_v = 1.0 - 4.0 * fu * fu, 1.0 - 4.0 * fv * fv
    warp = round_u * (0.55 + 0.45 * round_v)
    weft = round_v * (0.55 + 0.45 * round_u)
    height = np.where(over, warp, weft)
    colours = c.palette(2)
    fray = c.draw.uniform(0.05, 0.25)
    uneven = c.draw.uniform(0.0, 0.4)
    shade_warp = (
        1.0 - uneven * c.at_random(u, u * 0.0 + 0.5) - fray * c.fractal(u * 5.0, v, 2) * 0.5
    )
    shade_weft = (
        1.0 - uneven * c.at_random(v * 0.0 + 9.5, v) - fray * c.fractal(u, v * 5.0, 2) * 0.5
    )
    image = np.where(
        over, c.plain(colours[0]) * shade_warp, c.plain(colours[c.draw.integer(0, 1)]) * shade_weft
    )
    depth = c.draw.uniform(0.3, 0.75)
    image = image * (1.0 - depth + depth * bias(np.clip(height, 0.0, 1.0), 0.65))
    return c.shade(image, height, c.draw.uniform(0.1, 0.5) / frequency)


def _grain(c: Canvas) -> Field:
    """Sand, granite, terrazzo speckle, brushed metal, felt, cast iron."""
    style = c.draw.pick(["sand", "granite", "brushed", "cast", "felt"])
    if style == "brushed":
        u, v = c.axes(upright=0.6)
        length = c.draw.logarithmic(1.0, 6.0)
        field = c.fractal(u * c.draw.uniform(40.0, 110.0), v * length, 3, 0.7)
        sheen = c.fractal(u * 1.5, v * 0.7, 2)
        return c.ramp(unit(c.draw.uniform(0.3, 0.8) * field + sheen), sorted(c.palette(3), key=sum))
    if style == "granite":
        image = c.plain(c.colour())
        for _ in range(c.draw.integer(2, 4)):
            frequency = c.draw.logarithmic(14.0, 80.0)
            field = c.fractal(c.x * frequency, c.y * frequency, 2, 0.6)
            level = c.draw.uniform(0.45, 0.68)
            image = mix(image, c.plain(c.colour()), smoothstep(level, level + 0.06, field))
        return image * (1.0 + 0.12 * c.speckle(1))
    u, v = c.axes()
    if style == "cast":
        frequency = c.draw.logarithmic(20.0, 70.0)
        relief = c.fractal(u * frequency, v * frequency, 3, 0.7, c.draw.pick(["billow", "plain"]))
        body = c.ramp(unit(relief + c.fractal(u * 2.0, v * 2.0, 3)), c.palette(2))
        return c.shade(body, relief, c.draw.uniform(0.3, 1.2) / frequency)
    if style == "felt":
        field = c.speckle(c.draw.integer(1, 2)) * 0.5
        field = (
            field + c.fractal(u * 30.0, v * 10.0, 3, 0.7) + c.fractal(u * 10.0, v * 30.0, 3, 0.7)
        )
        return c.ramp(unit(field), c.palette(c.draw.integer(2, 3)))
    field = c.speckle(c.draw.integer(0, 3)) * c.draw.uniform(0.5, 1.2)
    slow = c.fractal(u * c.draw.uniform(1.0, 5.0), v * c.draw.uniform(1.0, 5.0), 3)
    return c.ramp(unit(field + slow), c.palette(c.draw.integer(2, 5)))


def _scratches(c: Canvas) -> Field:
    """Worn metal, scuffed plastic, hairs, fibres."""
    u, v = c.axes()
    base = c.fractal(u * c.draw.logarithmic(1.0, 8.0), v * c.draw.logarithmic(1.0, 40.0), 4, 0.55)
    image = c.ramp(base, c.palette(2))
    common = c.draw.direction()
    aligned = c.draw.chance(0.5)
    bend = c.draw.pick([0.0, 0.3, 2.0, 6.0])
    longest = c.draw.logarithmic(0.08, 0.9)
    widest = c.draw.logarithmic(0.003, 0.012)
    marks = [c.colour() for _ in range(c.draw.integer(1, 3))]
    relief = np.zeros_like(base)
    for _ in range(int(c.draw.logarithmic(25.0, 160.0))):
        length = longest * c.draw.uniform(0.2, 1.0)
        width = widest * c.draw.uniform(0.3, 1.0)
        cosine, sine = c.draw.direction()
        if aligned:
            cosine, sine = common[0] + 0.15 * cosine, common[1] + 0.15 * sine
        reach = length * 0.5 * (1.0 + min(bend * length, 1.0)) + 2.0 * width
        window = c.window(c.draw.uniform(-0.1, 1.1), c.draw.uniform(-0.1, 1.1), reach)
        if window is None:
            continue
        place, x, y = window
        along, across = x * cosine + y * sine, y * cosine - x * sine
        across = across - (bend * c.draw.uniform(-1.0, 1.0)) * along * along
        near = smoothstep(width, width * 0.3, np.abs(across))
        near = near * smoothstep(0.5, 0.3, np.abs(along) * (1.0 / length))
        near = near * c.draw.uniform(0.3, 1.0)
        colour = np.array(c.draw.pick(marks), dtype=np.float32)[:, None, None]
        here = (slice(None), *place)
        image[here] = mix(image[here], colour, near)
        relief[place] = np.maximum(relief[place], near)
    return c.shade(image, relief, c.draw.uniform(-0.01, 0.02))


def _stains(c: Canvas) -> Field:
    """Spots, drying rings, splashes, drips, mould."""
    u, v = c.axes()
    ground = c.draw.logarithmic(1.0, 30.0)
    image = c.ramp(c.fractal(u * ground, v * ground, 4, 0.6), c.palette(2))
    edge = c.fractal(c.x * 9.0, c.y * 9.0, 4, 0.6) - 0.5
    colours = [c.colour() for _ in range(c.draw.integer(1, 3))]
    drip = c.draw.pick([1.0, 1.0, 1.0, 3.0])
    small = c.draw.logarithmic(0.006, 0.05)
    relief = np.zeros_like(edge)
    for _ in range(int(c.draw.logarithmic(12.0, 140.0))):
        radius = c.draw.logarithmic(small, small * 8.0)
        reach = radius * 1.6 * drip
        window = c.window(c.draw.uniform(0.0, 1.0), c.draw.uniform(0.0, 1.0), reach)
        if window is None:
            continue
        place, x, y = window
        y = y * (1.0 / drip)
        level = 1.0 - np.sqrt(x * x + y * y) * (1.0 / radius) + edge[place] * 0.9
        inside = smoothstep(0.0, c.draw.logarithmic(0.04, 0.5), level)
        ring = inside * smoothstep(0.45, 0.0, level) * c.draw.uniform(0.0, 0.6)
        colour = np.array(c.draw.pick(colours), dtype=np.float32)[:, None, None]
        here = (slice(None), *place)
        opacity = inside * c.draw.uniform(0.35, 0.95)
        image[here] = mix(image[here], colour, opacity) * (1.0 - ring)
        relief[place] = np.maximum(relief[place], inside)
    return c.shade(image, relief, c.draw.uniform(-0.02, 0.03))


def _gradients(c: Canvas) -> Field:
    """Smooth colour, sheen, banding, coloured light, lens blobs."""
    style = c.draw.pick(["linear", "radial", "patches", "silk", "lights"])
    u, v = c.axes()
    if style == "linear":
        field = u + c.draw.uniform(0.0, 0.5) * v * v
    elif style == "radial":
        x, y = c.x - c.draw.uniform(), c.y - c.draw.uniform()
        field = np.sqrt(x * x + y * y * c.draw.logarithmic(0.3, 3.0))
    elif style == "silk":
        u, v = c.warped(u, v, c.draw.uniform(0.1, 0.5), c.draw.uniform(1.0, 2.5))
        field = triangle(u * c.draw.uniform(1.0, 5.0))
    else:
        field = c.noise(u * c.draw.uniform(1.0, 3.0), v * c.draw.uniform(1.0, 3.0))
    field = unit(field)
    if style == "patches" and c.draw.chance(0.5):
        steps = c.draw.integer(3, 9)
        field = np.floor(field * steps) * (1.0 / steps)
    image = c.ramp(field)
    if style == "lights":
        for _ in range(c.draw.integer(8, 40)):
            radius = c.draw.logarithmic(0.02, 0.2)
            window = c.window(c.draw.uniform(), c.draw.uniform(), radius)
            if window is None:
                continue
            place, x, y = window
            spot = smoothstep(
                1.0, c.draw.uniform(0.3, 0.95), np.sqrt(x * x + y * y) * (1.0 / radius)
            )
            colour = np.array(c.colour(), dtype=np.float32)[:, None, None]
            here = (slice(None), *place)
            image[here] = mix(image[here], colour, spot * c.draw.uniform(0.2, 0.8))
    elif c.draw.chance(0.5):
        other = c.ramp(unit(c.noise(u * 1.7, v * 1.7)))
        image = mix(image, other, np.full_like(field, c.draw.uniform(0.2, 0.6)))
    return image


def _tiles(c: Canvas) -> Field:
    """Chequers, bricks, paving, lozenges, scales, circuit-like grids."""
    frequency = c.draw.logarithmic(3.0, 20.0)
    u, v = c.axes(upright=0.6)
    u, v = u * frequency, v * frequency
    rough = c.fractal(u * 2.0, v * 2.0, 4, 0.65)
    style = c.draw.pick(["checker", "brick", "paving", "scales", "grid"])
    if style == "checker":
        parity = (np.floor(u) + np.floor(v)) * 0.5
        odd = (parity - np.floor(parity)) * 2.0
        first, second = (c.ramp(unit(rough + c.at_random(u, v)), c.palette(2)) for _ in range(2))
        return mix(first, second, odd)
    if style == "scales":
        u = u + 0.5 * (np.floor(v) - 2.0 * np.floor(v * 0.5))
        fu, fv = u - np.floor(u) - 0.5, v - np.floor(v)
        arc = np.sqrt(fu * fu + fv * fv * 0.45)
        body = c.ramp(unit(c.at_random(u, v) + 0.5 * rough), c.palette(3))
        return c.shade(body * (0.35 + 0.65 * smoothstep(0.75, 0.3, arc)), arc, -1.0 / frequency)
    if style == "grid":
        line = np.minimum(triangle(u), triangle(v))
        fine = np.minimum(triangle(u * 4.0), triangle(v * 4.0))
        width = c.draw.uniform(0.02, 0.2)
        image = c.ramp(rough, c.palette(2))
        colour = c.plain(c.colour())
        image = mix(image, colour, 0.5 * smoothstep(width, width * 0.5, fine))
        return mix(image, colour, smoothstep(width, width * 0.5, line))
    aspect = c.draw.uniform(1.6, 3.2) if style == "brick" else 1.0
    shift = c.draw.pick([0.5, 0.5, 0.33]) if style == "brick" else 0.0
    u = u * (1.0 / aspect) + np.floor(v) * shift
    fu, fv = u - np.floor(u), v - np.floor(v)
    border = np.minimum(np.minimum(fu, 1.0 - fu) * aspect, np.minimum(fv, 1.0 - fv))
    mortar = c.draw.uniform(0.02, 0.09)
    stone = smoothstep(mortar, mortar + c.draw.uniform(0.02, 0.12), border + 0.06 * (rough - 0.5))
    body = c.ramp(unit(c.at_random(u, v) * c.draw.uniform(0.3, 1.5) + rough), c.palette(3))
    joint = c.ramp(rough, c.palette(2))
    relief = stone + 0.2 * rough
    return c.shade(mix(joint, body, stone), relief, c.draw.uniform(0.05, 0.5) / frequency)


def _dots(c: Canvas) -> Field:
    """Perforated sheet, halftone, studs, tread plate, pores."""
    frequency = c.draw.logarithmic(6.0, 34.0)
    u, v = c.axes(upright=0.5)
    rough = c.fractal(u * 6.0, v * 6.0, 4, 0.6)
    fine = c.fractal(u * frequency * 2.0, v * frequency * 2.0, 3, 0.6)
    u, v = u * frequency, v * frequency
    style = c.draw.pick(["holes", "halftone", "studs", "tread", "pores"])
    image = c.ramp(unit(rough + c.draw.uniform(0.0, 0.8) * fine), c.palette(2))
    if style == "pores":
        first, _, number = c.cells(u, v, 1.0)
        radius = 0.12 + 0.3 * number * number
        hole = smoothstep(1.0, 0.75, first / radius)
        return c.shade(image * (1.0 - 0.8 * hole), hole, -0.35 / frequency)
    if c.draw.chance(0.5):
        u = u + 0.5 * (np.floor(v) - 2.0 * np.floor(v * 0.5))
    fu, fv = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    if style == "tread":
        parity = (np.floor(u) + np.floor(v)) * 0.5
        odd = parity > np.floor(parity)
        along = np.where(odd, fu + fv, fu - fv)
        across = np.where(odd, fu - fv, fu + fv)
        bar = np.clip(1.0 - along * along * 2.6 - across * across * 30.0, 0.0, 1.0)
        relief = smoothstep(0.0, 0.5, bar)
        return c.shade(image, relief, c.draw.uniform(0.3, 0.7) / frequency)
    distance = np.sqrt(fu * fu + fv * fv)
    if style == "halftone":
        tone = c.fractal(c.x * 2.5, c.y * 2.5, 2)
        dot = smoothstep(0.06, -0.06, distance - 0.62 * np.sqrt(tone))
        return mix(image, c.plain(c.colour()), dot)
    reach = c.draw.uniform(0.2, 0.42)
    dot = smoothstep(reach, reach * c.draw.uniform(0.6, 0.95), distance)
    if style == "holes":
        inside = c.plain(c.colour()) * c.draw.uniform(0.1, 0.6)
        return c.shade(mix(image, inside, dot), dot, -0.25 / frequency)
    dome = np.clip(1.0 - distance * distance * (1.0 / (reach * reach)), 0.0, 1.0)
    if c.draw.chance(0.5):
        image = mix(image, c.plain(c.colour()), dot)
    return c.shade(image, np.sqrt(dome), c.draw.uniform(0.2, 0.6) / frequency)


def _chips(c: Canvas) -> Field:
    """Chipboard, terrazzo, camouflage, confetti, shavings."""
    u, v = c.axes()
    image = c.ramp(c.fractal(u * 12.0, v * 12.0, 4, 0.6), c.palette(2))
    colours = c.palette(6)
    side = c.draw.logarithmic(0.08, 0.2)
    slim = c.draw.logarithmic(0.2, 1.0)
    aligned, common = c.draw.chance(0.3), c.draw.direction()
    ragged = c.fractal(c.x * 24.0, c.y * 24.0, 3, 0.6) - 0.5
    fibre = c.fractal(u * 60.0, v * 8.0, 3, 0.6)
    relief = np.zeros_like(ragged)
    for _ in range(int(min(2.5 / (side * side * slim), 220.0))):
        length, width = side * c.draw.uniform(0.4, 1.0), side * slim * c.draw.uniform(0.4, 1.0)
        window = c.window(c.draw.uniform(), c.draw.uniform(), 0.6 * (length + width))
        if window is None:
            continue
        place, x, y = window
        cosine, sine = common if aligned else c.draw.direction()
        along, across = np.abs(x * cosine + y * sine), np.abs(y * cosine - x * sine)
        level = np.minimum(length * 0.6 - along, width * 0.6 - across) + ragged[place] * width * 0.5
        inside = smoothstep(0.0, 0.006, level)
        tone = c.draw.uniform(0.6, 1.1) * (0.8 + 0.3 * fibre[place])
        colour = np.array(c.draw.pick(colours), dtype=np.float32)[:, None, None] * tone
        here = (slice(None), *place)
        image[here] = mix(image[here], colour, inside)
        relief[place] = mix(relief[place], np.full_like(x, c.draw.uniform()), inside)
    return c.shade(image, relief, c.draw.uniform(0.0, 0.02))


FAMILIES: dict[str, Callable[[Canvas], Field]] = {
    "fractal": _fractal,
    "cells": _cells,
    "stripes": _stripes,
    "weave": _weave,
    "grain": _grain,
    "scratches": _scratches,
    "stains": _stains,
    "gradients": _gradients,
    "tiles": _tiles,
    "dots": _dots,
    "chips": _chips,
}


def _patina(c: Canvas, image: Field) -> Field:
    """A second colour over part of the surface: rust, dirt, worn paint."""
    frequency = c.draw.logarithmic(1.5, 8.0)
    field = c.fractal(c.x * frequency, c.y * frequency, 5, 0.6)
    level, soft = c.draw.uniform(0.4, 0.65), c.draw.logarithmic(0.02, 0.3)
    cover = c.ramp(c.fractal(c.x * frequency * 4.0, c.y * frequency * 4.0, 3, 0.6), c.palette(3))
    weight = smoothstep(level, level + soft, field) * c.draw.uniform(0.4, 1.0)
    return mix(image, cover, weight)


def _finish(c: Canvas, image: Field) -> Field:
    """Uneven light, contrast, grain: what a camera adds."""
    if c.draw.chance(0.5):
        u, v = c.axes()
        light = unit(u + c.draw.uniform(0.0, 0.6) * c.noise(v * 1.5, u * 1.5))
        image = image * (1.0 - c.draw.uniform(0.1, 0.5) * light)
    # Percentiles of every 7th pixel: exact in any order, unlike a mean. Keeps blank images out.
    red, green, blue = image.reshape(3, -1)[:, ::7]
    sample = np.sort(0.3 * red + 0.6 * green + 0.1 * blue)
    dark, middle, bright = (float(sample[len(sample) * part // 100]) for part in (3, 50, 97))
    span = max(bright - dark, 1e-3)
    gain = min(max(c.draw.uniform(0.2, 0.85) / span, 0.75), 1.8)
    gain = min(max(gain, 0.12 / span), 8.0)
    image = (image - middle) * gain + min(max(middle + 0.06, 0.22), 0.8)
    if c.draw.chance(0.7):
        image = image + c.draw.logarithmic(0.005, 0.06) * c.speckle(c.draw.integer(0, 1))
    return image
