"""A missing component: its place filled from its surroundings (no single paper)."""

from __future__ import annotations

from typing import Any

from .. import masks, sources
from ..binding import Layer
from ..synthesizer import Synthesizer
from . import method

DEFECTS = "MVTec AD (Bergmann, Fauser, Sattlegger, Steger, CVPR 2019, doi 10.1109/CVPR.2019.00982)"
PAPER = (
    "anoaug: no single paper; the defects are structural and logical ones such as those of "
    + DEFECTS
)
CHOSEN = "nothing published: ranges chosen by eye at 256 pixels"
FOUND = (
    "without component= the component is what stands out most in one of some random boxes, which "
    "on a texture may be any part of it"
)
CHANGED = "changes that nobody would see are taken back: where none is left, the sample is normal"


def where(component: str | None) -> masks.Mask:
    """The whole image, with the plane of a component named if there is one."""
    everywhere = masks.Everywhere()
    return everywhere if component is None else everywhere | masks.Given(component)


@method(
    "missing",
    family="self-contained",
    paper=PAPER,
    matches=(
        CHOSEN + "; texture from the best fitting place of the image, corrected by Poisson's "
        "equation (Perez et al., SIGGRAPH 2003)"
    ),
    deviations=(FOUND, CHANGED),
    defects=("missing part", "missing component", "hole in a pattern"),
    surfaces=("object", "regular texture"),
)
def missing(
    *,
    p: float = 0.5,
    component: str | None = None,
    side: float | tuple[float, float] = (0.08, 0.3),
    aspect: float | tuple[float, float] = (0.5, 2.0),
    tries: int = 32,
    visible: float = 0.04,
    label_rule: str = "changed",
    tolerance: float = 0.0,
    min_area: float = 0.001,
    **common: Any,
) -> Synthesizer:
    """A component vanishes.

    Args:
        p: P(anomalous) before samples in which too little changes are counted as normal.
        component: Name under which its plane is passed, ``synth(images, slots={name: plane})``;
            None to look for one.
        side: Mean side of the boxes looked into, a share of the image's shorter side.
        aspect: Width / height of the boxes.
        tries: Boxes looked into.
        visible: Least change that is made, in [0, 1].
        label_rule: See :class:`anoaug.Synthesizer`, likewise the next two; ``"footprint"`` would be
            the whole image.
        tolerance: Least change that counts.
        min_area: Least area that counts.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    source = sources.Missing(component, side, aspect, tries=tries, visible=visible)
    return Synthesizer(
        Layer(where(component), source),
        p=p,
        label_rule=label_rule,
        tolerance=tolerance,
        min_area=min_area,
        **common,
    )
