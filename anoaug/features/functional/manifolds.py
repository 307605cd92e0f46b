"""Manifolds of constant curvature, by stereographic projection: sums, distances, geodesics.

Textbook formulas (Ungar's gyrovectors; the projected sphere for K > 0, the Poincaré ball of radius
1 / sqrt(-K) for K < 0), the spaces of Naud and Lavin (arXiv 2006.11364). Points are vectors along
the last axis; for K = 0 everything is Euclidean but for a metric of 4: the limit from both sides.
Computed in float32 (float64 stays), autocast off.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# How near the edge of the ball points may be, in units of its radius, by the digits of a dtype.
EDGE = {torch.float16: 4e-3, torch.bfloat16: 4e-3}
EDGE_WIDE = 1e-5


def _wide(*values: Tensor) -> list[Tensor]:
    return [value.to(torch.promote_types(value.dtype, torch.float32)) for value in values]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1, keepdim=True)


def _length(a: Tensor) -> Tensor:
    """Lengths whose gradient at 0 is 0."""
    square = _dot(a, a)
    return torch.where(square > 0, torch.where(square > 0, square, 1.0).sqrt(), 0.0)


def reach(length: float, curvature: float) -> float:
    """How far in coordinates a geodesic from the origin gets: tan(sqrt(K) l / 2) / sqrt(K).

    Args:
        length: Geodesic length; for K > 0 below pi / sqrt(K), which is infinitely far.
        curvature: K.
    """
    if curvature > 0:
        root = math.sqrt(curvature)
        return math.tan(root * length / 2) / root
    if curvature < 0:
        root = math.sqrt(-curvature)
        return math.tanh(root * length / 2) / root
    return length / 2


def conformal_factor(x: Tensor, curvature: float) -> Tensor:
    """How much longer than in coordinates things are at points: 2 / (1 + K |x|^2), ``[..., 1]``."""
    (x,) = _wide(x)
    return 2.0 / (1.0 + curvature * _dot(x, x))


def gyro_add(x: Tensor, y: Tensor, curvature: float) -> Tensor:
    """The gyro-sum of points; neither commutative nor associative unless K is 0.

    Args:
        x: ``[..., C]`` floats.
        y: Likewise; the two broadcast.
        curvature: K. For K < 0 points lie within the ball of radius 1 / sqrt(-K).

    Returns:
        float32 (or float64) ``[..., C]``.
    """
    x, y = _wide(x, y)
    xy, xx, yy = _dot(x, y), _dot(x, x), _dot(y, y)
    first = 1.0 - 2.0 * curvature * xy
    below = first + curvature**2 * xx * yy
    # 0 only where the sum is infinitely far.
    below = torch.where(below == 0, torch.finfo(below.dtype).tiny, below)
    return ((first - curvature * yy) * x + (1.0 + curvature * xx) * y) / below


def geodesic_distance(x: Tensor, y: Tensor, curvature: float) -> Tensor:
    """Geodesic distances ``[...]``: 2 / sqrt(K) arctan(sqrt(K) |-x + y|), artanh for K < 0."""
    apart = _length(gyro_add(-x, y, curvature))[..., 0]
    if curvature > 0:
        root = math.sqrt(curvature)
        return 2.0 / root * torch.atan(root * apart)
    if curvature < 0:
        root = math.sqrt(-curvature)
        # Rounding puts points of the edge beyond it.
        return (
            2.0 / root * torch.atanh((root * apart).clamp(max=1.0 - torch.finfo(apart.dtype).eps))
        )
    return 2.0 * apart


def exponential_map(x: Tensor, v: Tensor, curvature: float) -> Tensor:
    """Where geodesics from points end after unit time.

    Args:
        x: ``[..., C]`` points.
        v: Their velocities, in coordinates: the geodesic is conformal_factor(x) |v| long.
        curvature: K.

    Returns:
        float32 (or float64) ``[..., C]``; x where v is 0.
    """
    x, v = _wide(x, v)
    speed = _length(v)
    half = conformal_factor(x, curvature) * speed / 2.0
    if curvature > 0:
        root = math.sqrt(curvature)
        far = torch.tan(root * half) / root
    elif curvature < 0:
        root = math.sqrt(-curvature)
        far = torch.tanh(root * half) / root
    else:
        far = half
    # far / speed tends to half the factor.
    still = speed == 0
    ratio = torch.where(
        still, conformal_factor(x, curvature) / 2.0, far / torch.where(still, 1.0, speed)
    )
    return gyro_add(x, ratio * v, curvature)


def sphere_exponential(x: Tensor, v: Tensor) -> Tensor:
    """Where great circles end: cos|v| x + sin|v| |x| v / |v|, v made a tangent at x first.

    Args:
        x: ``[..., C]`` points; of any length, which stays.
        v: Likewise; its part across x is an angle in radians and a direction.

    Returns:
        float32 (or float64) ``[..., C]``; x where v has no part across it.
    """
    x, v = _wide(x, v)
    length = _length(x)
    unit = x / torch.where(length == 0, 1.0, length)
    across = v - _dot(v, unit) * unit
    across = across - _dot(across, unit) * unit
    angle = _length(across)
    moved = torch.cos(angle) * x + torch.sinc(angle / math.pi) * length * across
    now = _length(moved)
    return moved * (length / torch.where(now == 0, 1.0, now))
