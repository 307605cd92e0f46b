"""What is learnt from normal features: modules with ``fit``, ``update`` and state in buffers."""

from .base import Fitted
from .centres import PositionalCentres
from .codebook import Codebook
from .gaussians import ClassGaussians
from .hypothesis import HypothesisChoice
from .queue import FeatureQueue
from .radius import RadiusQuantile
from .selector import ChannelSelector
from .statistics import ChannelStatistics

__all__ = [
    "ChannelSelector",
    "ChannelStatistics",
    "ClassGaussians",
    "Codebook",
    "FeatureQueue",
    "Fitted",
    "HypothesisChoice",
    "PositionalCentres",
    "RadiusQuantile",
]
