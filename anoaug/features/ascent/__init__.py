"""Ascent: anomalies that a detector's own discriminator shapes (GLASS, DROCC)."""

from .glass import CONVENTIONS, Convention, hard_focal, local_rows
from .synthesizer import AscentSynthesizer

__all__ = ["CONVENTIONS", "AscentSynthesizer", "Convention", "hard_focal", "local_rows"]
