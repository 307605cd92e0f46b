"""The channels that show anomalies best: RealNet's anomaly-aware features selection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ... import checks
from .. import masks
from . import ranks
from .base import Fitted


class ChannelSelector(Fitted):
    """Of a layer's channels those whose change under synthetic anomalies looks like their mask.

    RealNet (Zhang, Xu, Zhou, CVPR 2024): the squared difference between the features of an
    anomalous image and of its normal one, scaled to [0, 1] over the batch, is compared with the
    mask; the channels of the least mean squared error over 64 batches are kept, in their order.
    RealNet keeps 256, 512, 512 and 256 of a WideResNet50's four stages.

    Args:
        count: Channels to keep.
        layout: See :class:`Fitted`, likewise ``share``; features need a grid.
        share: Whether ranks share what they see.

    Attributes:
        chosen: int64 ``[count]``: channels, ascending; empty while unfitted.
        errors: float32 ``[C]``: sums of mean squared errors.
        batches: int64 scalar: batches so far, over all ranks.
    """

    anchor = "chosen"

    chosen: Tensor
    errors: Tensor
    batches: Tensor

    def __init__(self, count: int, *, layout: str | None = None, share: bool = True) -> None:
        super().__init__(layout=layout, share=share)
        self.count = checks.whole("count", count, 1)
        self.register_buffer("chosen", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("errors", torch.zeros(0))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self._synth: Callable[[Any], Any] | None = None
        self._mask: Tensor | None = None

    def reset(self) -> None:
        """Forget everything."""
        self.chosen, self.errors = self.chosen.new_zeros(0), self.errors.new_zeros(0)
        self.batches = torch.zeros_like(self.batches)

    def fit(
        self, loader: Any, extractor: Any = None, synth: Callable[[Any], Any] | None = None,
        **keywords: Any,
    ) -> Any:  # fmt: skip
        """See :meth:`Fitted.fit`.

        Args:
            loader: Of normal images.
            extractor: Images to maps of features.
            synth: Makes anomalies of images, such as an :class:`anoaug.Synthesizer`: returns
                ``image``, ``clean`` and ``mask``.
            keywords: Of :meth:`Fitted.fit`.

        Raises:
            TypeError: Without ``extractor`` or ``synth``.
        """
        if extractor is None or synth is None:
            raise TypeError(
                "fit: expected an extractor and synth=, which makes anomalies of the loader's "
                "images; anoaug.create('realnet', ...) makes one"
            )
        self._synth = synth
        try:
            return super().fit(loader, extractor, **keywords)
        finally:
            self._synth = self._mask = None

    def _extract(self, images: Any, extractor: Any) -> Any:
        assert self._synth is not None
        made = self._synth(images)
        if made.clean is None:
            raise ValueError("synth: expected normal images with it; pass clean='output'")
        self._mask = made.mask
        return torch.cat((extractor(made.image), extractor(made.clean)))

    def _absorb(self, features: Tensor, images: int, category: Any) -> None:
        half = len(features) // 2
        assert self._mask is not None
        self.update(features[:half], features[half:], self._mask[:half])

    @torch.no_grad()
    def update(self, anomalous: Tensor, normal: Tensor, mask: Tensor) -> None:  # type: ignore[override]
        """Compare one batch.

        Args:
            anomalous: Features of images with anomalies, maps.
            normal: Features of the same images without, alike.
            mask: Of the images ``(B, 1, H, W)``; comes to the grid by its nearest pixel.

        Raises:
            ValueError: Shapes that differ, or fewer channels than are to be kept.
        """
        if anomalous.shape != normal.shape:
            raise ValueError(
                f"normal: expected {list(anomalous.shape)} like anomalous, got {list(normal.shape)}"
            )
        values, grid = self._view(anomalous)
        if grid.size is None:
            raise ValueError(f"features: expected maps, got layout {grid.layout!r}")
        checks.whole("count", self.count, 1, grid.channels)
        if not self.is_fitted:
            self._set("errors", values.new_zeros(grid.channels, dtype=torch.float32))
            self._set("batches", self.batches.to(values.device))
        self._must_match("channels", self.errors.shape, (grid.channels,))
        there = torch.full((), float(grid.groups > 0), device=values.device)
        errors = torch.zeros_like(self.errors)
        if grid.groups:
            truth = masks.resize(mask, grid.size, "nearest").flatten()[:, None]
            change = (values - self._view(normal)[0]).square().flatten(0, 1).float()
            low, high = change.aminmax(dim=0)
            # Constant channels say nothing: their scaled change is 0, not NaN.
            scaled = (change - low) / (high - low + 1e-4)
            errors = (scaled - truth).square().mean(0)
        batches = ranks.summed(there, self.share)
        # RealNet takes the mean over ranks for one batch.
        self._set("errors", self.errors + ranks.summed(errors, self.share))
        self._set("batches", self.batches + batches.to(torch.int64))
        worst = torch.where(self.errors.isnan(), float("-inf"), self.errors).amax()
        ordered = torch.where(self.errors.isnan(), worst, self.errors)
        self._set("chosen", ordered.topk(self.count, largest=False).indices.sort().values)

    def forward(self, features: Tensor) -> Tensor:
        """The chosen channels of features, in their layout."""
        self._must_be_fitted()
        _, grid = self._view(features)
        self._must_match("channels", self.errors.shape, (grid.channels,))
        return features.index_select(1 if grid.layout == "nchw" else -1, self.chosen)
