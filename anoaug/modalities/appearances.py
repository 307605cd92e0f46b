"""What anomalies look like in a modality: depth, infrared, X-ray, or made as an image's are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from .. import checks
from ..binding import Layer
from ..blends import Blend, Feather
from ..parts import Context, Source, Values, part
from ..placing import Range, between
from .profiles import Ramp, Spread


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """Base of what anomalies look like in a modality.

    Args:
        range: Least and greatest value of a measurement, in the tensor's units: (0.4, 0.9) of a
            float depth in metres, (0, 4095) of 12 bits in uint16. Amounts are shares of it, and
            what is changed stays within it; pixels outside it, NaN among them, are left alone.
            None: from 0 to 255, 65535, or 1 by the dtype.
        channels: Channels that are changed, the others are not: ``(2,)`` for the z of a point map.
            None: all.
        hole: Value that stands for no measurement: pixels with it are left alone. None: there is
            none.
        p: P(an anomaly shows in this modality) per sample, in [0, 1]; the label does not know.
    """

    range: Range | None = None
    channels: tuple[int, ...] | None = None
    hole: float | None = None
    p: float = 1.0

    def __post_init__(self) -> None:
        if self.range is not None:
            low, high = checks.interval("range", self.range)
            if not -np.inf < low < high < np.inf:
                raise ValueError(f"range: expected finite low < high, got {self.range}")
            object.__setattr__(self, "range", (low, high))
        if self.channels is not None:
            chosen = tuple(int(c) for c in self.channels)
            if not chosen or min(chosen) < 0 or len(set(chosen)) < len(chosen):
                raise ValueError(f"channels: expected numbers from 0, once each, got {chosen}")
            object.__setattr__(self, "channels", chosen)
        checks.probability("p", self.p)

    def layers(self, layers: Sequence[Layer]) -> list[Layer] | None:
        """The image's layers as this modality has them; None where it lays one of its own."""
        return None

    def profile(self) -> Layer:
        """The one layer over the finished mask, if :meth:`layers` gives none."""
        raise NotImplementedError(f"{type(self).__name__}: expected layers or a profile, got none")

    def span(self, dtype: torch.dtype) -> Range:
        """Least and greatest value for tensors of a dtype."""
        return self.range or (0.0, checks.PEAKS.get(dtype, 1.0))


@dataclass(frozen=True)
class Modality(Appearance):
    """A modality whose anomalies are made as an image's are: each layer's mask, a source, a blend.

    Args:
        source: What anomalies are made of, in every layer; None: each layer's own source, of this
            modality's pixels (a pasted patch is pasted here too).
        blend: How; None: as each layer has it.
        together: Draw both from the image's streams, not from the modality's: with the layers' own
            source and blend, a patch then comes from the same place in both, a texture is the same.
        range: See :class:`Appearance`, likewise the next three.
        channels: See above.
        hole: See above.
        p: See above.
    """

    source: Source | None = None
    blend: Blend | None = None
    together: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value, base in (("source", self.source, Source), ("blend", self.blend, Blend)):
            if value is not None and not isinstance(value, base):
                raise TypeError(
                    f"{name}: expected one from anoaug.{name}s or None, got {type(value).__name__}"
                )

    def layers(self, layers: Sequence[Layer]) -> list[Layer]:
        """The layers with this source and blend."""
        return [
            dataclasses.replace(
                layer, source=self.source or layer.source, blend=self.blend or layer.blend
            )
            for layer in layers
        ]


@dataclass(frozen=True)
class Depth(Appearance):
    """Dents and bumps: the distance from the camera grows or falls, smoothly from the mask's edge.

    For maps of height rather than of distance, the two change places. The ranges are ours.

    Args:
        amount: Depth at the deepest pixel as a share of ``range``, a number or a range in [0, 1].
        kind: ``"dent"`` (farther away), ``"bump"`` (nearer), or ``"both"``, by a fair coin.
        width: Of the slope along the edge in pixels, in [1, 128]; 1 is a step.
        range: See :class:`Appearance`, likewise the next three.
        channels: See above.
        hole: See above; 0 by default, as depth cameras have it.
        p: See above.
    """

    amount: float | Range = (0.02, 0.1)
    kind: str = "both"
    width: float | Range = (3.0, 10.0)
    hole: float | None = dataclasses.field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.one_of("kind", self.kind, ("dent", "bump", "both"))
        self.profile()

    def profile(self) -> Layer:
        """A tone added along a ramp."""
        way = {"dent": "up", "bump": "down"}.get(self.kind, "both")
        return Layer(Ramp(self.width), Tone(self.amount, way, 0.5), Feather(1.0, 1.0, "add"))


