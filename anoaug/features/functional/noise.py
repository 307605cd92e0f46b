"""Gaussian noise on features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import checks
from ...ops import BACKENDS, default_backend
from ...reference.features import noise as reference
from .. import layouts, ops
from ..strength import Strength, refuse_overflow
from ..strength import strength as one_strength

ROUNDINGS = ("nearest", "stochastic")


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
    rounding: str = "nearest",
    layout: str | None = None,
    prefix: int = 0,
    noise: Tensor | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Add normal noise of one strength, or at each position of one among several.

    SimpleNet (Liu et al., CVPR 2023): every position draws k from 0 to ``mixture - 1`` and gets
    noise ``growth ** k`` times as strong. Computed in float32, rounded once to the features' dtype.
    The noise is a constant: the gradient is the identity, also for ``ratio``.

    Args:
        features: ``(B, C, h, w)``, ``(B, h, w, C)``, ``(B, P, C)`` or ``(N, C)``.
        mask: Positions to perturb, on the features' grid; None: all.
        rng: Keys from :func:`anoaug.features.keys`: one per image, or per equal share of the rows.
        strength: A ready one, instead of the next four.
        sigma: Strength, exactly one of the four: see :class:`anoaug.features.strength.Strength`.
        radius: Length of the noise.
        ratio: Length of the noise over that of the feature; features of length 0 get none.
        z: In the channels' own deviations.
        deviation: ``[C]``, for ``z``.
        mixture: K, at least 1.
        growth: Ratio between one strength of the mixture and the next, above 0.
        rounding: To a 16-bit dtype: ``"nearest"``, or ``"stochastic"``, unbiased, for noise below
            the dtype's spacing, most of which rounding to nearest loses.
        layout: See :func:`anoaug.features.layouts.grid`, likewise ``prefix``.
        prefix: Tokens that stay as they are.
        noise: Standard normal noise like the features instead of ``rng``'s, for tests.
        backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``; they differ by about
            1e-6 of the noise, before rounding.

    Returns:
        Perturbed features, and the mask of perturbed positions as float32 in the layout's shape.

    Raises:
        TypeError, ValueError: Bad input.
    """
    chosen = strength or one_strength(sigma, radius, ratio, z)
    check_mixture(mixture, growth)
    checks.one_of("rounding", rounding, ROUNDINGS)
    name = checks.one_of("backend", backend or default_backend(), BACKENDS)
    grid = layouts.grid(features, layout, groups=_groups(rng), prefix=prefix)
    inside = None if mask is None else grid.flat("mask", mask, features)
    values = grid.view(features)
    if noise is not None and rng is None and mixture == 1:
        rng = torch.zeros(grid.groups, 2, dtype=torch.int64, device=features.device)
    refuse_overflow(chosen.unit, chosen.value, values, max(growth ** (mixture - 1), 1.0))
    number, gain, spread = chosen.factors(values, deviation)
    drawn = None if noise is None else grid.view(layouts.alike("noise", noise, features))
    moved = ops.feature_noise(
        values, checked_rng(rng, grid, features), inside, gain, spread,
        drawn, number, mixture, float(growth), rounding == "stochastic", name,
    )  # fmt: skip
    shown = values.new_ones(values.shape[:2], dtype=torch.bool) if inside is None else inside
    return grid.restore(moved, features), grid.shaped(shown)


def noise_levels(rng: Tensor, positions: int, mixture: int) -> Tensor:
    """Which strength of a mixture every position gets in :func:`gaussian_noise`.

    Args:
        rng: The keys of that call, ``[G, 2]``.
        positions: P, of a group.
        mixture: K.

    Returns:
        int64 ``[G, P]`` from 0 to K - 1: the exponents of ``growth``.
    """
    check_mixture(mixture, 1.0)
    return reference.levels(rng, positions, mixture)


# The kernel unrolls a mixture.
MOST_STRENGTHS = 64


def check_mixture(mixture: Any, growth: Any) -> None:
    """Refuse what is no number of strengths, or no ratio between them.

    Raises:
        ValueError: See there.
    """
    whole = isinstance(mixture, int) and not isinstance(mixture, bool)
    if not whole or not 1 <= mixture <= MOST_STRENGTHS:
        raise ValueError(
            f"mixture: expected a whole number from 1 to {MOST_STRENGTHS}, got {mixture!r}"
        )
    if not growth > 0:
        raise ValueError(f"growth: expected a number above 0, got {growth!r}")


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
