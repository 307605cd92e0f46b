"""New samples at the edge of normal features: of a Gaussian's tail, or about their boundary."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import checks
from .. import ops
from .door import number


@torch.no_grad()
def low_density_gaussian(
    mean: Tensor,
    factor: Tensor,
    rng: Tensor,
    count: int = 1,
    *,
    draws: int = 10_000,
    select: int = 1,
) -> tuple[Tensor, Tensor]:
    """The least likely of many samples of a Gaussian, without drawing the others.

    VOS (Du et al., ICLR 2022) draws 10 000 and keeps the one of lowest density. Under
    x = mean + L z that is the one of the largest |z|, and the length and direction of z are
    independent: so the largest of 10 000 lengths is drawn, one direction, and one product with L.

    Args:
        mean: float32 ``[G, C]``, one for each group, or ``[C]``, or ``[G, P, C]``.
        factor: float32 ``[C, C]``: L with L L^T the covariance; its lower triangle alone counts.
        rng: Keys int64 ``[G, 2]``.
        count: Samples of each group.
        draws: Among how many a sample is the least likely.
        select: How many are kept of the same draws, from the least likely up.

    Returns:
        float32 samples ``[G, count, C]``, constants for autograd, and their Mahalanobis distances
        ``[G, count]``.

    Raises:
        ValueError: Shapes that do not fit, or numbers out of range.
    """
    checks.whole("count", count, 0)
    checks.whole("draws", draws, 1)
    checks.whole("select", select, 1, draws)
    channels = mean.shape[-1]
    if factor.shape != (channels, channels):
        raise ValueError(
            f"factor: expected [{channels}, {channels}] for means of {channels} channels, got "
            f"{list(factor.shape)}"
        )
    lengths, direction = ops.feature_tail(rng, count, channels, draws, select)
    with torch.autocast(factor.device.type, enabled=False):
        step = (direction * lengths[..., None]) @ factor.tril().T
    middle = mean if mean.dim() == 3 else mean.reshape(-1, 1, channels)
    return middle + step, lengths


@torch.no_grad()
def knn_boundary(
    rows: Tensor,
    rng: Tensor,
    *,
    k: int = 300,
    boundary: int = 200,
    points: int = 3,
    candidates: int = 600,
    sigma: float = 0.1,
    keep: int = 2,
) -> tuple[Tensor, Tensor]:
    """Samples outside the boundary of normal features, found by their nearest neighbours.

    NPOS (Tao et al., ICLR 2023): of the rows that are farthest from their k-th neighbour some are
    drawn, noise makes candidates of each, and those farthest from their own k-th neighbour are
    kept. Distances are between vectors of unit length, the samples are not brought to it. The
    published code reads the candidates' distances in the wrong order once there are several
    points, which keeps arbitrary ones; here the farthest of each point are kept.

    Args:
        rows: Normal features float32 ``[L, C]``, or ``[G, L, C]`` for each group.
        rng: Keys int64 ``[G, 2]``.
        k: Which neighbour; a row is its own first. The paper has 300 and 400.
        boundary: Rows that count as the boundary.
        points: How many of those are drawn, without repetition.
        candidates: Made of each.
        sigma: Of the noise.
        keep: Kept of each point's.

    Returns:
        float32 samples ``[G, points * keep, C]``, those of a point side by side and the farthest
        first, constants for autograd; and their distances ``[G, points * keep]``.

    Raises:
        ValueError: Fewer rows than k or than the boundary, or other numbers out of range.
    """
    _check_sizes(rows.shape[-2], k, boundary, points, candidates, keep)
    number("sigma", sigma, 0.0)
    return ops.feature_boundary(
        rows.detach(), rng, k, boundary, points, candidates, float(sigma), keep
    )


def _check_sizes(
    length: int, k: Any, boundary: Any, points: Any, candidates: Any, keep: Any
) -> None:
    """Refuse what does not fit a queue of so many rows."""
    for name, value, high in (
        ("k", k, length),
        ("boundary", boundary, length),
        ("points", points, boundary),
        ("candidates", candidates, None),
        ("keep", keep, candidates),
    ):
        checks.whole(name, value, 1, high)
