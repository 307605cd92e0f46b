"""A broken pattern: a thread or line missing, extra, thinned or thickened (no single paper)."""

from __future__ import annotations

from typing import Any

from .. import masks, sources
from ..binding import Layer
from ..synthesizer import Synthesizer
from . import method
from .missing import CHANGED, CHOSEN, DEFECTS


@method(
    "thread",
    family="self-contained",
    paper="anoaug: no single paper; the defects are those of " + DEFECTS,
    matches=CHOSEN,
    deviations=(
        "the repeat comes from the autocorrelation; an image without one stays normal",
        "threads are taken to lie across the shortest repeat",
        CHANGED,
    ),
    defects=("missing thread", "double thread", "thin thread", "broken pattern", "missing line"),
    surfaces=("regular texture",),
)
def thread(
    *,
    p: float = 0.5,
    length: float | tuple[float, float] = (0.15, 0.6),
    repeat: tuple[float, float] | None = None,
    choose: str = "one",
    weights: tuple[float, float, float] = (0.6, 0.2, 0.2),
    tries: int = 8,
    visible: float = 0.04,
    label_rule: str = "changed",
    tolerance: float = 0.0,
    min_area: float = 0.0005,
    **common: Any,
) -> Synthesizer:
    """One thread of the pattern is broken over some length.

    Args:
        p: P(anomalous) before samples in which too little changes are counted as normal.
        length: Share of the image's shorter side.
        repeat: The pattern's repeat in pixels, (rows, columns); None to estimate it.
        choose: ``"one"`` fault per sample, or ``"all"`` of them.
        weights: Odds of missing (or extra), thinned and thickened threads.
        tries: Places to choose from.
        visible: Least change that is made, in [0, 1].
        label_rule: See :class:`anoaug.Synthesizer`, likewise the next two; ``"footprint"`` would be
            the whole image.
        tolerance: Least change that counts.
        min_area: Least area that counts.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    faults = ("missing", "thinned", "thickened")
    sources_ = [sources.Thread(fault, length, repeat, tries, visible) for fault in faults]
    return Synthesizer(
        *(Layer(masks.Everywhere(), one, kind=f"thread_{one.fault}") for one in sources_),
        p=p,
        choose=choose,
        weights=weights if choose == "one" else None,
        label_rule=label_rule,
        tolerance=tolerance,
        min_area=min_area,
        **common,
    )
