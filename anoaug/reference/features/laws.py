"""Laws of single rows in torch: the twins of ``kernels/features/laws.py``.

A row is a position's feature x, with, as the law has it, another vector o (a gradient, a base, a
centre), normal noise e, and columns: numbers of its own. A law gives the perturbed row, and from
the gradient of that the gradient of x. Lengths are Euclidean; the unit vector of zero is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Row(NamedTuple):
    """Rows at once.

    Attributes:
        x: Features ``[G, P, C]``, float32 or float64.
        other: ``[G, P, C]``, for laws that have another vector.
        noise: Standard normal ``[G, P, C]``, for laws that have noise; in laws that need it only
            for rows of no direction None, where those are to stay.
        columns: ``[G, P, 1]`` each, or ``[1, 1, 1]``.
    """

    x: Tensor
    other: Tensor
    noise: Tensor
    columns: tuple[Tensor, ...]


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Products of rows ``[G, P, 1]``."""
    return (a * b).sum(-1, keepdim=True)


def length(a: Tensor) -> Tensor:
    """Lengths of rows ``[G, P, 1]``."""
    return dot(a, a).sqrt()


def over(a: Tensor, b: Tensor) -> Tensor:
    """A / b, and 0 where b is 0."""
    return a / torch.where(b == 0, 1, b) * (b != 0)


# ---- the laws ------------------------------------------------------------------------------------


def jitter(row: Row) -> Tensor:
    """Noise in proportion to the row's length: x + c |x| e."""
    return row.x + row.columns[0] * length(row.x) * row.noise


def jitter_backward(row: Row, grad: Tensor) -> Tensor:
    """The length is not held constant."""
    return grad + row.columns[0] * over(dot(grad, row.noise), length(row.x)) * row.x


def unit_jitter(row: Row) -> Tensor:
    """A random direction in proportion to the row's length: x + c |x| e / |e|."""
    return row.x + row.columns[0] * over(length(row.x), length(row.noise)) * row.noise


def unit_jitter_backward(row: Row, grad: Tensor) -> Tensor:
    """The length is not held constant."""
    along = over(dot(grad, row.noise), length(row.noise))
    return grad + row.columns[0] * over(along, length(row.x)) * row.x


def shell(row: Row) -> Tensor:
    """A random direction of a given length: x + c e / |e|."""
    return row.x + row.columns[0] * over(row.noise, length(row.noise))


def ascend(row: Row) -> Tensor:
    """A step along the other vector: x + c o / (|o| + eps); columns c and eps."""
    return row.x + row.columns[0] * over(row.other, length(row.other) + row.columns[1])


def push(row: Row) -> Tensor:
    """A step away from the other vector: x + c (x - o) / |x - o|; at it, a random direction."""
    away = row.x - row.other
    far = length(away)
    direction = over(away, far)
    if row.noise.numel():
        random = over(row.noise, length(row.noise))
        direction = torch.where(far == 0, random, direction)
    return row.x + row.columns[0] * direction


def project(row: Row) -> Tensor:
    """Onto the shell about the other vector: o + h clamp(|h|, low, high) / (|h| + eps), h = x - o.

    Columns low, high and eps. Rows inside keep their bits; at the centre a random direction.
    """
    low, high, eps = row.columns
    h = row.x - row.other
    far = length(h)
    moved = row.other + h * over(far.clamp(low, high), far + eps)
    if row.noise.numel():
        random = row.other + low * over(row.noise, length(row.noise))
        moved = torch.where(far == 0, random, moved)
    stays = (far >= low) & (far <= high)
    return torch.where(stays, row.x, moved)


def project_backward(row: Row, grad: Tensor) -> Tensor:
    """A moved row loses the radial component and is scaled; one of no direction has none."""
    low, high, eps = row.columns
    h = row.x - row.other
    far = length(h)
    scale = over(far.clamp(low, high), far + eps)
    along = over(over(dot(grad, h), far), far + eps)
    moved = scale * (grad - along * h)
    # A random direction does not depend on the row; a row that stays at the centre is itself.
    moved = torch.where(far == 0, 0 if row.noise.numel() else grad, moved)
    return torch.where((far >= low) & (far <= high), grad, moved)


