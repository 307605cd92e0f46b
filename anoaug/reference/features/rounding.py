"""Rounding at random: what keeps steps below a dtype's spacing alive on average."""

from __future__ import annotations

import torch
from torch import Tensor

from ...rng import uniform


def stochastic(values: Tensor, dtype: torch.dtype, words: Tensor) -> Tensor:
    """Values in a 16-bit dtype, each at one of its two neighbours, unbiased.

    A value a share e above the neighbour nearer to zero goes there with probability 1 - e and to
    the other with probability e. Values that are not finite, or that no finite number of the dtype
    reaches, go as rounding to nearest has them; other dtypes round to nearest.

    Args:
        values: float32 or float64.
        dtype: ``torch.bfloat16`` or ``torch.float16`` for any effect.
        words: int64 in [0, 2**32), like the values.
    """
    nearest = values.to(dtype)
    if dtype not in (torch.bfloat16, torch.float16):
        return nearest
    back = nearest.to(values.dtype)
    bits = nearest.view(torch.int16)
    # Sign and magnitude: one more is one step away from zero, one less a step towards it.
    inner = torch.where(back.abs() > values.abs(), bits - 1, bits)
    outer = inner + 1
    low, high = inner.view(dtype).to(values.dtype), outer.view(dtype).to(values.dtype)
    above = uniform(words) * (high - low).abs() < (values - low).abs()
    chosen = torch.where(above, outer, inner).view(dtype)
    return torch.where(back.isfinite() & high.isfinite(), chosen, nearest)
