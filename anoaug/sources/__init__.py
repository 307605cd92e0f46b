"""Sources: what an anomaly is made of: textures, the image itself, a donor, noise, a colour.

The functions are in ``kernels/sources.py`` and ``anoaug/reference/sources.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .. import checks
from ..banks import Bank
from ..checks import one_of
from ..kornia_bridge import Kornia
from ..parts import AFFINE, BankInfo, Context, Floats, Source, Values, part
from ..pictures import Given
from ..placing import Range, between
from ..reference.sources import BANK
from .bands import CoarseToFine
from .gathers import (
    FILLS,
    INTERPOLATIONS,
    Photometric,
    affine,
    checked_photometric,
    drawn_stages,
    gather_option,
    stage_values,
    stage_widths,
)
from .noises import Simplex
from .seamless import Poisson, PoissonInterpolation
from .shuffles import Shuffled
from .structure import Chip, Misprint, Missing, Moved, Swapped, Thread
from .warps import Warp

__all__ = [
    "BatchDonor",
    "Chip",
    "CoarseToFine",
    "Constant",
    "Donor",
    "Given",
    "Kornia",
    "Misprint",
    "Missing",
    "Moved",
    "Noise",
    "Own",
    "Poisson",
    "PoissonInterpolation",
    "Shuffled",
    "Simplex",
    "Source",
    "Swapped",
    "Texture",
    "Thread",
    "Warp",
]


def pick(u: Floats, info: BankInfo, category: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Choose an image per sample: of the sample's category where that is known, else of all."""
    chosen = np.floor(u * info.images).astype(np.int32)
    if info.category.max(initial=-1) < 0:  # a bank without categories serves them all
        return chosen
    for wanted in np.unique(category[category >= 0]):
        rows = category == wanted
        members = np.flatnonzero(info.category == wanted)
        if len(members) == 0:
            raise ValueError(
                f"category: the bank has no image of category number {wanted}; "
                "add some or leave category out"
            )
        chosen[rows] = members[np.floor(u[rows] * len(members)).astype(np.int64)]
    return chosen


def bank_widths(photometric: Photometric | None, channels: int) -> dict[str, int]:
    """Columns of a gather from a bank: affine map, place in the bank, sharpness, stages."""
    columns = dict.fromkeys((*AFFINE, "image", "h", "w", "plane"), 1)
    if photometric is not None:
        columns |= {"sharpness": 1, **stage_widths(channels)}
    return columns


def bank_columns(index: npt.NDArray[np.int32], info: BankInfo) -> dict[str, npt.NDArray[Any]]:
    """Where an image of a bank lies."""
    ones = np.ones(len(index), np.int32)
    plane = info.height * info.width if info.channels > 1 else 0
    return {"image": index, "h": ones * info.height, "w": ones * info.width, "plane": ones * plane}


