"""What the feature-space examples share: images, a frozen backbone, scores, pictures, the loop.

A data folder has normal images in ``train/good``, test images in ``test/NAME`` and masks in
``ground_truth/NAME`` (MVTec layout). Weights are .npz files of SqueezeNet 1.1 in torchvision's
names, or of a ResNet50-v2 trunk (stem and three stages) in MXNet's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

import anoaug
from anoaug.evaluation.metrics import pixel_auroc, pixel_average_precision

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass
class Data:
    """Normal images to train on, and images with masks to test on; uint8, masks bool (N, H, W)."""

    train: Tensor
    test: Tensor
    masks: Tensor


def read(path: Path, size: int, mode: str) -> Tensor:
    """An image as uint8 (3, size, size), a mask (mode "L") as (size, size)."""
    kind = Image.Resampling.NEAREST if mode == "L" else Image.Resampling.BILINEAR
    pixels = torch.from_numpy(np.array(Image.open(path).convert(mode).resize((size, size), kind)))
    return pixels if mode == "L" else pixels.permute(2, 0, 1)


def from_folder(folder: Path, size: int) -> Data:
    """Read a folder in MVTec layout."""

    def below(name: str) -> list[Path]:
        return sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in ENDINGS)

    test = below("test")
    masks = []
    for path in test:
        found = folder / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
        if path.parent.name != "good" and not found.exists():
            raise FileNotFoundError(f"{path}: expected a mask at {found}, got none")
        masks.append(read(found, size, "L") > 127 if found.exists() else torch.zeros(size, size))
    train = torch.stack([read(path, size, "RGB") for path in below("train")])
    tested = torch.stack([read(path, size, "RGB") for path in test])
    return Data(train, tested, torch.stack([mask.bool() for mask in masks]))


def demo(size: int = 64) -> Data:
    """Crops of scikit-image's gravel; those to test on have drawn cuts and pastes."""
    from skimage import data

    gravel = data.gravel()
    corners = np.random.default_rng(0).integers(0, 512 - size, (40, 2))
    crops = [gravel[y : y + size, x : x + size] for y, x in corners]
    images = torch.from_numpy(np.stack(crops))[:, None].repeat(1, 3, 1, 1)
    synth = anoaug.create("noise_fill", p=0.7, seed=0)
    tested = synth(images[24:])
    return Data(images[:24], tested.image, tested.mask[:, 0].bool())


class SqueezeNet(nn.Module):
    """SqueezeNet 1.1 up to its last two resolutions: 256 channels at stride 8, 512 at 16."""

    def __init__(self, file: Path | None) -> None:
        super().__init__()
        fires = {3: 64, 4: 64, 6: 128, 7: 128, 9: 192, 10: 192, 11: 256, 12: 256}
        squeezed = {3: 16, 4: 16, 6: 32, 7: 32, 9: 48, 10: 48, 11: 64, 12: 64}
        layers: dict[str, nn.Module] = {"0": nn.Conv2d(3, 64, 3, stride=2)}
        inputs = 64
        for place, outputs in fires.items():
            layers[str(place)] = nn.ModuleDict({
                "squeeze": nn.Conv2d(inputs, squeezed[place], 1),
                "expand1x1": nn.Conv2d(squeezed[place], outputs, 1),
                "expand3x3": nn.Conv2d(squeezed[place], outputs, 3, padding=1),
            })  # fmt: skip
            inputs = 2 * outputs
        self.features = nn.ModuleDict(layers)
        if file is None:
            for value in self.parameters():
                nn.init.kaiming_normal_(value) if value.dim() > 1 else nn.init.zeros_(value)
        else:
            with np.load(file) as arrays:
                known = {k: torch.from_numpy(v) for k, v in arrays.items() if "features" in k}
            self.load_state_dict(known)

    def forward(self, value: Tensor) -> list[Tensor]:
        """Normalised images to the two levels."""
        found = []
        for place, layer in self.features.items():
            if place == "0":
                value = functional.relu(layer(value))
                continue
            if place in ("3", "6", "9"):
                value = functional.max_pool2d(value, 3, 2, ceil_mode=True)
            value = functional.relu(layer["squeeze"](value))
            wide = [layer[name](value) for name in ("expand1x1", "expand3x3")]
            value = functional.relu(torch.cat(wide, 1))
            if place in ("7", "12"):
                found.append(value)
        return found


