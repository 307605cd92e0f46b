"""PBAS: features pushed straight away from their centres (Chen et al., TCSVT 2025)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import checks
from ..centred import Centred
from ..fitted import PositionalCentres
from ..fitted.ranks import averaged
from ..functional import radial_push
from ..functional.door import number
from ..functional.shells import ON_ZERO
from ..layouts import Grid
from ..perturbation import Extras, Given, Perturbed, Site, everywhere
from . import method


@method(
    "pbas",
    family="data-driven",
    paper="Chen, Luo, Gao, Lv, Zhang: Progressive Boundary-guided Anomaly Synthesis for Industrial "
    "Anomaly Detection, IEEE TCSVT 35(2) 2025 (arXiv 2412.17458)",
    matches="the official code: k 0.25 of the mean distance, centres fitted once with the "
    "untrained adaptor, the most similar one by cosine",
    deviations=(
        "features at their centre get a random direction, where the code divides by 0",
        "the EMA of the centres looks at those before a batch, see PositionalCentres",
        "under DDP the mean distance is that of all ranks (share=False: of each rank)",
    ),
    features="adapted patch features (N, 1536) of a WideResNet50's layers 2 and 3",
    labels="every perturbed position is anomalous; the clean features are the normal half",
    needs=("fit",),
)
class PBAS(Centred):
    """A push of a constant length, radially outward; deterministic.

    ``extras["distance"]``, ``[G, P]``, holds the features' distances to their centres,
    differentiable: their mean is the paper's SVDD loss. In eval mode they are 0.

    Args:
        k: Length of the push over the mean distance.
        centres: A :class:`anoaug.features.fitted.PositionalCentres` to share; None: a new one, of
            the paper's kind, for :meth:`fit`.
        share: Whether ranks share the mean distance.
        on_zero: What becomes of a feature at its centre: ``"direction"`` or ``"stay"``.
        common: Keywords of :class:`Perturbation`.
    """

    stream = "pbas"

    def __init__(
        self,
        *,
        k: float = 0.25,
        centres: PositionalCentres | None = None,
        share: bool = True,
        on_zero: str = "direction",
        **common: Any,
    ) -> None:
        own = PositionalCentres("ema", "cosine") if centres is None else centres
        super().__init__(own, **common)
        self.k = number("k", k, 0.0)
        self.share = share
        self.on_zero = checks.one_of("on_zero", on_zero, ON_ZERO)

    def perturb(self, site: Site) -> Perturbed:
        """The push at every position of ``where``."""
        centres, index = self.found(site)

        def average(values: Tensor) -> Tensor:
            return averaged(values, self.share)

        moved, _, far = radial_push(
            site.features, site.where, site.rng(self.stream), centres=centres, index=index,
            k=self.k, average=average, on_zero=self.on_zero, layout="tokens", noise=site.noise,
            backend=self.backend,
        )  # fmt: skip
        return Perturbed(moved, everywhere(site), {"distance": far})

    def idle(self, features: Tensor, grid: Grid, given: Given) -> Extras:
        """Distances of 0: no centre is looked for."""
        dtype = torch.promote_types(features.dtype, torch.float32)
        return {"distance": features.new_zeros((grid.groups, grid.positions), dtype=dtype)}
