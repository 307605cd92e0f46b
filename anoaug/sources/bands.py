"""Structure and detail of an anomaly from different sources: low and high frequencies joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from .. import checks
from ..banks import TextureBank
from ..checks import one_of
from ..parts import Context, Source, Values, part
from ..pictures import Computed, Scene, rows_on
from ..placing import Range, between
from ..rows import put, sent, taken

IMAGE = "image"

_OWN = ("scale", "gain")
# Values are whole numbers below _WHITE + 1 between two steps, weights at most _WEIGHT: products and
# sums stay below 2**53, where float64 is exact.
_WHITE = float(1 << 24)
_WEIGHT = float(1 << 15)
# Values in flight on a device at once.
_PORTION = 1 << 25


@part
@dataclass(frozen=True)
class CoarseToFine(Computed):
    """The coarse structure of one source with the fine detail of another.

    Structure is what a Gaussian leaves of a picture: colour, shape, shading. Detail is what it
    takes away: grain, texture, edges. Either may be the image's own (with the layers before on it),
    so that a stain keeps the product's texture, or a foreign texture the product's shading:
    ``structure + gain * detail``, clipped. :class:`anoaug.blends.Detail` is the same as an option
    of a blend.

    The Gaussian has whole-number weights on a grid no coarser than half its standard deviation, and
    its sums are exact: the same bits on every device and in any batch.

    Args:
        structure: A source, a TextureBank, or ``"image"``.
        detail: Likewise; one of the two is a source. A mask that seeks its place moves the first.
        scale: Standard deviation of the Gaussian, which parts structure from detail, as a share of
            the image's shorter side: a number or a range of numbers >= 0. At 0 all is structure;
            far above 1 the mean colour is structure, all else detail. A range from below 4 pixels
            on works on every pixel and takes several times as long.
        gain: Factor of the detail, a number or a range of numbers >= 0.

    Source: structure first, then detail, is what surveys of anomaly synthesis ask for to make
    anomalies more diverse; the pyramid's two bands are those of Burt and Adelson, The Laplacian
    Pyramid as a Compact Image Code, IEEE Trans. Communications, 1983.
    """

    structure: Source | TextureBank | str = IMAGE
    detail: Source | TextureBank | str = IMAGE
    scale: float | Range = (0.02, 0.06)
    gain: float | Range = 1.0

    wraps: ClassVar[str] = "structure detail"

    def __post_init__(self) -> None:
        sources = 0
        for name in self.wraps.split():
            held = getattr(self, name)
            if isinstance(held, str):
                one_of(name, held, (IMAGE,))
            elif not isinstance(held, (Source, TextureBank)):
                raise TypeError(
                    f"{name}: expected a source, a TextureBank or 'image', got "
                    f"{type(held).__name__}"
                )
            sources += not isinstance(held, str)
        if not sources:
            raise ValueError(
                "CoarseToFine: expected a source as structure or detail, got the image as both, "
                "which changes nothing; give one"
            )
        for name in _OWN:
            object.__setattr__(self, name, checks.interval(name, getattr(self, name), 0.0, 1e6))

    @property
    def words(self) -> int:
        """Those of the sources, scale and gain, then the key."""
        return super().words + len(_OWN)

    def columns(self, channels: int) -> dict[str, int]:
        """The key, the sources' columns, then scale and gain."""
        return super().columns(channels) | dict.fromkeys(_OWN, 1)

    def sample(self, context: Context) -> Values:
        """Draw the sources' columns, scale and gain."""
        drawn = super().sample(context)
        u = context.uniform(len(_OWN), super().words - 2)
        ranges: Any = (self.scale, self.gain)
        own = {name: between(u[k], ranges[k]) for k, name in enumerate(_OWN)}
        return {**drawn, **own}

    def compute(self, scene: Scene) -> Tensor:
        """Join the bands on the rows that will be painted."""
        image = scene.before()
        first, second = (
            image if isinstance(getattr(self, name), str) else scene.colours(name)
            for name in self.wraps.split()
        )
        offset = scene.offset + sum(self.columns(image.shape[1]).values()) - len(_OWN)
        law = scene.call.host[:, offset : offset + len(_OWN)].numpy().astype(np.float64)
        out = image.clone()
        least = float(self.scale[0])  # type: ignore[index]
        for rows in _portions(scene.rows, image[0].numel(), image.device):
            there = rows_on(rows, image.device)
            scale, gain = law[rows].T
            bands = (taken(first, there), taken(second, there))
            put(out, there, joined(*bands, scale, gain, scene.peak, least))
        return out


