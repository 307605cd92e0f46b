"""Components in the wrong place: displaced, rotated, extra, swapped (no single paper)."""

from __future__ import annotations

from typing import Any

from .. import sources
from ..binding import Layer
from ..synthesizer import Synthesizer
from . import method
from .missing import CHANGED, CHOSEN, FOUND, PAPER, where

Range = float | tuple[float, float]


def _synthesizer(
    source: sources.Source, component: str | None, p: float, common: dict[str, Any]
) -> Synthesizer:
    settings = {"label_rule": "changed", "tolerance": 0.0, "min_area": 0.001, **common}
    return Synthesizer(Layer(where(component), source), p=p, **settings)


@method(
    "displaced",
    family="self-contained",
    paper=PAPER,
    matches=CHOSEN,
    deviations=(FOUND, CHANGED),
    defects=("misplaced part", "misalignment", "loose component"),
    surfaces=("object", "regular texture"),
)
def displaced(
    *,
    p: float = 0.5,
    component: str | None = None,
    side: Range = (0.08, 0.3),
    aspect: Range = (0.5, 2.0),
    tries: int = 32,
    distance: Range = (0.2, 0.6),
    direction: Range = (-180.0, 180.0),
    rotation: Range = (0.0, 15.0),
    visible: float = 0.04,
    **common: Any,
) -> Synthesizer:
    """A component moves, and its old place is filled from its surroundings.

    Args:
        p: P(anomalous) before samples in which too little changes are counted as normal.
        component: Name under which its plane is passed; None to look for one.
        side: Mean side of the boxes looked into, a share of the image's shorter side.
        aspect: Width / height of the boxes.
        tries: Boxes looked into.
        distance: How far it goes, in units of its mean side.
        direction: Degrees from the image's columns to its rows.
        rotation: Degrees, either way.
        visible: Least change that is made, in [0, 1].
        common: Keywords of :class:`anoaug.Synthesizer`; here ``label_rule`` is ``"changed"``,
            ``tolerance`` 0 and ``min_area`` 0.001 by default.
    """
    source = sources.Moved(
        component, side, aspect, tries=tries, visible=visible, distance=distance,
        direction=direction, rotation=rotation,
    )  # fmt: skip
    return _synthesizer(source, component, p, common)


@method(
    "rotated",
    family="self-contained",
    paper=PAPER,
    matches=CHOSEN,
    deviations=(FOUND, CHANGED),
    defects=("rotated part", "wrong orientation", "misalignment"),
    surfaces=("object", "regular texture"),
)
def rotated(
    *,
    p: float = 0.5,
    component: str | None = None,
    side: Range = (0.08, 0.3),
    aspect: Range = (0.5, 2.0),
    tries: int = 32,
    rotation: Range = (20.0, 180.0),
    visible: float = 0.04,
    **common: Any,
) -> Synthesizer:
    """A component turns on the spot; what it uncovers is filled from its surroundings.

    Args:
        p: P(anomalous) before samples in which too little changes are counted as normal.
        component: Name under which its plane is passed; None to look for one.
        side: Mean side of the boxes looked into, a share of the image's shorter side.
        aspect: Width / height of the boxes.
        tries: Boxes looked into.
        rotation: Degrees, either way.
        visible: Least change that is made, in [0, 1].
        common: As for :func:`displaced`.
    """
    source = sources.Moved(
        component, side, aspect, tries=tries, visible=visible, distance=0.0, rotation=rotation
    )  # fmt: skip
    return _synthesizer(source, component, p, common)


@method(
    "extra",
    family="self-contained",
    paper=PAPER,
    matches=CHOSEN,
    deviations=(FOUND, CHANGED),
    defects=("additional part", "foreign object", "double placement"),
    surfaces=("object", "regular texture"),
)
def extra(
    *,
    p: float = 0.5,
    component: str | None = None,
    side: Range = (0.08, 0.3),
    aspect: Range = (0.5, 2.0),
    tries: int = 32,
    distance: Range = (1.0, 4.0),
    rotation: Range = (0.0, 180.0),
    goals: int = 12,
    visible: float = 0.04,
    **common: Any,
) -> Synthesizer:
    """A component is there twice: a copy of it lies where the ground is even.

    Args:
        p: P(anomalous) before samples in which too little changes are counted as normal.
        component: Name under which its plane is passed; None to look for one.
        side: Mean side of the boxes looked into, a share of the image's shorter side.
        aspect: Width / height of the boxes.
        tries: Boxes looked into.
        distance: How far from it the copy lies, in units of its mean side.
        rotation: Degrees of the copy, either way.
        goals: Places to choose from.
        visible: Least change that is made, in [0, 1].
        common: As for :func:`displaced`.
    """
    source = sources.Moved(
        component, side, aspect, tries=tries, visible=visible, distance=distance,
        rotation=rotation, keep=True, goals=goals,
    )  # fmt: skip
    return _synthesizer(source, component, p, common)


@method(
    "swapped",
    family="self-contained",
    paper=PAPER,
    matches=CHOSEN,
    deviations=(FOUND, CHANGED),
    defects=("swapped parts", "wrong order", "broken pattern"),
    surfaces=("object", "regular texture"),
)
def swapped(
    *,
    p: float = 0.5,
    side: Range = (0.08, 0.3),
    aspect: Range = (0.5, 2.0),
    tries: int = 32,
    visible: float = 0.04,
    **common: Any,
) -> Synthesizer:
    """Two components in each other's place.

    Args:
        p: P(anomalous) before samples in which too little changes are counted as normal.
        side: Mean side of the boxes looked into, a share of the image's shorter side.
        aspect: Width / height of the boxes.
        tries: Boxes looked into.
        visible: Least change that is made, in [0, 1].
        common: As for :func:`displaced`.
    """
    return _synthesizer(
        sources.Swapped(None, side, aspect, tries=tries, visible=visible), None, p, common
    )
