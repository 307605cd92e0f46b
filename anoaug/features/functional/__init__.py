"""Feature perturbations as functions of tensors: ``(features, mask, rng) -> ...``."""

from . import manifolds
from .centred import distance_scaled_noise, radial_push
from .codebook import codebook_swap
from .duplicates import Duplicates, masked_gaussian
from .geodesics import geodesic_step
from .jitter import annulus_noise, norm_scaled_jitter
from .mixing import feature_dropout, masked_mix, mix_statistics, partners
from .nearest import nearest
from .noise import gaussian_noise, noise_levels
from .order import quantile
from .outliers import knn_boundary, low_density_gaussian
from .residual import residual
from .score import perturbation_deviation, score_loss, score_perturbation
from .shells import annulus_project, ascent_step
from .subsets import random_subset
from .tokens import patch_copy, patch_noise, patch_shuffle, token_mask, token_select

__all__ = [
    "Duplicates",
    "annulus_noise",
    "annulus_project",
    "ascent_step",
    "codebook_swap",
    "distance_scaled_noise",
    "feature_dropout",
    "gaussian_noise",
    "geodesic_step",
    "knn_boundary",
    "low_density_gaussian",
    "manifolds",
    "masked_mix",
    "mix_statistics",
    "masked_gaussian",
    "nearest",
    "noise_levels",
    "norm_scaled_jitter",
    "partners",
    "patch_copy",
    "patch_noise",
    "patch_shuffle",
    "perturbation_deviation",
    "quantile",
    "radial_push",
    "random_subset",
    "residual",
    "score_loss",
    "score_perturbation",
    "token_mask",
    "token_select",
]