def joined(
    structure: Tensor, detail: Tensor, scale: npt.NDArray[np.float64],
    gain: npt.NDArray[np.float64], peak: float, least: float = 0.0,
) -> Tensor:  # fmt: skip
    """The structure of one picture with the detail of another.

    Args:
        structure: ``[B, C, H, W]`` uint8, uint16 or float in [0, 1].
        detail: Likewise.
        scale: Standard deviations as shares of the shorter side, ``[B]``.
        gain: Factors of the detail, ``[B]``.
        peak: White.
        least: The least scale that there may be, which says how coarse the grid is.

    Returns:
        A picture like them, rounded half up.
    """
    coarse = smoothed(structure, scale, least)
    fine = smoothed(detail, scale, least).neg_().add_(detail.to(torch.float32))
    factor = sent(torch.from_numpy(gain.astype(np.float32)), coarse.device)
    out = fine.mul_(factor[:, None, None, None]).add_(coarse).clamp_(0.0, peak)
    if not structure.dtype.is_floating_point:
        out = out.add_(0.5).floor_()
    return out.to(structure.dtype)


def smoothed(picture: Tensor, scale: npt.NDArray[np.float64], least: float = 0.0) -> Tensor:
    """Pictures after a Gaussian each of its own width, in their units.

    At the edge the image's own pixels are weighted alone. What a picture becomes does not depend on
    the others.

    Args:
        picture: ``[B, C, H, W]`` uint8, uint16 or float in [0, 1].
        scale: Standard deviations as shares of the shorter side, ``[B]``.
        least: The least that any may be: the grid is as coarse as that allows.

    Returns:
        float32 ``[B, C, H, W]``.
    """
    _, _, height, width = picture.shape
    side = min(height, width)
    # Whole numbers in float64, so that no order of additions matters. Fractions are powers of two.
    unit = _WHITE / (checks.PEAKS.get(picture.dtype, 0.0) + 1.0)
    values = picture.to(torch.float64).mul_(unit)
    if picture.dtype.is_floating_point:  # others are whole already
        values = values.add_(0.5).floor_()
    step = _step(least * side, side)
    right, below = -width % step, -height % step
    if right or below:
        values = functional.pad(values, (0, right, 0, below))
    if step > 1:
        values = functional.avg_pool2d(values, step, divisor_override=1)
        values = values.div_(step**2).add_(0.5).floor_()
    # What pooling and interpolation smooth is theirs.
    square = (scale * side) ** 2 - ((step * step - 1) / 12 + step * step / 6 if step > 1 else 0.0)
    sigma = np.sqrt(np.maximum(square, 0.0)) / step
    rim = int(step > 1)
    for axis, beyond in ((2, below), (3, right)):
        # The last cell counts by what of it is image.
        values = _weighted(values, sigma, axis, rim, 1.0 - beyond / step)
    if step > 1:
        # Contiguous: as it comes from the products it would be copied to and fro.
        values = functional.interpolate(values.contiguous(), scale_factor=step, mode="bilinear")
        values = values[:, :, step : step + height, step : step + width]
    return values.div(unit).to(torch.float32)


def _step(sigma: float, side: int) -> int:
    """Side of the grid's cells: at most half the deviation and an eighth of the image's side."""
    return 1 << max(int(np.floor(np.log2(max(min(sigma / 2, side / 8), 1.0)))), 0)


def _weighted(
    values: Tensor, sigma: npt.NDArray[np.float64], axis: int, rim: int, last: float
) -> Tensor:
    """Whole numbers smoothed along an axis, rounded; and ``rim`` more beyond either end."""
    size = values.shape[axis]
    far = np.arange(size + rim, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        # A millionth of a pixel: narrower ones are the same, and their squares overflow.
        profile = np.exp(-0.5 * (far / np.maximum(sigma[:, None], 1e-6)) ** 2)
    profile[:, 0] = 1.0  # also where the width is 0
    profile = np.floor(np.nan_to_num(profile) * _WEIGHT + 0.5)
    weights = sent(torch.from_numpy(profile), values.device)
    place = torch.arange(-rim, size + rim, device=values.device)
    matrix = weights[:, (place[:, None] - place[rim : rim + size]).abs()][:, None]
    total = matrix.sum(3, keepdim=True) - (1.0 - last) * matrix[..., -1:]
    if axis == 2:
        made = torch.matmul(matrix, values).div_(total)
    else:
        made = torch.matmul(values, matrix.transpose(2, 3)).div_(total.transpose(2, 3))
    return made.add_(0.5).floor_()


def _portions(rows: list[int], values: int, device: torch.device) -> Iterator[list[int]]:
    """Rows so many at a time that what is worked on stays small: on the host, in the cache."""
    many = 1 if device.type == "cpu" else max(1, _PORTION // values)
    for first in range(0, len(rows), many):
        yield rows[first : first + many]
