"""Texture images, from files or made from a seed, and what is derived from them.

Drawing textures is the business of :mod:`.procedural`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from . import imagefolder, procedural
from .bank import Bank, Facts, Indices

if TYPE_CHECKING:
    from typing_extensions import Self


class TextureBank(Bank):
    """Texture images: what DRAEM and its kin paint anomalies with."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._smooth: Tensor | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process finds the blurred copy of a mapped bank in the cache.
        known = {} if self._facts.file else {"_smooth": self._smooth}
        return *super().__reduce__(), known

    @property
    def histograms(self) -> Indices:
        """int64 ``[N, C, 256]``: pixels of each value, per image and channel; on the host, kept."""
        facts = self._facts
        if facts.histograms is None:
            shape = (self.channels, 256 * 8)
            data, _ = self._origin()._derived("histogram", _histograms, shape)
            facts.histograms = data.cpu().numpy().view(np.int64)  # host: once per bank
            facts.histograms.flags.writeable = False
        return facts.histograms

    @property
    def smooth(self) -> Tensor:
        """uint8 ``[N, C, h, w]``: ``PIL.ImageFilter.SMOOTH`` of each image, made once and kept.

        The kernel is (1 1 1; 1 5 1; 1 1 1) / 13; border pixels are copied. Pillow's and imgaug's
        EnhanceSharpness with factor f is ``smooth + f * (image - smooth)``.
        """
        if self._smooth is None:
            self._smooth, _ = self._derived("smooth", _smooth, tuple(self.data.shape[1:]))
        return self._smooth

    @classmethod
    @torch.inference_mode(False)
    def procedural(
        cls, n: int = 64, size: int | tuple[int, int] = 256, seed: int = 0, channels: int = 3
    ) -> Self:
        """Textures made from a seed, for want of files; texture i does not depend on ``n``.

        The categories are the families of :mod:`.procedural`, in turn. About 20 ms per
        texture of 256 x 256; a bank of up to 32 MiB is made once per process.

        Args:
            n: Number of textures, at least 1.
            size: Side, or (height, width), in pixels, at least 1.
            seed: Integer; any sign.
            channels: 3 (RGB) or 1 (luma).

        Raises:
            ValueError: An argument is out of range.
        """
        height, width = imagefolder.Rule(imagefolder.pair(size), channels).size
        if n < 1:
            raise ValueError(f"n: expected at least 1 texture, got {n}")
        small = n * channels * height * width <= 1 << 25
        make: Callable[..., Self] = _kept_procedural if small else _procedural
        return make(cls, int(n), height, width, int(seed), channels)


def _smooth(images: Tensor) -> Tensor:
    """Exact in integers: Pillow's sum / 13 + 0.5 truncated never falls on a tie."""
    result = images.clone()
    if min(images.shape[-2:]) < 3:
        return result
    wide = images.to(torch.int16)
    rows = wide[..., :-2, :] + wide[..., 1:-1, :] + wide[..., 2:, :]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * wide[..., 1:-1, 1:-1]
    result[..., 1:-1, 1:-1] = (2 * total + 13).div(26, rounding_mode="floor").to(torch.uint8)
    return result


def _histograms(images: Tensor) -> Tensor:
    """int64 counts of each plane, as bytes ``[n, C, 2048]``."""
    count, channels = images.shape[:2]
    planes = images.cpu().numpy().reshape(count * channels, -1)  # host: once per bank
    counts = np.stack([np.bincount(plane, minlength=256) for plane in planes]).astype(np.int64)
    return torch.from_numpy(counts.view(np.uint8).reshape(count, channels, -1))


def _procedural(kind: Any, n: int, height: int, width: int, seed: int, channels: int) -> Any:
    families = tuple(procedural.FAMILIES)
    # host: textures of a bank, when it is made
    images = np.stack(
        [procedural.texture(index, (height, width), seed, channels) for index in range(n)]
    )
    category = np.arange(n, dtype=np.int64) % len(families)
    names = [f"{families[which]}-{index}" for index, which in enumerate(category)]
    said = {"n": n, "size": [height, width], "seed": seed, "channels": channels}
    facts = Facts(origin=("procedural", said))
    return kind(torch.from_numpy(images), names, families, category, facts)


_kept_procedural = functools.lru_cache(maxsize=4)(_procedural)
