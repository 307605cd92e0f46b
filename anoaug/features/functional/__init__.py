"""Feature perturbations as functions of tensors: ``(features, mask, rng) -> ...``."""

from .noise import gaussian_noise

__all__ = ["gaussian_noise"]
