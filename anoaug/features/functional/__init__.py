"""Feature perturbations as functions of tensors: ``(features, mask, rng) -> ...``."""

from .nearest import nearest
from .noise import gaussian_noise, noise_levels
from .order import quantile

__all__ = ["gaussian_noise", "nearest", "noise_levels", "quantile"]
