"""Feature perturbations as functions of tensors: ``(features, mask, rng) -> ...``."""

from .nearest import nearest
from .noise import gaussian_noise
from .order import quantile

__all__ = ["gaussian_noise", "nearest", "quantile"]
