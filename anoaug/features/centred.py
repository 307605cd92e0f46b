"""What the methods about centres of normal features share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import layouts
from .fitted import PositionalCentres
from .perturbation import Perturbation, Site


class Centred(Perturbation):
    """A perturbation that has fitted centres.

    Args:
        centres: Fitted or not; part of the module's state.
        common: Keywords of :class:`Perturbation`.
    """

    widens = False

    def __init__(self, centres: PositionalCentres, **common: Any) -> None:
        super().__init__(**common)
        if not isinstance(centres, PositionalCentres):
            raise TypeError(
                f"centres: expected a PositionalCentres, got {type(centres).__name__}; "
                "anoaug.features.fitted has it"
            )
        self.centres = centres

    @property
    def is_fitted(self) -> bool:
        """Whether there are centres; costs no synchronisation."""
        return self.centres.is_fitted

    def fit(self, *args: Any, **keywords: Any) -> Any:
        """Fit the centres, see :meth:`anoaug.features.fitted.Fitted.fit`; returns the module."""
        self.centres.fit(*args, **keywords)
        return self

    def found(self, site: Site) -> tuple[Tensor, Tensor | None]:
        """The centre of every feature: ``[G, P, C]``, or a table ``[K, C]`` and its index."""
        values = site.features.detach()
        if self.centres.match == "cosine" and self.centres.categories == 1:
            # The op gathers by itself: no copy of a centre for each feature.
            place, _ = self.centres.nearest(values, layout="tokens")
            return self.centres.centres[0], place
        centres = self.centres.lookup(values, category=site.category, layout="tokens")
        return centres, None

    def looked_up(self, features: Tensor, category: Any) -> tuple[Tensor, layouts.Grid]:
        """The centre of every feature ``[G, P, C]``, and the features' grid."""
        groups = None
        if features.dim() == 2 and self.is_fitted:
            groups = max(len(features) // self.centres.centres.shape[1], 1)
        grid = layouts.grid(features, self.layout, groups=groups, prefix=self.prefix)
        seen = grid.view(features).detach()
        with torch.autocast(features.device.type, enabled=False):
            return self.centres.lookup(seen, category=category, layout="tokens"), grid
