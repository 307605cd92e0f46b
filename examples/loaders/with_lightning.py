"""Lightning: training batches get their anomalies on the device, validation batches stay.

python examples/loaders/with_lightning.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import anoaug
from anoaug.loaders.lightning import AnomalyDataMixin


class Normals(L.LightningDataModule):
    """Normal images alone: a data module as you may have it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def train_dataloader(self) -> DataLoader[Any]:
        """Samples are dicts with an index."""
        data = anoaug.ResidentDataset.from_folder(self.folder, size=64)
        return DataLoader(data, batch_size=8, shuffle=True)


class WithAnomalies(AnomalyDataMixin, Normals):
    """The same, with anomalies: the one line that changes."""

    synth = anoaug.create("cutpaste", p=0.5, seed=0, dtype=torch.float32)


class Detector(L.LightningModule):
    """A few convolutions that mark what is anomalous."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 1, 5, padding=2)
        )
        self.seen = 0

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Cross entropy of the mask."""
        self.seen += int(batch["label"].sum())
        logits = self.network(batch["image"])
        return nn.functional.binary_cross_entropy_with_logits(logits, batch["mask"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), 1e-3)


def main(folder: Path, epochs: int = 1) -> int:
    """Train; returns how many anomalies were seen."""
    detector = Detector()
    trainer = L.Trainer(
        max_epochs=epochs, accelerator="auto", devices=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False,
    )  # fmt: skip
    trainer.fit(detector, datamodule=WithAnomalies(folder))
    print(f"{detector.seen} anomalies")
    return detector.seen


if __name__ == "__main__":
    main(Path(sys.argv[1]))
