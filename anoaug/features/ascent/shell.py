"""Shells around a base, by rows: steps along gradients, and projection."""

from __future__ import annotations

import torch
from torch import Tensor


def lengths(rows: Tensor) -> Tensor:
    """Euclidean lengths ``[..., 1]`` of ``[..., C]``; the gradient of a zero row is zero."""
    squares = rows.square().sum(-1, keepdim=True)
    return torch.where(squares > 0, squares, 1.0).sqrt() * (squares > 0)


def units(rows: Tensor) -> Tensor:
    """Rows of length 1; a zero row becomes the one with equal entries."""
    size = lengths(rows)
    even = rows.shape[-1] ** -0.5 if rows.shape[-1] else 0.0
    return torch.where(size > 0, rows / torch.where(size > 0, size, 1.0), even)


def step(offset: Tensor, gradient: Tensor, size: float, eps: float) -> Tensor:
    """A step of one length along each row's gradient; a row without a gradient stays.

    Args:
        offset: ``[..., C]``.
        gradient: Likewise; a constant.
        size: Length of the step.
        eps: Added to the gradient's length, which makes steps along vanishing ones shorter.
    """
    length = lengths(gradient) + eps
    return offset + gradient * (size / torch.where(length > 0, length, 1.0))


def project(offset: Tensor, low: float | Tensor, high: float | Tensor, otherwise: Tensor) -> Tensor:
    """Bring the length of every row into [low, high] and keep its direction.

    The Jacobian of a row inside is the identity; of one that is clamped it is ``low`` (or ``high``)
    over its length, without the radial direction. Gradients also flow to radii that have any.

    Args:
        offset: ``[..., C]`` rows relative to their base.
        low: Smallest length, a number or a tensor without axes.
        high: Largest length.
        otherwise: ``[..., C]`` unit rows: where a row of length zero goes, at ``low``; a constant.
    """
    length = lengths(offset)
    least = torch.as_tensor(low, dtype=offset.dtype, device=offset.device)
    most = torch.as_tensor(high, dtype=offset.dtype, device=offset.device)
    safe = torch.where(length > 0, length, 1.0)
    clamped = torch.clamp(length, least, most)
    return torch.where(length > 0, offset * (clamped / safe), otherwise * least)


def clamped_share(
    offset: Tensor, inside: Tensor, low: float | Tensor, high: float | Tensor
) -> Tensor:
    """Share of the rows ``inside`` that :func:`project` changes, without axes; 0 without rows."""
    length = lengths(offset.detach())[..., 0]
    changed = ((length < low) | (length > high)) & inside
    return changed.sum() / inside.sum().clamp(min=1)
