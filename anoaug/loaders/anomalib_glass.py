"""anomalib's GLASS: its step of gradient ascent, replaced by ours.

Beside the generators of :mod:`anoaug.loaders.anomalib`; anomalib is not imported.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..features.functional import annulus_project, ascent_step


class GlassAscentStep:
    """In place of the method ``_gradient_ascent_step`` of anomalib's GLASS.

    The same step and the same projection, in float32 and by our kernels; a feature that meets its
    base is moved to the inner radius in the gradient's direction instead of staying. The whole loop
    is :class:`anoaug.features.AscentSynthesizer`.

    Example:
        Before training::

            model = anomalib.models.Glass()
            step = anoaug.loaders.anomalib_glass.GlassAscentStep(svd=model.model.svd)
            model.model._gradient_ascent_step = step

    Args:
        svd: anomalib's: 1 is the hypersphere around the centre, 0 the manifold around the feature.
        step_size: Length of a step.
        every: Steps between projections.
        radius: r of the manifold.
        detach: Whether the hypersphere's radius is a constant, as in GLASS's own code; anomalib
            lets the gradient through.
        backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``.
    """

    def __init__(
        self,
        svd: int = 0,
        *,
        step_size: float = 0.001,
        every: int = 5,
        radius: float = 0.5,
        detach: bool = False,
        backend: str | None = None,
    ) -> None:
        if svd not in (0, 1):
            raise ValueError(f"svd: expected 0 (manifold) or 1 (hypersphere), got {svd!r}")
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"every: expected a whole number from 1 on, got {every!r}")
        self.svd, self.step_size, self.every, self.radius = svd, step_size, every, radius
        self.detach, self.backend = detach, backend

    def __call__(
        self,
        gaus_feats: Tensor,
        gaus_loss: Tensor,
        center: Tensor,
        true_feats: Tensor,
        r_t: Tensor,
        step: int,
    ) -> Tensor:
        """One step, and at every fifth a projection.

        Args:
            gaus_feats: ``(N, C)`` fakes, in the graph of the loss.
            gaus_loss: Their loss, without axes.
            center: ``(N, C)`` centres of the positions.
            true_feats: ``(N, C)`` true features.
            r_t: The hypersphere's radius, one number.
            step: From 0 on.

        Returns:
            ``(N, C)`` fakes, with the graph of the projection.
        """
        with torch.autocast(gaus_feats.device.type, enabled=False):
            (gradient,) = torch.autograd.grad(gaus_loss, gaus_feats)
            moved, _ = ascent_step(gaus_feats, gradient, eta=self.step_size, backend=self.backend)
            if (step + 1) % self.every:
                return moved
            radius: Any = self.radius
            if self.svd:
                radius = r_t.reshape(()).detach() if self.detach else r_t.reshape(())
            moved, _ = annulus_project(
                moved, r_lo=radius, r_hi=2 * radius, base=center if self.svd else true_feats,
                noise=gradient, backend=self.backend,
            )  # fmt: skip
        return moved
