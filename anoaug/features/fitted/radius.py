"""A radius that so many normal features lie within."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import checks
from .. import layouts
from ..functional.order import quantile
from . import ranks
from .base import Fitted
from .centres import PositionalCentres


class RadiusQuantile(Fitted):
    """The q-quantile of normal features' distances to their centres, exact for any number of them.

    GLASS (ECCV 2024) takes it anew in every step: ``radius = module.update(features)``.

    Args:
        q: In [0, 1]; GLASS has 0.75.
        centres: What distances are measured from; None: lengths of the features.
        detach: Whether the radius that ``update`` returns is a constant (GLASS's own code) or lets
            the gradient through the quantile (anomalib's).
        momentum: Of an EMA over updates; 0 keeps the last batch's.
        layout: See :class:`Fitted`, likewise ``prefix`` and ``share``.
        prefix: Tokens before the first position, which are left out.
        share: Whether the quantile is that of all ranks' features.

    Attributes:
        radius: float32 ``[1]``; empty while unfitted.
    """

    anchor = "radius"

    radius: Tensor

    def __init__(
        self,
        q: float = 0.75,
        centres: PositionalCentres | None = None,
        *,
        detach: bool = True,
        momentum: float = 0.0,
        layout: str | None = None,
        prefix: int = 0,
        share: bool = True,
    ) -> None:
        super().__init__(layout=layout, prefix=prefix, share=share)
        self.q = checks.probability("q", q)
        self.detach = detach
        self.momentum = checks.probability("momentum", momentum)
        self.centres = centres
        self.register_buffer("radius", torch.zeros(0))
        self._kept: list[Tensor] = []

    def extra_repr(self) -> str:
        """The quantile."""
        return f"q={self.q}, detach={self.detach}"

    def reset(self) -> None:
        """Forget everything."""
        self.radius = self.radius.new_zeros(0)

    def update(
        self,
        features: Tensor,
        mask: Tensor | None = None,
        *,
        category: Any = None,
        layout: str | None = None,
    ) -> Tensor:
        """Take one batch's quantile.

        Args:
            features: In any layout.
            mask: On the features' grid: which positions count; None: all. Where none counts (on
                any rank) the radius stays as it is, 0 at the start.
            category: int64 ``[B]`` on the host, where the centres have several.
            layout: Another layout than the module's, without prefix.

        Returns:
            The radius, a scalar; with ``detach=False`` the batch's own share of it has a gradient.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.detach):
            apart, grid = self._distances(features, category, layout)
            inside = None if mask is None else grid.flat("mask", mask, features)
            if inside is None and not apart.numel():
                inside = torch.zeros_like(apart, dtype=torch.bool)
            found = quantile(apart, self.q, inside, empty=float("nan"), total=self._total())
        old = self.radius if self.is_fitted else found.detach().new_zeros(1)
        none = found.isnan()
        if self.momentum and self.is_fitted:
            found = old[0].to(found.dtype) * self.momentum + found * (1.0 - self.momentum)
        found = torch.where(none, old[0].to(found.dtype), found)
        self._set("radius", found.detach()[None].to(torch.float32))
        return found

    def _absorb(self, features: Tensor, images: int, category: Any) -> None:
        self._kept.append(self._distances(features, category, None)[0].flatten())

    def _finish(self) -> None:
        apart = torch.cat(self._kept)
        inside = None if apart.numel() else torch.zeros_like(apart, dtype=torch.bool)
        found = quantile(apart, self.q, inside, total=self._total())
        self._set("radius", found[None].to(torch.float32))

    def fit(self, *args: Any, **keywords: Any) -> Any:
        """See :meth:`Fitted.fit`: the quantile of all distances, of which it keeps 4 bytes each.

        The centres are not fitted: fit them before.
        """
        self._kept = []
        try:
            return super().fit(*args, **keywords)
        finally:
            self._kept = []

    def _distances(
        self, features: Tensor, category: Any, layout: str | None
    ) -> tuple[Tensor, layouts.Grid]:
        groups = None
        if self.centres is not None and self.centres.is_fitted and features.dim() == 2:
            groups = len(features) // max(self.centres.centres.shape[1], 1)
        values, grid = self._view(features, layout, groups)
        if self.centres is None:
            return torch.linalg.vector_norm(values, dim=2), grid
        return self.centres.distances(values, category=category, layout="tokens"), grid

    def _total(self) -> Any:
        shared = self.share and ranks.world() > 1
        return (lambda value: ranks.summed(value)) if shared else None
