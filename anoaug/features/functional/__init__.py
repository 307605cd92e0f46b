"""Feature perturbations as functions of tensors: ``(features, mask, rng) -> ...``."""

from .nearest import nearest
from .noise import gaussian_noise, noise_levels
from .order import quantile
from .score import perturbation_deviation, score_loss, score_perturbation

__all__ = [
    "gaussian_noise",
    "nearest",
    "noise_levels",
    "perturbation_deviation",
    "quantile",
    "score_loss",
    "score_perturbation",
]
