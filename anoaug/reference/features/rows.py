"""Rows by a law in torch: the twin of ``kernels/features/rows.py``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import randomness
from .laws import LAWS, Row, length, project_slopes
from .noise import wide


def gathered(other: Tensor, index: Tensor | None) -> Tensor:
    """The other vectors ``[G, P, C]``: as they are, or rows ``index`` of a table ``[K, C]``."""
    return other if index is None else other[index]


def row_of(
    features: Tensor,
    other: Tensor | None,
    index: Tensor | None,
    keys: Tensor | None,
    noise: Tensor | None,
    numbers: Sequence[float],
    columns: Tensor | None,
) -> Row:
    """What a law reads, in float32 or float64."""
    # Contiguous: sums are then the same bits however the features lie.
    x = wide(features).contiguous()
    beside = x if other is None else gathered(other, index).to(x.dtype).contiguous()
    if noise is not None:
        drawn = noise.to(x.dtype).contiguous()
    elif keys is not None:
        drawn = randomness.gaussians(keys, *x.shape[1:]).to(x.dtype)
    else:
        drawn = x.new_empty(0)
    if columns is None:
        return Row(x, beside, drawn, tuple(x.new_full((1, 1, 1), number) for number in numbers))
    return Row(x, beside, drawn, columns.to(x.dtype)[..., None, :].unbind(-1))


def apply(
    features: Tensor,
    other: Tensor | None,
    index: Tensor | None,
    keys: Tensor | None,
    noise: Tensor | None,
    inside: Tensor | None,
    numbers: Sequence[float],
    columns: Tensor | None,
    law: str,
) -> Tensor:
    """Rows by a law, computed in float32 and rounded once.

    Args:
        features: ``[G, P, C]`` of any float dtype and strides.
        other: ``[G, P, C]``, or with ``index`` a table ``[K, C]``; for laws that have it.
        index: int64 ``[G, P]``: rows of the table.
        keys: int64 ``[G, 2]``, for laws that have noise.
        noise: Standard normal ``[G, P, C]`` instead of that of the keys.
        inside: bool ``[G, P]``: rows to perturb; the others keep their bits. None: all.
        numbers: The law's columns where they are the same for all rows.
        columns: ``[G, P, N]`` where they are not, or None.
        law: A name of ``LAWS``.

    Returns:
        ``[G, P, C]`` of the features' dtype and strides.
    """
    row = row_of(features, other, index, keys, noise, numbers, columns)
    moved = LAWS[law].forward(row).to(features.dtype)
    out = moved if inside is None else torch.where(inside[..., None], moved, features)
    return torch.empty_like(features).copy_(out)


def backward(
    grad: Tensor,
    slopes: bool,
    features: Tensor,
    other: Tensor | None,
    index: Tensor | None,
    keys: Tensor | None,
    noise: Tensor | None,
    inside: Tensor | None,
    numbers: Sequence[float],
    columns: Tensor | None,
    law: str,
) -> tuple[Tensor, Tensor]:
    """Gradients of :func:`apply`: of the features and, if asked, of low and high in ``project``.

    Returns:
        ``[G, P, C]`` like the features, and ``[2, G, P]`` float32 or float64, or nothing.
    """
    row = row_of(features, other, index, keys, noise, numbers, columns)
    above = wide(grad).contiguous()
    derive = LAWS[law].backward
    assert derive is not None
    given = derive(row, above)
    found = project_slopes(row, above) if slopes else above.new_empty(0)
    if inside is not None:
        given = torch.where(inside[..., None], given, above)
        found = torch.where(inside, found, 0.0) if slopes else found
    return torch.empty_like(features).copy_(given), found


def distances(features: Tensor, other: Tensor, index: Tensor | None) -> Tensor:
    """Distance of every row to the other vector, float32 (or float64) ``[G, P]``."""
    x = wide(features)
    return length((x - gathered(other, index).to(x.dtype)).contiguous())[..., 0]


def noise_lengths(keys: Tensor, positions: int, channels: int) -> Tensor:
    """Length of every row's noise, float32 ``[G, P]``."""
    return length(randomness.gaussians(keys, positions, channels))[..., 0]
