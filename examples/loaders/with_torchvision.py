"""Anomalies among torchvision's transforms v2, in an ImageFolder.

python examples/loaders/with_torchvision.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from anoaug.loaders.torchvision import AnomalyTransform


def main(folder: Path, workers: int = 2) -> int:
    """One pass; returns how many anomalies were seen."""
    transform = v2.Compose(
        [
            v2.Resize((128, 128)),
            v2.ToImage(),
            AnomalyTransform("cutpaste", p=0.5, seed=0),  # an image becomes (image, mask)
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    loader = DataLoader(ImageFolder(folder / "train", transform), 8, num_workers=workers)
    seen = sum(int(mask.flatten(1).any(1).sum()) for (_, mask), _ in loader)
    print(f"{seen} anomalies")
    return seen


if __name__ == "__main__":
    main(Path(sys.argv[1]))
