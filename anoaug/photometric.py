"""Colour changes of a source: which ops are drawn, with which laws, from which uniforms.

`RandomOps` draws k distinct of n ops per sample (DRAEM's three of ten, GLASS's three of nine),
`ColorJitter` torchvision's four in random order. Both hand `Stages` to the render kernel: geometry,
sharpness, then up to three table -> colour-matrix stages (stages.py, tonemaps.py). Nothing here
touches a pixel or a device.

Against a strictly sequential 8-bit pipeline (OpenCV and PIL, in the order drawn) on 80 photographed
textures of 256 x 256, three draws each, the absolute difference in grey levels is:

===========================================================  ====  ==========
what                                                         mean  95 % below
===========================================================  ====  ==========
tables alone, any three in any order; flips                  0     0
contrast, grayscale                                          0.01  0
sharpness (PIL truncates, the kernel rounds)                 0.41  1
brightness (YCrCb 0.04, YUV 0.3, HSV 0.5, HLS 0.7, Lab 1.1,  0.7   2
Luv 1.1)
hue_saturation                                               1.4   3
saturation_hue                                               0.8   2
ColorJitter(0.1, 0.1, 0.1, 0.1)                              0.5   2
three of DRAEM's ten                                         4.0   13
... without rotate                                           2.5   11
... without rotate and sharpness                             2.0   8
three of GLASS's nine                                        1.1   6
... without rotate                                           0.7   3
===========================================================  ====  ==========

(tests/test_stages.py holds the oracle and bounds.) Three causes: geometry and sharpness come first
whatever the order drawn, so that a corner which a turn leaves black is recoloured by the ops drawn
before it; a colour op is the nearest affine map on the texture's colours, not the curved one;
behind a matrix a histogram is estimated from the channels' own as if they rose and fell together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from . import checks
from .stages import STAGES, Draws, Stages, assemble
from .tonemaps import Array, Ints

__all__ = ["ColorJitter", "RandomOps", "Stages"]


def _uniform(u: Array, low: float, high: float) -> Array:
    return low + (high - low) * u


def _integer(u: Array, low: int, high: int) -> Array:
    return low + np.floor(u * (high - low + 1))


class _Op(NamedTuple):
    """How many uniforms an op takes, the law of its parameters, and what it needs."""

    words: int
    law: Callable[[Array], Draws]
    matrix: bool = False
    histogram: bool = False


def _fixed(u: Array) -> Draws:
    return {}


def _factor(u: Array) -> Draws:
    return {"factor": _uniform(u[0], 0.8, 1.2)}


def _gamma(u: Array) -> Draws:
    return {f"gamma{c}": _uniform(u[c], 0.5, 2.0) for c in range(3)}


def _brightness(u: Array) -> Draws:
    gain, add = _uniform(u[0], 0.8, 1.2), _integer(u[1], -30, 30)
    return {
        "gain": gain,
        "add": add,
        "space": _integer(u[2], 0, 5),
        "add_first": _integer(u[3], 0, 1),
    }


def _saturation_hue(u: Array) -> Draws:
    return {**_factor(u), "hue": _uniform(u[1], -0.2, 0.2), "hue_first": _integer(u[2], 0, 1)}


_DRAEM = {
    "gamma": _Op(3, _gamma),
    "brightness": _Op(4, _brightness, matrix=True),
    "sharpness": _Op(1, lambda u: {"factor": _uniform(u[0], 0.0, 2.0)}),
    "hue_saturation": _Op(
        2,
        lambda u: {"hue": _integer(u[0], -50, 50), "saturation": _integer(u[1], -50, 50)},
        matrix=True,
    ),
    "solarize": _Op(
        2, lambda u: {"on": _integer(u[0], 0, 1), "threshold": _integer(u[1], 32, 127)}
    ),
    "posterize": _Op(1, lambda u: {"bits": _integer(u[0], 1, 8)}),
    "invert": _Op(0, _fixed),
    "autocontrast": _Op(1, lambda u: {"cutoff": _integer(u[0], 0, 20)}, histogram=True),
    "equalize": _Op(0, _fixed, histogram=True),
    "rotate": _Op(1, lambda u: {"angle": np.radians(_uniform(u[0], -45.0, 45.0))}),
}
_GLASS = {
    "contrast": _Op(1, _factor),
    "gain": _Op(1, _factor),
    "saturation_hue": _Op(3, _saturation_hue, matrix=True),
    "flip_x": _Op(0, _fixed),
    "flip_y": _Op(0, _fixed),
    "grayscale": _Op(0, _fixed, matrix=True),
    "stretch": _Op(0, _fixed, histogram=True),
    "equalize": _DRAEM["equalize"],
    "rotate": _DRAEM["rotate"],
}
_OPS = {**_DRAEM, **_GLASS}


@dataclass(frozen=True)
class RandomOps:
    """``count`` distinct ops of ``ops`` per sample, in random order; see `draem` and `glass`.

    ================  =====  ================================================================
    op                words  law
    ================  =====  ================================================================
    gamma             3      exponent U(0.5, 2) per channel; channels past the third repeat
    brightness        4      times U(0.8, 1.2) and plus an integer in [-30, 30], in random
                             order, on the lightness of YCrCb, HSV, HLS, Lab, Luv or YUV
    sharpness         1      weight U(0, 2) against the smoothed source, 1 = unchanged
    hue_saturation    2      plus an integer in [-50, 50] of 255 each; hue up to +-70 degrees
    solarize          2      with probability 0.5, inverts from an integer in [32, 127] on
    posterize         1      keeps 1 to 8 bits
    invert            0      255 - v
    autocontrast      1      cuts an integer of 0 to 20 percent at both ends
    equalize          0
    rotate            1      U(-45, 45) degrees
    contrast          1      factor U(0.8, 1.2) about the mean grey
    gain              1      factor U(0.8, 1.2)
    saturation_hue    3      factor U(0.8, 1.2) and U(-0.2, 0.2) turns, in random order
    flip_x, flip_y    0      columns, rows reversed
    grayscale         0
    stretch           0      autocontrast without cut
    ================  =====  ================================================================

    Channels are taken as red, green, blue. A source of another number of channels keeps its colours
    under hue_saturation, saturation_hue and grayscale, and brightness is one line on all of them.

    Layout of the uniforms: ``count`` words choose the ops, then each op owns its words in the
    order of ``ops``, drawn or not, so that an op added at the end moves nothing.

    Attributes:
        ops: Names from the table, each at most once.
        count: How many of them each sample gets.

    Raises:
        ValueError: An unknown or repeated op, a count outside 0..len(ops), or more colour
            matrices than three stages hold.
    """

    ops: tuple[str, ...]
    count: int

    def __post_init__(self) -> None:
        for name in self.ops:
            if name not in _OPS:
                raise ValueError(
                    f"ops: expected names of ops, got {name!r}; {checks.nearest(name, _OPS)}"
                )
        if len(set(self.ops)) != len(self.ops):
            raise ValueError(f"ops: expected each op once, got {self.ops}; remove the repeats")
        if not 0 <= self.count <= len(self.ops):
            raise ValueError(
                f"count: expected 0 to {len(self.ops)}, the number of ops, got {self.count}"
            )
        needed = min(self.count, 1 + sum(_OPS[name].matrix for name in self.ops))
        if needed > STAGES:
            raise ValueError(
                f"ops: expected at most {STAGES} stages, got up to {needed}; lower count, or leave "
                "out one of brightness, hue_saturation, saturation_hue, grayscale"
            )

    @classmethod
    def draem(cls) -> RandomOps:
        """Three of the ten ops of DRAEM (arXiv 2108.07610), as in DSR, MemSeg and RealNet."""
        return cls(tuple(_DRAEM), 3)

    @classmethod
    def glass(cls) -> RandomOps:
        """Three of the nine ops of GLASS (arXiv 2407.09359)."""
        return cls(tuple(_GLASS), 3)

    @classmethod
    def none(cls) -> RandomOps:
        """No op; takes no uniform."""
        return cls((), 0)

    @property
    def words(self) -> int:
        """Uniforms taken per sample."""
        return self.count + sum(_OPS[name].words for name in self.ops)

    @property
    def needs_histograms(self) -> bool:
        """Whether `stages` refuses to work without histograms."""
        return self.count > 0 and any(_OPS[name].histogram for name in self.ops)

    def choices(self, u: Array) -> Ints:
        """The ops drawn, in order: int64 ``[count, B]``, indices into ``ops``."""
        return _permutation(_checked(u, self.words)[: self.count], len(self.ops))

    def parameters(self, u: Array) -> dict[str, Draws]:
        """The parameters of every op, drawn or not: ``{op: {name: float64 [B]}}``."""
        u, start = _checked(u, self.words), self.count
        result = {}
        for name in self.ops:
            words, law = _OPS[name][:2]
            result[name] = law(u[start : start + words])
            start += words
        return result

    def stages(self, u: Array, channels: int, histograms: Ints | None) -> Stages:
        """Turn uniforms into what the render kernel executes.

        Args:
            u: float64 ``[words, B]`` in [0, 1).
            channels: C of the source.
            histograms: int64 ``[B, C, 256]`` (or ``[B, 1, 256]`` for all channels) of each
                sample's texture as it is in the bank. After a turn it is taken to show black
                corners. None where `needs_histograms` is false; contrast then works about 127.5
                and hue as on a grey texture.

        Raises:
            ValueError: A wrong shape, or no histograms although the ops need them.
        """
        parameters, order = self.parameters(u), self.choices(u)
        if histograms is None and self.needs_histograms:
            raise ValueError(
                "histograms: expected int64 [B, C, 256] for autocontrast, equalize and stretch, "
                "got None; take the source from a texture bank, or leave these ops out"
            )
        chosen = {name: order == i for i, name in enumerate(self.ops)} if self.count else {}
        return assemble(chosen, parameters, u.shape[1], channels, histograms)


@dataclass(frozen=True)
class ColorJitter:
    """torchvision's ``ColorJitter``: brightness, contrast, saturation and hue in random order.

    Deviations: contrast works about the mean grey of the histograms, which are those of the whole
    source and not of a patch cut from it, and about mid-grey 127.5 without histograms. Hue is the
    affine colour map nearest to the HSV turn. A source without three channels keeps its colours.

    Layout of the uniforms: four words for the order, then one for each of the four.

    Attributes:
        brightness: Factor U(max(0, 1 - brightness), 1 + brightness).
        contrast: Likewise.
        saturation: Likewise.
        hue: U(-hue, hue) turns, at most 0.5.

    Raises:
        ValueError: A negative value, or a hue above 0.5.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation", "hue"):
            value, top = getattr(self, name), 0.5 if name == "hue" else float("inf")
            if not 0.0 <= value <= top:
                raise ValueError(f"{name}: expected a number in [0, {top}], got {value!r}")

    @property
    def words(self) -> int:
        """Uniforms taken per sample."""
        return 8

    @property
    def needs_histograms(self) -> bool:
        """Never; see `RandomOps.needs_histograms`."""
        return False

    def choices(self, u: Array) -> Ints:
        """The order drawn: int64 ``[4, B]``, indices into the keys of `parameters`."""
        return _permutation(_checked(u, self.words)[:4], 4)

    def parameters(self, u: Array) -> dict[str, Draws]:
        """The parameters drawn: ``{op: {name: float64 [B]}}``, ops named as in `RandomOps`."""
        u = _checked(u, self.words)
        names = {"gain": self.brightness, "contrast": self.contrast, "saturation": self.saturation}
        result = {
            name: {"factor": _uniform(u[4 + i], max(0.0, 1.0 - spread), 1.0 + spread)}
            for i, (name, spread) in enumerate(names.items())
        }
        return {**result, "hue": {"hue": _uniform(u[7], -self.hue, self.hue)}}

    def stages(self, u: Array, channels: int, histograms: Ints | None) -> Stages:
        """As `RandomOps.stages`; histograms are optional."""
        parameters, order = self.parameters(u), self.choices(u)
        spreads = (self.brightness, self.contrast, self.saturation, self.hue)
        # What cannot change anything takes no stage.
        chosen = {name: order == i for i, name in enumerate(parameters) if spreads[i] > 0.0}
        return assemble(chosen, parameters, u.shape[1], channels, histograms)


def _checked(u: Array, words: int) -> Array:
    if u.ndim != 2 or u.shape[0] != words:
        raise ValueError(f"u: expected uniforms of shape [{words}, B], got {list(u.shape)}")
    if u.size and not (u.min() >= 0.0 and u.max() < 1.0):
        raise ValueError(f"u: expected uniforms in [0, 1), got {u.min()} to {u.max()}")
    return u


def _permutation(u: Array, n: int) -> Ints:
    """The first len(u) places of a random permutation of n per column: int64 ``[len(u), B]``."""
    order = np.repeat(np.arange(n)[:, None], u.shape[1], axis=1)
    column = np.arange(u.shape[1])
    for i, word in enumerate(u):
        j = i + np.floor(word * (n - i)).astype(np.int64)
        order[i], order[j, column] = order[j, column], order[i].copy()
    return order[: len(u)]
