"""Anomaly synthesis on the device, once per batch, reproducible to the bit.

``create`` makes a published method, ``Synthesizer`` composes your own from masks, sources and
blends; both are called on a batch and return an ``AnomalyBatch``.
"""

from . import (
    blends,
    evaluation,
    features,
    functional,
    generate,
    masks,
    modalities,
    photometric,
    prepare,
    sources,
    turning,
    viz,
)
from .banks import Bank, DonorBank, ShapeBank, TextureBank
from .batch import AnomalyBatch, Params
from .binding import Layer
from .config import from_config
from .control import Control
from .loaders.dataloader import AnomalyCollate, AnomalyLoader, IndexedDataset
from .loaders.resident import ResidentDataset
from .methods import create, describe, list_methods
from .oneof import ByCategory, OneOf
from .synthesizer import Synthesizer

__version__ = "0.1.0"

__all__ = [
    "AnomalyBatch",
    "AnomalyCollate",
    "AnomalyLoader",
    "Bank",
    "ByCategory",
    "Control",
    "DonorBank",
    "IndexedDataset",
    "Layer",
    "OneOf",
    "Params",
    "ResidentDataset",
    "ShapeBank",
    "Synthesizer",
    "TextureBank",
    "blends",
    "create",
    "describe",
    "evaluation",
    "features",
    "from_config",
    "functional",
    "generate",
    "list_methods",
    "masks",
    "modalities",
    "photometric",
    "prepare",
    "sources",
    "turning",
    "viz",
]
