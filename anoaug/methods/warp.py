"""Local deformation: a part of the image bent, bulged or twisted (no single paper)."""

from __future__ import annotations

from typing import Any

from .. import masks, sources
from ..binding import Layer
from ..synthesizer import Synthesizer
from . import method
from .missing import CHOSEN, DEFECTS


@method(
    "warp",
    family="self-contained",
    paper="anoaug: no single paper; the defects are those of " + DEFECTS,
    matches=CHOSEN,
    deviations=(
        "only pixels that change count: a warp of what is empty is no anomaly; pass tolerance= for "
        "what is smooth",
    ),
    defects=("bending", "dent", "local deformation", "distorted pattern"),
    surfaces=("texture", "object"),
)
def warp(
    *,
    p: float = 0.5,
    area: float | tuple[float, float] = (0.03, 0.15),
    aspect: float | tuple[float, float] = (0.4, 2.5),
    rotation: float | tuple[float, float] = (-90.0, 90.0),
    bend: float | tuple[float, float] = (0.25, 0.6),
    zoom: float | tuple[float, float] = (0.4, 1.0),
    twist: float | tuple[float, float] = (25.0, 80.0),
    choose: str = "one",
    weights: tuple[float, float, float] = (0.5, 0.25, 0.25),
    label_rule: str = "changed",
    tolerance: float = 0.0,
    min_area: float = 0.001,
    **common: Any,
) -> Synthesizer:
    """One of three smooth deformations within an ellipse, which fades out towards its edge.

    Args:
        p: P(anomalous) before deformations that change too little are counted as normal.
        area: Share of the image of the box that holds the ellipse.
        aspect: Width / height of the box; twists are round.
        rotation: Degrees of the box.
        bend: Shift at the centre, a share of the ellipse's lesser half axis.
        zoom: How much larger or smaller things at the centre are.
        twist: Turn at the centre in degrees, either way.
        choose: ``"one"`` of the three per sample, or ``"all"``, which do not meet well.
        weights: Odds of bending, bulging or pinching, and twisting.
        label_rule: See :class:`anoaug.Synthesizer`, likewise the next two; ``"footprint"`` is the
            whole box.
        tolerance: Least change that counts.
        min_area: Least area that counts.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    box = masks.Rectangle(area=area, aspect=aspect, rotation=rotation)
    circle = masks.Rectangle(area=area, aspect=1.0)
    return Synthesizer(
        Layer(box, sources.Warp(bend), kind="warp_bent"),
        Layer(box, sources.Warp(0.0, zoom=zoom), kind="warp_bulged"),
        Layer(circle, sources.Warp(0.0, twist=twist), kind="warp_twisted"),
        p=p,
        choose=choose,
        weights=weights if choose == "one" else None,
        label_rule=label_rule,
        tolerance=tolerance,
        min_area=min_area,
        **common,
    )
