"""A SimpleNet-like detector: noise on adapted features, a discriminator of rows.

python examples/train_simplenet.py ANOAUG_DATA/bsd_pitting \
    --weights ANOAUG_DATA/backbones/squeezenet1_1_imagenet.npz --seeds 3
python examples/train_simplenet.py --demo --steps 20
"""

from __future__ import annotations

import detectors
import torch
from detectors import Setting
from torch import Tensor, nn
from torch.nn import functional

import anoaug


class SimpleNet(nn.Module):
    """An adaptor and a discriminator of rows (Liu et al., CVPR 2023).

    The paper's noise of 0.015 is for its WideResNet50; here it has a share of each feature's
    length.
    """

    def __init__(self, setting: Setting, hidden: int = 512, ratio: float = 0.3) -> None:
        super().__init__()
        channels = setting.normal.shape[1]
        self.adaptor, self.judge = detectors.heads(channels, hidden)
        self.perturb = anoaug.features.create("simplenet", ratio=ratio, seed=setting.seed)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) to scores (B, h, w), higher where anomalous."""
        scores = self.judge(self.adaptor(detectors.rows_of(features)))
        return scores.view(len(features), *features.shape[2:])

    def fit(self, setting: Setting, steps: int, rows: int = 1024) -> list[float]:
        """Hinge loss with a margin of 0.5 on ``rows`` features a step."""
        optimiser = torch.optim.AdamW(
            [
                {"params": self.adaptor.parameters(), "lr": 1e-4},
                {"params": self.judge.parameters(), "lr": 5e-4, "weight_decay": 1e-5},
            ]
        )
        losses = []
        for _, maps in setting.batches(steps):
            every = detectors.rows_of(maps)
            real = self.adaptor(every[torch.randperm(len(every))[:rows]])
            fake = self.perturb(real).features
            scores = self.judge(torch.cat((real, fake)))
            low, high = scores.chunk(2)
            loss = functional.relu(0.5 + low).mean() + functional.relu(0.5 - high).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        return losses


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train and compare; returns the figures."""
    return detectors.run(SimpleNet, "Train a SimpleNet-like detector.", argv)


if __name__ == "__main__":
    main()
