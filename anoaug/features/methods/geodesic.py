"""Steps along geodesics of spheres and hyperbolic spaces (after Naud and Lavin, 2020)."""

from __future__ import annotations

from typing import Any

from ..functional import geodesic_step
from ..functional.geodesics import check_step
from ..perturbation import Perturbation, Perturbed, Site, everywhere
from . import method

ANGLE = 20.0


@method(
    "geodesic",
    family="prior-dependent",
    paper="Naud, Lavin: Manifolds for Unsupervised Visual Anomaly Detection, 2020 (arXiv "
    "2006.11364)",
    matches="the geometry: constant curvature by stereographic projection, geodesics, gyro-sums",
    deviations=(
        "the paper learns a latent space of constant curvature and detects by reconstruction; it "
        "makes no anomalies and has no step length: moving features along geodesics is the "
        "survey's reading, and the default of 20 degrees is ours",
    ),
    features="any; normalised embeddings for angle=, points of the manifold for curvature=",
    labels="every perturbed position is anomalous",
)
class Geodesic(Perturbation):
    """A random geodesic step from every feature.

    Args:
        angle: Degrees on the sphere of the feature's length, or a range; 20 unless ``length`` is
            given.
        length: Geodesic length of the step, with ``curvature``.
        curvature: K of the manifold whose stereographic coordinates features are.
        common: Keywords of :class:`Perturbation`.
    """

    stream = "geodesic"
    widens = False

    def __init__(
        self,
        *,
        angle: float | tuple[float, float] | None = None,
        length: float | None = None,
        curvature: float | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if angle is None and length is None and curvature is None:
            angle = ANGLE
        check_step(angle, length, curvature)
        self.step: dict[str, Any] = {"angle": angle, "length": length, "curvature": curvature}

    def perturb(self, site: Site) -> Perturbed:
        """A step at every position of ``where``."""
        moved, _ = geodesic_step(
            site.features, site.where, site.rng(self.stream), layout="tokens", noise=site.noise,
            backend=self.backend, **self.step,
        )  # fmt: skip
        return Perturbed(moved, everywhere(site))
