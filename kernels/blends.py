"""Blend parts: how a source joins the image. A blend is a *weight* of the level and a *mix*.

- ``weight(level, row, OFF, OPT) -> weight`` in [0, 1], 0 outside the mask
- ``mix(value, source, weight, peak) -> value`` in image units, before clipping to [0, ``peak``]
"""

import triton
import triton.language as tl

from .masks import f


@triton.jit
def opaque(level, row, OFF: tl.constexpr, OPT: tl.constexpr):
    """Weight 1 inside."""
    return tl.where(level > 0.0, 1.0, 0.0)


@triton.jit
def opacity(level, row, OFF: tl.constexpr, OPT: tl.constexpr):
    """One weight per sample inside. Columns: opacity."""
    return tl.where(level > 0.0, f(row, OFF), 0.0)


@triton.jit
def feather(level, row, OFF: tl.constexpr, OPT: tl.constexpr):
    """A ramp of the level from 0 at the edge to the opacity. Columns: opacity, 1 / width."""
    return tl.minimum(tl.maximum(level * f(row, OFF + 1), 0.0), 1.0) * f(row, OFF)


@triton.jit
def over(value, source, weight, peak: tl.constexpr):
    """The source over the image; weight 1 gives the source exactly."""
    return weight * source + (1.0 - weight) * value


@triton.jit
def replace(value, source, weight, peak: tl.constexpr):
    """The source itself wherever it has weight: one that was mixed with the image before."""
    return source


@triton.jit
def add(value, source, weight, peak: tl.constexpr):
    """The source, centred on mid-grey, added to the image."""
    return value + weight * (source - 0.5 * peak)


@triton.jit
def multiply(value, source, weight, peak: tl.constexpr):
    """The image attenuated by the source: at weight 1, value * source / peak."""
    return value - weight * (value - value * (source * (1.0 / peak)))
