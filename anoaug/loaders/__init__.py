"""Doors into training loops: whatever hands out batches, with anomalies in them.

``anomalib``, ``dali``, ``kornia``, ``lightning``, ``ray`` and ``torchvision`` are adapters for
these libraries, imported when they are first asked for.
"""

import importlib
from typing import Any

from .contract import BatchContract
from .dataloader import AnomalyCollate, AnomalyLoader, IndexedDataset
from .epochs import ResidentLoader
from .mapping import AnomalyMap
from .resident import ResidentDataset

_ADAPTERS = ("anomalib", "dali", "kornia", "lightning", "ray", "torchvision")

__all__ = [
    "AnomalyCollate",
    "AnomalyLoader",
    "AnomalyMap",
    "BatchContract",
    "IndexedDataset",
    "ResidentDataset",
    "ResidentLoader",
]


def __getattr__(name: str) -> Any:
    if name in _ADAPTERS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
