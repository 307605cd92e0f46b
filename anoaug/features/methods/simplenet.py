"""SimpleNet: Gaussian noise on every adapted feature (Liu et al., CVPR 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import checks
from ..functional import gaussian_noise, noise_levels
from ..functional.noise import ROUNDINGS, check_mixture
from ..layouts import Grid
from ..perturbation import Extras, Given, Perturbation, Perturbed, Site, everywhere
from ..strength import Tuned, strength
from . import method

# What all papers with this sigma have in common. That channels are 0.25, root mean square, is an
# estimate, no paper says it: of the pooled features, whose size a Xavier adaptor with as many
# inputs as outputs keeps. Noise of 1536 channels is 0.59 long, a feature then 9.8.
WIDE_RESNET = Tuned(0.015, 0.06, "adapted features of a WideResNet50's layers 2 and 3")


@method(
    "simplenet",
    family="prior-dependent",
    paper="Liu, Zhou, Xu, Wang: SimpleNet, CVPR 2023 (arXiv 2303.15140)",
    matches="the official script: sigma 0.015 (the code's own default is 0.05), one strength",
    features="adapted patch features (N, 1536) of a WideResNet50's layers 2 and 3",
    labels="every perturbed position is anomalous; the clean features are the normal half",
)
class SimpleNet(Perturbation):
    """Noise of one strength, or at each position of one among several that grow.

    Args:
        sigma: Standard deviation of the noise in each channel; exactly one of the four strengths.
        radius: Length of the noise: sigma times sqrt(C).
        ratio: Length of the noise over that of the feature.
        mixture: K strengths, one drawn per position; ``extras["level"]``, int64 ``[G, P]``, says
            which.
        growth: Ratio between one of them and the next.
        rounding: ``"nearest"`` or ``"stochastic"``, see :func:`functional.gaussian_noise`.
        common: Keywords of :class:`Perturbation`.
    """

    stream = "simplenet"
    widens = False

    def __init__(
        self,
        *,
        sigma: float | None = None,
        radius: float | None = None,
        ratio: float | None = None,
        mixture: int = 1,
        growth: float = 1.1,
        rounding: str = "nearest",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if sigma is None and radius is None and ratio is None:
            sigma, self.tuned = WIDE_RESNET.sigma, WIDE_RESNET
        self.strength = strength(sigma, radius, ratio)
        check_mixture(mixture, growth)
        self.mixture, self.growth = mixture, growth
        self.rounding = checks.one_of("rounding", rounding, ROUNDINGS)

    def perturb(self, site: Site) -> Perturbed:
        """Noise at every position of ``where``."""
        rng = site.rng(self.stream)
        moved, _ = gaussian_noise(
            site.features, site.where, rng, layout="tokens", noise=site.noise,
            strength=self.strength, mixture=self.mixture, growth=self.growth,
            rounding=self.rounding, backend=self.backend,
        )  # fmt: skip
        extras = {}
        if self.mixture > 1:
            extras["level"] = noise_levels(rng, site.grid.positions, self.mixture)
        return Perturbed(moved, everywhere(site), extras)

    def idle(self, features: Tensor, grid: Grid, given: Given) -> Extras:
        """The lowest level."""
        if self.mixture == 1:
            return {}
        return {"level": features.new_zeros((grid.groups, grid.positions), dtype=torch.int64)}
