"""NVIDIA DALI decodes and resizes, anoaug synthesises; on the GPU where there is one.

python examples/loaders/with_dali.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import anoaug
from anoaug.loaders import dali


def main(folder: Path, epochs: int = 2) -> int:
    """Loop over some epochs; returns how many anomalies were seen."""
    device = "gpu" if torch.cuda.is_available() else "cpu"
    synth = anoaug.create("draem", p=0.5, seed=0, memory_format="contiguous", dtype=torch.float32)
    batches = dali.mvtec_batches(folder, synth, size=256, batch_size=8, device=device)
    seen = 0
    for epoch in range(epochs):
        for batch in batches:
            assert batch["image"].dtype == torch.float32 and batch["image"].is_contiguous()
            seen += int((batch["kind"] > 0).sum())
        print(f"epoch {epoch}: {seen} anomalies so far")
    return seen


if __name__ == "__main__":
    main(Path(sys.argv[1]))
