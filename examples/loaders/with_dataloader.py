"""A DataLoader of yours, anomalies on the device: the same ones whatever workers and batches.

python examples/loaders/with_dataloader.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import anoaug


class Normals(Dataset[tuple[Tensor, str]]):
    """The normal images of a product in MVTec's layout: any Dataset of yours will do."""

    def __init__(self, folder: Path, size: int = 256) -> None:
        self.files = sorted((folder / "train" / "good").iterdir())
        self.size = size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, at: int) -> tuple[Tensor, str]:
        image = Image.open(self.files[at]).convert("RGB").resize((self.size, self.size))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1), self.files[at].name


def main(folder: Path, workers: int = 2, epochs: int = 2) -> int:
    """Loop over some epochs; returns how many anomalies were seen."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # IndexedDataset: anomalies are a function of (seed, epoch, sample) alone.
    dataset = anoaug.IndexedDataset(Normals(folder))
    loader = DataLoader(
        dataset, batch_size=8, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    synth = anoaug.create("draem", p=0.5, seed=0)
    batches = anoaug.AnomalyLoader(loader, synth, device=device)
    seen = 0
    for epoch in range(epochs):  # each pass is an epoch with anomalies of its own
        for batch, names in batches:
            seen += int(batch.label.sum())
            assert batch.image.shape == (len(names), 3, 256, 256)
        print(f"epoch {epoch}: {seen} anomalies so far")
    return seen


if __name__ == "__main__":
    main(Path(sys.argv[1]))