@part
@dataclass(frozen=True)
class Texture(Source):
    """An image of a texture bank, stretched over the image, optionally turned and recoloured.

    Args:
        bank: A :class:`anoaug.TextureBank` (its number once bound to a recipe).
        photometric: :class:`anoaug.photometric.RandomOps` or ``ColorJitter``, or None.
        rotation: Range in degrees, in addition to what ``photometric`` draws.
        interpolation: ``"bilinear"`` or ``"nearest"``.
        fill: ``"zero"`` (the literature) or ``"border"``, beyond the turned texture's edge.
    """

    bank: Bank | int
    photometric: Photometric | None = None
    rotation: float | Range = 0.0
    interpolation: str = "bilinear"
    fill: str = "zero"

    function: ClassVar[str] = "gather_bank"

    def __post_init__(self) -> None:
        object.__setattr__(self, "rotation", checks.interval("rotation", self.rotation))
        one_of("interpolation", self.interpolation, INTERPOLATIONS)
        checked_photometric(self.photometric)
        one_of("fill", self.fill, FILLS)

    @property
    def words(self) -> int:
        """Image, rotation, then those of the photometric ops."""
        return 2 + (0 if self.photometric is None else self.photometric.words)

    def option(self) -> int:
        """Interpolation, fill, stages and the bank's number."""
        bits = gather_option(self.interpolation, self.fill, self.photometric)
        return bits | int(self.bank) * BANK  # type: ignore[arg-type]

    def columns(self, channels: int) -> dict[str, int]:
        """Affine map, place in the bank, sharpness, stages."""
        return bank_widths(self.photometric, channels)

    def sample(self, context: Context) -> Values:
        """Draw image, rotation and ops."""
        info = context.banks[self.bank]  # type: ignore[index]
        u = context.uniform(self.words)
        # Textures belong to no category: the sample's own does not narrow the choice.
        index = pick(u[0], info, np.full(context.batch, -1))
        angle = np.deg2rad(between(u[1], self.rotation))  # type: ignore[arg-type]
        sign_y, sign_x = np.ones(context.batch), np.ones(context.batch)
        colour: dict[str, npt.NDArray[Any]] = {}
        if self.photometric is not None:
            histograms = None if info.histograms is None else info.histograms[index]
            stages = drawn_stages(self.photometric, context, u[2:], histograms)
            angle = angle + stages.angle
            sign_y = np.where(stages.flip_y, -1.0, 1.0)
            sign_x = np.where(stages.flip_x, -1.0, 1.0)
            colour = {
                "sharpness": stages.sharpness,
                **stage_values(stages),
            }
        scale = (
            sign_y * info.height / context.height,
            sign_x * info.width / context.width,
        )
        target = ((context.height - 1) / 2, (context.width - 1) / 2)
        origin = ((info.height - 1) / 2, (info.width - 1) / 2)
        geometry = affine(np.cos(angle), np.sin(angle), scale, target, origin)
        return {**geometry, **bank_columns(index, info), **colour}


def patch_affine(
    context: Context, u: Floats, place: str, size: tuple[int, int],
    signs: tuple[Floats | float, Floats | float] = (1.0, 1.0),
) -> Values:  # fmt: skip
    """Map from the layer's frame to an upright box of the same size elsewhere (or the same place).

    The box lies inside a source image of ``size``; sides and places are whole pixels, so that an
    unturned patch is copied exactly. A sign of -1 mirrors the box elsewhere along that axis.
    """
    ones = np.ones(context.batch)
    if place == "same":
        return affine(ones, ones * 0.0, (1.0, 1.0), (0.0, 0.0), (0.0, 0.0))
    frame, origin_box = context.frame, context.origin
    if origin_box is not None:
        if size != (context.height, context.width):
            raise ValueError(
                f"donors: expected images of {(context.height, context.width)} pixels, like the "
                f"batch, got {size}; make the bank with that size="
            )
        scale = (
            signs[0] * origin_box.half_h / frame.half_h,
            signs[1] * origin_box.half_w / frame.half_w,
        )
        centre = (frame.cy, frame.cx)
        return affine(ones, ones * 0.0, scale, centre, (origin_box.cy, origin_box.cx))
    top = np.floor(u[0] * (np.maximum(size[0] - 2 * frame.half_h, 0) + 1))
    left = np.floor(u[1] * (np.maximum(size[1] - 2 * frame.half_w, 0) + 1))
    origin = (top + frame.half_h - 0.5, left + frame.half_w - 0.5)
    cos, sin = np.cos(frame.angle), np.sin(frame.angle)
    return affine(cos, sin, signs, (frame.cy, frame.cx), origin)


