"""Gaussian noise on features in torch: the twin of ``kernels/features/noise.py``."""

from __future__ import annotations

import torch
from torch import Tensor

from ...rng import uniform
from . import randomness, rounding


def wide(values: Tensor) -> Tensor:
    """float32, or float64 if they came so."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def levels(keys: Tensor, positions: int, mixture: int) -> Tensor:
    """int64 ``[G, P]``: which of ``mixture`` strengths a position gets, from 0 on."""
    drawn = uniform(randomness.position_words(keys, positions)[0])
    return torch.floor(drawn * mixture).to(torch.int64)


def amplitudes(
    keys: Tensor, positions: int, sigma: float, gain: Tensor | None, mixture: int, growth: float
) -> Tensor:
    """float32 ``[G, P]`` (or broadcastable) that normal noise is multiplied by.

    ``sigma``, times the position's ``gain``, times ``growth`` as often as its level says.
    """
    scale = torch.full((len(keys), 1), sigma, dtype=torch.float32, device=keys.device)
    if gain is not None:
        scale = scale * gain
    if mixture > 1:
        level = levels(keys, positions, mixture)
        for n in range(1, mixture):
            scale = torch.where(level >= n, scale * growth, scale)
    return scale


def add_noise(
    features: Tensor,
    keys: Tensor,
    inside: Tensor | None = None,
    gain: Tensor | None = None,
    spread: Tensor | None = None,
    noise: Tensor | None = None,
    sigma: float = 1.0,
    mixture: int = 1,
    growth: float = 1.1,
    stochastic: bool = False,
) -> Tensor:
    """Features plus noise, computed in float32 and rounded once.

    Args:
        features: ``[G, P, C]`` of any float dtype and strides.
        keys: int64 ``[G, 2]``.
        inside: bool ``[G, P]``: positions that get noise; the others keep their bits. None: all.
        gain: float32 ``[G, P]``, a further factor of each position.
        spread: float32 ``[C]``, a further factor of each channel.
        noise: ``[G, P, C]``, standard normal, instead of that of the keys.
        sigma: Standard deviation.
        mixture: Number of strengths, of which each position draws one.
        growth: Ratio between one strength and the next.
        stochastic: Round at random, see :mod:`.rounding`.

    Returns:
        ``[G, P, C]`` of the features' dtype and strides.
    """
    _, positions, channels = features.shape
    values = wide(features)
    drawn = randomness.gaussians(keys, positions, channels) if noise is None else noise
    step = drawn.to(values.dtype) * amplitudes(keys, positions, sigma, gain, mixture, growth)[
        ..., None
    ].to(values.dtype)
    if spread is not None:
        step = step * spread.to(values.dtype)
    moved = values + step
    if stochastic:
        words = randomness.element_words(keys, positions, channels, randomness.ROUNDING)
        rounded = rounding.stochastic(moved, features.dtype, words)
    else:
        rounded = moved.to(features.dtype)
    out = torch.empty_like(features)
    return out.copy_(
        rounded if inside is None else torch.where(inside[..., None], rounded, features)
    )
