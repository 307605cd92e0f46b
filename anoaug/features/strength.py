"""How strong noise is: one of four units, and only one."""

from __future__ import annotations

import math
from numbers import Real
from typing import NamedTuple

from torch import Tensor

from .. import checks

UNITS = ("sigma", "radius", "ratio", "z")


class Strength(NamedTuple):
    """A strength in its unit.

    Attributes:
        unit: ``"sigma"`` (standard deviation of each channel), ``"radius"`` (length of the noise:
            sigma times sqrt(C)), ``"ratio"`` (length of the noise over that of the feature) or
            ``"z"`` (in each channel's own standard deviation, from a fit).
        value: The number.
    """

    unit: str
    value: float

    def scale(self, features: Tensor, deviation: Tensor | None = None) -> Tensor | float:
        """What standard normal noise is multiplied by, to broadcast over ``[G, P, C]`` float32.

        Args:
            features: float32 ``[G, P, C]``.
            deviation: Per-channel standard deviations ``[C]``, for ``"z"``.
        """
        channels = max(features.shape[-1], 1)
        if self.unit == "sigma":
            return self.value
        if self.unit == "radius":
            return self.value / math.sqrt(channels)
        if self.unit == "ratio":
            length = features.square().sum(-1, keepdim=True).sqrt()
            return length * (self.value / math.sqrt(channels))
        if deviation is None:
            raise ValueError(
                "z: expected a fitted deviation= with it; fit features.fitted.ChannelStatistics"
            )
        return deviation.to(features.dtype) * self.value


def strength(
    sigma: float | None = None,
    radius: float | None = None,
    ratio: float | None = None,
    z: float | None = None,
) -> Strength:
    """The one strength that was given.

    Raises:
        ValueError: None or several were given, or one that is negative or not finite.
        TypeError: Not a number.
    """
    given = dict(zip(UNITS, (sigma, radius, ratio, z), strict=True))
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) != 1:
        raise ValueError(
            f"strength: expected exactly one of {', '.join(UNITS)}, got "
            f"{', '.join(named) or 'none'}; they are units of the same thing"
        )
    ((unit, value),) = named.items()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{unit}: expected a number, got {type(value).__name__}")
    low, _ = checks.interval(unit, float(value), 0.0)
    if not math.isfinite(low):
        raise ValueError(f"{unit}: expected a finite number, got {value!r}")
    return Strength(unit, low)
