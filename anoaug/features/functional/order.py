"""Quantiles of any number of values without a sort; on a device nothing is asked of the host."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ... import checks

_BITS = {torch.float32: (torch.int32, 32), torch.float64: (torch.int64, 64)}
# Histograms side by side, so that neighbours do not all count in the same bin.
_LANES = 64


def quantile(
    values: Tensor,
    q: float,
    mask: Tensor | None = None,
    *,
    empty: float = 0.0,
    total: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The q-quantile of values, interpolated linearly, as ``torch.quantile`` has it.

    Of any number of values (``torch.quantile`` refuses more than 2**24, and sorts), of a masked
    part of them, or of the values of several ranks. Computed on the values' device from histograms
    of their bits, or by a selection where their number is known without waiting. The gradient goes
    to the values that equal the two order statistics, in equal shares. NaN are the largest values.

    Args:
        values: Floats of any shape; 16-bit ones are taken as float32.
        q: In [0, 1].
        mask: bool like ``values``: which of them count; None: all.
        empty: The result where none counts.
        total: Sums an int64 tensor over ranks, for the quantile of all their values.

    Returns:
        A scalar of the values' dtype, float32 for 16-bit ones.

    Raises:
        TypeError: No floats.
        ValueError: q outside [0, 1], or a mask of another shape.
    """
    checks.probability("q", q)
    if not isinstance(values, Tensor) or not values.dtype.is_floating_point:
        raise TypeError(f"values: expected a tensor of floats, got {values!r:.60}")
    if mask is not None and mask.shape != values.shape:
        raise ValueError(
            f"mask: expected shape {list(values.shape)} like the values, got {list(mask.shape)}"
        )
    wide = values.to(torch.promote_types(values.dtype, torch.float32)).flatten()
    inside = None if mask is None else mask.flatten().bool()
    graded = wide.requires_grad and torch.is_grad_enabled()
    alone = total is None and wide.device.type == "cpu" and not torch.compiler.is_compiling()
    if inside is not None and alone and not graded:
        wide, inside = wide[inside], None  # host: a CPU tensor's
    if inside is None and total is None and wide.numel():
        # Their number is known here, and torch selects without a sort.
        place = q * (wide.numel() - 1)
        first = math.floor(place)
        low = wide.kthvalue(first + 1).values
        high = wide.kthvalue(min(first + 2, wide.numel())).values
        return low + (high - low) * (place - first)
    if inside is None:
        count = torch.full((), wide.numel(), dtype=torch.int64, device=wide.device)
    else:
        count = inside.sum()
    counted = count if total is None else total(count)
    rank = (counted - 1).clamp(min=0).to(torch.float64) * q
    below = rank.floor().to(torch.int64)
    above = torch.minimum(below + 1, (counted - 1).clamp(min=0))
    found = _order_statistics(wide.detach(), inside, torch.stack((below, above)), total)
    if graded:
        found = _with_gradient(wide, inside, found, total)
    share = (rank - below).to(wide.dtype)
    result = found[0] + (found[1] - found[0]) * share
    return torch.where(counted > 0, result, empty)


def _with_gradient(
    values: Tensor, inside: Tensor | None, found: Tensor, total: Callable[[Tensor], Tensor] | None
) -> Tensor:
    """The order statistics, as means of the values that equal them."""
    equal = values.detach() == found[:, None]
    if inside is not None:
        equal = equal & inside
    count = equal.sum(1)
    count = count if total is None else total(count)
    moved = values - values.detach()
    return found + torch.where(equal, moved, 0.0).sum(1) / count.clamp(min=1)


def _order_statistics(
    values: Tensor, inside: Tensor | None, ranks: Tensor, total: Callable[[Tensor], Tensor] | None
) -> Tensor:
    """The values of two ranks (from 0): eight bits at a time, from the highest."""
    integers, bits = _BITS[values.dtype]
    # -0.0 becomes 0.0: they are equal, their bits are not.
    signed = (values + 0.0).view(integers)
    keys = torch.where(signed < 0, signed ^ torch.iinfo(integers).max, signed)
    count = keys.numel()
    lane = torch.arange(count, device=keys.device) % _LANES * 256
    amount = torch.ones_like(lane) if inside is None else inside.to(torch.int64)
    found = []
    for rank in ranks.unbind():
        prefix = torch.zeros((), dtype=integers, device=keys.device)
        remaining = rank
        for shift in range(bits - 8, -1, -8):
            digit = (keys >> shift) & 255
            if shift == bits - 8:
                digit = digit ^ 128  # negative ones come first
                weight = amount
            else:
                weight = torch.where(keys >> (shift + 8) == prefix, amount, 0)
            histogram = torch.zeros(_LANES * 256, dtype=torch.int64, device=keys.device)
            histogram.scatter_add_(0, lane + digit, weight)
            bins = histogram.view(_LANES, 256).sum(0)
            bins = bins if total is None else total(bins)
            summed = bins.cumsum(0)
            chosen = (summed <= remaining).sum().clamp(max=255)
            # Gathered: an index of no dimensions would be read by the host.
            remaining = remaining - (summed - bins).gather(0, chosen[None])[0]
            if shift == bits - 8:
                prefix = ((chosen ^ 128) << 56 >> 56).to(integers)  # the sign of eight bits
            else:
                prefix = (prefix << 8) | chosen.to(integers)
        found.append(prefix)
    chosen_keys = torch.stack(found)
    flipped = chosen_keys ^ torch.iinfo(integers).max
    return torch.where(chosen_keys < 0, flipped, chosen_keys).view(values.dtype)
