"""How much a product's normal images vary: the unit in which anomalies may be strong."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .. import checks, config
from ..banks import imagefolder
from .choice import one_product

# Images that are decoded and counted at a time.
_AT_ONCE = 32


class Variation:
    """The standard deviation of a product's normal images, pixel by pixel or one number.

    Of images that show the product in one place it is small where every product is alike; of
    textures it is the texture's own contrast. ``anoaug.Control(strength=2.0, unit="sigma",
    variation=v)`` makes anomalies that differ from the image by twice as much on average.

    Args:
        std: A number in [0, 1], or a map float ``[1, 1, H, W]`` of such: shares of white, the root
            mean square over channels.

    Raises:
        TypeError, ValueError: Neither of these.
    """

    def __init__(self, std: float | Tensor) -> None:
        if isinstance(std, Real):
            std = torch.tensor(float(std), device="cpu").view(1, 1, 1, 1)
        if not isinstance(std, Tensor) or std.dim() != 4 or std.shape[:2] != (1, 1):
            got = list(std.shape) if isinstance(std, Tensor) else type(std).__name__
            raise TypeError(f"std: expected a number or a map [1, 1, H, W], got {got}")
        std = std.detach().to("cpu", torch.float32)
        if not bool(((std >= 0) & (std <= 1)).all()):
            raise ValueError("std: expected standard deviations in [0, 1]; divide by 255?")
        self.std = std
        self._of: dict[str, Any] | None = None  # the folder it is of, and how

    @classmethod
    @torch.no_grad()
    def of(cls, images: Any, size: int | tuple[int, int] = 256, by_pixel: bool = True) -> Variation:
        """From normal images of one product, batch by batch, in float64.

        Args:
            images: ``(B, C, H, W)`` uint8, uint16 or float in [0, 1]; or batches of such: an
                iterable of tensors, of dicts with ``"image"``, or of tuples that begin with one,
                such as a DataLoader; or a folder of normal images.
            size: Side, or height and width, that images of a folder are brought to.
            by_pixel: Whether each pixel has its own; else one number, the root of the mean.

        Returns:
            The variation.

        Raises:
            TypeError, ValueError: No images, fewer than two, or of different sizes.
        """
        count = 0
        mean = squares = torch.zeros(0, dtype=torch.float64, device="cpu")
        for batch in _batches(images, size):
            checks.content(checks.images(batch))
            values = batch.to(torch.float64) / checks.PEAKS.get(batch.dtype, 1.0)
            if len(values) == 0:
                continue
            if count == 0:
                mean = squares = torch.zeros_like(values[:1])
            if values.shape[1:] != mean.shape[1:]:
                raise ValueError(
                    f"images: expected {list(mean.shape[1:])} like the first, got "
                    f"{list(values.shape[1:])}; bring them to one size"
                )
            # The squares about the mean so far and about the batch's join without cancellation.
            own = values.mean(0, keepdim=True)
            total = count + len(values)
            step = own - mean
            spread = (values - own).square().sum(0, keepdim=True)
            squares = squares + spread + step.square() * (count * len(values) / total)
            mean, count = mean + step * (len(values) / total), total
        if count < 2:
            raise ValueError(f"images: expected two or more, got {count}; one does not vary")
        variance = (squares / (count - 1)).mean(1, keepdim=True)
        if not by_pixel:
            variance = variance.mean((2, 3), keepdim=True)
        made = cls(variance.sqrt().clamp(max=1.0).to(torch.float32))
        if isinstance(images, (str, os.PathLike)):
            made._of = {"images": os.fspath(images), "size": size, "by_pixel": by_pixel}
        return made

    def to_config(self) -> dict[str, Any]:
        """It as plain data: the folder that it is of, or its number.

        Raises:
            TypeError: A map of tensors, which plain data cannot say.
        """
        if self._of is not None:
            return config.call_of((f"{config.path_of(type(self))}.of", (), self._of), {})
        if self.by_pixel:
            raise TypeError(
                "variation: expected what plain data can say, got a map made of tensors; make it "
                "of a folder, Variation.of('path'), whose path can be said"
            )
        return config.call_of((type(self), (), {"std": float(self.std)}), {})

    @property
    def by_pixel(self) -> bool:
        """Whether each pixel has its own."""
        return self.std.numel() > 1

    def over(self, images: Tensor) -> Tensor:
        """The standard deviation of images' pixels, float32 ``[1, 1, H, W]`` on their device.

        A map of another size is resized, bilinearly.
        """
        std = self.std
        size = (images.shape[2], images.shape[3])
        if self.by_pixel and std.shape[2:] != size:
            std = functional.interpolate(std, size, mode="bilinear", align_corners=False)
        if images.is_cuda:
            std = std.pin_memory()
        return std.expand(1, 1, *size).to(images.device, non_blocking=images.is_cuda)

    def __repr__(self) -> str:
        mean = float(self.std.mean())
        by = f", by pixel, {list(self.std.shape[2:])}" if self.by_pixel else ""
        return f"Variation({mean:.4g}{by})"


def _batches(images: Any, size: int | tuple[int, int]) -> Iterable[Tensor]:
    if isinstance(images, Tensor):
        yield from images.split(_AT_ONCE) if images.dim() == 4 else (images,)
    elif isinstance(images, (str, os.PathLike)):
        yield from _decoded(Path(images), size)
    elif isinstance(images, Iterable) and not isinstance(images, Mapping):
        for batch in images:
            if isinstance(batch, Mapping):
                batch = batch.get("image")
            elif isinstance(batch, (tuple, list)):
                batch = batch[0]
            yield batch
    else:
        raise TypeError(
            "images: expected a tensor (B, C, H, W), batches of such or a folder, got "
            f"{type(images).__name__}"
        )


def _decoded(folder: Path, size: int | tuple[int, int]) -> Iterable[Tensor]:
    names, rule = one_product(folder), imagefolder.Rule(imagefolder.pair(size))
    for first in range(0, len(names), _AT_ONCE):
        some = names[first : first + _AT_ONCE]
        yield imagefolder.load(folder, some, rule, cache=False, progress=False).data
