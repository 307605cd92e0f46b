"""A Gaussian of every class's latest features, of one covariance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import checks
from .queue import FeatureQueue
from .statistics import factor


class ClassGaussians(FeatureQueue):
    """A queue of features with the mean of each class and the covariance they share, as VOS has.

    Args:
        length: See :class:`FeatureQueue`, likewise ``categories`` and ``per``.
        categories: Number of classes.
        per: What a class is.
        ridge: Added to the covariance's diagonal before it is factored.
        every: Updates between one factorisation and the next.
        common: Keywords of :class:`FeatureQueue`.

    Attributes:
        means: float32 ``[K, C]``, of the features that are there; 0 for a class without any.
        lower: float32 ``[C, C]``: Cholesky's factor of the shared covariance.
    """

    means: Tensor
    lower: Tensor

    def __init__(
        self,
        length: int = 1000,
        categories: int = 1,
        *,
        per: str = "category",
        ridge: float = 1e-4,
        every: int = 1,
        **common: Any,
    ) -> None:
        super().__init__(length, categories, per=per, **common)
        if not ridge >= 0.0:
            raise ValueError(f"ridge: expected a number >= 0, got {ridge!r}")
        self.ridge, self.every = float(ridge), checks.whole("every", every, 1)
        self.register_buffer("means", torch.zeros(0, 0))
        self.register_buffer("lower", torch.zeros(0, 0))
        self._age = 0

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.means, self.lower = self.means.new_zeros(0, 0), self.lower.new_zeros(0, 0)
        self._age = 0

    def update(self, features: Tensor, *args: Any, **keywords: Any) -> None:
        """Push features, see :meth:`FeatureQueue.update`; renew the Gaussians when it is time."""
        super().update(features, *args, **keywords)
        if self._alone:
            return
        if self._age % self.every == 0 or not self.means.numel():
            self.refresh()
        self._age += 1

    @torch.no_grad()
    def refresh(self) -> None:
        """Means and factor of the features that are in the queue. Does not wait for the device."""
        held = self.filled[..., None].to(self.rows.dtype)
        with torch.autocast(self.rows.device.type, enabled=False):
            means = (self.rows * held).sum(1) / held.sum(1).clamp(min=1)
            apart = ((self.rows - means[:, None]) * held).flatten(0, 1)
            covariance = apart.T @ apart / held.sum().clamp(min=1)
        self._set("means", means)
        self._set("lower", factor(covariance, self.ridge))

    def _finish(self) -> None:
        super()._finish()
        self.refresh()
