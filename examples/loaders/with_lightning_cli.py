"""LightningCLI: the synthesizer is a part of the YAML file.

python examples/loaders/with_lightning_cli.py fit --config examples/loaders/lightning.yaml \
    --data.folder FOLDER
"""

from __future__ import annotations

import sys
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.cli import LightningCLI
from torch import Tensor, nn
from torch.utils.data import DataLoader

import anoaug
from anoaug.loaders.lightning import AnomalyDataMixin


class Data(AnomalyDataMixin, L.LightningDataModule):
    """Normal images of a folder, with the anomalies that the config describes.

    Args:
        folder: A product in MVTec's layout.
        synth: A config of anoaug, such as ``{method: cutpaste, p: 0.5}``.
        batch_size: Images per batch.
    """

    def __init__(self, folder: str, synth: dict[str, Any], batch_size: int = 8) -> None:
        super().__init__()
        self.folder, self.batch_size = folder, batch_size
        self.synth = anoaug.from_config(synth)

    def train_dataloader(self) -> DataLoader[Any]:
        """Samples are dicts with an index."""
        data = anoaug.ResidentDataset.from_folder(self.folder, size=64)
        return DataLoader(data, self.batch_size, shuffle=True)


class Detector(L.LightningModule):
    """A few convolutions that mark what is anomalous.

    Args:
        channels: Of the layer in between.
    """

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(3, channels, 5, padding=2), nn.ReLU(), nn.Conv2d(channels, 1, 5, padding=2)
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


def main(arguments: list[str]) -> int:
    """Run the command line; returns how many anomalies were seen."""
    cli = LightningCLI(Detector, Data, args=arguments, save_config_callback=None)
    print(f"{cli.model.seen} anomalies")
    return cli.model.seen


if __name__ == "__main__":
    main(sys.argv[1:])
