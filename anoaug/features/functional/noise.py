"""Gaussian noise on features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...reference import features as reference
from ...rng import uniform
from .. import layouts
from ..strength import Strength
from ..strength import strength as one_strength


def gaussian_noise(
    features: Tensor,
    mask: Tensor | None = None,
    rng: Tensor | None = None,
    *,
    strength: Strength | None = None,
    sigma: float | None = None,
    radius: float | None = None,
    ratio: float | None = None,
    z: float | None = None,
    deviation: Tensor | None = None,
    mixture: int = 1,
    growth: float = 1.1,
    layout: str | None = None,
    prefix: int = 0,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Add normal noise of one strength, or at each position of one among several.

    SimpleNet (Liu et al., CVPR 2023): every position draws k from 0 to ``mixture - 1`` and gets
    noise ``growth ** k`` times as strong. Computed in float32, rounded once to the features' dtype.

    Args:
        features: ``(B, C, h, w)``, ``(B, h, w, C)``, ``(B, P, C)`` or ``(N, C)``.
        mask: Positions to perturb, on the features' grid; None: all.
        rng: Keys from :func:`anoaug.features.keys`: one per image, or per equal share of the rows.
        strength: A ready one, instead of the next four.
        sigma: Strength, exactly one of the four: see :class:`anoaug.features.strength.Strength`.
        radius: Length of the noise.
        ratio: Length of the noise over that of the feature.
        z: In the channels' own deviations.
        deviation: ``[C]``, for ``z``.
        mixture: K, at least 1.
        growth: Ratio between one strength of the mixture and the next, above 0.
        layout: See :func:`anoaug.features.layouts.grid`, likewise ``prefix``.
        prefix: Tokens that stay as they are.
        noise: Standard normal noise like the features instead of ``rng``'s, for tests.

    Returns:
        Perturbed features, and the mask of perturbed positions as float32 in the layout's shape.

    Raises:
        TypeError, ValueError: Bad input.
    """
    chosen = strength or one_strength(sigma, radius, ratio, z)
    if not isinstance(mixture, int) or mixture < 1:
        raise ValueError(f"mixture: expected a whole number from 1 on, got {mixture!r}")
    if not growth > 0:
        raise ValueError(f"growth: expected a number above 0, got {growth!r}")
    grid = layouts.grid(features, layout, groups=_groups(rng), prefix=prefix)
    inside = None if mask is None else grid.flat("mask", mask, features)
    values = grid.view(features)
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    if noise is not None:
        drawn = grid.view(noise).to(wide.dtype)
    else:
        drawn = reference.gaussians(checked_rng(rng, grid, features), *wide.shape[1:])
    step = drawn.to(wide.dtype) * chosen.scale(wide, deviation)
    if mixture > 1:
        words = reference.position_words(checked_rng(rng, grid, features), grid.positions)
        level = torch.floor(uniform(words[0]) * mixture)
        step = step * torch.pow(growth, level)[..., None].to(wide.dtype)
    moved = wide + step
    if inside is None:
        everywhere = values.new_ones(values.shape[:2], dtype=torch.bool)
        return grid.restore(moved, features), grid.shaped(everywhere)
    return grid.restore(torch.where(inside[..., None], moved, wide), features), grid.shaped(inside)


def _groups(rng: Any) -> int | None:
    return len(rng) if isinstance(rng, Tensor) else None


def checked_rng(rng: Any, grid: layouts.Grid, features: Tensor) -> Tensor:
    """Refuse keys that do not fit the features.

    Raises:
        TypeError: Not what :func:`anoaug.features.keys` gives.
        ValueError: For another number of images, or on another device.
    """
    if not isinstance(rng, Tensor) or rng.dtype != torch.int64 or rng.dim() != 2:
        raise TypeError(
            f"rng: expected keys int64 [{grid.groups}, 2], got {type(rng).__name__}; "
            "anoaug.features.keys(seed, index) makes them"
        )
    if tuple(rng.shape) != (grid.groups, 2) or rng.device != features.device:
        raise ValueError(
            f"rng: expected keys [{grid.groups}, 2] on {features.device}, got "
            f"{list(rng.shape)} on {rng.device}; one for each image"
        )
    return rng
