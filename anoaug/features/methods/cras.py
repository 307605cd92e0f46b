"""CRAS: noise that is stronger near the centres, for all classes at once (2025)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import checks
from ..centred import Centred
from ..fitted import PositionalCentres
from ..fitted.ranks import averaged
from ..functional import distance_scaled_noise
from ..functional.door import number
from ..layouts import Grid
from ..perturbation import Extras, Given, Perturbed, Site, everywhere
from . import method
from .simplenet import WIDE_RESNET


@method(
    "cras",
    family="data-driven",
    paper="CRAS: center-aware residuals with distance-guided anomaly synthesis, 2025, by the group "
    "of PBAS",
    matches="the official code: sigma 0.015, k 0.3, positional centres per class fitted once with "
    "the untrained adaptor, the most similar of the class by cosine",
    deviations=(
        "the class comes by category=, where the code reads it off the file's path",
        "features at their centre get plain noise, where the code divides by 0",
        "under DDP the mean of n / d is that of all ranks (share=False: of each rank)",
    ),
    features="adapted patch features (N, 1536) of a WideResNet50's layers 2 and 3; the "
    "discriminator sees them beside their residuals, see .residuals",
    labels="every perturbed position is anomalous; the clean features are the normal half",
    needs=("fit",),
)
class CRAS(Centred):
    """Gaussian noise scaled by how near its centre a feature is.

    ``extras["scale"]``, float32 ``[G, P]``, holds the scales: 1 in the mean, at least 1 - k.

    Args:
        sigma: Standard deviation of the noise.
        k: How much the distance counts, in [0, 1].
        categories: Number of classes; with more than one ``fit`` and every call need
            ``category=``.
        centres: A :class:`anoaug.features.fitted.PositionalCentres` to share; None: a new one, of
            the paper's kind, for :meth:`fit`.
        share: Whether ranks share the mean.
        common: Keywords of :class:`Perturbation`.
    """

    stream = "cras"

    def __init__(
        self,
        *,
        sigma: float = 0.015,
        k: float = 0.3,
        categories: int = 1,
        centres: PositionalCentres | None = None,
        share: bool = True,
        **common: Any,
    ) -> None:
        if centres is None:
            centres = PositionalCentres("once", "cosine", categories=categories)
        super().__init__(centres, **common)
        if sigma == WIDE_RESNET.sigma:
            self.tuned = WIDE_RESNET
        self.sigma = number("sigma", sigma, 0.0)
        self.k = checks.probability("k", k)
        self.share = share

    def perturb(self, site: Site) -> Perturbed:
        """Noise at every position of ``where``."""
        centres, index = self.found(site)

        def average(values: Tensor) -> Tensor:
            return averaged(values, self.share)

        moved, _, scale = distance_scaled_noise(
            site.features, site.where, site.rng(self.stream), centres=centres, index=index,
            sigma=self.sigma, k=self.k, average=average, layout="tokens", noise=site.noise,
            backend=self.backend,
        )  # fmt: skip
        return Perturbed(moved, everywhere(site), {"scale": scale})

    def idle(self, features: Tensor, grid: Grid, given: Given) -> Extras:
        """Scales of 1."""
        ones = torch.ones(grid.groups, grid.positions, device=features.device)
        return {"scale": ones}

    def residuals(self, features: Tensor, *, category: Any = None) -> Tensor:
        """What the discriminator sees: features and their residuals, side by side.

        The centre is a constant; gradients reach the features by both halves.

        Args:
            features: Clean or perturbed ones, in any layout.
            category: int64 ``[B]`` on the host, where there are several.

        Returns:
            Like the features with 2 C channels.
        """
        centre, grid = self.looked_up(features, category)
        beside = grid.restore(grid.view(features) - centre.to(features.dtype), features)
        axis = 1 if grid.layout == "nchw" else -1
        return torch.cat((features, beside), axis)
