"""One compiled training step that makes its anomalies itself: in the image and in the features.

python examples/loaders/with_compile.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

import anoaug


class Detector(nn.Module):
    """A backbone whose features are perturbed by a hook, and a head that finds where."""

    def __init__(self) -> None:
        super().__init__()
        self.synth = anoaug.create("cutpaste", p=0.5, seed=0, dtype=torch.float32)
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU())
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, images: Tensor, index: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Logits and the mask of the image's anomalies."""
        batch = self.synth(images, index=index, epoch=epoch)
        return self.head(self.backbone(batch.image)), batch.mask


def main(folder: Path, epochs: int = 2, backend: str = "inductor") -> int:
    """Train; returns how many graphs were compiled."""
    torch.manual_seed(0)
    data = anoaug.ResidentDataset.from_folder(folder, size=64)
    detector = Detector()
    noise = anoaug.features.create("simplenet", sigma=0.1, seed=0)
    anoaug.features.attach(detector.backbone, "0", noise)  # before the first compiled call
    detector.synth.warmup((8, 3, 64, 64))
    optimiser = torch.optim.Adam(detector.parameters(), 1e-3)
    step = torch.compile(detector, fullgraph=True, backend=backend)
    counted = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for epoch in range(epochs):
        for batch in data.batches(8, drop_last=True):
            logits, mask = step(batch["image"], batch["index"], epoch)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, mask)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")
    return torch._dynamo.utils.counters["stats"]["unique_graphs"] - counted


if __name__ == "__main__":
    main(Path(sys.argv[1]))
