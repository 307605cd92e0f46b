"""GLASS: global anomaly synthesis by gradient ascent (Chen et al., ECCV 2024)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..ascent import AscentSynthesizer
from ..perturbation import Perturbed, Site
from . import method
from .simplenet import WIDE_RESNET


@method(
    "glass",
    family="data-driven",
    paper="Chen, Luo, Lv, Zhang: GLASS, ECCV 2024 (arXiv 2407.09359)",
    matches=(
        "the official code (convention='original'); 'anomalib' lets the gradient through the "
        "hypersphere's radius, see anoaug.features.ascent.CONVENTIONS for the rest"
    ),
    deviations=(
        "the loss is taken from logits and summed, which gives the same steps without saturating",
        "a row that meets its base is moved to the inner radius in its noise's direction; the code "
        "leaves it there",
        "mode= is yours to choose; the code decides by the spectrum of the mean image",
    ),
    features="adapted patch features (N, 1536) of a WideResNet50's layers 2 and 3",
    labels="every perturbed position is anomalous; the clean features are the normal half",
    needs=("discriminator", "centre (mode='hypersphere')"),
)
class Glass(AscentSynthesizer):
    """Noise, 20 steps up the loss of "anomalous", four projections onto [r, 2 r].

    At the published sigma noise of 1536 channels is 0.59 long, so that the shell [0.5, 1] of the
    manifold mode clamps nothing; with fewer channels it would clamp every row to 0.5, which
    ``relative_radius=0.85`` (times ``sigma * sqrt(C)``) avoids: the first call warns.

    Args:
        discriminator: See :class:`anoaug.features.AscentSynthesizer`, likewise the rest.
        sigma: Standard deviation of the noise.
        steps: Steps of ascent.
        step_size: Length of a step.
        every: Steps between projections.
        mode: ``"manifold"`` or ``"hypersphere"``.
        radius: r; None takes 0.5 in ``"manifold"`` and the quantile in ``"hypersphere"``.
        relative_radius: r over ``sigma * sqrt(C)``, instead.
        spread: Outer over inner radius.
        quantile: Of the distances to the centres.
        centre: Of the positions.
        bn: ``"track"`` or ``"freeze"``.
        mining: False: noise alone.
        sees: ``"features"`` or ``"rows"``.
        cache_first_linear: Compute the first layer on true features once.
        convention: ``"original"`` or ``"anomalib"``.
        common: Keywords of :class:`anoaug.features.Perturbation`.
    """

    stream = "glass"

    def __init__(
        self,
        *,
        discriminator: Callable[[Tensor], Tensor] | None = None,
        sigma: float = 0.015,
        steps: int = 20,
        step_size: float = 0.001,
        every: int = 5,
        mode: str = "manifold",
        radius: float | None = None,
        relative_radius: float | None = None,
        spread: float = 2.0,
        quantile: float = 0.75,
        centre: Any = None,
        bn: str = "track",
        mining: bool = True,
        sees: str = "features",
        cache_first_linear: bool = False,
        convention: str = "original",
        **common: Any,
    ) -> None:
        if mode == "manifold" and radius is None and relative_radius is None:
            radius = 0.5
        super().__init__(
            discriminator=discriminator, sigma=sigma, steps=steps, step_size=step_size,
            every=every, mode=mode, radius=radius, relative_radius=relative_radius, spread=spread,
            quantile=quantile, centre=centre, bn=bn, mining=mining, sees=sees,
            cache_first_linear=cache_first_linear, convention=convention, **common,
        )  # fmt: skip
        if sigma == WIDE_RESNET.sigma:
            self.tuned = WIDE_RESNET
        self._compared = False

    def perturb(self, site: Site) -> Perturbed:
        """Noise, steps and projections at every position of ``where``."""
        if not self._compared and not torch.compiler.is_compiling():
            self._compared = True
            self._compare(site.features.shape[-1])
        return super().perturb(site)

    def _compare(self, channels: int) -> None:
        """Warn where noise would start outside the shell."""
        if self.mode == "hypersphere" or self.radius is None or not self.mining:
            return
        length = self.sigma * math.sqrt(channels)
        if not self.radius <= length <= self.radius * self.spread:
            warnings.warn(
                f"glass: noise of sigma {self.sigma} in {channels} channels is {length:.3g} long, "
                f"outside of the shell [{self.radius:g}, {self.radius * self.spread:g}], so every "
                "row will be clamped; the paper's 0.5 is for 1536 channels: pass "
                "relative_radius=0.85",
                stacklevel=2,
            )
