"""A SuperSimpleNet-like detector: noise under Perlin masks, a head of pixels and one of images.

python examples/train_supersimplenet.py ANOAUG_DATA/bsd_pitting \
    --weights ANOAUG_DATA/backbones/squeezenet1_1_imagenet.npz --seeds 3
python examples/train_supersimplenet.py --demo --steps 20
"""

from __future__ import annotations

import detectors
import torch
from detectors import Setting
from torch import Tensor, nn
from torch.nn import functional

import anoaug


def focal(logits: Tensor, target: Tensor, gamma: float = 4.0) -> Tensor:
    """Focal loss of logits without balance, as published."""
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((1 - torch.exp(-loss)) ** gamma * loss).mean()


def truncated(logits: Tensor, target: Tensor, margin: float = 0.5) -> Tensor:
    """L1 beyond a margin on the right side of 0: mean over normal and over anomalous positions."""
    low, high = functional.relu(margin + logits), functional.relu(margin - logits)
    normal = (low * (1 - target)).sum() / (1 - target).sum().clamp(min=1)
    return normal + (high * target).sum() / target.sum().clamp(min=1)


class SuperSimpleNet(nn.Module):
    """Adaptor, head of pixels, head of images (Rolih et al., ICPR 2024, and its extension).

    The head of images sees the features before the adaptor with the same noise under the same
    masks. The paper's noise of 0.015 is for its WideResNet50; here it has a share of the features'
    length.
    """

    def __init__(self, setting: Setting, hidden: int = 256, ratio: float = 0.3) -> None:
        super().__init__()
        channels = setting.normal.shape[1]
        self.adaptor = nn.Conv2d(channels, channels, 1)
        nn.init.xavier_normal_(self.adaptor.weight)
        self.pixels = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, 1, 1, bias=False),
        )
        self.look = nn.Sequential(
            nn.Conv2d(channels + 1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()
        )
        self.image = nn.Linear(2 * (32 + 1), 1)
        with torch.no_grad():
            sigma = detectors.sigma_of(self.adaptor(setting.normal[:4].float()), ratio)
        self.perturb = anoaug.features.create(
            "supersimplenet", sigma=sigma, threshold=0.2, seed=setting.seed
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) to logits (B, h, w), higher where anomalous."""
        return self.pixels(self.adaptor(features))[:, 0]

    def score(self, features: Tensor, maps: Tensor) -> Tensor:
        """Logits (B,) of images from raw features and the map of pixels (B, 1, h, w)."""
        found = torch.cat((self.look(torch.cat((features, maps), 1)), maps), 1)
        return self.image(torch.cat((found.mean((2, 3)), found.amax((2, 3))), 1))[:, 0]

    def fit(self, setting: Setting, steps: int) -> list[float]:
        """Truncated L1 and focal loss of pixels, focal loss of images."""
        heads = [*self.pixels.parameters(), *self.look.parameters(), *self.image.parameters()]
        optimiser = torch.optim.AdamW(
            [
                {"params": self.adaptor.parameters(), "lr": 1e-4},
                {"params": heads, "lr": 5e-4, "weight_decay": 1e-5},
            ]
        )
        losses = []
        for _, maps in setting.batches(steps, batch=2):
            fake = self.perturb(self.adaptor(maps), raw=maps)  # twice the batch
            logits = self.pixels(fake.features)
            # Without supervision no gradient passes from the head of images to that of pixels.
            judged = self.score(fake.extras["raw"], logits.detach())
            loss = truncated(logits, fake.mask) + focal(logits, fake.mask)
            loss = loss + focal(judged, fake.label.float())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        return losses


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train and compare; returns the figures."""
    return detectors.run(SuperSimpleNet, "Train a SuperSimpleNet-like detector.", argv)


if __name__ == "__main__":
    main()