@part
@dataclass(frozen=True)
class Own(Source):
    """A patch of the image itself, from another place, turned with the mask (CutPaste).

    Args:
        place: ``"elsewhere"``: an upright box of the mask's size anywhere in the image;
            ``"same"``: the pixels under the mask.
        photometric: Colour change of the patch, or None. It works on 8 bits: 16-bit and float
            patches are rounded to 8 bits by it.
        interpolation: ``"nearest"`` (the literature) or ``"bilinear"``.
        mirror: Whether a patch from elsewhere is mirrored, along each axis half of the time.
    """

    place: str = "elsewhere"
    photometric: Photometric | None = None
    interpolation: str = "nearest"
    mirror: bool = False

    function: ClassVar[str] = "gather_image"

    def __post_init__(self) -> None:
        one_of("place", self.place, ("elsewhere", "same"))
        one_of("interpolation", self.interpolation, INTERPOLATIONS)
        checked_photometric(self.photometric)

    @property
    def words(self) -> int:
        """Row, column, those of the photometric ops, then the mirror's."""
        return 2 + (0 if self.photometric is None else self.photometric.words) + self.mirror

    def option(self) -> int:
        """Interpolation and stages."""
        return gather_option(self.interpolation, "border", self.photometric)

    def columns(self, channels: int) -> dict[str, int]:
        """Affine map, batch row, stages."""
        columns = dict.fromkeys((*AFFINE, "row"), 1)
        return columns if self.photometric is None else columns | stage_widths(channels)

    def rows(self, context: Context) -> npt.NDArray[np.int32]:
        """Batch row to take from: -1, the sample's own."""
        return np.full(context.batch, -1, np.int32)

    def sample(self, context: Context) -> Values:
        """Draw place and colour change."""
        u = context.uniform(self.words)
        size = (context.height, context.width)
        first = 2 + (0 if self.photometric is None else self.photometric.words)
        coin = np.floor(4.0 * u[first]) if self.mirror else np.zeros(context.batch)
        signs = (np.where(coin >= 2, -1.0, 1.0), np.where(coin % 2 == 1, -1.0, 1.0))
        geometry = patch_affine(context, u, self.place, size, signs)
        colour: Mapping[str, npt.NDArray[Any]] = {}
        if self.photometric is not None:
            colour = stage_values(drawn_stages(self.photometric, context, u[2:first]))
        return {**geometry, "row": self.rows(context), **colour}


@part
@dataclass(frozen=True)
class BatchDonor(Own):
    """A patch of another image of the same batch.

    The result then depends on the batch: the same sample in another batch meets another donor.
    Use :class:`Donor` with a bank where that matters. A batch of one is refused.
    """

    others: ClassVar[bool] = True

    @property
    def words(self) -> int:
        """One more than :class:`Own`: the donor."""
        return super().words + 1

    def rows(self, context: Context) -> npt.NDArray[np.int32]:
        """Any row but the sample's own."""
        if context.images < 2:
            raise ValueError(
                "donors: expected a batch of at least 2 images to take donors from, got 1; "
                "use sources.Donor with a DonorBank"
            )
        u = context.uniform(1, self.words - 1)[0]
        own = np.arange(context.batch)
        step = 1 + np.floor(u * (context.images - 1)).astype(np.int64)
        return ((own + step) % context.images).astype(np.int32)


@part
@dataclass(frozen=True)
class Donor(Source):
    """A patch of another normal image, from a bank, of the sample's category where that is known.

    Args:
        bank: A :class:`anoaug.DonorBank` (its number once bound to a recipe). An image of another
            size than the batch is scaled to it for ``place="same"``.
        place: ``"elsewhere"`` (an upright box of the mask's size anywhere in the donor; the same
            place where the mask has no box) or ``"same"`` (the pixels under the mask).
        photometric: Colour change of the patch, or None.
        interpolation: ``"bilinear"`` or ``"nearest"``.
    """

    bank: Bank | int
    place: str = "elsewhere"
    photometric: Photometric | None = None
    interpolation: str = "bilinear"

    function: ClassVar[str] = "gather_bank"

    def __post_init__(self) -> None:
        one_of("place", self.place, ("elsewhere", "same"))
        one_of("interpolation", self.interpolation, INTERPOLATIONS)
        checked_photometric(self.photometric)

    @property
    def words(self) -> int:
        """Donor, row, column, then those of the photometric ops."""
        return 3 + (0 if self.photometric is None else self.photometric.words)

    def option(self) -> int:
        """Interpolation, stages and the bank's number."""
        bits = gather_option(self.interpolation, "border", self.photometric)
        return bits | int(self.bank) * BANK  # type: ignore[arg-type]

    def columns(self, channels: int) -> dict[str, int]:
        """Affine map, place in the bank, sharpness, stages."""
        return bank_widths(self.photometric, channels)

    def sample(self, context: Context) -> Values:
        """Draw donor, place and colour change."""
        info = context.banks[self.bank]  # type: ignore[index]
        u = context.uniform(self.words)
        index = pick(u[0], info, context.category)
        if self.place == "same":
            ones = np.ones(context.batch)
            scale = (info.height / context.height, info.width / context.width)
            target = ((context.height - 1) / 2, (context.width - 1) / 2)
            origin = ((info.height - 1) / 2, (info.width - 1) / 2)
            geometry: Values = affine(ones, ones * 0.0, scale, target, origin)
        else:
            geometry = patch_affine(context, u[1:3], self.place, (info.height, info.width))
        colour: dict[str, npt.NDArray[Any]] = {}
        if self.photometric is not None:
            histograms = None if info.histograms is None else info.histograms[index]
            stages = drawn_stages(self.photometric, context, u[3:], histograms)
            colour = {
                "sharpness": np.ones(context.batch),
                **stage_values(stages),
            }
        return {**geometry, **bank_columns(index, info), **colour}


