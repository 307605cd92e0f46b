"""DROCC: robust one-class classification (Goyal et al., ICML 2020)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..ascent import AscentSynthesizer
from . import method


@method(
    "drocc",
    family="data-driven",
    paper="Goyal, Raghunathan, Jain, Simhadri, Jain: DROCC, ICML 2020 (arXiv 2002.12718)",
    matches=(
        "the official trainer: 50 steps, gamma 2, radius 0.2 (that of its CIFAR script, which "
        "takes 100 steps)"
    ),
    deviations=(
        "the adversarial phase after 50 epochs of cross entropy alone is the training loop's, as "
        "is the weight of the loss",
        "gradients flow to the features by the identity; the code perturbs inputs, which have none",
        "a row without a gradient stays, a row on its feature goes to the inner radius; the code "
        "divides by zero",
    ),
    features="inputs or features of any kind",
    labels="every perturbed position is anomalous; the clean features are the normal half",
    needs=("discriminator",),
)
class Drocc(AscentSynthesizer):
    """Unit noise, then steps up the loss of "anomalous" within [r, gamma r] of the feature.

    Args:
        discriminator: See :class:`anoaug.features.AscentSynthesizer`, likewise the rest.
        sigma: Standard deviation of the noise at the start.
        steps: Steps of ascent.
        step_size: Length of a step.
        every: Steps between projections.
        radius: r, about as far apart as normal features are.
        relative_radius: r over ``sigma * sqrt(C)``, instead.
        gamma: The shell's outer radius over its inner one.
        bn: ``"track"`` or ``"freeze"``.
        sees: ``"features"`` or ``"rows"``.
        cache_first_linear: Compute the first layer on true features once.
        common: Keywords of :class:`anoaug.features.Perturbation`.
    """

    stream = "drocc"

    def __init__(
        self,
        *,
        discriminator: Callable[[Tensor], Tensor] | None = None,
        sigma: float = 1.0,
        steps: int = 50,
        step_size: float = 0.001,
        every: int = 10,
        radius: float | None = None,
        relative_radius: float | None = None,
        gamma: float = 2.0,
        bn: str = "track",
        sees: str = "features",
        cache_first_linear: bool = False,
        **common: Any,
    ) -> None:
        if radius is None and relative_radius is None:
            radius = 0.2
        super().__init__(
            discriminator=discriminator, sigma=sigma, steps=steps, step_size=step_size,
            every=every, mode="manifold", radius=radius, relative_radius=relative_radius,
            spread=gamma, bn=bn, eps=0.0, sees=sees, cache_first_linear=cache_first_linear,
            **common,
        )  # fmt: skip
