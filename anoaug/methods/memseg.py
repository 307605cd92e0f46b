"""MemSeg: Perlin masks on the object, filled with textures or the shuffled image itself."""

from __future__ import annotations

from typing import Any

from .. import blends, masks, sources
from ..binding import Layer
from ..photometric import RandomOps
from ..prepare.presets import PRESETS as FOREGROUNDS
from ..synthesizer import Synthesizer
from . import method
from .inputs import TextureLike, as_textures

# DRAEM's ten without those that would need the image's content before it is rendered.
STRUCTURE_OPS = RandomOps(
    ("gamma", "brightness", "hue_saturation", "solarize", "posterize", "invert", "rotate"), 3
)


@method(
    "memseg",
    family="external",
    paper="Yang, Wu, Feng: MemSeg, EAAI 119, 2023 (arXiv 2205.00908)",
    matches=(
        "the common port: textures without ops, the image itself in 8 x 8 shuffled cells (the "
        "paper has 4 x 8: grid=(4, 8)), opacity U(0.15, 1)"
    ),
    deviations=(
        "the foreground is yours to choose: foreground=anoaug.prepare.preset('mvtec', category, "
        "of='memseg') is the port's, a grey level per category, and anoaug.ByCategory('memseg') "
        "goes by each sample's own",
        "a fair coin makes samples anomalous; in the port every second one of a worker is",
        "an empty mask makes the sample normal; the port labels it anomalous, 5 % of textures and "
        "11 % of objects, and may crop an anomaly away afterwards",
        "the image itself is changed by 3 of 7 ops: sharpness, autocontrast and equalize, which "
        "need its content before it is rendered, are left out, and brightness and hue change as on "
        "a grey image",
        "any image size: the port needs a multiple of 8; opacities are rounded, not truncated",
        "the noise is turned exactly; colour ops see RGB, and geometry comes before them",
    ),
    defects=("contamination", "stain", "texture change", "broken pattern", "misplaced part"),
    surfaces=("texture", "object"),
    needs=("textures",),
    categories={
        name: {"foreground": rule} for name, rule in FOREGROUNDS["memseg"]["mvtec"].items()
    },
)
def memseg(
    *,
    textures: TextureLike = None,
    p: float = 0.5,
    choose: str = "one",
    weights: tuple[float, float] = (0.5, 0.5),
    log2_cells: tuple[int, int] = (0, 5),
    threshold: float | tuple[float, float] = 0.5,
    rotation: float | tuple[float, float] = (-90.0, 90.0),
    rotation_fill: str = "zero",
    opacity: float | tuple[float, float] = (0.15, 1.0),
    grid: int | tuple[int, int] = 8,
    structure_ops: RandomOps | None = STRUCTURE_OPS,
    detail: blends.Detailed | None = None,
    **common: Any,
) -> Synthesizer:
    """Perlin mask; a texture, or the image recoloured and cut into cells that change places.

    Args:
        textures: A TextureBank, a folder, a tensor, or None for procedural textures.
        p: P(anomalous) before empty masks are counted as normal.
        choose: ``"one"`` of texture and structure per sample, or ``"all"``: both.
        weights: Odds of texture and structure where one is chosen.
        log2_cells: See :class:`anoaug.masks.Perlin`, likewise the next three.
        threshold: Noise above it is anomalous.
        rotation: Degrees.
        rotation_fill: ``"zero"`` or ``"continue"``.
        opacity: Weight of the texture or the shuffled image.
        grid: Rows and columns of cells.
        structure_ops: Changes of the image before it is cut, or None.
        detail: Coarse to fine, see :class:`anoaug.blends.Detail`, of both; None: off.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    mask = masks.Perlin(log2_cells, threshold, rotation, rotation_fill)
    blend = blends.Opacity(opacity, detail=detail)
    texture = sources.Texture(as_textures(textures))
    structure = sources.Shuffled(grid, structure_ops)
    return Synthesizer(
        Layer(mask, texture, blend, kind="memseg_texture"),
        Layer(mask, structure, blend, kind="memseg_structure"),
        p=p, choose=choose, weights=weights if choose == "one" else None, **common,
    )  # fmt: skip
