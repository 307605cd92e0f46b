"""Feature perturbations in torch, module for module the twins of ``kernels/features/``."""

from .randomness import (
    ELEMENT,
    GROUP,
    POSITION,
    ROUNDING,
    SITES,
    element_words,
    gaussians,
    group_words,
    position_words,
    words,
)

__all__ = [
    "ELEMENT",
    "GROUP",
    "POSITION",
    "ROUNDING",
    "SITES",
    "element_words",
    "gaussians",
    "group_words",
    "position_words",
    "words",
]
