"""Noise whose length is known: in proportion to the feature's, or that of a shell."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ... import checks
from ...reference import features as reference
from ...rng import gaussian_pair, uniform
from ..ops.rows import rows
from ..strength import refuse_overflow
from ..strength import strength as one_strength
from .door import Call, number, opened

PER = ("batch", "sample", "token")
DIRECTIONS = ("gaussian", "unit")


def norm_scaled_jitter(
    features: Tensor,
    mask: Tensor | None = None,
    rng: Tensor | None = None,
    *,
    scale: float | None = None,
    ratio: float | None = None,
    p: float = 1.0,
    per: str = "batch",
    direction: str = "gaussian",
    layout: str | None = None,
    prefix: int = 0,
    noise: Tensor | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Add noise in proportion to each feature's length: x + scale |x| / C e.

    UniAD (You et al., NeurIPS 2022): ``scale=20``, one coin per call; AMI-Net (Luo et al., TASE
    2024) the same. Dinomaly's code (CVPR 2025) has two variants it does not use: ``scale=40``, and
    ``direction="unit", p=0.25, per="token"``. With Gaussian noise the length of what is added over
    that of the feature is about scale / sqrt(C). The gradient has the length's part too. A feature
    of length 0 stays.

    Args:
        features: ``(B, C, h, w)``, ``(B, h, w, C)``, ``(B, P, C)`` or ``(N, C)``.
        mask: Positions to perturb, on the features' grid; None: all.
        rng: Keys from :func:`anoaug.features.keys`: one per image, or per equal share of the rows.
        scale: UniAD's alpha; exactly one of this and ``ratio``.
        ratio: Length of the noise over that of the feature.
        p: Probability of being perturbed.
        per: What a coin is thrown for: the whole ``"batch"`` (by its first sample's key, so that
            a sample may fare otherwise in another batch), a ``"sample"`` or a ``"token"``.
        direction: ``"gaussian"``, or ``"unit"``: e / |e| instead of e, so that lengths are exact.
        layout: See :func:`anoaug.features.layouts.grid`, likewise ``prefix``.
        prefix: Tokens that stay as they are.
        noise: Standard normal noise like the features instead of ``rng``'s, for tests.
        backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``.

    Returns:
        Perturbed features, and the mask of perturbed positions as float32 in the layout's shape.
        The features that were given are the clean ones.

    Raises:
        TypeError, ValueError: Bad input.
    """
    if (scale is None) == (ratio is None):
        raise ValueError(
            f"strength: expected exactly one of scale and ratio, got {scale!r} and {ratio!r}"
        )
    checks.probability("p", p)
    checks.one_of("per", per, PER)
    unit = checks.one_of("direction", direction, DIRECTIONS) == "unit"
    call = opened(features, mask, rng, layout, prefix, noise, backend)
    channels = max(call.grid.channels, 1)
    if scale is not None:
        factor = number("scale", scale, 0.0) / channels
    else:
        factor = number("ratio", ratio, 0.0) / (1.0 if unit else math.sqrt(channels))
    inside = call.inside
    if p < 1.0:
        coins = _coins(call, p, per)
        inside = coins if inside is None else inside & coins
    moved = rows(
        call.values, "unit_jitter" if unit else "jitter", factor, keys=call.keys,
        noise=call.noise, inside=inside, backend=call.backend,
    )  # fmt: skip
    return call.result(moved, inside)


def _coins(call: Call, p: float, per: str) -> Tensor:
    """Bool ``[G, P]``: what is perturbed with probability p, on the published u <= p."""
    keys = call.words()
    shape = call.values.shape[:2]
    if per == "token":
        words = reference.position_words(keys, shape[1])[0]
    elif per == "sample":
        words = reference.group_words(keys)[0][:, None]
    else:
        words = reference.group_words(keys[:1])[0][:, None]
    # 0 is drawn too, and p of 0 means never.
    return ((uniform(words) <= p) & (p > 0.0)).expand(shape)


def annulus_noise(
    features: Tensor,
    mask: Tensor | None = None,
    rng: Tensor | None = None,
    *,
    sigma: float | None = None,
    radius: float | None = None,
    ratio: float | None = None,
    rel_width: float | None = None,
    layout: str | None = None,
    prefix: int = 0,
    noise: Tensor | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Add noise of a drawn direction and a length of our choice: x + r (1 + w n) e / |e|.

    The Gaussian-annulus argument (Shin et al., ICCV 2023): normal noise in C dimensions lies within
    sigma sqrt(C) (1 +- 1 / sqrt(2 C)) from where it starts, so that it is a direction and a radius.
    Said this way the radius no longer hangs on C, and its width is ours. The noise is a constant:
    the gradient is the identity, also for ``ratio``.

    Args:
        features: ``(B, C, h, w)``, ``(B, h, w, C)``, ``(B, P, C)`` or ``(N, C)``.
        mask: Positions to perturb, on the features' grid; None: all.
        rng: Keys from :func:`anoaug.features.keys`: one per image, or per equal share of the rows.
        sigma: Standard deviation of the Gaussian whose radius it is; exactly one of the three.
        radius: Length of the noise.
        ratio: Length of the noise over that of the feature.
        rel_width: Standard deviation of the length over the length, at least 0; None: that of
            Gaussian noise, 1 / sqrt(2 C). Lengths are cut at 0.
        layout: See :func:`anoaug.features.layouts.grid`, likewise ``prefix``.
        prefix: Tokens that stay as they are.
        noise: Standard normal noise like the features instead of ``rng``'s, for tests.
        backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``.

    Returns:
        Perturbed features, and the mask of perturbed positions as float32 in the layout's shape.

    Raises:
        TypeError, ValueError: Bad input.
    """
    chosen = one_strength(sigma, radius, ratio)
    call = opened(features, mask, rng, layout, prefix, noise, backend)
    refuse_overflow(chosen.unit, chosen.value, call.values)
    channels = max(call.grid.channels, 1)
    wide = torch.promote_types(call.values.dtype, torch.float32)
    length: Tensor | float = chosen.value
    if chosen.unit == "sigma":
        length = chosen.value * math.sqrt(channels)
    elif chosen.unit == "ratio":
        norms = torch.linalg.vector_norm(call.values.detach(), dim=-1, dtype=wide)
        length = norms * chosen.value
    width = 1.0 / math.sqrt(2 * channels) if rel_width is None else rel_width
    if number("rel_width", width, 0.0) > 0.0:
        words = reference.position_words(call.words(), call.grid.positions)
        length = length * (1.0 + width * gaussian_pair(words[1], words[2])[0]).clamp(min=0.0)
    moved = rows(
        call.values, "shell", length, keys=call.keys, noise=call.noise, inside=call.inside,
        backend=call.backend,
    )  # fmt: skip
    return call.result(moved, call.inside)
