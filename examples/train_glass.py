"""A GLASS-like detector: gradient ascent on features, and Perlin textures on images.

python examples/train_glass.py ANOAUG_DATA/bsd_pitting \
    --weights ANOAUG_DATA/backbones/squeezenet1_1_imagenet.npz --seeds 3
python examples/train_glass.py --demo --steps 20
"""

from __future__ import annotations

import detectors
import torch
from detectors import Setting
from torch import Tensor, nn
from torch.nn import functional

import anoaug
from anoaug.features import ascent, fitted


class Glass(nn.Module):
    """An adaptor, a discriminator of rows, and what makes anomalies for it.

    Chen et al., ECCV 2024. Its noise of 0.015 is for a WideResNet50; here it has a share of the
    features' length, and step and shell keep their ratio to it.
    """

    def __init__(self, setting: Setting, hidden: int = 512, ratio: float = 0.3) -> None:
        super().__init__()
        channels = setting.normal.shape[1]
        self.adaptor, self.judge = detectors.heads(channels, hidden)
        choice = fitted.HypothesisChoice().fit([setting.data.train], progress=False)
        self.mode = choice.hypothesis
        self.centres = fitted.PositionalCentres(weighting="batch")
        self.radius = fitted.RadiusQuantile(0.75, self.centres)
        with torch.no_grad():
            sigma = detectors.sigma_of(self.adapted(setting.normal[:4].float()), ratio)
        self.perturb = anoaug.features.create(
            "glass",
            discriminator=self.judge,
            mode=self.mode,
            centre=self.centres,
            sigma=sigma,
            step_size=sigma / 15,
            relative_radius=0.85 if self.mode == "manifold" else None,
            layout="tokens",
            sees="rows",
            cache_first_linear=True,
            seed=setting.seed,
        )
        self.synth = anoaug.create("glass_las", seed=setting.seed)  # textures= of your own

    def adapted(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) to adapted tokens (B, P, C)."""
        return self.adaptor(features.flatten(2).transpose(1, 2))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) to logits (B, h, w), higher where anomalous."""
        logits = self.judge(self.adapted(features).flatten(0, 1))
        return logits.view(len(features), *features.shape[2:])

    def loss(self, setting: Setting, chosen: Tensor, maps: Tensor) -> Tensor:
        """Normal features, those the ascent makes, and those of images with textures."""
        real = self.adapted(maps)
        images = self.synth(setting.data.train[chosen])
        local = self.adapted(setting.extract(images.image))
        mask = functional.adaptive_max_pool2d(images.mask, maps.shape[2:]).flatten(1)
        radius: dict[str, Tensor] = {}
        if self.mode == "hypersphere":
            inside = torch.cat((torch.ones_like(mask), 1 - mask))
            radius = {"radius": self.radius.update(torch.cat((real, local)), inside)}
            centre = self.centres.lookup(local)
            local = ascent.local_rows(local, mask, centre, **radius, mode=self.mode)
        fake = self.perturb(real, **radius).features
        logits = self.judge(torch.cat((real, fake)).flatten(0, 1))
        low, high = logits.chunk(2)
        hard = ascent.hard_focal(self.judge(local.flatten(0, 1))[:, 0], mask.flatten())
        return functional.softplus(low).mean() + functional.softplus(-high).mean() + hard

    def fit(self, setting: Setting, steps: int, epoch: int = 50) -> list[float]:
        """Train; centres are taken anew every ``epoch`` steps."""
        adaptor = torch.optim.Adam(self.adaptor.parameters(), lr=1e-4, weight_decay=1e-5)
        judge = torch.optim.AdamW(self.judge.parameters(), lr=5e-4, weight_decay=1e-5)
        losses = []
        for step, (chosen, maps) in enumerate(setting.batches(steps, batch=2)):
            if self.mode == "hypersphere" and step % epoch == 0:
                parts = (part.float() for part in setting.normal.split(8))
                self.centres.fit(list(parts), self.adapted, progress=False)
            loss = self.loss(setting, chosen, maps)
            adaptor.zero_grad()
            judge.zero_grad()
            loss.backward()
            adaptor.step()
            judge.step()
            losses.append(loss.item())
        return losses


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train and compare; returns the figures."""
    return detectors.run(Glass, "Train a GLASS-like detector.", argv)


if __name__ == "__main__":
    main()
