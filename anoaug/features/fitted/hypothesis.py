"""Whether normal images look like points of a manifold or of a hypersphere: GLASS's rule."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ... import checks
from . import ranks
from .base import Fitted

HYPOTHESES = ("manifold", "hypersphere")
# Categories that GLASS's own runs take as hyperspheres; the others of these sets are manifolds.
PUBLISHED: dict[str, tuple[str, ...]] = {
    "mvtec": ("bottle", "cable", "pill", "screw", "transistor"),
    "visa": ("cashew", "fryum", "pcb1", "pcb2", "pcb4", "pipe_fryum"),
    "mpdd": (),
    "wfdd": (),
}
# Side of the picture, of the blur's box, and the level of a bright bin: 20 ln |F|.
_SIDE, _BOX, _BRIGHT = 289, 39, 170.0
# Weights of red, green and blue.
GREY = (0.299, 0.587, 0.114)
_DENSITY, _RADIUS, _POINTS = 0.21, 12.0, 60


def published(dataset: str, category: str) -> str:
    """The hypothesis GLASS's own runs have for a category.

    Raises:
        ValueError: Unknown data set.
    """
    chosen = PUBLISHED[checks.one_of("dataset", dataset.lower(), tuple(PUBLISHED))]
    return HYPOTHESES[category.lower() in chosen]


class Spectrum(NamedTuple):
    """The bright bins of the mean image's spectrum.

    Attributes:
        radius: Distance of the farthest from zero frequency, in bins.
        points: Their number.
        box: Their share of the box that holds them.
        disc: Their share of the disc that holds them.
    """

    radius: float
    points: int
    box: float
    disc: float

    @property
    def hypothesis(self) -> str:
        """``"hypersphere"`` where bright bins are many, far and dense, else ``"manifold"``."""
        dense = self.box > _DENSITY or self.disc > _DENSITY
        return HYPOTHESES[dense and self.radius > _RADIUS and self.points > _POINTS]


class HypothesisChoice(Fitted):
    """GLASS's choice between its two hypotheses by the spectrum of the mean training image.

    Fitted on images, not features: ``choice.fit(loader)``. The mean grey image, 289 x 289 pixels in
    [0, 255], is blurred by a box of 39 pixels; its bins above 20 ln |F| = 170 decide.

    Args:
        mean: Of the normalisation the images went through, per channel; with ``std``.
        std: Likewise.
        share: Whether ranks share what they see.

    Attributes:
        image: float32 ``[289, 289]``: the mean grey image in [0, 255]; empty while unfitted.
        count: int64 scalar: images so far.
    """

    anchor = "image"

    image: Tensor
    count: Tensor

    def __init__(self, *, mean: Any = None, std: Any = None, share: bool = True) -> None:
        super().__init__(layout="nchw", share=share)
        self.mean, self.std = checks.statistics(mean, std)
        self.register_buffer("image", torch.zeros(0, 0))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def reset(self) -> None:
        """Forget everything."""
        self.image = self.image.new_zeros(0, 0)
        self.count = torch.zeros_like(self.count)

    @torch.no_grad()
    def update(self, features: Tensor) -> None:
        """Take a batch of images in, ``(B, 1 or 3, H, W)``: uint8, or floats in [0, 1].

        Raises:
            ValueError: Another number of channels.
        """
        images = checks.images(features)
        if images.shape[1] not in (1, 3):
            raise ValueError(f"images: expected 1 or 3 channels, got {images.shape[1]}")
        wide = images.to(torch.float32) / checks.PEAKS.get(images.dtype, 1.0)
        planes = list(wide.unbind(1))
        if self.mean is not None and self.std is not None and images.dtype.is_floating_point:
            # Numbers, not tensors: those would have to be copied to the device, which waits.
            known = zip(planes, self.std, self.mean, strict=True)
            planes = [plane * std + mean for plane, std, mean in known]
        weights = GREY if len(planes) == 3 else (1.0,)
        grey = sum(plane * weight for plane, weight in zip(planes, weights, strict=True))
        assert isinstance(grey, Tensor)
        total = grey.sum(0)[None, None] * 255.0
        total = F.interpolate(total, (_SIDE, _SIDE), mode="bilinear", align_corners=False)[0, 0]
        if not self.is_fitted:
            self._set("image", torch.zeros_like(total))
            self._set("count", self.count.to(total.device))
        many = ranks.summed(torch.full((), len(images), device=total.device), self.share)
        total = ranks.summed(total, self.share)
        count = self.count + many
        step = (total - many * self.image) / count.clamp(min=1)
        self._set("image", self.image + step)
        self._set("count", count)

    def _finish(self) -> None:
        low, high = (float(end) for end in self.image.aminmax())  # host: once a fit
        if not (low >= -1.0 and high <= 256.0):
            raise ValueError(
                f"images: expected uint8 or floats in [0, 1], got a mean image of {low / 255:.3g} "
                f"to {high / 255:.3g}; pass mean= and std= of their normalisation"
            )

    def spectrum(self) -> Spectrum:
        """What the rule looks at. Reads the device."""
        self._must_be_fitted()
        padded = F.pad(self.image[None, None], (_BOX // 2,) * 4, mode="reflect")
        blurred = F.avg_pool2d(padded, _BOX, 1)[0, 0].double()
        bins = torch.fft.fftshift(torch.fft.fft2(blurred)).abs().cpu()  # host: once per fit
        bright = 20.0 * bins.clamp(min=1e-30).log() > _BRIGHT
        y, x = (each - _SIDE // 2 for each in bright.nonzero().unbind(1))
        points = len(y)
        if not points:
            return Spectrum(0.0, 0, 0.0, 0.0)
        squares = y * y + x * x
        reach = int(squares.max())
        box = 4 * max(int(y.abs().max()), 1) * max(int(x.abs().max()), 1)
        side = torch.arange(-(_SIDE // 2), 2 * _SIDE - _SIDE // 2)
        disc = int((side[:, None] ** 2 + side**2 <= reach).sum())
        return Spectrum(reach**0.5, points, points / box, points / disc)

    @property
    def hypothesis(self) -> str:
        """``"manifold"`` or ``"hypersphere"``. Reads the device."""
        return self.spectrum().hypothesis
