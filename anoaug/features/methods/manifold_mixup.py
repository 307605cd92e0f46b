"""Manifold mixup: features between two images' (Verma et al., ICML 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import checks
from .. import randomness
from ..functional import masked_mix, partners
from ..functional.door import number
from ..layouts import Grid
from ..perturbation import Extras, Given, Perturbation, Perturbed, Site, everywhere
from . import method
from .mixstyle import alone


@method(
    "manifold_mixup",
    family="appearance",
    paper="Verma, Lamb, Beckham, Najafi, Mitliagkas, Lopez-Paz, Bengio: Manifold Mixup, ICML 2019 "
    "(arXiv 1806.05236)",
    matches="the official code: one weight per call, Beta(2, 2)",
    deviations=(
        "the layer, drawn there from three, is where you call or attach it",
        "the weight is drawn by the batch's first sample, not by NumPy's generator",
    ),
    features="maps or tokens of several images",
    labels="left alone; extras['soft'] is 1 - lambda where features were mixed, for soft labels; "
    "anomalous=True marks these positions",
)
class ManifoldMixup(Perturbation):
    """Features become lambda x + (1 - lambda) x of another image, everywhere or within ``where``.

    ``extras``: ``weight`` ``[G]``, lambda; ``partner`` ``[G]``; ``soft``, float32 like the mask:
    1 - lambda where features were mixed.

    Args:
        alpha: Of the Beta distribution of lambda.
        per: ``"batch"`` or ``"sample"``: what a lambda is drawn for.
        anomalous: Whether mixed positions count as anomalies, as for patches mixed under a mask.
        common: Keywords of :class:`Perturbation`.
    """

    stream = "manifold_mixup"

    def __init__(
        self, *, alpha: float = 2.0, per: str = "batch", anomalous: bool = False, **common: Any
    ) -> None:
        super().__init__(**common)
        self.alpha = number("alpha", alpha, 0.0, above=True)
        self.per = checks.one_of("per", per, ("batch", "sample"))
        self.anomalous = anomalous

    def perturb(self, site: Site) -> Perturbed:
        """Mix features."""
        values = site.features
        partner = partners(site.rng(self.stream))
        name = f"{self.stream}.weight"
        weight = randomness.sample_beta(site.number, name, self.alpha, values.device)
        if self.per == "batch":
            weight = weight[:1].expand(len(values)) if len(values) else weight
        moved, soft = masked_mix(
            values, site.where, weight=weight, partner=partner, layout="tokens"
        )
        inside = everywhere(site)
        mask = inside if self.anomalous else torch.zeros_like(inside)
        extras = {"weight": weight, "partner": partner, "soft": site.grid.shaped(soft)}
        return Perturbed(moved, mask, extras)

    def idle(self, features: Tensor, grid: Grid, given: Given) -> Extras:
        """Every image is its own."""
        none = features.new_zeros((grid.groups, grid.positions), dtype=torch.bool)
        return {**alone(features, grid), "soft": grid.shaped(none)}
