"""SimpleNet: Gaussian noise on every adapted feature (Liu et al., CVPR 2023)."""

from __future__ import annotations

from typing import Any

from ..functional import gaussian_noise
from ..perturbation import Perturbation, Perturbed, Site, everywhere
from ..strength import strength
from . import method


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
        mixture: K strengths, one drawn per position.
        growth: Ratio between one of them and the next.
        common: Keywords of :class:`Perturbation`.
    """

    stream = "simplenet"

    def __init__(
        self,
        *,
        sigma: float | None = None,
        radius: float | None = None,
        ratio: float | None = None,
        mixture: int = 1,
        growth: float = 1.1,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if sigma is None and radius is None and ratio is None:
            sigma = 0.015
        self.strength = strength(sigma, radius, ratio)
        self.mixture, self.growth = mixture, growth

    def perturb(self, site: Site) -> Perturbed:
        """Noise at every position of ``where``."""
        inside = everywhere(site)
        moved, _ = gaussian_noise(
            site.features, inside, site.rng(self.stream), layout="tokens", noise=site.noise,
            strength=self.strength, mixture=self.mixture, growth=self.growth,
        )  # fmt: skip
        return Perturbed(moved, inside)