def project_slopes(row: Row, grad: Tensor) -> Tensor:
    """``[2, G, P]``: what a greater low and a greater high would add to the loss."""
    low, high, eps = row.columns
    h = row.x - row.other
    far = length(h)
    along = over(dot(grad, h), far + eps)
    if row.noise.numel():
        random = over(dot(grad, row.noise), length(row.noise))
        along = torch.where(far == 0, random, along)
    return torch.stack((along * (far < low), along * (far > high)))[..., 0]


def sphere(row: Row) -> Tensor:
    """Along the great circle through the row, in a random direction, by a given angle.

    Columns cosine and sine. The row keeps its length; one that is zero, or whose noise has no
    part across it, stays.
    """
    cosine, sine = row.columns
    unit, across, _, far = _frame(row)
    turned = cosine * row.x + sine * length(row.x) * across
    return torch.where((far > 0) & (dot(unit, unit) > 0), turned, row.x)


def sphere_backward(row: Row, grad: Tensor) -> Tensor:
    """The direction turns with the row: what is transported stays across it."""
    cosine, sine = row.columns
    unit, across, along, far = _frame(row)
    onto_unit, onto_across = dot(unit, grad), dot(across, grad)
    turned = onto_across * unit - onto_unit * across
    rest = grad - onto_unit * unit - onto_across * across
    moved = cosine * grad + sine * (turned - over(along, far) * rest)
    return torch.where((far > 0) & (dot(unit, unit) > 0), moved, grad)


def _frame(row: Row) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """X / |x|, the noise's direction across it, its part along it, the length of that across."""
    unit = over(row.x, length(row.x))
    along = dot(row.noise, unit)
    part = row.noise - along * unit
    # Once more: the first difference of nearly parallel vectors keeps few digits.
    rest = dot(part, unit)
    part = part - rest * unit
    far = length(part)
    return unit, over(part, far), along + rest, far


def stereographic(row: Row) -> Tensor:
    """A geodesic step in a random direction on a manifold of constant curvature.

    Columns curvature K and reach t = tan(sqrt(K) l / 2) / sqrt(K) for a step of length l (tanh for
    K < 0, l / 2 for 0): the gyro-sum of x and t e / |e|.
    """
    curvature, reach = row.columns
    direction = over(row.noise, length(row.noise))
    a, b, _ = _gyro(row, direction)
    return a * row.x + b * direction


def stereographic_backward(row: Row, grad: Tensor) -> Tensor:
    """The direction is constant in the coordinates."""
    curvature, reach = row.columns
    direction = over(row.noise, length(row.noise))
    a, b, below = _gyro(row, direction)
    gx, gd = dot(grad, row.x), dot(grad, direction)
    bend = curvature * reach
    # Slopes of the two coefficients by <x, d> and by |x|^2.
    by_dot = over(2 * bend * ((a - 1) * gx + b * gd), below)
    by_square = over(bend * (gd - bend * (a * gx + b * gd)), below)
    return a * grad + by_dot * direction + 2 * by_square * row.x


def _gyro(row: Row, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The two coefficients of a gyro-sum, and their denominator."""
    curvature, reach = row.columns
    bend = curvature * reach
    first = 1 - 2 * bend * dot(row.x, direction)
    below = first + bend * bend * dot(row.x, row.x)
    a = over(first - bend * reach, below)
    b = over((1 + curvature * dot(row.x, row.x)) * reach, below)
    return a, b, below


Forward = Callable[[Row], Tensor]
Backward = Callable[[Row, Tensor], Tensor]


class Law(NamedTuple):
    """A law.

    Attributes:
        forward: Gives the perturbed row.
        backward: Gives the gradient of x, or None where it is that of the perturbed row.
        columns: How many.
        other: Whether it has another vector.
        noise: Whether it has noise: ``"always"``, ``"never"`` or, for rows of no direction,
            ``"zero"``.
    """

    forward: Forward
    backward: Backward | None
    columns: int
    other: bool
    noise: str


LAWS = {
    "jitter": Law(jitter, jitter_backward, 1, False, "always"),
    "unit_jitter": Law(unit_jitter, unit_jitter_backward, 1, False, "always"),
    "shell": Law(shell, None, 1, False, "always"),
    "ascend": Law(ascend, None, 2, True, "never"),
    "push": Law(push, None, 1, True, "zero"),
    "project": Law(project, project_backward, 3, True, "zero"),
    "sphere": Law(sphere, sphere_backward, 2, False, "always"),
    "stereographic": Law(stereographic, stereographic_backward, 2, False, "always"),
}
