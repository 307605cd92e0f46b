"""Misprint: marks faded, doubled, smeared or out of register in a part of the image."""

from __future__ import annotations

from typing import Any

from .. import blends, masks, sources
from ..binding import Layer
from ..synthesizer import Synthesizer
from . import method
from .missing import CHANGED, CHOSEN, DEFECTS


@method(
    "misprint",
    family="self-contained",
    paper="anoaug: no single paper; the defects are those of " + DEFECTS,
    matches=CHOSEN,
    deviations=(CHANGED,),
    defects=("misprint", "faded print", "double print", "smeared ink", "colour misregistration"),
    surfaces=("object", "regular texture"),
)
def misprint(
    *,
    p: float = 0.5,
    area: float | tuple[float, float] = (0.05, 0.3),
    aspect: float | tuple[float, float] = (0.4, 2.5),
    feather: float | tuple[float, float] = (6.0, 20.0),
    faults: tuple[str, ...] = ("faded", "ghost", "smeared", "register"),
    choose: str = "one",
    weights: tuple[float, ...] | None = None,
    visible: float = 0.03,
    label_rule: str = "changed",
    tolerance: float = 0.0,
    min_area: float = 0.001,
    **common: Any,
) -> Synthesizer:
    """One fault of printing within a box with soft edges.

    Args:
        p: P(anomalous) before samples in which too little changes are counted as normal.
        area: Share of the image.
        aspect: Width / height.
        feather: Pixels over which the fault sets in.
        faults: Which faults there are; see :class:`anoaug.sources.Misprint` for what they are.
        choose: ``"one"`` of them per sample, or ``"all"``.
        weights: Their odds; equal by default.
        visible: Least change that is made, in [0, 1].
        label_rule: See :class:`anoaug.Synthesizer`, likewise the next two.
        tolerance: Least change that counts.
        min_area: Least area that counts.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    box, edge = masks.Rectangle(area=area, aspect=aspect), blends.Feather(feather)
    return Synthesizer(
        *(
            Layer(box, sources.Misprint(fault, visible=visible), edge, kind=f"misprint_{fault}")
            for fault in faults
        ),
        p=p,
        choose=choose,
        weights=weights if choose == "one" else None,
        label_rule=label_rule,
        tolerance=tolerance,
        min_area=min_area,
        **common,
    )
