"""UniAD: feature jitter for a denoising reconstruction (You et al., NeurIPS 2022)."""

from __future__ import annotations

from typing import Any

from ... import checks
from ..functional import norm_scaled_jitter
from ..functional.jitter import DIRECTIONS, PER
from ..perturbation import Perturbation, Perturbed, Site
from . import method

SCALE = 20.0


@method(
    "uniad",
    family="prior-dependent",
    paper="You, Cui, Shen, Yang, Lu, Zheng, Le: A Unified Model for Multi-class Anomaly "
    "Detection (UniAD), NeurIPS 2022 (arXiv 2206.03687)",
    matches="the official code and configurations: alpha 20, probability 1, one coin per forward",
    deviations=(
        "layout: tokens are (B, P, C) rather than (P, B, C)",
        "a batch's coin is thrown by its first sample's key, not by Python's generator",
    ),
    features="tokens (B, 196, 272): an EfficientNet-b4's four stages at 14 x 14, frozen",
    labels="none in the paper: the mask says where jitter is; reconstruct .clean",
)
class UniAD(Perturbation):
    """Noise in proportion to each feature's length; ``clean`` is what to reconstruct.

    Args:
        scale: Alpha: noise is alpha |x| / C times standard normal; 20 unless ``ratio`` is given.
        ratio: Length of the noise over that of the feature instead: 20 is 1.21 for 272 channels,
            and another for others.
        p: Probability of jitter.
        per: ``"batch"``, ``"sample"`` or ``"token"``: what a coin is thrown for. With
            ``direction="unit", per="token", p=0.25``: a variant in Dinomaly's code.
        direction: ``"gaussian"`` or ``"unit"``.
        common: Keywords of :class:`Perturbation`.
    """

    stream = "uniad"
    widens = False

    def __init__(
        self,
        *,
        scale: float | None = None,
        ratio: float | None = None,
        p: float = 1.0,
        per: str = "batch",
        direction: str = "gaussian",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if scale is None and ratio is None:
            scale = SCALE
        self.scale, self.ratio = scale, ratio
        self.p = checks.probability("p", p)
        self.per = checks.one_of("per", per, PER)
        self.direction = checks.one_of("direction", direction, DIRECTIONS)

    def perturb(self, site: Site) -> Perturbed:
        """Jitter where the coins say so."""
        moved, inside = norm_scaled_jitter(
            site.features, site.where, site.rng(self.stream), scale=self.scale, ratio=self.ratio,
            p=self.p, per=self.per, direction=self.direction, layout="tokens", noise=site.noise,
            backend=self.backend,
        )  # fmt: skip
        return Perturbed(moved, inside > 0)
