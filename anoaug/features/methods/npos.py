"""NPOS: outliers about the boundary of normal features (Tao et al., ICLR 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import checks
from .. import fitted
from ..functional import knn_boundary
from ..layouts import Grid
from ..perturbation import Extras, Given, Perturbation, Perturbed, Site, everywhere
from . import method
from .vos import chosen


@method(
    "npos",
    family="data-driven",
    paper="Tao, Du, Zhu, Li: Non-Parametric Outlier Synthesis, ICLR 2023 (arXiv 2303.02966)",
    matches="the official code for CIFAR: queues of 1000, the 300th neighbour, 200 rows of the "
    "boundary, noise of 0.1, 600 candidates of 3 points, 2 kept of each",
    deviations=(
        "the farthest candidates of each point are kept: the published code reads their distances "
        "in the wrong order and keeps arbitrary ones",
        "outliers stand in the place of features of an image, whose clean half is .clean, instead "
        "of beside the batch; each image draws its own",
        "a class whose queue is not full gives none",
    ),
    features="penultimate vectors (N, 128) to (N, 512), or any",
    labels="every outlier is anomalous; no gradient to what made the features",
    needs=("fit or update",),
)
class NPOS(Perturbation):
    """Outliers in place of features: noise about rows of the boundary, the farthest of many.

    They are new samples, as :class:`VOS`'s are: ``update(features, category=...)`` keeps the queues
    up to date, images of a class whose queue is not full stay as they are. Of an image's
    ``points * keep`` outliers the farthest come first. ``extras["distance"]`` holds the outliers'
    distances to their k-th neighbour ``[G, P]``, 0 elsewhere.

    Args:
        categories: Number of classes: categories of images, ``category=`` in each call.
        length: Of a class's queue.
        k: See :func:`anoaug.features.functional.knn_boundary`, likewise the next five.
        boundary: Rows that count as the boundary.
        points: How many of those are drawn.
        candidates: Made of each.
        sigma: Of the noise.
        keep: Kept of each point's.
        count: Outliers in each image, at random positions, at most ``points * keep``; None: as many
            as there are.
        common: Keywords of :class:`Perturbation`.
    """

    stream = "npos"

    def __init__(
        self,
        *,
        categories: int = 1,
        length: int = 1000,
        k: int = 300,
        boundary: int = 200,
        points: int = 3,
        candidates: int = 600,
        sigma: float = 0.1,
        keep: int = 2,
        count: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.queue = fitted.FeatureQueue(
            length, categories, layout=self.layout, prefix=self.prefix
        )  # fmt: skip
        checks.whole("k", k, 1, length)
        checks.whole("boundary", boundary, 1, length)
        self.law = {
            "k": k, "boundary": boundary, "points": checks.whole("points", points, 1, boundary),
            "candidates": checks.whole("candidates", candidates, 1),
            "keep": checks.whole("keep", keep, 1, candidates),
        }  # fmt: skip
        self.sigma = sigma
        most = points * keep
        self.count = most if count is None else checks.whole("count", count, 1, most)

    def update(self, features: Tensor, mask: Tensor | None = None, **keywords: Any) -> None:
        """Push normal features; see :meth:`anoaug.features.fitted.FeatureQueue.update`."""
        self.queue.update(features, mask, **keywords)

    def perturb(self, site: Site) -> Perturbed:
        """Outliers at random positions where the class's queue is full."""
        values = site.features.detach()
        classes = self.queue.classes(site.grid, site.category, values.device)
        inside = everywhere(site) & self.queue.ready[classes]
        inside = chosen(inside, self.count, site.rng("npos.places"))
        own = self.queue.rows[0]
        if self.queue.categories > 1:
            own = self.queue.rows[classes[:, 0]]
        samples, apart = knn_boundary(own, site.rng(self.stream), sigma=self.sigma, **self.law)
        apart, order = apart.sort(dim=1, descending=True, stable=True)
        # The chosen positions take them one by one.
        turn = (inside.cumsum(1) - 1).clamp(min=0, max=self.count - 1)
        index = order.gather(1, turn)[..., None].expand(-1, -1, values.shape[2])
        moved = torch.where(inside[..., None], samples.gather(1, index).to(values.dtype), values)
        shown = torch.where(inside, apart.gather(1, turn), 0.0)
        return Perturbed(moved, inside, {"distance": shown})

    def idle(self, features: Tensor, grid: Grid, given: Given) -> Extras:
        """No outliers: distances of 0."""
        return {"distance": torch.zeros(grid.groups, grid.positions, device=features.device)}
