"""What is learnt from normal features: modules with ``fit``, ``update`` and state in buffers."""

from .base import Fitted
from .centres import PositionalCentres
from .codebook import Codebook
from .hypothesis import HypothesisChoice
from .queue import FeatureQueue
from .radius import RadiusQuantile
from .statistics import ChannelStatistics

__all__ = [
    "ChannelStatistics",
    "Codebook",
    "FeatureQueue",
    "Fitted",
    "HypothesisChoice",
    "PositionalCentres",
    "RadiusQuantile",
]
