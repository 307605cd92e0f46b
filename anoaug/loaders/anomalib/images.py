"""Anomalies in images: what stands for anomalib's generators of masks and textures."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from ... import blends, checks, masks, methods, sources
from ...banks import TextureBank
from ...binding import Layer
from ...functional import perlin
from ...photometric import RandomOps
from ...synthesizer import Synthesizer
from .states import stateless

_CELLS = (0, 5)  # as everywhere in anomalib
_FINE = (2, 5)  # lattices that never leave a mask empty

Folder = str | os.PathLike[str]


def generate_perlin_noise(
    height: int,
    width: int,
    scale: tuple[int, int] | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """A Perlin field with anomalib's signature, float32 ``[height, width]`` in [-1, 1].

    The seed comes from torch's global generator, so that ``torch.manual_seed`` is obeyed, as there:
    the one place in anoaug that moves it. Any size is filled exactly; the original takes the
    corner of the next power of two, which shows fewer cells than ``scale`` says.

    Args:
        height: Rows.
        width: Columns.
        scale: Cells along the rows and the columns; powers of two from 1 to 32 if None.
        device: CUDA where there is one if None.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    drawn = torch.randint(0, 2**31, (3,), device="cpu").tolist()  # host: a seed
    cells = (2.0 ** (drawn[1] % 6), 2.0 ** (drawn[2] % 6)) if scale is None else scale
    made = perlin(1, (height, width), (float(cells[0]), float(cells[1])), seed=drawn[0],
                  device=place)  # fmt: skip
    return made[0, 0]


class PerlinAnomalyGenerator(nn.Module):
    """anomalib's generator for DRAEM, DSR and GLASS: Perlin masks filled with textures.

    ``(C, H, W) -> (image, mask (1, H, W))`` and ``(B, C, H, W) -> (images, masks (B, 1, H, W))``,
    floats in [0, 1], on the device of the images, without a loop, without a file read in a step and
    without making the host wait. Masks are float32, 0 or 1, and never empty where an anomaly was
    drawn: then a second field, on a lattice of at least 4 x 4 cells, is taken. Seeded once by
    ``torch.initial_seed()``.

    Differs from the original: masks have the cells they say at any size; the texture operations are
    DRAEM's ten, of which torchvision's replace some; without a folder procedural textures are used,
    where the original uses the noise itself.

    Args:
        anomaly_source_path: Folder of textures, read once; None for procedural ones.
        probability: P(anomalous) per image.
        blend_factor: Weight of the texture, a number or a range.
        rotation_range: Of the masks, in degrees.
        dual_mask: Half of the masks are the union of two (GLASS).
        seed: 64-bit seed; None takes ``torch.initial_seed()``.
        size: Side that textures are kept at.

    Raises:
        ValueError: A folder without images, or an argument out of range.
    """

    def __init__(
        self,
        anomaly_source_path: Folder | None = None,
        probability: float = 0.5,
        blend_factor: float | tuple[float, float] = (0.2, 1.0),
        rotation_range: tuple[float, float] = (-90, 90),
        dual_mask: bool = False,
        *,
        seed: int | None = None,
        size: int = 256,
    ) -> None:
        super().__init__()
        self.probability = checks.probability("probability", probability)
        self.blend_factor = blend_factor
        self.dual_mask = dual_mask
        self.anomaly_source_path = anomaly_source_path
        bank = (
            TextureBank.procedural(size=size)
            if anomaly_source_path is None
            else TextureBank.from_folder(anomaly_source_path, size=size)
        )
        seed = torch.initial_seed() if seed is None else seed

        def synth(cells: tuple[int, int]) -> Synthesizer:
            where: masks.Mask = masks.Perlin(cells, rotation=rotation_range)
            if dual_mask:
                other = masks.Perlin(cells, rotation=rotation_range)
                where = masks.joined(where, other, (1.0, 0.0, 1.0))
            layer = Layer(
                where, sources.Texture(bank, RandomOps.draem()), blends.Opacity(blend_factor)
            )
            return Synthesizer(
                layer, p=self.probability, seed=seed, active="always", clean=None,
                name="perlin_anomaly",
            )  # fmt: skip

        # Both draw the same samples to be anomalous: that coin has a stream of its own.
        self.synth, self.fallback = synth(_CELLS), synth(_FINE)
        stateless(self)

    @torch.no_grad()
    def forward(self, img: Tensor) -> tuple[Tensor, Tensor]:
        """Images with anomalies, and their masks."""
        images = img[None] if img.dim() == 3 else img
        out = self.synth(images)
        second = self.fallback(images)
        empty = (out.label == 0).view(-1, 1, 1, 1)
        image = torch.where(empty, second.image, out.image)
        mask = torch.where(empty, second.mask, out.mask)
        return (image[0], mask[0]) if img.dim() == 3 else (image, mask)


class CutPasteGenerator(nn.Module):
    """CutPaste for anomalib, which has none: patches, scars, or either.

    Called like :class:`PerlinAnomalyGenerator`; :meth:`generate` gives the image alone.

    Args:
        probability: P(anomalous) per image.
        mode: ``"normal"``, ``"scar"`` or ``"union"``.
        seed: 64-bit seed; None takes ``torch.initial_seed()``.
        keywords: Of the method (``area``, ``aspect``, ``jitter``, ...).

    Raises:
        ValueError: An unknown mode.
    """

    MODES = {"normal": "cutpaste", "scar": "cutpaste_scar", "union": "cutpaste_union"}

    def __init__(
        self,
        probability: float = 1.0,
        mode: str = "normal",
        *,
        seed: int | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__()
        checks.one_of("mode", mode, tuple(self.MODES))
        self.mode = mode
        self.synth = methods.create(
            self.MODES[mode], p=probability, seed=seed, active="always", clean=None, **keywords
        )
        stateless(self)

    def generate(self, image: Tensor) -> Tensor:
        """The image alone."""
        return self(image)[0]

    @torch.no_grad()
    def forward(self, img: Tensor) -> tuple[Tensor, Tensor]:
        """Images with anomalies, and their masks."""
        out = self.synth(img[None] if img.dim() == 3 else img)
        return (out.image[0], out.mask[0]) if img.dim() == 3 else (out.image, out.mask)


class DsrAnomalyGenerator(nn.Module):
    """anomalib's masks for DSR's second phase: rotated Perlin noise above 0.5.

    Args:
        p_anomalous: P(a mask that is not empty) per image.
        seed: 64-bit seed; None takes ``torch.initial_seed()``.
    """

    def __init__(self, p_anomalous: float = 0.5, *, seed: int | None = None) -> None:
        super().__init__()
        self.p_anomalous = checks.probability("p_anomalous", p_anomalous)
        seed = torch.initial_seed() if seed is None else seed

        def synth(cells: tuple[int, int]) -> Synthesizer:
            layer = Layer(masks.Perlin(cells), sources.Constant(), blends.Hard())
            return Synthesizer(layer, p=p_anomalous, seed=seed, active="always", clean=None)

        self.synth, self.fallback = synth(_CELLS), synth(_FINE)
        stateless(self)

    @torch.no_grad()
    def augment_batch(self, batch: Tensor) -> Tensor:
        """Masks float32 ``(B, 1, H, W)`` for a batch ``(B, C, H, W)``, of which the size counts."""
        blank = torch.zeros((len(batch), 1, *batch.shape[2:]), device=batch.device)
        first, second = self.synth(blank), self.fallback(blank)
        empty = (first.label == 0).view(-1, 1, 1, 1)
        return torch.where(empty, second.mask, first.mask)
