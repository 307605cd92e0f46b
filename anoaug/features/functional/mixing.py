"""Mixing features of images, and dropping channels: what changes the looks of normal features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import checks
from ...reference import features as reference
from ...reference.features.noise import wide
from ..ops.rows import uniforms
from .door import Call, opened


def mix_statistics(
    features: Tensor,
    mask: Tensor | None = None,
    *,
    weight: Tensor,
    partner: Tensor,
    eps: float = 1e-6,
    layout: str | None = None,
    prefix: int = 0,
) -> Tensor:
    """Give each image's channels a mean and deviation between its own and another's (MixStyle).

    Over positions, with Bessel's correction (a single position has deviation sqrt(eps)); the
    statistics are constants for the gradient.

    Args:
        features: Any layout of several images.
        mask: Positions that change, on the features' grid; None: all. Statistics are of all.
        weight: ``[G]``: share of the image's own statistics.
        partner: int64 ``[G]``: whose statistics are mixed in.
        eps: Added to variances.
        layout: See :func:`anoaug.features.layouts.grid`, likewise ``prefix``.
        prefix: Tokens that stay, and do not count.

    Returns:
        Features like the ones given.

    Raises:
        TypeError, ValueError: Bad input.
    """
    call, share, other = _pair(features, mask, weight, partner, layout, prefix)
    values = wide(call.values)
    # One order of summation for every layout.
    seen = values.detach().transpose(1, 2).contiguous()
    mean = seen.mean(2)[:, None]
    spread = (seen - seen.mean(2, keepdim=True)).square().sum(2)
    variance = (spread / max(seen.shape[2] - 1, 1))[:, None]
    deviation = (variance + eps).sqrt()
    share = share.to(values.dtype)
    target = share * mean + (1 - share) * mean[other]
    scale = share * deviation + (1 - share) * deviation[other]
    moved = (values - mean) / deviation * scale + target
    if call.inside is not None:
        moved = torch.where(call.inside[..., None], moved, values)
    return call.grid.restore(moved, features)


def masked_mix(
    features: Tensor,
    mask: Tensor | None = None,
    *,
    weight: Tensor,
    partner: Tensor,
    layout: str | None = None,
    prefix: int = 0,
) -> tuple[Tensor, Tensor]:
    """Mix each image's features with another's, everywhere or under a mask (manifold mixup).

    Args:
        features: Any layout of several images.
        mask: Positions that change, on the features' grid; None: all.
        weight: ``[G]``: share of the image's own features, lambda.
        partner: int64 ``[G]``: whose features are mixed in, at the same positions.
        layout: See :func:`anoaug.features.layouts.grid`, likewise ``prefix``.
        prefix: Tokens that stay as they are.

    Returns:
        Mixed features, and a soft mask, float32 in the layout's shape: 1 - lambda under the mask.

    Raises:
        TypeError, ValueError: Bad input.
    """
    call, share, other = _pair(features, mask, weight, partner, layout, prefix)
    values = wide(call.values)
    mixed = share.to(values.dtype) * values + (1 - share).to(values.dtype) * values[other]
    soft = (1 - share[..., 0]).expand(values.shape[:2])
    if call.inside is not None:
        mixed = torch.where(call.inside[..., None], mixed, values)
        soft = soft * call.inside
    return call.grid.restore(mixed, features), call.grid.shaped(soft)


def feature_dropout(
    features: Tensor,
    mask: Tensor | None = None,
    rng: Tensor | None = None,
    *,
    p: float = 0.2,
    layout: str | None = None,
    prefix: int = 0,
    backend: str | None = None,
) -> Tensor:
    """Set each channel of each position to zero with probability p, and scale the rest up.

    Dropout that is a function of keys: what checkpointing computes again drops the same.

    Args:
        features: Any layout.
        mask: Positions that may change, on the features' grid; None: all.
        rng: Keys from :func:`anoaug.features.keys`.
        p: In [0, 1); what stays is divided by 1 - p.
        layout: See :func:`anoaug.features.layouts.grid`, likewise ``prefix``.
        prefix: Tokens that stay as they are.
        backend: A name of ``anoaug.ops.BACKENDS``; None: ANOAUG_BACKEND. The bits are the same.

    Returns:
        Features like the ones given.

    Raises:
        TypeError, ValueError: Bad input.
    """
    if checks.probability("p", p) == 1.0:
        raise ValueError("p: expected a number below 1, got 1.0, which leaves nothing")
    call = opened(features, mask, rng, layout, prefix, backend=backend)
    values = wide(call.values)
    _, positions, channels = values.shape
    drawn = uniforms(call.words(), positions, channels, call.backend)
    moved = torch.where(drawn >= p, values / (1.0 - p), 0.0)
    if call.inside is not None:
        moved = torch.where(call.inside[..., None], moved, values)
    return call.grid.restore(moved, features)


def partners(keys: Tensor, mix: str = "random") -> Tensor:
    """Whom each image of a batch is mixed with: int64 ``[G]``, a random permutation.

    Args:
        keys: int64 ``[G, 2]``.
        mix: ``"random"``: any, itself too; ``"crossdomain"``: one of the other half of the batch,
            whose halves are of two domains.

    Raises:
        ValueError: ``"crossdomain"`` for an odd batch.
    """
    words = reference.group_words(keys)[0]
    if mix == "random":
        return words.argsort(dim=0, stable=True)
    half = len(words) // 2
    if len(words) % 2:
        raise ValueError(
            f"mix: expected an even batch of two domains for 'crossdomain', got {len(words)} images"
        )
    first = words[:half].argsort(dim=0, stable=True)
    second = words[half:].argsort(dim=0, stable=True) + half
    return torch.cat((second, first))


def _pair(
    features: Any, mask: Any, weight: Any, partner: Any, layout: str | None, prefix: int
) -> tuple[Call, Tensor, Tensor]:
    """The call, weights as ``[G, 1, 1]`` and partners."""
    for name, value in (("weight", weight), ("partner", partner)):
        if not isinstance(value, Tensor) or value.dim() != 1:
            raise TypeError(f"{name}: expected a tensor [G] with one number for each image")
    if partner.dtype != torch.int64:
        raise TypeError(f"partner: expected int64 numbers of images, got {partner.dtype}")
    keys = torch.zeros(len(partner), 2, dtype=torch.int64, device=partner.device)
    call = opened(features, mask, keys, layout, prefix)
    if len(weight) != len(partner):
        raise ValueError(f"weight: expected {len(partner)} numbers, got {len(weight)}")
    return call, weight[:, None, None], partner