@part
@dataclass(frozen=True)
class Noise(Source):
    """White noise per pixel and channel.

    Args:
        low: Lower end in [0, 1]; for ``"gaussian"`` the mean.
        high: Upper end in [0, 1]; for ``"gaussian"`` the standard deviation.
        law: ``"uniform"`` (equal on every backend bit for bit) or ``"gaussian"`` (equal to 1e-5).
    """

    low: float = 0.0
    high: float = 1.0
    law: str = "uniform"

    function: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        one_of("law", self.law, ("uniform", "gaussian"))
        checks.interval("low", self.low, 0.0, 1.0)
        checks.interval("high", self.high, 0.0, 1.0)
        if self.law == "uniform":
            checks.interval("(low, high)", (self.low, self.high))

    @property
    def words(self) -> int:
        """Two: the key."""
        return 2

    def option(self) -> int:
        """0 for uniform, 1 for Gaussian."""
        return int(self.law == "gaussian")

    def columns(self, channels: int) -> dict[str, int]:
        """Key and ends."""
        return dict.fromkeys(("key0", "key1", "low", "high"), 1)

    def sample(self, context: Context) -> Values:
        """Draw the key."""
        key = context.words(2)
        ones = np.ones(context.batch)
        return {"key0": key[0], "key1": key[1], "low": ones * self.low, "high": ones * self.high}


@part
@dataclass(frozen=True)
class Constant(Source):
    """One colour per sample.

    Args:
        value: In [0, 1]: a number (that grey), a range (low, high) from which each channel draws,
            or three or more numbers, one per channel: that colour.
    """

    value: float | tuple[float, ...] = 0.0

    function: ClassVar[str] = "constant"

    def __post_init__(self) -> None:
        value: Any = self.value
        if isinstance(value, (tuple, list)) and len(value) > 2:
            colour = tuple(checks.interval("value", one, 0.0, 1.0)[0] for one in value)
            object.__setattr__(self, "value", colour)
        else:
            object.__setattr__(self, "value", checks.interval("value", value, 0.0, 1.0))

    @property
    def words(self) -> int:
        """Four, shared cyclically by the channels."""
        return 4

    def columns(self, channels: int) -> dict[str, int]:
        """The colour."""
        return {"colour": channels}

    def sample(self, context: Context) -> Values:
        """Draw a colour."""
        value: Any = self.value
        u = context.uniform(4)[np.arange(context.channels) % 4]
        if len(value) == 2:
            colour = between(u, value).T
        elif len(value) == context.channels:
            colour = np.tile(np.asarray(value, np.float64), (context.batch, 1))
        else:
            raise ValueError(
                f"value: expected one number per channel, {context.channels}, got {len(value)}"
            )
        return {"colour": colour[:, 0] if context.channels == 1 else colour}
