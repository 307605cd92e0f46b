"""Blends: how a source joins the image. Weights are of the source, always.

The functions are in ``kernels/blends.py`` and ``anoaug/reference/blends.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from . import checks
from .banks import TextureBank
from .checks import one_of
from .parts import Context, Floats, Part, Source, Values, part
from .placing import Range, between
from .wanted import instead

__all__ = ["Blend", "Detail", "Feather", "Hard", "Opacity"]

MIXES = ("over", "add", "multiply", "replace")


@dataclass(frozen=True)
class Detail:
    """Coarse to fine: where an anomaly's fine detail comes from, if not with its structure.

    The layer's source is parted by a Gaussian into structure (colour, shape, shading) and detail
    (grain, texture, edges), see :class:`anoaug.sources.CoarseToFine`:

    * ``"image"``: the source's structure with the image's own detail: a stain through which the
      product's texture shows;
    * ``"source"``: the image's structure with the source's detail: a foreign texture that takes the
      product's colour and shading;
    * another source or a TextureBank: the source's structure with its detail.

    Args:
        of: Which of these.
        scale: Standard deviation of the Gaussian as a share of the image's shorter side, a number
            or a range of numbers >= 0.
        gain: Factor of the detail, likewise.
    """

    of: str | Source | TextureBank = "image"
    scale: float | Range = (0.02, 0.06)
    gain: float | Range = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.of, str):
            one_of("detail", self.of, ("image", "source"))
        elif not isinstance(self.of, (Source, TextureBank)):
            raise TypeError(
                f"detail: expected 'image', 'source', a source or a TextureBank, got {self.of!r}"
            )
        for name in ("scale", "gain"):
            object.__setattr__(self, name, checks.interval(name, getattr(self, name), 0.0, 1e6))


Detailed = Detail | Source | TextureBank | str


def weighed(context: Context, opacity: Floats) -> Floats:
    """Opacities, those that a control asks for in place of the law's."""
    return opacity if context.wanted is None else instead(opacity, context.wanted.strength)


class Blend(Part):
    """Base of blends: a weight function and the name of a mix."""

    role: ClassVar[str] = "blends"
    mix: str
    # What a Layer reads: it takes the detail into its source.
    detail: Detailed | None = None


@part
@dataclass(frozen=True)
class Hard(Blend):
    """The source replaces the image inside the mask, exactly.

    Args:
        mix: ``"over"``, ``"add"`` (the source's distance from mid-grey) or ``"multiply"``.
        detail: A :class:`Detail`, or what it is ``of``: coarse to fine; None: the source as it is.
    """

    mix: str = "over"
    detail: Detailed | None = None

    function: ClassVar[str] = "opaque"

    def __post_init__(self) -> None:
        one_of("mix", self.mix, MIXES)


@part
@dataclass(frozen=True)
class Opacity(Blend):
    """One weight per sample: ``out = weight * source + (1 - weight) * image`` inside the mask.

    DRAEM's ``beta = 0.8 U(0, 1)`` weights the image, so its opacity is ``(0.2, 1.0)``.

    Args:
        opacity: Weight of the source, a number or a range in [0, 1].
        mix: ``"over"``, ``"add"``, ``"multiply"`` or ``"replace"``: the source as it is, where a
            computed one has been mixed with the image by this weight, which is the label.
        std: None: every weight in the range is equally likely. A number above 0: normal with this
            standard deviation about the range's middle, clipped to the range (GLASS).
        detail: As in :class:`Hard`.
    """

    opacity: float | Range = (0.2, 1.0)
    mix: str = "over"
    std: float | None = None
    detail: Detailed | None = None

    function: ClassVar[str] = "opacity"

    def __post_init__(self) -> None:
        object.__setattr__(self, "opacity", checks.interval("opacity", self.opacity, 0.0, 1.0))
        one_of("mix", self.mix, MIXES)
        if self.std is not None and not (isinstance(self.std, (int, float)) and self.std > 0):
            raise ValueError(f"std: expected a number above 0, or None, got {self.std!r}")

    @property
    def words(self) -> int:
        """One: the opacity; two if it is normal."""
        return 1 if self.std is None else 2

    def columns(self, channels: int) -> dict[str, int]:
        """The opacity."""
        return {"opacity": 1}

    def sample(self, context: Context) -> Values:
        """Uniform in (low, high]: the upper end is reached, the lower is not; or normal."""
        low, high = self.opacity  # type: ignore[misc]
        u = context.uniform(self.words)
        if self.std is None:
            return {"opacity": weighed(context, high - u[0] * (high - low))}
        normal = np.sqrt(-2.0 * np.log1p(-u[0])) * np.cos(2.0 * np.pi * u[1])
        opacity = np.clip((low + high) / 2 + self.std * normal, low, high)
        return {"opacity": weighed(context, opacity)}


@part
@dataclass(frozen=True)
class Feather(Blend):
    """A soft edge: the weight rises from 0 at the mask's edge to the opacity ``width`` inside.

    Args:
        width: Width of the ramp in units of the mask's level: pixels for rectangles, noise for
            Perlin. Above 0.
        opacity: Weight of the source beyond the ramp, a number or a range in [0, 1].
        mix: ``"over"``, ``"add"`` or ``"multiply"``.
        detail: As in :class:`Hard`.
    """

    width: float | Range = 3.0
    opacity: float | Range = 1.0
    mix: str = "over"
    detail: Detailed | None = None

    function: ClassVar[str] = "feather"

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", checks.interval("width", self.width, 1e-6))
        object.__setattr__(self, "opacity", checks.interval("opacity", self.opacity, 0.0, 1.0))
        one_of("mix", self.mix, MIXES)

    @property
    def words(self) -> int:
        """Two: opacity and width."""
        return 2

    def columns(self, channels: int) -> dict[str, int]:
        """The opacity and the reciprocal of the width."""
        return {"opacity": 1, "slope": 1}

    def sample(self, context: Context) -> Values:
        """Uniform opacity in (low, high] and width in [low, high)."""
        u = context.uniform(2)
        low, high = self.opacity  # type: ignore[misc]
        width = between(u[1], self.width)  # type: ignore[arg-type]
        opacity = weighed(context, high - u[0] * (high - low))
        return {"opacity": opacity, "slope": np.reciprocal(width)}
