"""Doors into training loops: whatever hands out batches, with anomalies in them."""

from .contract import BatchContract
from .dataloader import AnomalyCollate, AnomalyLoader, IndexedDataset

__all__ = ["AnomalyCollate", "AnomalyLoader", "BatchContract", "IndexedDataset"]
