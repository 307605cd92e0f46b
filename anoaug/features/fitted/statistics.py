"""Mean, deviation and covariance of every channel of normal features."""

from __future__ import annotations

import torch
from torch import Tensor

from . import ranks
from .base import Fitted


class ChannelStatistics(Fitted):
    """Mean and standard deviation of each channel over positions and images; covariance if asked.

    Batches are joined by the pairwise update of Chan, Golub and LeVeque (1983), which loses no
    digits where the mean is large. ``std`` is what strengths in ``z`` need.

    Args:
        covariance: Also keep the ``[C, C]`` covariance.
        ridge: Added to its diagonal before the Cholesky factor is taken.
        layout: See :class:`Fitted`, likewise ``prefix`` and ``share``.
        prefix: Tokens before the first position, which are left out.
        share: Whether ranks share what they see.

    Attributes:
        mean: float32 ``[C]``; empty while unfitted.
        scatter: float32 ``[C]`` or ``[C, C]``: sums of squared deviations, or of their products.
        count: int64 scalar: positions so far.
    """

    anchor = "mean"

    mean: Tensor
    scatter: Tensor
    count: Tensor

    def __init__(
        self,
        covariance: bool = False,
        *,
        ridge: float = 1e-4,
        layout: str | None = None,
        prefix: int = 0,
        share: bool = True,
    ) -> None:
        super().__init__(layout=layout, prefix=prefix, share=share)
        if not ridge >= 0.0:
            raise ValueError(f"ridge: expected a number >= 0, got {ridge!r}")
        self.whole, self.ridge = covariance, float(ridge)
        self.register_buffer("mean", torch.zeros(0))
        self.register_buffer("scatter", torch.zeros(0, 0) if covariance else torch.zeros(0))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def reset(self) -> None:
        """Forget everything."""
        self.mean = self.mean.new_zeros(0)
        self.scatter = self.scatter.new_zeros((0, 0) if self.whole else 0)
        self.count = torch.zeros_like(self.count)

    @torch.no_grad()
    def update(
        self, features: Tensor, mask: Tensor | None = None, *, layout: str | None = None
    ) -> None:
        """Take one batch in; under a process group all ranks' batches together.

        Args:
            features: In any layout.
            mask: On the features' grid: which positions count; None: all.
            layout: Another layout than the module's, without prefix.
        """
        values, grid = self._view(features, layout)
        weight = None
        if mask is not None:
            weight = grid.flat("mask", mask, features).flatten().to(torch.float32)[:, None]
        rows = values.to(torch.float32).flatten(0, 1)
        if not self.is_fitted:
            shape = (grid.channels, grid.channels) if self.whole else (grid.channels,)
            self._set("mean", rows.new_zeros(grid.channels))
            self._set("scatter", rows.new_zeros(shape))
            self._set("count", self.count.to(rows.device))
        self._must_match("channels", self.mean.shape, (grid.channels,))
        if weight is None:
            own = torch.full((), len(rows), device=rows.device)
        else:
            # A masked row may hold anything, NaN too.
            rows = torch.where(weight > 0, rows, 0.0)
            own = weight.sum().to(torch.int64)
        many = ranks.summed(own, self.share)
        middle = ranks.summed(rows.sum(0), self.share) / many.clamp(min=1)
        apart = rows - middle if weight is None else (rows - middle) * weight
        with torch.autocast(rows.device.type, enabled=False):
            local = apart.T @ apart if self.whole else apart.square().sum(0)
        scatter = ranks.summed(local, self.share)
        total = self.count + many
        step = middle - self.mean
        part = many / total.clamp(min=1)
        cross = torch.outer(step, step) if self.whole else step.square()
        self._set("scatter", self.scatter + scatter + cross * (self.count * part))
        self._set("mean", self.mean + step * part)
        self._set("count", total)

    @property
    def variance(self) -> Tensor:
        """float32 ``[C]``: mean squared deviations (divided by the count)."""
        self._must_be_fitted()
        own = self.scatter.diagonal() if self.whole else self.scatter
        return own / self.count.clamp(min=1)

    @property
    def std(self) -> Tensor:
        """float32 ``[C]``: standard deviations."""
        return self.variance.sqrt()

    @property
    def covariance(self) -> Tensor:
        """float32 ``[C, C]``, divided by the count.

        Raises:
            RuntimeError: Made without ``covariance=True``.
        """
        self._must_be_fitted()
        if not self.whole:
            raise RuntimeError("covariance: expected ChannelStatistics(covariance=True)")
        return self.scatter / self.count.clamp(min=1)

    def cholesky(self) -> Tensor:
        """The lower factor L of covariance + ridge, float32 ``[C, C]``; see :func:`factor`."""
        return factor(self.covariance, self.ridge)


def factor(covariance: Tensor, ridge: float = 1e-4) -> Tensor:
    """Cholesky's lower factor of a covariance, which exists in float32 also where it is singular.

    Beside the ridge, the diagonal gets what rounding may have taken from it: C times the dtype's
    spacing times its largest element. Does not wait for the device.

    Args:
        covariance: Floats ``[C, C]``, symmetric, not negative.
        ridge: Added to the diagonal.
    """
    diagonal = covariance.diagonal()
    lost = torch.finfo(covariance.dtype).eps * len(diagonal)
    more = ridge + lost * diagonal.max()
    with torch.autocast(covariance.device.type, enabled=False):
        return torch.linalg.cholesky_ex(covariance + torch.diag_embed(more.expand(len(diagonal)))).L
