"""CutPaste: a patch of the image pasted elsewhere in it (Li et al., CVPR 2021)."""

from __future__ import annotations

from typing import Any

from .. import blends, masks, sources
from ..binding import Layer
from ..photometric import ColorJitter
from ..synthesizer import Synthesizer
from . import method

PAPER = "Li, Sohn, Yoon, Pfister: CutPaste, CVPR 2021 (arXiv 2104.04015)"
COLOUR = (
    "the colour jitter is folded into one pass and its contrast turns about mid-grey, not about "
    "the patch's own mean"
)
EXACT = "patches never reach outside the image; in common ports they do on non-square images"


def jitter_of(jitter: float) -> ColorJitter | None:
    """The paper's jitter: one strength for brightness, contrast, saturation and hue."""
    return ColorJitter(jitter, jitter, jitter, jitter) if jitter else None


def patch_layer(
    area: float | tuple[float, float],
    aspect: float | tuple[float, float],
    aspect_law: str,
    jitter: float,
) -> Layer:
    """CutPaste's upright rectangle."""
    mask = masks.Rectangle(area=area, aspect=aspect, aspect_law=aspect_law)
    return Layer(mask, sources.Own(photometric=jitter_of(jitter)), blends.Hard(), kind="cutpaste")


def scar_layer(
    width: float | tuple[float, float],
    length: float | tuple[float, float],
    rotation: float | tuple[float, float],
    jitter: float,
) -> Layer:
    """CutPaste-Scar's thin turned rectangle."""
    mask = masks.Rectangle(width=width, height=length, rotation=rotation)
    source = sources.Own(photometric=jitter_of(jitter))
    return Layer(mask, source, blends.Hard(), kind="cutpaste_scar")


@method(
    "cutpaste",
    family="self-contained",
    paper=PAPER,
    matches=(
        "the paper's ranges with the log-uniform aspect of the common port; "
        "aspect_law='split' gives the paper's two linear intervals"
    ),
    deviations=(COLOUR, EXACT, "a mask is returned: the pasted footprint"),
    defects=("misplaced part", "broken pattern", "misprint"),
    surfaces=("texture", "object"),
)
def cutpaste(
    *,
    p: float = 0.5,
    area: float | tuple[float, float] = (0.02, 0.15),
    aspect: float | tuple[float, float] = (0.3, 1 / 0.3),
    aspect_law: str = "log",
    jitter: float = 0.1,
    **common: Any,
) -> Synthesizer:
    """A rectangle of 2 to 15 % of the image, colour-jittered, pasted at another place.

    Args:
        p: P(anomalous).
        area: Share of the image.
        aspect: Width / height.
        aspect_law: ``"log"`` or ``"split"``.
        jitter: Strength of the colour jitter; 0 for none.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    return Synthesizer(patch_layer(area, aspect, aspect_law, jitter), p=p, **common)


@method(
    "cutpaste_scar",
    family="self-contained",
    paper=PAPER,
    matches=(
        "the paper's ranges, in pixels at the working size of 256, truncated to whole pixels (2 to "
        "15 by 10 to 24) as in the common port; give width= and length= for other image sizes"
    ),
    deviations=(COLOUR, EXACT, "a mask is returned: the pasted footprint"),
    defects=("scratch", "crack", "thin foreign object"),
    surfaces=("texture", "object"),
)
def cutpaste_scar(
    *,
    p: float = 0.5,
    width: float | tuple[float, float] = (2, 16),
    length: float | tuple[float, float] = (10, 25),
    rotation: float | tuple[float, float] = (-45.0, 45.0),
    jitter: float = 0.1,
    **common: Any,
) -> Synthesizer:
    """A thin patch, colour-jittered, turned and pasted at another place.

    Args:
        p: P(anomalous).
        width: Pixels; whole pixels are used.
        length: Pixels.
        rotation: Degrees.
        jitter: Strength of the colour jitter; 0 for none.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    return Synthesizer(scar_layer(width, length, rotation, jitter), p=p, **common)


@method(
    "cutpaste_union",
    family="self-contained",
    paper=PAPER,
    matches="a fair coin between patch and scar; views=True gives the 3-way task",
    deviations=(COLOUR, EXACT, "a mask is returned: the pasted footprint"),
    defects=("misplaced part", "broken pattern", "scratch", "crack"),
    surfaces=("texture", "object"),
)
def cutpaste_union(
    *,
    p: float = 0.5,
    views: bool = False,
    choose: str = "one",
    weights: tuple[float, float] = (0.5, 0.5),
    area: float | tuple[float, float] = (0.02, 0.15),
    aspect: float | tuple[float, float] = (0.3, 1 / 0.3),
    aspect_law: str = "log",
    width: float | tuple[float, float] = (2, 16),
    length: float | tuple[float, float] = (10, 25),
    rotation: float | tuple[float, float] = (-45.0, 45.0),
    jitter: float = 0.1,
    **common: Any,
) -> Synthesizer:
    """Patch or scar per sample, or with ``views`` three rows per image: normal, patch, scar.

    Args:
        p: P(anomalous); not used with ``views``.
        views: Return ``3 B`` rows, view by view; ``kind`` is then the 3-way class.
        choose: ``"one"`` of patch and scar per sample, or ``"all"``: both.
        weights: Odds of patch and scar where one is chosen.
        area: See ``cutpaste``, likewise ``aspect`` and ``aspect_law``.
        aspect: Width / height of the patch.
        aspect_law: ``"log"`` or ``"split"``.
        width: See ``cutpaste_scar``, likewise ``length`` and ``rotation``.
        length: Pixels.
        rotation: Degrees.
        jitter: Strength of the colour jitter; 0 for none.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    return Synthesizer(
        patch_layer(area, aspect, aspect_law, jitter),
        scar_layer(width, length, rotation, jitter),
        p=p, choose=choose, weights=weights if choose == "one" else None, views=views, **common,
    )  # fmt: skip
