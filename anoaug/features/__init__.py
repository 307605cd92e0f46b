"""Feature-space synthesis: anomalies made of a network's features, in a detector's training loop.

``create`` makes a published method, a module called on features that returns a ``FeatureBatch``;
``functional`` has the same things as functions of tensors.
"""

from . import ascent, fitted, functional, masks
from .ascent import AscentSynthesizer
from .attenuation import GradientAttenuator
from .batch import FeatureBatch
from .hooks import Context, Handle, attach, attached
from .methods import create, describe, list_methods
from .methods.dsr import DSRLevels
from .perturbation import Perturbation
from .randomness import keys

__all__ = [
    "AscentSynthesizer",
    "Context",
    "DSRLevels",
    "FeatureBatch",
    "GradientAttenuator",
    "Handle",
    "Perturbation",
    "ascent",
    "attach",
    "attached",
    "create",
    "describe",
    "fitted",
    "functional",
    "keys",
    "list_methods",
    "masks",
]
