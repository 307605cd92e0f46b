"""VOS: virtual outliers from the tail of class-conditional Gaussians (Du et al., ICLR 2022)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import checks
from .. import fitted
from ..functional import low_density_gaussian, random_subset
from ..layouts import Grid
from ..perturbation import Extras, Given, Perturbation, Perturbed, Site, everywhere
from . import method


@method(
    "vos",
    family="data-driven",
    paper="Du, Wang, Cai, Li: VOS, ICLR 2022 (arXiv 2202.01197)",
    matches="the official code: queues of 1000, one covariance for all classes with a ridge of "
    "1e-4, the least likely of 10 000 samples",
    deviations=(
        "the largest of 10 000 lengths and one direction are drawn instead of 10 000 samples; the "
        "outliers have the same distribution",
        "outliers stand in the place of features, whose clean half is .clean, instead of one per "
        "class beside the batch",
        "a class whose queue is not full gives none, also where others' are full",
    ),
    features="pooled penultimate vectors (N, 128) to (N, 1024), or any",
    labels="every outlier is anomalous; no gradient to what made the features",
    needs=("fit or update",),
)
class VOS(Perturbation):
    """Outliers in place of features: samples of low density of the features' own class.

    They are new samples: what was at their position does not matter to them but by its class.
    ``update(features, category=...)`` keeps the queues up to date, usually each step with the
    normal features, or ``gaussians.fit`` fills them. Images of a class whose queue is not full stay
    as they are, with an empty mask and label 0. ``extras["distance"]`` holds the outliers'
    Mahalanobis distances ``[G, P]``, 0 elsewhere.

    Args:
        categories: Number of classes: categories of images, ``category=`` in each call.
        length: Of a class's queue.
        per: ``"category"``, or ``"position"``: each position is a class of its own.
        draws: Among how many samples an outlier is the least likely.
        select: How many are kept of the same draws.
        count: Outliers in each image, at random positions; None: everywhere.
        ridge: See :class:`anoaug.features.fitted.ClassGaussians`, likewise ``every``.
        every: Updates between factorisations.
        common: Keywords of :class:`Perturbation`.
    """

    stream = "vos"

    def __init__(
        self,
        *,
        categories: int = 1,
        length: int = 1000,
        per: str = "category",
        draws: int = 10_000,
        select: int = 1,
        count: int | None = None,
        ridge: float = 1e-4,
        every: int = 1,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.gaussians = fitted.ClassGaussians(
            length, categories, per=per, ridge=ridge, every=every, layout=self.layout,
            prefix=self.prefix,
        )  # fmt: skip
        self.draws = checks.whole("draws", draws, 1)
        self.select = checks.whole("select", select, 1, draws)
        self.count = None if count is None else checks.whole("count", count, 1)

    def update(self, features: Tensor, mask: Tensor | None = None, **keywords: Any) -> None:
        """Push normal features; see :meth:`anoaug.features.fitted.FeatureQueue.update`."""
        self.gaussians.update(features, mask, **keywords)

    def perturb(self, site: Site) -> Perturbed:
        """Outliers where the class's queue is full."""
        values = site.features.detach()
        classes = self.gaussians.classes(site.grid, site.category, values.device)
        inside = everywhere(site) & self.gaussians.ready[classes]
        if self.count is not None:
            inside = chosen(inside, self.count, site.rng("vos.places"))
        samples, lengths = low_density_gaussian(
            self.gaussians.means[classes], self.gaussians.lower, site.rng(self.stream),
            site.grid.positions, draws=self.draws, select=self.select,
        )  # fmt: skip
        moved = torch.where(inside[..., None], samples.to(values.dtype), values)
        return Perturbed(moved, inside, {"distance": torch.where(inside, lengths, 0.0)})

    def idle(self, features: Tensor, grid: Grid, given: Given) -> Extras:
        """No outliers: distances of 0."""
        return {"distance": torch.zeros(grid.groups, grid.positions, device=features.device)}


def chosen(inside: Tensor, count: int, rng: Tensor) -> Tensor:
    """So many random positions of each group's, or all where there are fewer."""
    counts = torch.full((len(inside),), count, device=inside.device)
    return random_subset(rng, counts, inside.shape[1], inside)
