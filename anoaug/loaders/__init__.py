"""Doors into training loops: whatever hands out batches, with anomalies in them.

``kornia``, ``torchvision`` and ``lightning`` are adapters for these libraries; each is imported
when it is first asked for and needs its library.
"""

import importlib
from typing import Any

from .contract import BatchContract
from .dataloader import AnomalyCollate, AnomalyLoader, IndexedDataset
from .epochs import ResidentLoader
from .resident import ResidentDataset

_ADAPTERS = ("kornia", "lightning", "torchvision")

__all__ = [
    "AnomalyCollate",
    "AnomalyLoader",
    "BatchContract",
    "IndexedDataset",
    "ResidentDataset",
    "ResidentLoader",
]


def __getattr__(name: str) -> Any:
    if name in _ADAPTERS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
