"""A stream without a length (IterableDataset): files from anywhere, numbered as they come.

python examples/loaders/with_stream.py FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

import anoaug


class Stream(IterableDataset[dict[str, Any]]):
    """Normal images as they are found; a worker takes its share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        files = sorted((self.folder / "train" / "good").iterdir())
        for number in range(first, len(files), step):
            image = np.array(Image.open(files[number]).convert("RGB").resize((128, 128)))
            # The number makes anomalies a function of the sample; without it they are counted.
            yield {"image": torch.from_numpy(image).permute(2, 0, 1), "index": number}


def main(folder: Path, workers: int = 2) -> int:
    """One pass; returns how many anomalies were seen."""
    loader = DataLoader(Stream(folder), batch_size=8, num_workers=workers)
    synth = anoaug.create("draem", p=1.0, seed=0)
    seen = sum(int(batch["label"].sum()) for batch in anoaug.AnomalyLoader(loader, synth))
    print(f"{seen} anomalies")
    return seen


if __name__ == "__main__":
    main(Path(sys.argv[1]))
