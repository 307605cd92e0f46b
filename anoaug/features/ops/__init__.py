"""The torch.library ops of feature perturbations, opaque to torch.compile, with their gradients."""

from .codebook import feature_code_swap
from .duplicates import feature_duplicates
from .noise import feature_noise
from .outliers import feature_boundary, feature_tail
from .rows import feature_distances, feature_noise_lengths, feature_rows

__all__ = [
    "feature_boundary",
    "feature_code_swap",
    "feature_distances",
    "feature_duplicates",
    "feature_noise",
    "feature_noise_lengths",
    "feature_rows",
    "feature_tail",
]
