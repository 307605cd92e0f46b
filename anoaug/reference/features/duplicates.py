"""Every image twice, each with noise under its own mask, in torch (SuperSimpleNet).

The twin of ``kernels/features/duplicates.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .noise import add_noise


def twice_like(features: Tensor) -> Tensor:
    """An empty ``[2 B, P, C]`` in the order of memory of ``[B, P, C]``."""
    batch, positions, channels = features.shape
    if positions_together(features):
        return features.new_empty((2 * batch, channels, positions)).transpose(1, 2)
    return features.new_empty((2 * batch, positions, channels))


def positions_together(features: Tensor) -> bool:
    """Whether the positions of ``[B, P, C]`` lie side by side (NCHW), rather than the channels."""
    return features.stride(1) == 1 and features.stride(2) != 1


def marked(
    inside: Tensor,
    allowed: Tensor | None,
    real: Tensor | None,
    label: Tensor | None,
    overlap: bool,
    bad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Where noise goes, and the masks and labels that come of it.

    Args:
        inside: bool ``[2 B, P]``, the drawn masks of both copies.
        allowed: bool ``[B, P]``, positions that may be perturbed; None: all.
        real: bool ``[B, P]``, real defects.
        label: int64 ``[B]``, labels of the images.
        overlap: Whether noise may lie on real defects.
        bad: Whether images with a label get noise.

    Returns:
        Noise mask and union with the real defects, bool ``[2 B, P]``; labels int64 ``[2 B]``.
    """
    noisy = inside if allowed is None else inside & allowed.repeat(2, 1)
    if label is not None and not bad:
        noisy = noisy & (label <= 0).repeat(2)[:, None]
    union = noisy
    if real is not None:
        twice = real.repeat(2, 1)
        noisy = noisy if overlap else noisy & ~twice
        union = noisy | twice
    labels = union.any(1)
    if label is not None:
        labels = labels | (label > 0).repeat(2)
    return noisy, union, labels.to(torch.int64)


def duplicate(
    features: Tensor, keys: Tensor, noisy: Tensor, noise: Tensor | None, sigma: float,
    stochastic: bool,
) -> Tensor:  # fmt: skip
    """Both copies, ``[2 B, P, C]``, with noise where their masks are.

    Args:
        features: ``[B, P, C]``.
        keys: int64 ``[2 B, 2]``.
        noisy: bool ``[2 B, P]``.
        noise: Standard normal ``[2 B, P, C]`` instead of that of the keys, or None.
        sigma: Standard deviation.
        stochastic: Round at random.
    """
    out = twice_like(features)
    return out.copy_(
        add_noise(features.repeat(2, 1, 1), keys, noisy, None, None, noise, sigma,
                  stochastic=stochastic)
    )  # fmt: skip
