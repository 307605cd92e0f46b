"""How strong noise is: one of four units, and only one."""

from __future__ import annotations

import math
import warnings
from numbers import Real
from typing import NamedTuple

import torch
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

    def factors(
        self, features: Tensor, deviation: Tensor | None = None
    ) -> tuple[float, Tensor | None, Tensor | None]:
        """What standard normal noise is multiplied by: constants, whatever features require.

        Args:
            features: ``[G, P, C]`` of any dtype.
            deviation: Per-channel standard deviations ``[C]``, for ``"z"``.

        Returns:
            A number for all; a factor of every position, float32 ``[G, P]``, or None; and of every
            channel, float32 ``[C]``, or None.

        Raises:
            ValueError: ``"z"`` without deviations, or with those of other channels.
        """
        channels = max(features.shape[-1], 1)
        if self.unit == "sigma":
            return self.value, None, None
        if self.unit == "radius":
            return self.value / math.sqrt(channels), None, None
        if self.unit == "ratio":
            dtype = torch.promote_types(features.dtype, torch.float32)
            length = torch.linalg.vector_norm(features.detach(), dim=-1, dtype=dtype)
            return self.value / math.sqrt(channels), length.to(torch.float32), None
        if deviation is None:
            raise ValueError(
                "z: expected a fitted deviation= with it; fit features.fitted.ChannelStatistics"
            )
        if tuple(deviation.shape) != (features.shape[-1],):
            raise ValueError(
                f"deviation: expected [{features.shape[-1]}], one for each channel, got "
                f"{list(deviation.shape)}"
            )
        return self.value, None, deviation.detach().to(features.device, torch.float32)


# A normal number lies beyond this once in 1e15; Philox words give none.
_REACH = 8.0


def refuse_overflow(unit: str, value: float, features: Tensor, growth: float = 1.0) -> None:
    """Refuse noise that the features' dtype cannot hold, whatever the features are.

    Args:
        unit: ``"sigma"`` or ``"radius"``; others hang on what is not known here and pass.
        value: In that unit.
        features: ``[..., C]``, in the dtype that is stored.
        growth: By how much the strongest noise of a mixture is stronger.

    Raises:
        ValueError: See there.
    """
    reach = {"sigma": _REACH, "radius": 1.0}.get(unit, 0.0)
    most = torch.finfo(features.dtype).max
    if value * growth * reach >= most:
        raise ValueError(
            f"{unit}: expected noise below {most:g}, the largest {features.dtype}, got {unit}="
            f"{value * growth:g}; are the features' units those of the noise?"
        )


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
    if not checks.finite(low):
        raise ValueError(f"{unit}: expected a finite number, got {value!r}")
    return Strength(unit, low)


# By how much features may be larger or smaller than a paper's before a preset warns: half of what
# is known to be too much, as 0.015 for a WideResNet50 and 0.25 for a DINOv2 are 17 times apart. The
# sizes of the papers' features are estimates, so that with less they might warn of their own.
FAR = 8.0
# Elements that are looked at: as good as all of them, and read in no time.
_LOOK = 1 << 16


class Tuned(NamedTuple):
    """What a paper tuned its strength to.

    Attributes:
        sigma: The paper's standard deviation of the noise.
        ratio: Length of that noise over the length of the paper's features, roughly: sigma over
            the root mean square of their channels.
        features: What those features are, in words.
    """

    sigma: float
    ratio: float
    features: str

    def warn_if_far(self, name: str, features: Tensor) -> None:
        """Warn if the noise is more than ``FAR`` times weaker or stronger here than in the paper.

        Reads some of the features on the host, which waits for the device: call it once.

        Args:
            name: The method's.
            features: ``[G, P, C]``, at least one of them.
        """
        seen = features.detach()[:1].flatten()[:_LOOK].to(torch.float32)
        size = float(seen.square().mean().sqrt())  # host: once, at the first call
        if not math.isfinite(size) or size == 0.0:
            return
        here = self.sigma / size
        if self.ratio / FAR <= here <= self.ratio * FAR:
            return
        warnings.warn(
            f"{name}: sigma={self.sigma} is tuned to {self.features}, where noise has about "
            f"{self.ratio:.0%} of a feature's length; here it has {here:.2g} times that length: "
            f"pass ratio={self.ratio}, or sigma={self.ratio * size:.2g}",
            UserWarning,
            stacklevel=2,
        )
