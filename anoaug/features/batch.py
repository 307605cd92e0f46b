"""What a perturbation returns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class FeatureBatch(NamedTuple):
    """Features with anomalies, in the layout, dtype and memory format they came in.

    Attributes:
        features: Perturbed features, like the input; ``duplicate`` methods give twice the rows.
        mask: float32 {0, 1} at the features' resolution: ``(B, 1, h, w)`` for maps, ``(B, P)`` for
            tokens (without prefix tokens), ``(N,)`` for rows; 1 where a position is anomalous.
        label: int64 ``(B,)``, of rows ``(N,)``: 1 where the mask has an anomaly.
        clean: The features without perturbation, as they were given: the target of denoising. Of
            ``duplicate`` methods once, row for row ``clean[extras["source_row"]]``.
        extras: Further tensors by name; the same names in eval mode, of features left alone.
    """

    features: Tensor
    mask: Tensor
    label: Tensor
    clean: Tensor
    extras: dict[str, Tensor]

    def __repr__(self) -> str:
        return (
            f"FeatureBatch(features {list(self.features.shape)} {self.features.dtype} on "
            f"{self.features.device}, mask {list(self.mask.shape)}, extras {sorted(self.extras)})"
        )


torch.serialization.add_safe_globals([FeatureBatch])
