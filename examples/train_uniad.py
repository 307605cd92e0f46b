"""A UniAD-like detector: features are jittered, a transformer has to give the clean ones back.

python examples/train_uniad.py ANOAUG_DATA/bsd_pitting \
    --weights ANOAUG_DATA/backbones/squeezenet1_1_imagenet.npz --seeds 3
python examples/train_uniad.py --demo --steps 20
"""

from __future__ import annotations

import detectors
import torch
from detectors import Setting
from torch import Tensor, nn
from torch.nn import functional

import anoaug


class UniAD(nn.Module):
    """Reconstruction of feature tokens by learnt queries (You et al., NeurIPS 2022).

    An encoder sees the tokens; a decoder answers queries that know positions alone, so that it
    cannot copy. An anomaly is what comes back otherwise.
    """

    def __init__(self, setting: Setting, width: int = 128, grid: int = 14) -> None:
        super().__init__()
        channels = setting.normal.shape[1]
        self.grid = min(grid, *setting.normal.shape[2:])
        self.inside = nn.Linear(channels, width)
        self.outside = nn.Linear(width, channels)
        self.place = nn.Parameter(0.02 * torch.randn(1, self.grid**2, width))
        self.query = nn.Parameter(0.02 * torch.randn(1, self.grid**2, width))
        options = {"dropout": 0.1, "batch_first": True}
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, 4, 2 * width, **options), 2
        )
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(width, 4, 2 * width, **options), 2
        )
        # The paper's scale of 20 is a noise of 20 / sqrt(272) = 1.2 times a token's length.
        self.perturb = anoaug.features.create("uniad", ratio=1.2, seed=setting.seed)

    def tokens(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) as tokens (B, P, C) on the coarser grid."""
        coarse = functional.adaptive_avg_pool2d(features, self.grid)
        return coarse.flatten(2).transpose(1, 2)

    def restored(self, tokens: Tensor) -> Tensor:
        """What comes back of tokens (B, P, C)."""
        seen = self.encoder(self.inside(tokens) + self.place)
        return self.outside(self.decoder(self.query.expand(len(tokens), -1, -1), seen))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) to distances (B, g, g), larger where anomalous."""
        tokens = self.tokens(features)
        distance = (self.restored(tokens) - tokens).norm(dim=2)
        return distance.unflatten(1, (self.grid, self.grid))

    def fit(self, setting: Setting, steps: int) -> list[float]:
        """Mean squared error against the clean tokens."""
        optimiser = torch.optim.AdamW(self.parameters(), lr=1e-3, weight_decay=1e-4)
        losses = []
        for _, maps in setting.batches(steps, batch=8):
            tokens = self.perturb(self.tokens(maps))
            loss = functional.mse_loss(self.restored(tokens.features), tokens.clean)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters(), 0.1)
            optimiser.step()
            losses.append(loss.item())
        return losses


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train and compare; returns the figures."""
    return detectors.run(UniAD, "Train a UniAD-like detector.", argv)


if __name__ == "__main__":
    main()
