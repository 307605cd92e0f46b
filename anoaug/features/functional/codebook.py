"""Features swapped for codes that are neither near nor arbitrary: DSR's anomalies."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import checks
from ...ops import BACKENDS, default_backend
from ...reference.features import group_words, position_words
from ...rng import uniform
from .. import layouts, ops
from .noise import checked_rng


def codebook_swap(
    features: Tensor,
    mask: Tensor | None = None,
    rng: Tensor | None = None,
    codebook: Tensor | None = None,
    *,
    skip: float = 0.05,
    strength: float | tuple[float, float] = (0.2, 1.0),
    ranks: Tensor | None = None,
    layout: str | None = None,
    prefix: int = 0,
    backend: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Replace positions by codes of a codebook that are neither their nearest nor any.

    DSR (Zavrtanik et al., ECCV 2022): an image draws a strength s; of the K codes in the order of
    their distance from a feature, the first ``int(skip K)`` are left out and one of the next, up to
    ``t = int(s K) + 1`` (at least 1, at most K - 1), is taken, each with the same chance, anew at
    every position. Here the rank is drawn first and the code at that rank is looked for, so that
    no row of distances is sorted and only masked positions have any. Equally distant codes follow
    their numbers.

    The codes are constants for autograd; the gradient is that of the positions that stay.

    Args:
        features: ``(B, C, h, w)``, ``(B, h, w, C)``, ``(B, P, C)`` or ``(N, C)``.
        mask: Positions to replace, on the features' grid; None: all.
        rng: Keys from :func:`anoaug.features.keys`: one per image, or per equal share of the rows.
        codebook: Floats ``[K, C]``, such as :class:`anoaug.features.fitted.Codebook`'s ``codes``.
        skip: Share of the codes, the nearest, that never come.
        strength: Share of the codes among which one is drawn, or its range, in [0, 1].
        ranks: int64 like the mask to use instead of drawn ones, from 0 (the nearest), for tests.
        layout: See :func:`anoaug.features.layouts.grid`, likewise ``prefix``.
        prefix: Tokens that stay as they are.
        backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``; sums of another order may
            exchange codes whose distances differ by rounding.

    Returns:
        Swapped features, of which the others keep their bits; the mask as float32 in the layout's
        shape; int64 numbers of the codes in the same shape, -1 outside the mask.

    Raises:
        TypeError, ValueError: Bad input: among it a codebook of another number of channels, or one
            too small for its window of ranks.
    """
    groups = len(rng) if isinstance(rng, Tensor) else None
    grid = layouts.grid(features, layout, groups=groups, prefix=prefix)
    codes = _checked(codebook, grid.channels, features)
    name = checks.one_of("backend", backend or default_backend(), BACKENDS)
    inside = None if mask is None else grid.flat("mask", mask, features)
    shape = (grid.groups, grid.positions)
    if ranks is None:
        low, (least, most) = window(len(codes), skip, strength)
        keys = checked_rng(rng, grid, features)
        # float32 on every device; the window's ends are whole numbers.
        share = least + uniform(group_words(keys)[0]) * (most - least)
        high = limits(share, len(codes))
        word = position_words(keys, grid.positions)[0]
        drawn = low + ((word * (high - low)[:, None]) >> 32)
    else:
        drawn = ranks.reshape(shape)
    values = grid.view(features)
    moved, number = ops.feature_code_swap(values, inside, drawn, codes, name)
    shown = values.new_ones(shape, dtype=torch.bool) if inside is None else inside
    return grid.restore(moved, features), grid.shaped(shown), number.reshape(
        grid.mask_shape(grid.groups)
    )  # fmt: skip


def limits(strength: Tensor, codes: int) -> Tensor:
    """DSR's t of strengths: the first rank that is too far, int64."""
    return ((strength * codes).to(torch.int64) + 1).clamp(1, codes - 1)


def window(
    codes: int, skip: float, strength: float | tuple[float, float]
) -> tuple[int, tuple[float, float]]:
    """The first rank that may come, and the range of strengths.

    Raises:
        ValueError: No rank is left for the weakest strength, or a number outside [0, 1].
    """
    checks.probability("skip", skip)
    least, most = checks.interval("strength", strength, 0.0, 1.0)
    low = int(skip * codes)
    high = min(max(int(least * codes) + 1, 1), codes - 1)
    if low >= high:
        raise ValueError(
            f"codebook: expected enough codes for ranks from {low} (skip={skip:g} of {codes}) to "
            f"below {high} (strength {least:g}), got none; take more codes, less skip or more "
            "strength"
        )
    return low, (least, most)


def _checked(codebook: Any, channels: int, features: Tensor) -> Tensor:
    if not isinstance(codebook, Tensor) or not codebook.dtype.is_floating_point:
        raise TypeError(
            f"codebook: expected floats [K, {channels}], got {type(codebook).__name__}; a fitted "
            "Codebook has them in .codes"
        )
    if codebook.dim() != 2 or codebook.shape[1] != channels or not len(codebook):
        raise ValueError(
            f"codebook: expected codes [K, {channels}] for features of {channels} channels, got "
            f"{list(codebook.shape)}; is it fitted, and for this layer?"
        )
    if codebook.device != features.device:
        raise ValueError(
            f"codebook: expected device {features.device} like the features, got {codebook.device}"
        )
    return codebook.detach()
