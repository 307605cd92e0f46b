"""Every image twice, each with noise under its own mask (SuperSimpleNet)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ... import checks
from ...ops import BACKENDS, default_backend
from .. import layouts, masks, ops
from ..strength import refuse_overflow
from .noise import ROUNDINGS, checked_rng


class Duplicates(NamedTuple):
    """What :func:`masked_gaussian` makes; row b and row B + b are the copies of image b.

    Attributes:
        features: ``(2 B, ...)`` like the features.
        mask: float32 {0, 1} ``(2 B, 1, h, w)`` (tokens: ``(2 B, P)``): noise or real defects.
        label: int64 ``(2 B,)``: 1 where the image had a label or the mask has an anomaly.
        raw: ``(2 B, ...)`` like the raw features, with the same noise; None without any.
    """

    features: Tensor
    mask: Tensor
    label: Tensor
    raw: Tensor | None


class Table(NamedTuple):
    """Masks that the op draws itself, where it needs them.

    Attributes:
        drawing: The mask expression.
        table: Its parameters for both copies of every image, float32 ``[2 B, width]``.
        full: What a sample gets whose mask is emptied: noise nowhere, or everywhere.
    """

    drawing: masks.Drawing
    table: Tensor
    full: bool


def masked_gaussian(
    features: Tensor,
    mask: Tensor | Table,
    rng: Tensor,
    *,
    sigma: float,
    raw: Tensor | None = None,
    real: Tensor | None = None,
    label: Tensor | None = None,
    where: Tensor | None = None,
    overlap: bool = False,
    bad: bool = True,
    rounding: str = "nearest",
    layout: str | None = None,
    prefix: int = 0,
    size: tuple[int, int] | None = None,
    noise: Tensor | None = None,
    backend: str | None = None,
) -> Duplicates:
    """Both copies of every image with noise under their masks, in one pass.

    SuperSimpleNet (Rolih et al., ICPR 2024) and its extension (JIMS 2025), whose classification
    head reads ``raw``. Outside the masks every bit stays. The gradient is the sum over the copies;
    noise and masks are constants, and none of them is kept for the backward pass.

    Args:
        features: Adapted features, ``(B, C, h, w)``, ``(B, h, w, C)`` or ``(B, P, C)``.
        mask: Where noise goes: ``(2 B, 1, h, w)`` (tokens ``(2 B, P)``), or a :class:`Table`.
        rng: Keys ``[2 B, 2]``, one for each copy, from :func:`anoaug.features.keys`.
        sigma: Standard deviation of the noise.
        raw: Features before the adaptor, of the same shape and dtype: they get the same noise
            under the same masks.
        real: Real defects on the features' grid, ``(B, 1, h, w)``.
        label: int64 ``(B,)``, 1 for images with defects; by default those with a ``real`` one.
        where: Positions that may be perturbed, on the features' grid, ``(B, 1, h, w)``.
        overlap: Whether noise may lie on real defects.
        bad: Whether images with a label get noise at all.
        rounding: ``"nearest"`` or ``"stochastic"``, see :func:`gaussian_noise`.
        layout: See :func:`anoaug.features.layouts.grid`, likewise ``prefix`` and ``size``.
        prefix: Tokens that stay as they are.
        size: Height and width of the grid, which tokens with a :class:`Table` need.
        noise: Standard normal noise like two batches of features instead of ``rng``'s, for tests.
        backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``; masks and labels are equal
            bit for bit, noise differs by about 1e-6 of itself, before rounding.

    Raises:
        TypeError, ValueError: Bad input.
    """
    checks.one_of("rounding", rounding, ROUNDINGS)
    name = checks.one_of("backend", backend or default_backend(), BACKENDS)
    grid = layouts.grid(features, layout, prefix=prefix, size=size)
    if grid.layout == "rows":
        raise ValueError(
            "features: expected maps or tokens, whose images can be told apart, got rows (N, C); "
            "reshape them to (B, P, C)"
        )
    twice = grid._replace(groups=2 * grid.groups)
    keys = checked_rng(rng, twice, features)
    strength, _ = checks.interval("sigma", sigma, 0.0)
    refuse_overflow("sigma", strength, features)
    if raw is not None and (raw.shape != features.shape or raw.dtype != features.dtype):
        raise ValueError(
            f"raw: expected {features.dtype} {list(features.shape)} like the features, got "
            f"{raw.dtype} {list(raw.shape)}"
        )
    defects = None if real is None else grid.flat("real", real, features)
    allowed = None if where is None else grid.flat("where", where, features)
    labels = None if label is None else checks.row_vector("label", label, grid.groups)
    if labels is not None:
        labels = labels.to(features.device)
    elif defects is not None:
        labels = defects.any(1).to(torch.int64)
    given, table, banks, program, full = None, None, [], "", False
    if isinstance(mask, Table):
        if grid.size is None:
            raise ValueError("size: expected the grid's height and width to draw masks, got none")
        table, full, program = mask.table, mask.full, mask.drawing.layout
        banks = mask.drawing.banks(features.device)
    else:
        given = twice.flat("mask", mask, features)
    height, width = grid.size or (1, grid.positions)
    seen = None if raw is None else grid.view(raw)
    drawn = None if noise is None else twice.view(layouts.alike("noise", noise, features, 2))
    moved, second, union, found = ops.feature_duplicates(
        grid.view(features), seen, keys, given, table, banks, program, allowed, defects, labels,
        drawn, height, width, strength, full, overlap, bad,
        rounding == "stochastic", name,
    )  # fmt: skip
    return Duplicates(
        grid.restore(moved, features), twice.shaped(union), found,
        None if raw is None else grid.restore(second, raw),
    )  # fmt: skip
