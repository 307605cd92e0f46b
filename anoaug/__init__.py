"""Anomaly synthesis on the device, once per batch, reproducible to the bit.

``create`` makes a published method, ``Synthesizer`` composes your own from masks, sources and
blends; both are called on a batch and return an ``AnomalyBatch``.
"""

from . import blends, functional, masks, photometric, prepare, sources
from .banks import Bank, DonorBank, TextureBank
from .batch import AnomalyBatch, Params
from .binding import Layer
from .loaders.dataloader import AnomalyCollate, AnomalyLoader, IndexedDataset
from .loaders.resident import ResidentDataset
from .methods import create, describe, list_methods
from .oneof import OneOf
from .synthesizer import Synthesizer

__version__ = "0.1.0"

__all__ = [
    "AnomalyBatch",
    "AnomalyCollate",
    "AnomalyLoader",
    "Bank",
    "DonorBank",
    "IndexedDataset",
    "Layer",
    "OneOf",
    "Params",
    "ResidentDataset",
    "Synthesizer",
    "TextureBank",
    "blends",
    "create",
    "describe",
    "functional",
    "list_methods",
    "masks",
    "photometric",
    "prepare",
    "sources",
]
