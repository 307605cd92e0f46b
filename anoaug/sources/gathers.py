"""What the sources that gather pixels share: their affine map and the columns of colour stages."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..parts import Context, Floats, part
from ..photometric import ColorJitter, RandomOps, Stages
from ..reference.sources import BILINEAR, STAGES, ZERO_FILL
from ..stages import scattered

Photometric = RandomOps | ColorJitter
part(RandomOps)
part(ColorJitter)

INTERPOLATIONS = ("bilinear", "nearest")
FILLS = ("border", "zero")


def affine(
    cos: Floats, sin: Floats, scale: tuple[Floats | float, Floats | float],
    target: tuple[Floats | float, Floats | float], origin: tuple[Floats | float, Floats | float],
) -> dict[str, Floats]:  # fmt: skip
    """Columns of the map from an image pixel to a source pixel.

    The image is turned by the angle about ``target`` and scaled by ``scale`` (source pixels per
    image pixel); ``target`` goes to ``origin``. Pairs are (row, column).
    """
    yy, yx = cos * scale[0], -sin * scale[0]
    xy, xx = sin * scale[1], cos * scale[1]
    return {
        "yy": yy,
        "yx": yx,
        "y0": origin[0] - (yy * target[0] + yx * target[1]),
        "xy": xy,
        "xx": xx,
        "x0": origin[1] - (xy * target[0] + xx * target[1]),
    }


def stage_widths(channels: int) -> dict[str, int]:
    """Columns of the colour stages: how many, tables (256 bytes each), matrices."""
    return {"stages": 1, "luts": 192 * channels, "matrices": 36}


def stage_values(stages: Stages) -> dict[str, npt.NDArray[Any]]:
    """Pack colour stages into their columns."""
    batch = len(stages.active)
    tables = np.ascontiguousarray(stages.luts).reshape(batch, -1).view(np.float32)
    matrices = stages.matrices.reshape(batch, -1)
    return {"stages": stages.active.astype(np.int32), "luts": tables, "matrices": matrices}


def drawn_stages(
    photometric: Photometric, context: Context, u: Floats,
    histograms: npt.NDArray[np.int64] | None = None,
) -> Stages:  # fmt: skip
    """Colour stages of the samples that get the layer; the tables of others would not be read."""
    rows = np.arange(context.batch) if context.active is None else np.flatnonzero(context.active)
    if len(rows) == context.batch:
        return photometric.stages(u, context.channels, histograms)
    some = None if histograms is None else histograms[rows]
    return scattered(photometric.stages(u[:, rows], context.channels, some), rows, context.batch)


def checked_photometric(value: Any) -> None:
    """Refuse what is neither RandomOps nor ColorJitter nor None."""
    if value is not None and not isinstance(value, (RandomOps, ColorJitter)):
        raise TypeError(
            f"photometric: expected photometric.RandomOps, ColorJitter or None, got {value!r}"
        )


def gather_option(interpolation: str, fill: str, photometric: Photometric | None) -> int:
    """The compile-time bits of a gather."""
    bits = BILINEAR if interpolation == "bilinear" else 0
    bits |= ZERO_FILL if fill == "zero" else 0
    return bits | (STAGES if photometric is not None else 0)
