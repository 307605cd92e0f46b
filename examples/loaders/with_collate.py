"""Anomalies inside the CPU workers of a DataLoader, for code that wants them before the device.

python examples/loaders/with_collate.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch.utils.data import DataLoader

import anoaug


def main(folder: Path, workers: int = 2, epochs: int = 2) -> int:
    """Loop over some epochs; returns how many anomalies were seen."""
    data = anoaug.ResidentDataset.from_folder(folder, size=128)  # any Dataset of yours will do
    collate = anoaug.AnomalyCollate(anoaug.create("cutpaste_union", p=0.5, seed=0))
    loader = DataLoader(
        data, batch_size=8, shuffle=True, num_workers=workers, collate_fn=collate
    )  # fmt: skip
    seen = 0
    for epoch in range(epochs):
        collate.set_epoch(epoch)  # reaches the workers too
        seen += sum(int(batch["label"].sum()) for batch in loader)
        print(f"epoch {epoch}: {seen} anomalies so far")
    return seen


if __name__ == "__main__":
    main(Path(sys.argv[1]))
