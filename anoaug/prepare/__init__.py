"""Foreground estimation: where on its images a product is, so that anomalies stay on it.

:class:`Foreground` is a rule with its morphology, :class:`Cached` keeps its masks by sample index,
:func:`preset` has what published codes use, :func:`auto` chooses by a product's own normal images
(``anoaug.viz.foregrounds`` draws the choice). The steps are here as functions too. A mask goes into
``synth(images, foreground=mask)``; where it is empty the sample stays clean.
"""

from .cached import Cached
from .choice import Candidate, Choice, auto
from .foreground import Foreground, given
from .morphology import closing, dilation, erosion, fill_holes, median, opening
from .planes import distance, grey, saliency_map
from .presets import PRESETS, preset
from .thresholds import (
    background_distance,
    otsu,
    otsu_level,
    saliency,
    split,
    threshold,
    triangle,
    triangle_level,
)

__all__ = [
    "PRESETS",
    "Cached",
    "Candidate",
    "Choice",
    "Foreground",
    "auto",
    "background_distance",
    "closing",
    "dilation",
    "distance",
    "erosion",
    "fill_holes",
    "given",
    "grey",
    "median",
    "opening",
    "otsu",
    "otsu_level",
    "preset",
    "saliency",
    "saliency_map",
    "split",
    "threshold",
    "triangle",
    "triangle_level",
]
