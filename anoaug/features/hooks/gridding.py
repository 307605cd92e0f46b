"""Masks at the images' resolution on a layer's grid, whose shape may have to be found out."""

from __future__ import annotations

import math

from torch import Tensor

from .. import masks
from ..layouts import Grid


def picture_size(mask: Tensor | None) -> tuple[int, int] | None:
    """Height and width of a mask ``(B, 1, H, W)`` or ``(B, H, W)``; None for others."""
    if mask is None or mask.dim() < 3:
        return None
    return mask.shape[-2], mask.shape[-1]


def divided(positions: int, picture: tuple[int, int]) -> tuple[int, int]:
    """The grid of that many positions with the proportions of a picture.

    Raises:
        ValueError: There is none.
    """
    height, width = picture
    rows = round(math.sqrt(positions * height / width))
    columns = positions // max(rows, 1)
    # A backbone rounds its strides: proportions may be off by what half a position makes.
    if rows * columns != positions or abs(rows * width - columns * height) > max(height, width):
        raise ValueError(
            f"mask: expected a grid of {positions} positions in proportion to {height} x {width}, "
            "got none; pass size=(height, width), or prefix= if class tokens are among them"
        )
    return rows, columns


def on_grid(name: str, mask: Tensor, grid: Grid, rule: str) -> Tensor:
    """A mask on a layer's grid; one that is there already stays.

    Args:
        name: Of the mask, for messages.
        mask: ``(B, 1, H, W)``, ``(B, H, W)``, or as the layout has it.
        grid: The layer's.
        rule: A name of ``features.masks.Rule``.

    Raises:
        ValueError: A mask of another batch, or coarser than the grid.
    """
    expected = grid.mask_shape(grid.groups)
    picture = picture_size(mask)
    if picture is None or list(mask.shape) in (expected, expected[:1] + expected[2:]):
        return mask
    assert grid.size is not None
    height, width = grid.size
    if len(mask) != grid.groups or mask.shape[:-2].numel() != len(mask):
        raise ValueError(
            f"{name}: expected shape [{grid.groups}, 1, H, W] of the batch, got {list(mask.shape)}"
        )
    if picture[0] < height or picture[1] < width:
        raise ValueError(
            f"{name}: expected the images' resolution or the layer's {height} x {width}, got "
            f"{picture[0]} x {picture[1]}, which is coarser"
        )
    return masks.resize(mask, grid.size, rule).reshape(expected)
