"""From image units to what a network wants: mean and standard deviation as one scale and shift."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import checks


class Norms:
    """The normalisation of a synthesizer's output, kept by device, white level and channels.

    Args:
        mean: Per-channel means in [0, 1], or None; with ``std``.
        std: Per-channel standard deviations.
        scaled: Whether integers become [0, 1] where nothing is normalised.
    """

    def __init__(
        self, mean: tuple[float, ...] | None, std: tuple[float, ...] | None, scaled: bool
    ) -> None:
        self.mean, self.std, self.scaled = mean, std, scaled
        self._known: dict[tuple[torch.device, float, int], Tensor] = {}

    def __call__(self, images: Tensor) -> Tensor | None:
        """float32 ``[2, C]`` from image units to the output, or None where nothing changes.

        Raises:
            ValueError: As many numbers as neither 1 nor the images' channels.
        """
        peak = checks.PEAKS.get(images.dtype, 1.0)
        if self.mean is None and (not self.scaled or peak == 1.0):
            return None
        channels = images.shape[1]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) not in (1, channels):
                raise ValueError(
                    f"{name}: expected 1 or {channels} numbers for images with {channels} "
                    f"channels, got {len(values)}"
                )
        known = (images.device, peak, channels)
        norm = self._known.get(known)
        if norm is None:
            like: dict[str, Any] = {"dtype": torch.float64, "device": "cpu"}
            mean = torch.tensor(self.mean or [0.0], **like).expand(channels)
            std = torch.tensor(self.std or [1.0], **like).expand(channels)
            norm = torch.stack([1.0 / (peak * std), -mean / std])
            norm = norm.to(torch.float32).to(images.device)
            if not torch.compiler.is_compiling():  # a graph would be guarded by the cache it fills
                self._known[known] = norm
        return norm

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the cache of device tensors."""
        return {**self.__dict__, "_known": {}}
