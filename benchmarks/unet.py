"""The small segmentation network of the quality benchmark, and its loss."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(4, outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Four levels, (B, 3, H, W) float in, (B, 1, H, W) logits out; about 0.3 M parameters.

    Args:
        widths: Channels of each level, from the finest; H and W must divide by 2 for each step.
    """

    def __init__(self, widths: tuple[int, ...] = (12, 24, 48, 96)) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            _block(i, o) for i, o in zip((3, *widths[:-1]), widths, strict=True)
        )
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.up = nn.ModuleList(_block(fine + coarse, fine) for fine, coarse in reversed(pairs))
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of "anomalous" per pixel."""
        value = images * 2.0 - 1.0
        skips: list[torch.Tensor] = []
        for level, block in enumerate(self.down):
            value = block(value if level == 0 else functional.max_pool2d(value, 2))
            skips.append(value)
        for block, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            larger = functional.interpolate(value, scale_factor=2.0, mode="nearest")
            value = block(torch.cat((skip, larger), dim=1))
        return self.head(value)


def loss(logits: torch.Tensor, mask: torch.Tensor, gamma: float = 2.0) -> torch.Tensor:
    """Focal loss plus dice loss of (B, 1, H, W) logits on {0, 1} masks.

    The focal part weighs anomalous pixels by 0.75 and is scaled by 10, because at a mean area of
    some 2 % its mean over pixels is small beside the dice part.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    chance = torch.sigmoid(logits)
    miss = mask * (1.0 - chance) + (1.0 - mask) * chance
    focal = ((0.25 + 0.5 * mask) * miss**gamma * entropy).mean()
    overlap = 2.0 * (chance * mask).sum() + 1.0
    dice = 1.0 - overlap / (chance.sum() + mask.sum() + 1.0)
    return 10.0 * focal + dice
