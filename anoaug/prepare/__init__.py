"""What is found in the images: where the product is, so that anomalies stay on it; superpixels.

:class:`Foreground` is a rule with its morphology, :class:`Cached` keeps its masks by sample index,
:func:`preset` has what published codes use and :class:`ByCategory` goes by it or by a table of
yours, image by image; :func:`auto` chooses by a product's own normal images
(``anoaug.viz.foregrounds`` draws the choice). The steps are here as functions too. A mask goes into
``synth(images, foreground=mask)``; where it is empty the sample stays clean.

:class:`Variation` is how much normal images vary, the unit of :class:`anoaug.Control`'s strength.
:class:`Superpixels` cuts images into regions, for :class:`anoaug.masks.Superpixels`, and
:class:`CachedLabels` keeps them.
"""

from .bycategory import ByCategory
from .cached import Cached, CachedLabels
from .choice import Candidate, Choice, auto
from .foreground import Foreground, given
from .morphology import closing, dilation, erosion, fill_holes, median, opening
from .planes import distance, grey, saliency_map
from .presets import PRESETS, preset
from .superpixels import Superpixels
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
from .variation import Variation

__all__ = [
    "PRESETS",
    "ByCategory",
    "Cached",
    "CachedLabels",
    "Candidate",
    "Choice",
    "Foreground",
    "Superpixels",
    "Variation",
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
