"""Structural anomalies: computed sources that take things away, move them, break a pattern.

They look at whole images on their device: where a thing stands out, what its surroundings are made
of, how a pattern repeats. Their picture differs from the image only where something was done, so
that with ``masks.Everywhere`` and ``label_rule="changed"`` the mask is what changed.
"""

from .components import Missing, Moved, Swapped
from .edges import Chip
from .marks import Misprint
from .regularity import Thread

__all__ = ["Chip", "Misprint", "Missing", "Moved", "Swapped", "Thread"]
