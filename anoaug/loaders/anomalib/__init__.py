"""anomalib 2.7: objects with its signatures, to be put where its own generators are.

:func:`accelerate` swaps all that a model has and says what it swapped. For image-level anomalies in
any other model put :class:`anoaug.loaders.lightning.AnomalyCallback` among the Engine's callbacks:
it comes before anomalib's pre-processor, while images are in [0, 1].

anomalib itself is needed by nothing here but :func:`make_synthetic_dataset`'s data frames.
"""

from .datasets import make_synthetic_dataset
from .features import DinomalyBottleneck, GlassAscentStep, SuperSimpleNetGenerator
from .images import (
    CutPasteGenerator,
    DsrAnomalyGenerator,
    PerlinAnomalyGenerator,
    generate_perlin_noise,
)
from .swapping import TESTED, accelerate

__all__ = [
    "TESTED",
    "CutPasteGenerator",
    "DinomalyBottleneck",
    "DsrAnomalyGenerator",
    "GlassAscentStep",
    "PerlinAnomalyGenerator",
    "SuperSimpleNetGenerator",
    "accelerate",
    "generate_perlin_noise",
    "make_synthetic_dataset",
]