class ResNetTrunk(nn.Module):
    """A pre-activation ResNet50 up to stage 3: 512 channels at stride 8, 1024 at 16."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        with np.load(file) as arrays:
            for name, value in arrays.items():
                self.register_buffer(name, torch.from_numpy(value))

    def _norm(self, name: str, value: Tensor) -> Tensor:
        mean, variance, weight, bias = (
            getattr(self, f"{name}_{part}")
            for part in ("running_mean", "running_var", "gamma", "beta")
        )
        return functional.batch_norm(value, mean, variance, weight, bias)

    def _block(self, stage: int, number: int, value: Tensor) -> Tensor:
        # The first block of a stage has a fourth convolution, of the way round.
        convolution, norm = 3 * number + (number > 0), 3 * number
        stride = 2 if number == 0 and stage > 1 else 1

        def active(inputs: Tensor, at: int) -> Tensor:
            return functional.relu(self._norm(f"stage{stage}_batchnorm{norm + at}", inputs))

        def convolved(inputs: Tensor, at: int, stride: int = 1, padding: int = 0) -> Tensor:
            weight = getattr(self, f"stage{stage}_conv{convolution + at}_weight")
            return functional.conv2d(inputs, weight, None, stride, padding)

        before = active(value, 0)
        inner = active(convolved(before, 0), 1)
        inner = active(convolved(inner, 1, stride, 1), 2)
        return convolved(inner, 2) + (value if number else convolved(before, 3, stride))

    def forward(self, value: Tensor) -> list[Tensor]:
        """Normalised images to the two levels."""
        value = functional.conv2d(self._norm("batchnorm0", value), self.conv0_weight, None, 2, 3)
        value = functional.max_pool2d(functional.relu(self._norm("batchnorm1", value)), 3, 2, 1)
        found = []
        for stage, blocks in ((1, 3), (2, 4), (3, 6)):
            for number in range(blocks):
                value = self._block(stage, number, value)
            found.append(value)
        return found[1:]


class Extractor(nn.Module):
    """uint8 images to features (B, C, h, w): two levels on the finer grid, 3 x 3 means."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Features without gradients, whatever mode the detector is in."""
        fine, coarse = self.backbone((images / 255.0 - self.mean) / self.std)
        coarse = functional.interpolate(coarse, fine.shape[2:], mode="bilinear")
        return functional.avg_pool2d(torch.cat((fine, coarse), 1), 3, 1, 1)

    def all(self, images: Tensor, batch: int = 8) -> Tensor:
        """Features of many images, kept as float16."""
        return torch.cat([self(part).half() for part in images.split(batch)])


@dataclass
class Setting:
    """What a detector is made from: the data, the extractor, features of the normal images."""

    data: Data
    extract: Extractor
    normal: Tensor
    seed: int

    def batches(self, count: int, batch: int = 8) -> Iterator[tuple[Tensor, Tensor]]:
        """Indices and features (B, C, h, w) float32 of normal images, ``count`` times."""
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(count):
            chosen = torch.randperm(len(self.normal), generator=generator)[:batch]
            yield chosen, self.normal[chosen].float()


# What makes a detector; it has ``fit(setting, steps)``, which gives its losses, and ``forward``,
# features to scores (B, h, w).
Make = Callable[[Setting], nn.Module]


def sigma_of(features: Tensor, ratio: float) -> float:
    """The deviation of noise that has ``ratio`` of the features' length, channels anywhere."""
    return ratio * features.square().mean().sqrt().item()


