"""What GLASS does around its ascent: rows of image anomalies, the loss on the hard ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ... import checks
from .. import layouts
from ..functional.order import quantile as order_quantile
from ..functional.shells import annulus_project


@dataclass(frozen=True)
class Convention:
    """Where GLASS's own code and anomalib's differ.

    Attributes:
        detach: Whether the radius is a constant: ``RadiusQuantile(detach=)``.
        weighting: Of the centres: ``PositionalCentres(weighting=)``.
        image_anomalies: Keywords of ``anoaug.create("glass_las", ...)``.
    """

    detach: bool
    weighting: str
    image_anomalies: dict[str, Any]


CONVENTIONS = {
    "original": Convention(
        True, "batch", {"odds": (1.0, 1.0, 1.0), "opacity": (0.2, 0.8), "std": 0.1}
    ),
    "anomalib": Convention(
        False, "sample", {"odds": (1.0, 0.0, 1.0), "opacity": (0.2, 1.0), "std": None}
    ),
}


def local_rows(
    features: Tensor,
    mask: Tensor,
    centre: Tensor | None = None,
    radius: float | Tensor | None = None,
    *,
    mode: str = "manifold",
    inner: float = 2.0,
    outer: float = 4.0,
    layout: str | None = None,
    prefix: int = 0,
    backend: str | None = None,
) -> Tensor:
    """Features of image anomalies, kept apart from normal ones as GLASS does.

    In ``"hypersphere"`` mode anomalous features are brought into [2 r, 4 r] around their centre
    (one at its centre goes to 2 r in the direction of equal entries); in ``"manifold"`` mode they
    stay as they are, as in the published code. Others stay in both.

    Args:
        features: Adapted ones of images with anomalies, ``(B, C, h, w)``, ``(B, h, w, C)``,
            ``(B, P, C)`` or ``(N, C)``.
        mask: Where they are anomalous, on the features' grid.
        centre: Like the features, ``[G, P, C]``, ``[P, C]`` or ``[C]``, for ``"hypersphere"``.
        radius: r, a number or a tensor without axes, for ``"hypersphere"``.
        mode: As of the ascent.
        inner: The shell's inner radius in r.
        outer: Its outer one.
        layout: See :func:`anoaug.features.layouts.grid`, likewise ``prefix``.
        prefix: Tokens that stay as they are.
        backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``.

    Raises:
        TypeError, ValueError: Bad input, or no centre or radius where one is needed.
    """
    checks.one_of("mode", mode, ("manifold", "hypersphere"))
    layouts.grid(features, layout, prefix=prefix).flat("mask", mask, features)
    if mode == "manifold":
        return features
    if centre is None or radius is None:
        raise ValueError("centre, radius: expected both in mode='hypersphere', got None")
    moved, _ = annulus_project(
        features, mask, r_lo=inner * radius, r_hi=outer * radius, base=centre.detach(),
        noise=torch.ones_like(features), layout=layout, prefix=prefix, backend=backend,
    )  # fmt: skip
    return moved


def hard_focal(
    logits: Tensor,
    target: Tensor,
    *,
    quantile: float = 0.5,
    gamma: float = 2.0,
    smooth: float = 1e-5,
) -> Tensor:
    """Focal loss over the rows whose squared error is at or above its quantile (GLASS).

    By weights instead of a gather, so that nothing waits for the device; from logits, so
    that it does not saturate.

    Args:
        logits: Of "anomalous", any shape.
        target: Like ``logits``, above 0 where a row is anomalous.
        quantile: p in [0, 1]: the share of easy rows that are left out.
        gamma: Exponent of the focal factor.
        smooth: Label smoothing.

    Returns:
        A loss without axes; 0 without rows.

    Raises:
        ValueError: Another shape.
    """
    checks.probability("quantile", quantile)
    if logits.shape != target.shape:
        raise ValueError(
            f"target: expected the logits' shape {list(logits.shape)}, got {list(target.shape)}"
        )
    if not logits.numel():
        return logits.sum()
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    truth = (target > 0).to(wide.dtype)
    chance = torch.sigmoid(wide)
    error = (chance.detach() - truth).square()
    hard = error >= order_quantile(error, quantile)
    signed = wide * (2.0 * truth - 1.0)
    right = torch.sigmoid(signed)
    if smooth:
        log = (right * (1.0 - smooth) + (1.0 - right) * smooth + smooth).log()
    else:
        log = functional.logsigmoid(signed)
    loss = -(1.0 - right).pow(gamma) * log
    return (loss * hard).sum() / hard.sum().clamp(min=1)
