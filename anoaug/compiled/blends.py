"""Blend parts along a row of pixels: the compiled twins of ``reference/blends.py``."""

from __future__ import annotations

from typing import Any

from numba import njit

from .numbers import ONE, ZERO, clamp

# The numbers by which a program calls the functions; order is free.
WEIGHTS = ("opaque", "opacity", "feather")
OPAQUE, OPACITY, FEATHER = range(len(WEIGHTS))
MIXES = ("over", "add", "multiply", "replace")
OVER, ADD, MULTIPLY, REPLACE = range(len(MIXES))


@njit
def weigh(code: Any, weights: Any, levels: Any, row: Any, off: Any) -> Any:
    """Weights in [0, 1] of a row of levels."""
    if code == FEATHER:
        slope, opacity = row[off + 1], row[off]
        for k in range(len(weights)):
            weights[k] = clamp(levels[k] * slope, ZERO, ONE) * opacity
        return
    opacity = row[off] if code == OPACITY else ONE
    for k in range(len(weights)):
        weights[k] = opacity if levels[k] > ZERO else ZERO


@njit
def mix(code: Any, values: Any, sources: Any, weights: Any, scales: Any) -> Any:
    """Sources laid over ``values`` in place where the weight is above 0; see ``sources``."""
    peak, grey, inverse = scales[0], scales[1], scales[2]
    for k in range(len(weights)):
        value, source, weight = values[k], sources[k], weights[k]
        if code == OVER:
            mixed = weight * source + (ONE - weight) * value
        elif code == REPLACE:
            mixed = source
        elif code == ADD:
            mixed = value + weight * (source - grey)
        else:
            mixed = value - weight * (value - value * (source * inverse))
        values[k] = clamp(mixed, ZERO, peak) if weight > ZERO else value
