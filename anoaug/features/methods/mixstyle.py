"""MixStyle: statistics between two images' (Zhou et al., ICLR 2021). No anomaly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import checks
from ...reference import features as reference
from ...rng import uniform
from .. import randomness
from ..functional import mix_statistics, partners
from ..functional.door import number
from ..layouts import Grid
from ..perturbation import Extras, Given, Perturbation, Perturbed, Site
from . import method


@method(
    "mixstyle",
    family="appearance",
    paper="Zhou, Yang, Qiao, Xiang: Domain Generalization with MixStyle, ICLR 2021 "
    "(arXiv 2104.02008)",
    matches="the official code: one coin of 0.5 per call, Beta(0.1, 0.1) per image, statistics "
    "detached",
    deviations=("the coin is thrown by the batch's first sample's key, not by Python's generator",),
    features="maps (B, C, h, w) of early layers",
    labels="left alone: normal images stay normal, in another style",
)
class MixStyle(Perturbation):
    """Each image's channels get mean and deviation between its own and another image's.

    ``extras``: ``weight`` ``[G]``, share of the image's own, and ``partner`` ``[G]``.

    Args:
        p: Probability that a call does anything.
        alpha: Of the Beta distribution of the weight.
        mix: ``"random"``, or ``"crossdomain"``: with the other half of the batch.
        eps: Added to variances.
        common: Keywords of :class:`Perturbation`.
    """

    stream = "mixstyle"

    def __init__(
        self,
        *,
        p: float = 0.5,
        alpha: float = 0.1,
        mix: str = "random",
        eps: float = 1e-6,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.p = checks.probability("p", p)
        self.alpha = number("alpha", alpha, 0.0, above=True)
        self.mix = checks.one_of("mix", mix, ("random", "crossdomain"))
        self.eps = number("eps", eps, 0.0, above=True)

    def perturb(self, site: Site) -> Perturbed:
        """Mix statistics; labels stay."""
        values = site.features
        keys = site.rng(self.stream)
        partner = partners(keys, self.mix)
        name = f"{self.stream}.weight"
        weight = randomness.sample_beta(site.number, name, self.alpha, values.device)
        coin = uniform(reference.group_words(keys[:1])[1]) < self.p
        weight = torch.where(coin, weight, torch.ones_like(weight))
        moved = mix_statistics(
            values, site.where, weight=weight, partner=partner, eps=self.eps, layout="tokens"
        )
        moved = torch.where(coin[:, None, None], moved, values)
        nowhere = values.new_zeros(values.shape[:2], dtype=torch.bool)
        return Perturbed(moved, nowhere, {"weight": weight, "partner": partner})

    def idle(self, features: Tensor, grid: Grid, given: Given) -> Extras:
        """Every image is its own."""
        return alone(features, grid)


def alone(features: Tensor, grid: Grid) -> dict[str, Tensor]:
    """Weight and partner where images are mixed with none: 1, and themselves."""
    rows = torch.arange(grid.groups, device=features.device)
    return {"weight": torch.ones(grid.groups, device=features.device), "partner": rows}
