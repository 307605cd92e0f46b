"""Anomalies among Kornia's augmentations: image and mask together.

python examples/loaders/with_kornia.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import kornia.augmentation as K
import torch

import anoaug
from anoaug.loaders.kornia import RandomAnomaly


def main(folder: Path) -> int:
    """One pass; returns how many anomalies were seen."""
    data = anoaug.ResidentDataset.from_folder(folder, size=128)
    augment = K.AugmentationSequential(
        K.RandomHorizontalFlip(p=0.5),
        RandomAnomaly("cutpaste", p=0.5, seed=0),
        K.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        data_keys=["input", "mask"],
    )
    seen = 0
    for batch in data.batches(8):
        images = batch["image"].float() / 255
        empty = torch.zeros(len(images), 1, *images.shape[2:])
        images, mask = augment(images, empty)
        seen += int(mask.flatten(1).any(1).sum())
    print(f"{seen} anomalies")
    return seen


if __name__ == "__main__":
    main(Path(sys.argv[1]))