@dataclass(frozen=True)
class XRay(Appearance):
    """Denser and emptier spots of a transmission image: multiplied by 1 - a or by 1 + a.

    Bright is transmitted. Where an image shows absorption, the two change places. The ranges are
    ours.

    Args:
        attenuation: ``a``, a number or a range in [0, 1].
        kind: ``"dense"`` (an inclusion, darker), ``"void"`` (a pore, brighter), or ``"both"``, by a
            fair coin.
        width: Of the slope along the edge in pixels, in [1, 128]; 1 is a step.
        range: See :class:`Appearance`, likewise the next three. Its lower end is no transmission.
        channels: See above.
        hole: See above.
        p: See above.
    """

    attenuation: float | Range = (0.1, 0.4)
    kind: str = "both"
    width: float | Range = (1.0, 4.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.one_of("kind", self.kind, ("dense", "void", "both"))
        self.profile()

    def profile(self) -> Layer:
        """A tone that multiplies along a ramp."""
        way = {"void": "up", "dense": "down"}.get(self.kind, "both")
        tone = Tone(self.attenuation, way, 1.0, "attenuation")
        return Layer(Ramp(self.width), tone, Feather(1.0, 1.0, "multiply"))


@dataclass(frozen=True)
class Infrared(Appearance):
    """A hot (or cold) spot that diffuses beyond the mask: about ``3 * spread`` pixels change.

    The ranges are ours.

    Args:
        gain: Rise at the hottest pixel as a share of ``range``, a number or a range in [0, 1].
        spread: Standard deviation of the diffusion in pixels, in [0, 500].
        kind: ``"hot"``, ``"cold"``, or ``"both"``, by a fair coin.
        range: See :class:`Appearance`, likewise the next three.
        channels: See above.
        hole: See above.
        p: See above.
    """

    gain: float | Range = (0.1, 0.4)
    spread: float | Range = (4.0, 12.0)
    kind: str = "hot"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.one_of("kind", self.kind, ("hot", "cold", "both"))
        self.profile()

    def profile(self) -> Layer:
        """A tone added to the diffused mask."""
        way = {"hot": "up", "cold": "down"}.get(self.kind, "both")
        tone = Tone(self.gain, way, 0.5, "gain")
        return Layer(Spread(self.spread), tone, Feather(1.0, 1.0, "add"))


@part
@dataclass(frozen=True)
class Tone(Source):
    """One value above or below a neutral one, the same in all channels.

    Args:
        amount: Distance from ``neutral``, a number or a range in [0, 1].
        way: ``"up"``, ``"down"``, or ``"both"``, by a fair coin.
        neutral: What the mix changes nothing with: 0.5 to add, 1 to multiply.
        called: What messages call the amount.
    """

    amount: float | Range
    way: str
    neutral: float
    called: str = "amount"

    function: ClassVar[str] = "constant"

    def __post_init__(self) -> None:
        amount = checks.interval(self.called, self.amount, 0.0, 1.0)
        object.__setattr__(self, "amount", amount)

    @property
    def words(self) -> int:
        """Amount and way."""
        return 2

    def columns(self, channels: int) -> dict[str, int]:
        """The value."""
        return {"colour": channels}

    def sample(self, context: Context) -> Values:
        """Uniform amount in [low, high) and a coin."""
        u = context.uniform(2)
        up = {"up": 1.0, "down": -1.0}.get(self.way, np.where(u[1] < 0.5, 1.0, -1.0))
        value = self.neutral + up * between(u[0], self.amount)  # type: ignore[arg-type]
        wide = np.tile(value[:, None], (1, context.channels))
        return {"colour": value if context.channels == 1 else wide}


# What calls may bring without saying what it looks like.
WELL_KNOWN: dict[str, Appearance] = {"depth": Depth(), "ir": Infrared(), "xray": XRay()}
