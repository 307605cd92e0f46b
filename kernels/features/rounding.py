"""Rounding to the dtype of storage: to nearest, or at random.

Twin of ``anoaug/reference/features/rounding.py``.
"""

import triton
import triton.language as tl

from ..rng import uniform


@triton.jit
def stochastic(value, word, DTYPE: tl.constexpr):
    """A float32 block at one of its two neighbours in a 16-bit dtype, unbiased."""
    nearest = value.to(DTYPE)
    back = nearest.to(tl.float32)
    bits = nearest.to(tl.int16, bitcast=True)
    inner = tl.where(tl.abs(back) > tl.abs(value), bits - 1, bits).to(tl.int16)
    outer = (inner + 1).to(tl.int16)
    low = inner.to(DTYPE, bitcast=True).to(tl.float32)
    high = outer.to(DTYPE, bitcast=True).to(tl.float32)
    # Both differences are exact: neighbours are that close.
    above = uniform(word) * tl.abs(high - low) < tl.abs(value - low)
    chosen = tl.where(above, outer, inner).to(DTYPE, bitcast=True)
    infinite = float("inf")
    finite = (tl.abs(back) < infinite) & (tl.abs(high) < infinite)
    return tl.where(finite, chosen, nearest)


@triton.jit
def stored(value, word, DTYPE: tl.constexpr, STOCHASTIC: tl.constexpr):
    """A float32 (float64) block in the dtype of storage; ``word`` is read for random rounding."""
    if STOCHASTIC:
        return stochastic(value, word, DTYPE)
    else:
        return value.to(DTYPE)
