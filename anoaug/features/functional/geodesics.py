"""Random steps along geodesics: of a sphere through the feature, or of constant curvature."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ... import checks
from ...reference import features as reference
from ...rng import uniform
from ..ops.rows import rows
from .door import Call, number, opened
from .manifolds import EDGE, EDGE_WIDE, reach


def geodesic_step(
    features: Tensor,
    mask: Tensor | None = None,
    rng: Tensor | None = None,
    *,
    angle: float | tuple[float, float] | None = None,
    length: float | None = None,
    curvature: float | None = None,
    layout: str | None = None,
    prefix: int = 0,
    noise: Tensor | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Move features along geodesics in random directions.

    With ``angle`` on the sphere that each feature lies on: its length stays, and normalised
    embeddings stay normalised (to about 1e-6; rounding to 16 bits comes after). With ``length`` on
    the manifold of constant curvature whose stereographic coordinates the features are, after Naud
    and Lavin (arXiv 2006.11364). Directions are uniform among the tangents; the gradient is that of
    the step for constant noise. A feature of length 0 stays on its sphere, and moves on a manifold.

    Args:
        features: ``(B, C, h, w)``, ``(B, h, w, C)``, ``(B, P, C)`` or ``(N, C)``.
        mask: Positions to move, on the features' grid; None: all.
        rng: Keys from :func:`anoaug.features.keys`: one per image, or per equal share of the rows.
        angle: Degrees, or a range from which every position draws; exactly one of this and
            ``length``.
        length: Geodesic length of the step; for K > 0 below pi / sqrt(K).
        curvature: K, with ``length``. For K < 0 features beyond the ball of radius 1 / sqrt(-K) are
            brought to its edge first.
        layout: See :func:`anoaug.features.layouts.grid`, likewise ``prefix``.
        prefix: Tokens that stay as they are.
        noise: Standard normal noise like the features instead of ``rng``'s, for tests.
        backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``.

    Returns:
        Moved features, and the mask of moved positions as float32 in the layout's shape.

    Raises:
        TypeError, ValueError: Bad input.
    """
    check_step(angle, length, curvature)
    call = opened(features, mask, rng, layout, prefix, noise, backend)
    if angle is not None:
        moved = _on_sphere(call, angle)
    else:
        assert length is not None and curvature is not None
        moved = _on_manifold(call, length, curvature)
    return call.result(moved, call.inside)


def check_step(angle: Any, length: Any, curvature: Any) -> None:
    """Refuse what is no step, or two.

    Raises:
        TypeError, ValueError: See there.
    """
    if (angle is None) == (length is None) or (length is None) != (curvature is None):
        raise ValueError(
            "strength: expected angle=, or length= with curvature=, got "
            f"angle={angle!r}, length={length!r}, curvature={curvature!r}"
        )
    if angle is not None:
        checks.interval("angle", angle, -180.0, 180.0)
        return
    size, bend = number("length", length, 0.0), number("curvature", curvature, -math.inf)
    if bend > 0 and size >= math.pi / math.sqrt(bend):
        raise ValueError(
            f"length: expected less than pi / sqrt(K) = {math.pi / math.sqrt(bend):.4g}, the way "
            f"to the other pole, got {length!r}"
        )


def _on_sphere(call: Call, angle: float | tuple[float, float]) -> Tensor:
    low, high = (math.radians(end) for end in checks.interval("angle", angle, -180.0, 180.0))
    cosine: Tensor | float = math.cos(low)
    sine: Tensor | float = math.sin(low)
    if high > low:
        words = reference.position_words(call.words(), call.grid.positions)
        drawn = low + uniform(words[0]) * (high - low)
        cosine, sine = torch.cos(drawn), torch.sin(drawn)
    return rows(
        call.values, "sphere", cosine, sine, keys=call.keys, noise=call.noise,
        inside=call.inside, backend=call.backend,
    )  # fmt: skip


def _on_manifold(call: Call, length: float, curvature: float) -> Tensor:
    values = call.values
    if curvature < 0:
        edge = (1.0 - EDGE.get(values.dtype, EDGE_WIDE)) / math.sqrt(-curvature)
        origin = values.new_zeros(values.shape[2]).expand(values.shape)
        values = rows(
            values, "project", 0.0, edge, 0.0, other=origin, inside=call.inside,
            backend=call.backend,
        )  # fmt: skip
    return rows(
        values, "stereographic", curvature, reach(length, curvature), keys=call.keys,
        noise=call.noise, inside=call.inside, backend=call.backend,
    )  # fmt: skip
