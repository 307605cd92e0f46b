"""Doors into training loops: whatever hands out batches, with anomalies in them."""

from .dataloader import AnomalyCollate, AnomalyLoader, BatchContract, IndexedDataset

__all__ = ["AnomalyCollate", "AnomalyLoader", "BatchContract", "IndexedDataset"]
