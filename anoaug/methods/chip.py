"""A chip: a bite out of an object's edge, filled with background (no single paper)."""

from __future__ import annotations

from typing import Any

from .. import masks, sources
from ..binding import Layer
from ..foregrounds import ForegroundLike
from ..synthesizer import Synthesizer
from . import method
from .missing import CHANGED, CHOSEN, DEFECTS


@method(
    "chip",
    family="self-contained",
    paper="anoaug: no single paper; the defects are those of " + DEFECTS,
    matches=CHOSEN,
    deviations=("the broken edge has no shading of its own", CHANGED),
    defects=("chipped edge", "broken edge", "missing piece"),
    surfaces=("object",),
)
def chip(
    *,
    p: float = 0.5,
    foreground: ForegroundLike | None = "otsu",
    side: float | tuple[float, float] = (0.06, 0.18),
    visible: float = 0.04,
    label_rule: str = "changed",
    tolerance: float = 0.0,
    min_area: float = 0.0005,
    **common: Any,
) -> Synthesizer:
    """A piece of the edge is gone.

    Args:
        p: P(anomalous) before samples in which too little changes are counted as normal.
        foreground: Finds the object where the call brings none, see :class:`anoaug.Synthesizer`;
            with None every call has to.
        side: Diameter of the bite, a share of the image's shorter side.
        visible: Least change that is made, in [0, 1].
        label_rule: See :class:`anoaug.Synthesizer`, likewise the next two; ``"footprint"`` would be
            the whole object.
        tolerance: Least change that counts.
        min_area: Least area that counts.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    return Synthesizer(
        Layer(masks.Everywhere(), sources.Chip(side, visible)),
        p=p,
        foreground=foreground,
        label_rule=label_rule,
        tolerance=tolerance,
        min_area=min_area,
        **common,
    )
