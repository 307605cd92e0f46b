"""Noise on a shell: the Gaussian-annulus argument as a perturbation (Shin et al., ICCV 2023)."""

from __future__ import annotations

from typing import Any

from ..functional import annulus_noise
from ..functional.door import number
from ..perturbation import Perturbation, Perturbed, Site, everywhere
from ..strength import strength as one_strength
from . import method

# The paper's noise level: of its score model at time 0.001, on images.
SIGMA = 0.0317


@method(
    "annulus",
    family="prior-dependent",
    paper="Shin, Lee, Lee, Lee, Yun: Anomaly Detection using Score-based Perturbation Resilience, "
    "ICCV 2023",
    matches="the argument that noise of one standard deviation lies on a shell, and the paper's "
    "noise level",
    deviations=(
        "the paper perturbs images at test time and scores them by a score network; here the same "
        "noise is put on features, where its level is to be chosen anew",
    ),
    features="any; the paper has images",
    labels="every perturbed position is anomalous",
)
class Annulus(Perturbation):
    """Noise of a drawn direction and a length of one's choice.

    Args:
        sigma: Of the Gaussian whose shell it is; 0.0317 unless another of the three is given.
        radius: Length of the noise: sigma times sqrt(C).
        ratio: Length of the noise over that of the feature.
        rel_width: Deviation of the length over the length; None: the Gaussian's own,
            1 / sqrt(2 C).
        common: Keywords of :class:`Perturbation`.
    """

    stream = "annulus"
    widens = False

    def __init__(
        self,
        *,
        sigma: float | None = None,
        radius: float | None = None,
        ratio: float | None = None,
        rel_width: float | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if sigma is None and radius is None and ratio is None:
            sigma = SIGMA
        self.strength = one_strength(sigma, radius, ratio)
        self.rel_width = None if rel_width is None else number("rel_width", rel_width, 0.0)

    def perturb(self, site: Site) -> Perturbed:
        """Noise at every position of ``where``."""
        strength: dict[str, Any] = {self.strength.unit: self.strength.value}
        moved, _ = annulus_noise(
            site.features, site.where, site.rng(self.stream), rel_width=self.rel_width,
            layout="tokens", noise=site.noise, backend=self.backend, **strength,
        )  # fmt: skip
        return Perturbed(moved, everywhere(site))
