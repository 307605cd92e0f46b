"""Small models of the kinds that detectors take features from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from anoaug import features
from anoaug.features.perturbation import Perturbed, Site, everywhere
from anoaug.rng import uniform

STRONG = 0.5


def noise(**keywords: Any) -> Any:
    return features.create("simplenet", **{"sigma": STRONG, "seed": 0} | keywords)


class Shift(features.Perturbation):
    """A number of its own added to every sample: cheap to compile, unlike noise."""

    def perturb(self, site: Site) -> Perturbed:
        inside = everywhere(site)
        step = uniform(site.rng("shift")[:, 0])[:, None, None] * inside[..., None]
        return Perturbed(site.features + step, inside)


def images(seed: int = 0, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def masks(seed: int = 0, batch: int = 2) -> Tensor:
    """At the images' resolution; the first has one pixel, the last image nothing."""
    inside = torch.rand(batch, 1, 16, 16, generator=torch.Generator().manual_seed(seed)) > 0.9
    inside[0] = False
    inside[0, 0, 9, 5] = True
    inside[-1] = False
    return inside


class Block(nn.Module):
    """A residual block that overwrites in place what it was given, as ResNet's do."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1)
        self.short = nn.Conv2d(inside, outside, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv2(self.relu(self.conv1(x))) + self.short(x))


class ResNet(nn.Module):
    """torchvision's shape: a stem, stages of blocks, pooling, a linear head.

    Args:
        reentrant: Kind of checkpointing of the stages; None does without.
    """

    def __init__(self, reentrant: bool | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.reentrant = reentrant
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(Block(8, 8, 1))
        self.layer2 = nn.Sequential(Block(8, 12, 2), Block(12, 12, 1))
        self.layer3 = nn.Sequential(Block(12, 16, 2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 1)

    def stages(self, x: Tensor) -> Tensor:
        return self.layer3(self.layer2(self.layer1(x)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        if self.reentrant is None:
            x = self.stages(x)
        else:
            x = checkpoint(self.stages, x, use_reentrant=self.reentrant)
        return self.fc(self.avgpool(torch.tanh(x)).flatten(1))


class PatchEmbed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_patches = 16
        self.proj = nn.Conv2d(3, width, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class ViT(nn.Module):
    """timm's shape: class and register tokens before the patches; blocks of (B, 1 + 1 + P, C)."""

    def __init__(self, width: int = 12, depth: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.num_prefix_tokens = 2
        self.patch_embed = PatchEmbed(width)
        self.prefix = nn.Parameter(torch.randn(1, 2, width))
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(width, 2, 16, dropout=0.0, batch_first=True)
                for _ in range(depth)
            )
        )
        self.norm = nn.LayerNorm(width)

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        x = torch.cat((self.prefix.expand(len(x), -1, -1), x), 1)
        return self.norm(self.blocks(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_features(x)[:, 0]


class Several(nn.Module):
    """Layers that return tuples and dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()
        self.named = Named()

    def forward(self, x: Tensor) -> Any:
        return self.pair(x), self.named(x)


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return 2 * x, None


class Named(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"0": x, "1": 3 * x}
