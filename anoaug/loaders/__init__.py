"""Doors into training loops: whatever hands out batches, with anomalies in them."""

from .contract import BatchContract
from .dataloader import AnomalyCollate, AnomalyLoader, IndexedDataset
from .epochs import ResidentLoader
from .resident import ResidentDataset

__all__ = [
    "AnomalyCollate",
    "AnomalyLoader",
    "BatchContract",
    "IndexedDataset",
    "ResidentDataset",
    "ResidentLoader",
]
