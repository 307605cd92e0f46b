"""What is learnt from normal features: modules with ``fit``, ``update`` and state in buffers."""

from .base import Fitted
from .centres import PositionalCentres
from .radius import RadiusQuantile
from .statistics import ChannelStatistics

__all__ = ["ChannelStatistics", "Fitted", "PositionalCentres", "RadiusQuantile"]
