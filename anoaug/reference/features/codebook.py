"""The code at a given rank of distance, in torch: the twin of ``kernels/features/codebook.py``.

Codes are ranked by |c|^2 - 2 x.c of features and codes less the codes' mean, the squared distance
but for |x|^2, which all codes share; equal ones by their number. No row is sorted: the order
statistic is found from histograms of the scores' bits, eight at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Elements of a tile of scores: 4 MB of float32.
TILE = 1 << 20


def centred(codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The codes' mean ``[C]``, codes less it ``[K, C]``, and their squared lengths ``[K]``.

    Without it, differences of large squares would lose the digits that ranks depend on.
    """
    middle = codes.mean(0)
    apart = codes - middle
    return middle, apart, apart.square().sum(1)


def scores(rows: Tensor, middle: Tensor, codes: Tensor, squares: Tensor) -> Tensor:
    """Scores ``[n, K]`` of rows ``[n, C]``, without a negative zero."""
    return squares - 2.0 * ((rows - middle) @ codes.T) + 0.0


def sortable(values: Tensor) -> Tensor:
    """int32 numbers in the order of float32 ones."""
    bits = values.view(torch.int32)
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def at_rank(values: Tensor, ranks: Tensor) -> Tensor:
    """Which of each row's values has a rank, equal ones in their order.

    Args:
        values: float32 ``[n, K]``.
        ranks: int64 ``[n]`` from 0 to K - 1.

    Returns:
        int64 ``[n]``.
    """
    keys = sortable(values)
    left, prefix = ranks[:, None], torch.zeros_like(ranks, dtype=torch.int32)[:, None]
    for shift in (24, 16, 8, 0):
        digit = (keys >> shift) & 255
        if shift == 24:
            digit = digit ^ 128  # negative ones come first
            weight = torch.ones_like(digit)
        else:
            weight = ((keys >> (shift + 8)) == prefix).to(torch.int32)
        bins = torch.zeros(len(keys), 256, dtype=torch.int32, device=keys.device)
        bins.scatter_add_(1, digit.to(torch.int64), weight)
        until = bins.cumsum(1)
        chosen = (until <= left).sum(1, keepdim=True).clamp(max=255)
        left = left - (until - bins).gather(1, chosen)
        found = chosen.to(torch.int32)
        prefix = (found ^ 128) << 24 >> 24 if shift == 24 else (prefix << 8) | found
    equal = keys == prefix
    return (equal & (equal.cumsum(1) == left + 1)).to(torch.uint8).argmax(1)


def swap(
    features: Tensor, inside: Tensor | None, ranks: Tensor, codes: Tensor
) -> tuple[Tensor, Tensor]:
    """Features with some positions replaced by the code at a rank of distance from each.

    Args:
        features: ``[G, P, C]``, any strides.
        inside: bool ``[G, P]``: which positions; None: all.
        ranks: int64 ``[G, P]`` from 0 (the nearest) to K - 1.
        codes: float32 ``[K, C]``.

    Returns:
        Features, of the strides that ``torch.empty_like`` gives; int64 ``[G, P]`` numbers of the
        codes, -1 where none came.
    """
    found = torch.empty_like(features)
    found.copy_(features)
    number = torch.full_like(ranks, -1)
    if not ranks.numel():
        return found, number
    chosen = torch.ones_like(ranks, dtype=torch.bool) if inside is None else inside
    group, place = chosen.nonzero(as_tuple=True)
    prepared = centred(codes)
    step = max(TILE // len(codes), 1)
    for first in range(0, len(group), step):
        g, p = group[first : first + step], place[first : first + step]
        index = at_rank(scores(features[g, p].to(torch.float32), *prepared), ranks[g, p])
        number[g, p] = index
        found[g, p] = codes[index].to(features.dtype)
    return found, number
