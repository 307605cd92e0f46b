"""Train a small U-Net to segment anomalies, from normal images alone.

python examples/train_segmentation.py FOLDER --textures FOLDER --steps 2000
python examples/train_segmentation.py --demo --steps 20
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

import anoaug

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        convolution = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
        layers += [convolution, nn.GroupNorm(4, outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Images (B, 3, H, W) to logits (B, 1, H, W); H and W must be multiples of 4."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64)) -> None:
        super().__init__()
        pairs = list(zip(widths, widths[1:], strict=False))
        self.down = nn.ModuleList([_block(3, widths[0]), *(_block(i, o) for i, o in pairs)])
        self.up = nn.ModuleList(_block(i + o, i) for i, o in reversed(pairs))
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, value: Tensor) -> Tensor:
        """Logits of "anomalous" per pixel."""
        skips: list[Tensor] = []
        for level, down in enumerate(self.down):
            value = down(functional.max_pool2d(value, 2) if level else value)
            skips.append(value)
        for up, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            value = up(torch.cat([skip, functional.interpolate(value, scale_factor=2.0)], 1))
        return self.head(value)


class Folder(Dataset[Tensor]):
    """The images below a folder, uint8 (3, 256, 256): any Dataset of yours will do."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, at: int) -> Tensor:
        image = Image.open(self.files[at]).convert("RGB").resize((256, 256))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def crops() -> Tensor:
    """Crops of scikit-image's brick, gravel and grass, uint8 (96, 3, 64, 64)."""
    from skimage import data

    surfaces = [data.brick(), data.gravel(), data.grass()]
    corners = np.random.default_rng(0).integers(0, 512 - 64, (96, 2))
    found = [surfaces[n % 3][y : y + 64, x : x + 64] for n, (y, x) in enumerate(corners)]
    return torch.from_numpy(np.stack(found))[:, None].repeat(1, 3, 1, 1)


def loss_of(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross entropy plus Dice: anomalies are few pixels, which cross entropy alone neglects."""
    chance = torch.sigmoid(logits)
    dice = 1 - (2 * (chance * mask).sum() + 1) / (chance.sum() + mask.sum() + 1)
    return functional.binary_cross_entropy_with_logits(logits, mask) + dice


def main(argv: list[str] | None = None) -> list[float]:
    """Train; returns the loss of each step."""
    parser = argparse.ArgumentParser(description="Train a U-Net on synthetic anomalies.")
    add = parser.add_argument
    add("folder", nargs="?", type=Path, help="normal images")
    add("--demo", action="store_true", help="use scikit-image's images instead")
    add("--textures", type=Path, help="texture images; procedural without")
    add("--steps", type=int, default=1000)
    chosen = parser.parse_args(argv)
    if chosen.demo == bool(chosen.folder):
        parser.error("expected a folder of normal images, or --demo")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    images = crops() if chosen.demo else Folder(chosen.folder)
    loader = DataLoader(images, 8, shuffle=True, num_workers=0 if chosen.demo else 4)
    synth = anoaug.create("draem", textures=chosen.textures, mean=MEAN, std=STD)
    batches = anoaug.AnomalyLoader(loader, synth, device=device)
    network = UNet().to(device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3)
    losses: list[float] = []
    endless = itertools.chain.from_iterable(itertools.repeat(batches))  # a pass is an epoch
    for step, batch in zip(range(1, chosen.steps + 1), endless, strict=False):
        loss = loss_of(network(batch.image), batch.mask)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
        if step % 5 == 0:
            print(f"step {step:4d}  loss {sum(losses[-5:]) / 5:.3f}", flush=True)
    return losses


if __name__ == "__main__":
    main()
