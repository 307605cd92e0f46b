"""REB: DefectMaker's Bezier blobs, scars and clumps at salient points (Lyu et al., 2023)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor

from .. import blends, checks, masks, prepare, sources
from ..banks import ShapeBank
from ..binding import Layer
from ..foregrounds import ForegroundLike
from ..synthesizer import Synthesizer
from . import method
from .cutpaste import jitter_of
from .inputs import DonorLike, as_donors

Range = tuple[float, float]

# Uniform noise of half width w has the standard deviation of simplex noise of amplitude 1.07 w.
_STRENGTH = 1.07


@functools.lru_cache(maxsize=1)
def _shapes() -> ShapeBank:
    return ShapeBank.procedural(("blob", "clump"), n=128)


@functools.lru_cache(maxsize=4)
def _of_kinds(bank: ShapeBank) -> tuple[ShapeBank, ShapeBank]:
    """The bank's blobs and its clumps, where it has any, else all of it."""
    blobs, clumps = (
        bank.with_kinds(kind) if kind in bank.categories else bank for kind in ("blob", "clump")
    )
    return blobs, clumps


@method(
    "reb",
    family="self-contained",
    paper=(
        "Lyu, Mo, Wong: REB (Reducing biases in representation for industrial anomaly detection), "
        "Knowledge-Based Systems 2023 (arXiv 2308.12577)"
    ),
    matches=(
        "the official code's dm_com6: Bezier blob, scar or clump, one of the three per sample, "
        "with its boxes, each about a salient pixel; fill='cut' and fill='noise' are its two "
        "fills, each of which makes three of its six classes"
    ),
    deviations=(
        "shapes come from a bank of 64 blobs and 64 clumps, mirrored at random; the original draws "
        "each anew. shapes=bank.renewed(epoch) changes them",
        "saliency is the spectral residual's, thresholded, where the original has a trained "
        "network's (EDN); where nothing is salient, everything is",
        "without donors= the crop is taken from the image itself, not from another one",
        "edges are ramps of 0 to 4 pixels (2 for scars and clumps); the original leaves half of "
        "them hard and erodes and blurs the others by 5 (3) pixels",
        "noise is simplex noise of the original's mean, strength and grain, grey; there it is "
        "white noise, enlarged",
        "the colour jitter is folded into one pass and its contrast turns about mid-grey",
    ),
    defects=("stain", "scratch", "contamination", "misprint", "broken pattern"),
    surfaces=("texture", "object"),
)
def reb(
    *,
    p: float = 0.5,
    fill: str = "cut",
    donors: DonorLike | None = None,
    shapes: ShapeBank | None = None,
    foreground: ForegroundLike | None = "saliency",
    choose: str = "one",
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
    area: float | Range = (0.02, 0.15),
    aspect: float | Range = (1 / 3.3, 3.3),
    width: float | Range = (7, 22),
    length: float | Range = (15, 31),
    rotation: float | Range = (-45.0, 45.0),
    jitter: float = 0.1,
    softness: float = 4.0,
    **common: Any,
) -> Synthesizer:
    """A Bezier blob, a small turned one (scar) or a clump of grains, with a crop or noise in it.

    Args:
        p: P(anomalous).
        fill: ``"cut"`` (a crop about another salient pixel) or ``"noise"``. For both use
            ``anoaug.OneOf`` with two of these.
        donors: Other normal images that crops are taken from; None: the image itself.
        shapes: A ShapeBank whose kinds ``"blob"`` and ``"clump"`` are used, or, if it has none of
            these, all of it; None: 128 shapes drawn from a seed.
        foreground: Where the centres are: as of :class:`anoaug.Synthesizer`; ``"saliency"``:
            salient pixels, all in an image that has none; an empty one of another kind leaves the
            sample clean. None: anywhere in the image, and a foreground given at the call then cuts
            the shapes off.
        choose: ``"one"`` of blob, scar and clump per sample, or ``"all"``.
        weights: Odds of blob, scar and clump where one is chosen.
        area: Share of the image that the box about a blob or clump covers.
        aspect: Width / height of a blob's box; a clump's lies between 1/3 and 3.
        width: Of a scar's box in pixels; whole pixels are used.
        length: Likewise.
        rotation: Of a scar in degrees.
        jitter: Strength of the colour jitter of a crop; 0 for none.
        softness: Greatest width of the edge's ramp in pixels; half of it for scars and clumps.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    checks.one_of("fill", fill, ("cut", "noise"))
    bank = _shapes() if shapes is None else shapes
    if not isinstance(bank, ShapeBank):
        raise TypeError(f"shapes: expected a ShapeBank or None, got {type(bank).__name__}")
    blobs, clumps = _of_kinds(bank)
    part: Callable[..., masks.Mask] = masks.Shape
    if foreground == "saliency":
        foreground = _salient
    if foreground is not None:
        part = masks.ObjectShape
    where = {
        "blob": part(blobs, size=area, of="box", aspect=aspect, rotation=0.0, elastic=0.0),
        "scar": part(blobs, height=length, width=width, rotation=rotation, elastic=0.0),
        "clump": part(clumps, size=area, of="box", aspect=(1 / 3, 3), rotation=0.0, elastic=0.0),
    }
    source: sources.Source
    if fill == "noise":
        source = sources.Simplex(
            amplitude=(0.0, _STRENGTH * 45 / 255), mean=(50 / 255, 190 / 255), cells=(64.0, 256.0)
        )
    elif donors is None:
        source = sources.Own(photometric=jitter_of(jitter))
    else:
        source = sources.Donor(as_donors(donors), photometric=jitter_of(jitter))
    checks.interval("softness", softness, 0.0)
    layers = [
        Layer(mask, source, _edge(kind, softness), kind=f"reb_{kind}_{fill}")
        for kind, mask in where.items()
    ]
    return Synthesizer(
        *layers, p=p, choose=choose, weights=weights if choose == "one" else None,
        foreground=foreground, **common,
    )  # fmt: skip


def _salient(images: Tensor) -> Tensor:
    """Salient pixels, uint8 ``(B, 1, H, W)``; all where an image has none."""
    found = prepare.Foreground("saliency")(images)
    if found.numel() == 0:
        return found
    nothing = 1 - found.flatten(1).amax(1).view(-1, 1, 1, 1)
    if found.device.type == "cpu" and not nothing.any():  # host: a host tensor
        return found
    return found | nothing


def _edge(kind: str, softness: float) -> blends.Blend:
    """How a kind of shape is joined: its ramp, and a clump's opacity of a half and more."""
    opacity = (0.5, 1.0) if kind == "clump" else 1.0
    if softness == 0:
        return blends.Opacity(opacity)
    widest = softness if kind == "blob" else softness / 2
    return blends.Feather((min(1e-3, widest), widest), opacity)
