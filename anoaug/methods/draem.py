"""DRAEM: Perlin masks filled with augmented textures (Zavrtanik et al., ICCV 2021)."""

from __future__ import annotations

from typing import Any

from .. import blends, masks, sources
from ..binding import Layer
from ..photometric import RandomOps
from ..synthesizer import Synthesizer
from . import method
from .inputs import TextureLike, as_textures

DRAEM_OPS = RandomOps.draem()


@method(
    "draem",
    family="external",
    paper="Zavrtanik, Kristan, Skocaj: DRAEM, ICCV 2021 (arXiv 2108.07610)",
    matches=(
        "the official code: opacity 1 - 0.8 U(0, 1) of the texture (the paper states a range of "
        "[0.1, 1.0] for beta), ten texture ops, threshold 0.5, empty masks are normal"
    ),
    deviations=(
        "the normal image is not rotated: normal_transform=anoaug.turning.turned(p=0.3) is the "
        "original's 30 %",
        "the noise is turned exactly instead of by resampling the finished field",
        "colour ops see RGB; the original hands BGR to an RGB augmenter",
        "brightness and hue are linear in RGB (see anoaug.photometric), geometry and sharpness "
        "come before the pointwise ops",
        "any image size: the original needs a multiple of the lattice",
    ),
    defects=("contamination", "stain", "texture change", "foreign material"),
    surfaces=("texture", "object"),
    needs=("textures",),
)
def draem(
    *,
    textures: TextureLike = None,
    p: float = 0.5,
    log2_cells: tuple[int, int] = (0, 5),
    threshold: float | tuple[float, float] = 0.5,
    rotation: float | tuple[float, float] = (-90.0, 90.0),
    rotation_fill: str = "zero",
    opacity: float | tuple[float, float] = (0.2, 1.0),
    ops: RandomOps | None = DRAEM_OPS,
    detail: blends.Detailed | None = None,
    **common: Any,
) -> Synthesizer:
    """Perlin mask, texture with 3 of 10 ops, one opacity per sample.

    Args:
        textures: A TextureBank, a folder, a tensor, or None for procedural textures.
        p: P(anomalous) before empty masks are counted as normal (about 5 % of them).
        log2_cells: See :class:`anoaug.masks.Perlin`, likewise the next three.
        threshold: Noise above it is anomalous.
        rotation: Degrees.
        rotation_fill: ``"zero"`` or ``"continue"``.
        opacity: Weight of the texture.
        ops: Texture ops, or None.
        detail: Coarse to fine, see :class:`anoaug.blends.Detail`: ``"image"`` keeps the product's
            texture under the texture's colours; None: the texture as it is.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    mask = masks.Perlin(log2_cells, threshold, rotation, rotation_fill)
    source = sources.Texture(as_textures(textures), ops)
    return Synthesizer(Layer(mask, source, blends.Opacity(opacity, detail=detail)), p=p, **common)
