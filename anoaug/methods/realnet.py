"""RealNet: Perlin masks on the object, filled from a bank of generated anomalies or textures."""

from __future__ import annotations

from typing import Any

from .. import blends, masks, sources
from ..banks import DonorBank
from ..binding import Layer
from ..photometric import RandomOps
from ..prepare.presets import PRESETS as FOREGROUNDS
from ..synthesizer import Synthesizer
from . import method
from .draem import DRAEM_OPS
from .inputs import TextureLike, as_textures

BankLike = DonorBank | TextureLike


@method(
    "realnet",
    family="external",
    paper="Zhang, Xu, Zhou: RealNet, CVPR 2024 (arXiv 2403.05897)",
    matches=(
        "the official code: opacity U(0.5, 1) of a generated image, U(0.2, 1) of a texture after 3 "
        "of DRAEM's 10 ops; half of the samples are anomalous"
    ),
    deviations=(
        "the anomalies of SDAS are not generated here: give a bank of them; without one, textures "
        "are used, as the code can",
        "the foreground is yours to choose: foreground=anoaug.prepare.preset('mvtec', category) "
        "is the code's, and anoaug.ByCategory('realnet') goes by each sample's own",
        "an empty mask makes the sample normal; the code labels it by its kind",
        "the noise is turned exactly; colour ops see RGB, and geometry comes before them",
        "any image size: the code needs a multiple of the lattice; opacities are rounded, not "
        "truncated",
    ),
    defects=("contamination", "stain", "texture change", "deformation"),
    surfaces=("texture", "object"),
    needs=("textures",),
    categories={
        name: {"foreground": rule}
        for table in FOREGROUNDS["realnet"].values()
        for name, rule in table.items()
    },
)
def realnet(
    *,
    bank: BankLike = None,
    textures: TextureLike = None,
    p: float = 0.5,
    weights: tuple[float, float] = (0.5, 0.5),
    log2_cells: tuple[int, int] = (0, 5),
    threshold: float | tuple[float, float] = 0.5,
    rotation: float | tuple[float, float] = (-90.0, 90.0),
    rotation_fill: str = "zero",
    opacity: float | tuple[float, float] = (0.5, 1.0),
    texture_opacity: float | tuple[float, float] = (0.2, 1.0),
    ops: RandomOps | None = DRAEM_OPS,
    detail: blends.Detailed | None = None,
    **common: Any,
) -> Synthesizer:
    """Perlin mask; a generated image at the same place, or a texture with 3 of 10 ops.

    Args:
        bank: Generated anomalous images. A DonorBank with categories gives each sample one of its
            own category, as SDAS does; or a TextureBank, a folder or a tensor. None: textures.
        textures: Likewise for textures, besides the bank or without one; without either they are
            procedural.
        p: P(anomalous) before empty masks are counted as normal.
        weights: Odds of bank and textures where both are given.
        log2_cells: See :class:`anoaug.masks.Perlin`, likewise the next three.
        threshold: Noise above it is anomalous.
        rotation: Degrees.
        rotation_fill: ``"zero"`` or ``"continue"``.
        opacity: Weight of the bank's image.
        texture_opacity: Weight of the texture.
        ops: Texture ops, or None.
        detail: Coarse to fine, see :class:`anoaug.blends.Detail`, of both; None: off.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    mask = masks.Perlin(log2_cells, threshold, rotation, rotation_fill)
    both = bank is not None and textures is not None
    layers = []
    if bank is not None:
        source = _from_bank(bank)
        kind = "realnet_bank" if both else None
        layers.append(Layer(mask, source, blends.Opacity(opacity, detail=detail), kind=kind))
    if bank is None or textures is not None:
        texture = sources.Texture(as_textures(textures), ops)
        kind = "realnet_texture" if both else None
        layers.append(
            Layer(mask, texture, blends.Opacity(texture_opacity, detail=detail), kind=kind)
        )
    chosen: dict[str, Any] = {"choose": "one", "weights": weights} if both else {}
    return Synthesizer(*layers, p=p, **chosen, **common)


def _from_bank(bank: BankLike) -> sources.Source:
    """The bank's image over the whole image."""
    if isinstance(bank, DonorBank):
        return sources.Donor(bank, place="same")
    return sources.Texture(as_textures(bank))
