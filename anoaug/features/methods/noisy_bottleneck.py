"""Dinomaly's noisy bottleneck: dropout in front of a decoder (Guo et al., CVPR 2025)."""

from __future__ import annotations

from typing import Any

import torch

from ... import checks
from ..functional import feature_dropout
from ..perturbation import Perturbation, Perturbed, Site
from . import method


@method(
    "noisy_bottleneck",
    family="appearance",
    paper="Guo, Lu, Zhang, Chen, Li, Liao: Dinomaly, CVPR 2025 (arXiv 2405.14325)",
    matches="the official code: p 0.2 for one category, 0.4 for the unified Real-IAD",
    deviations=(
        "one site; Dinomaly's three (input, after GELU, output) are one attach() to three layers "
        "of its bottleneck",
    ),
    features="tokens (B, 1 + 4 + 784, 768): the mean of eight DINOv2 blocks",
    labels="left alone: a denoising target, reconstruct .clean",
)
class NoisyBottleneck(Perturbation):
    """Channels are dropped with probability p and the rest is scaled by 1 / (1 - p).

    Args:
        p: In [0, 1).
        common: Keywords of :class:`Perturbation`.

    Example:
        Dinomaly's three sites, of a ``Sequential`` of Identity, Linear, GELU and Linear::

            noise = anoaug.features.create("noisy_bottleneck", seed=0)
            handle = anoaug.features.attach(bottleneck, ["0", "2", "3"], noise)
    """

    stream = "noisy_bottleneck"

    def __init__(self, *, p: float = 0.2, **common: Any) -> None:
        super().__init__(**common)
        self.p = checks.probability("p", p)
        if self.p == 1.0:
            raise ValueError("p: expected a number below 1, got 1.0, which leaves nothing")

    def perturb(self, site: Site) -> Perturbed:
        """Drop; labels stay."""
        values = site.features
        moved = feature_dropout(
            values, site.where, site.rng(self.stream), p=self.p, layout="tokens",
            backend=self.backend,
        )  # fmt: skip
        return Perturbed(moved, values.new_zeros(values.shape[:2], dtype=torch.bool))
