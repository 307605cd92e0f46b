"""Features less their nearest reference, which differ less between products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import layouts
from .nearest import nearest


def residual(
    features: Tensor,
    references: Tensor,
    *,
    squared: bool = False,
    layout: str | None = None,
    prefix: int = 0,
) -> tuple[Tensor, Tensor]:
    """Features less the reference of the largest cosine, or the square of that.

    ResAD (Yao et al., NeurIPS 2024) compares features with those of a few normal images of the same
    product; their residuals are alike across products. Noise and other perturbations of this room
    may follow. References are constants for autograd. Computed in float32, rounded once.

    Args:
        features: ``(B, C, h, w)``, ``(B, h, w, C)``, ``(B, P, C)`` or ``(N, C)``.
        references: ``[R, C]``: features of normal images.
        squared: Whether the residual is squared.
        layout: See :func:`anoaug.features.layouts.grid`, likewise ``prefix``.
        prefix: Tokens that stay as they are.

    Returns:
        Residuals like the features, and int64 ``[G, P]`` numbers of the references.

    Raises:
        TypeError, ValueError: Bad input.
    """
    grid = layouts.grid(features, layout, prefix=prefix)
    _check(references, grid.channels, features)
    seen = grid.view(features)
    values = seen.to(torch.promote_types(seen.dtype, torch.float32))
    place, _ = nearest(values, references, "cosine")
    found = values - references.detach().to(values.dtype)[place]
    return grid.restore(found.square() if squared else found, features), place


def _check(references: Any, channels: int, features: Tensor) -> None:
    if not isinstance(references, Tensor) or not references.dtype.is_floating_point:
        raise TypeError(
            f"references: expected floats [R, {channels}], got {type(references).__name__}"
        )
    if references.dim() != 2 or references.shape[1] != channels or not len(references):
        raise ValueError(
            f"references: expected at least one of {channels} channels, got "
            f"{list(references.shape)}; flatten maps to rows"
        )
    if references.device != features.device:
        raise ValueError(f"references: expected device {features.device}, got {references.device}")
