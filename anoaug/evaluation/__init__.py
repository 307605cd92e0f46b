"""Evaluation of anomaly detectors: how good are the scores of a detector trained on synthesis."""

from anoaug.evaluation.metrics import (
    auroc,
    average_precision,
    image_auroc,
    pixel_auroc,
    pixel_average_precision,
    pro,
)

__all__ = [
    "auroc",
    "average_precision",
    "image_auroc",
    "pixel_auroc",
    "pixel_average_precision",
    "pro",
]