def heads(channels: int, hidden: int) -> tuple[nn.Linear, nn.Sequential]:
    """SimpleNet's adaptor of rows (N, C), and its discriminator, which GLASS took over."""
    adaptor = nn.Linear(channels, channels)
    nn.init.xavier_normal_(adaptor.weight)
    judge = nn.Sequential(
        nn.Linear(channels, hidden),
        nn.BatchNorm1d(hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(hidden, 1, bias=False),
    )
    return adaptor, judge


def rows_of(maps: Tensor) -> Tensor:
    """(B, C, h, w) as (B h w, C)."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


@torch.no_grad()
def score_maps(detector: nn.Module, features: Tensor, size: int, batch: int = 8) -> Tensor:
    """Anomaly maps float32 (N, size, size), smoothed as SimpleNet does (sigma 4)."""
    detector.eval()
    maps = [detector(part.float()) for part in features.split(batch)]
    detector.train()
    value = functional.interpolate(torch.cat(maps)[:, None], (size, size), mode="bilinear")
    reach = torch.arange(-12.0, 13.0)
    kernel = torch.softmax(-(reach**2) / (2 * 4.0**2), 0)
    value = functional.pad(value, (12, 12, 12, 12), mode="replicate")
    value = functional.conv2d(value, kernel.view(1, 1, -1, 1))
    return functional.conv2d(value, kernel.view(1, 1, 1, -1))[:, 0]


def figures(maps: Tensor, data: Data) -> tuple[float, float]:
    """Pixel AUROC and pixel average precision."""
    return pixel_auroc(maps, data.masks), pixel_average_precision(maps, data.masks)


def draw(path: Path, data: Data, maps: Tensor, count: int = 6) -> None:
    """Images with defects, their masks, and the maps from the lowest to the highest score."""
    chosen = data.masks.flatten(1).any(1).nonzero()[:, 0]
    chosen = chosen[torch.linspace(0, len(chosen) - 1, count).round().long()]
    low, high = maps.min(), maps.quantile(0.999) if maps.numel() < 2**24 else maps.max()
    heat = ((maps - low) / (high - low)).clamp(0, 1)
    columns = []
    for at in chosen.tolist():
        masks = torch.stack((data.masks[at].float(), heat[at])) * 255
        planes = masks[:, None].repeat(1, 3, 1, 1).to(torch.uint8)
        columns.append(torch.cat((data.test[at], *planes), 1))
    Image.fromarray(torch.cat(columns, 2).permute(1, 2, 0).contiguous().numpy()).save(path)


def run(make: Make, description: str, argv: list[str] | None = None) -> dict[str, float]:
    """Train a detector for each seed and compare it with itself untrained.

    Returns:
        Means over seeds: pixel AUROC and AP untrained and trained, first and last losses.
    """
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("folder", nargs="?", type=Path, help="data in MVTec layout: ANOAUG_DATA/bsd_pitting")
    add("--weights", type=Path, help=".npz of SqueezeNet 1.1 or of a ResNet50-v2 trunk")
    add(
        "--demo",
        action="store_true",
        help="run in seconds: small images, a random backbone, idle figures",
    )
    add("--steps", type=int, default=200)
    add("--seeds", type=int, default=1)
    add("--size", type=int, default=256)
    add("--picture", type=Path, help="draw images, masks and maps of the last seed")
    chosen = parser.parse_args(argv)
    if chosen.demo == bool(chosen.folder and chosen.weights):
        parser.error("expected a folder and --weights, or --demo")
    torch.manual_seed(0)
    data = demo() if chosen.demo else from_folder(chosen.folder, chosen.size)
    trunk = chosen.weights is not None and "resnet" in chosen.weights.name
    extract = Extractor(ResNetTrunk(chosen.weights) if trunk else SqueezeNet(chosen.weights))
    normal, tested = extract.all(data.train), extract.all(data.test)
    size, results = data.test.shape[-1], []
    for seed in range(chosen.seeds):
        torch.manual_seed(seed)
        setting = Setting(data, extract, normal, seed)
        detector = make(setting)
        before = figures(score_maps(detector, tested, size), data)
        losses = detector.fit(setting, chosen.steps)
        maps = score_maps(detector, tested, size)
        after = figures(maps, data)
        tenth = max(len(losses) // 10, 1)
        ends = (sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth)
        results.append((*before, *after, *ends))
        print(
            f"seed {seed}  pixel AUROC {before[0]:.3f} -> {after[0]:.3f}  AP {before[1]:.3f} -> "
            f"{after[1]:.3f}  loss {ends[0]:.3f} -> {ends[1]:.3f}",
            flush=True,
        )
    if chosen.picture:
        draw(chosen.picture, data, maps)
    names = ("auroc_before", "ap_before", "auroc", "ap", "loss_first", "loss_last")
    return dict(zip(names, torch.tensor(results).mean(0).tolist(), strict=True))
