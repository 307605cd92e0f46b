"""A source that bends the image itself: pixels displaced smoothly within the mask's box.

The function is in ``kernels/sources.py`` and ``anoaug/reference/sources.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .. import checks
from ..parts import Context, Source, Values, part
from ..placing import Range, between
from ..reference.sources import BILINEAR

CENTRE = ("cy", "cx")
DISC = ("vy", "vx", "uy", "ux")
DISPLACEMENT = ("ty", "tx", "yy", "yx", "xy", "xx")


@part
@dataclass(frozen=True)
class Warp(Source):
    """The image bent, bulged, pinched or twisted within the ellipse that the mask's box holds.

    A pixel at ``d`` from the ellipse's centre shows what lies ``w (t + M d)`` beside it, where
    ``w = (1 - r^2)^2`` falls from 1 at the centre to 0 on the ellipse, without a kink: there the
    image goes on as it is. ``t`` shifts (bend), ``M + 1`` scales and turns (zoom, twist). Up to
    0.6 of bend alone, in the whole range of zoom alone, and up to a quarter turn of twist alone in
    a circle, nothing is folded over.

    Outside the ellipse the colours are the image's own: with a Rectangle as the mask, take
    ``label_rule="changed"`` so that its corners do not count.

    Args:
        bend: Shift at the centre, a share of the ellipse's lesser half axis; a number or a range.
        direction: Range of its direction in degrees from the box's columns to its rows.
        zoom: How much larger (bulge) or smaller (pinch), a fair coin says which, things at the
            centre are: 0.5 for 1.5 times or 1 / 1.5; a number or a range in [0, 1].
        twist: Turn at the centre in degrees, either way; a number or a range in [0, 180].
    """

    bend: float | Range = (0.15, 0.45)
    direction: float | Range = (-180.0, 180.0)
    zoom: float | Range = 0.0
    twist: float | Range = 0.0

    function: ClassVar[str] = "warp"

    def __post_init__(self) -> None:
        for name, low, high in (
            ("bend", 0.0, 2.0),
            ("direction", -360.0, 360.0),
            ("zoom", 0.0, 1.0),
            ("twist", 0.0, 180.0),
        ):
            object.__setattr__(self, name, checks.interval(name, getattr(self, name), low, high))

    @property
    def words(self) -> int:
        """Bend, direction, zoom, twist, two coins."""
        return 6

    def option(self) -> int:
        """Bilinear."""
        return BILINEAR

    def columns(self, channels: int) -> dict[str, int]:
        """Centre, map to the unit disc, shift, matrix."""
        return dict.fromkeys((*CENTRE, *DISC, *DISPLACEMENT), 1)

    def sample(self, context: Context) -> Values:
        """Draw shift, zoom and twist within the layer's frame."""
        u = context.uniform(self.words)
        ranges: Any = (self.bend, self.direction, self.zoom, self.twist)
        bend, direction, zoom, twist = (between(u[k], ranges[k]) for k in range(4))
        frame = context.frame
        cos, sin = np.cos(frame.angle), np.sin(frame.angle)
        shift = bend * np.minimum(frame.half_h, frame.half_w)
        way = frame.angle + np.deg2rad(direction)
        turn = np.deg2rad(twist) * np.where(u[5] < 0.5, -1.0, 1.0)
        # What is looked up, so that larger things are nearer.
        scale = np.where(u[4] < 0.5, 1.0 + zoom, 1.0 / (1.0 + zoom))
        return {
            "cy": frame.cy, "cx": frame.cx,
            "vy": cos / frame.half_h, "vx": -sin / frame.half_h,
            "uy": sin / frame.half_w, "ux": cos / frame.half_w,
            "ty": -shift * np.sin(way), "tx": -shift * np.cos(way),
            "yy": scale * np.cos(turn) - 1.0, "yx": scale * np.sin(turn),
            "xy": -scale * np.sin(turn), "xx": scale * np.cos(turn) - 1.0,
        }  # fmt: skip
