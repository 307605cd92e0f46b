"""The torch.library ops of feature perturbations, opaque to torch.compile, with their gradients."""

from .noise import feature_noise

__all__ = ["feature_noise"]
