"""Layouts of features: maps, tokens and rows seen alike, as groups of positions with channels."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import checks

# Rank, and what the axes are.
LAYOUTS = {
    "nchw": (4, "(B, C, h, w)"),
    "nhwc": (4, "(B, h, w, C)"),
    "tokens": (3, "(B, P, C)"),
    "rows": (2, "(N, C)"),
}
_BY_RANK = {4: "nchw", 3: "tokens", 2: "rows"}
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Grid(NamedTuple):
    """How features lie in memory, and the way between them and groups of positions.

    Attributes:
        layout: A name of ``LAYOUTS``.
        groups: G: images, or of rows the samples they are divided among.
        positions: P of a group, without prefix tokens.
        channels: C.
        size: Height and width of the grid of positions; None where unknown.
        prefix: Tokens before the first position, which stay as they are.
    """

    layout: str
    groups: int
    positions: int
    channels: int
    size: tuple[int, int] | None
    prefix: int

    def view(self, features: Tensor) -> Tensor:
        """Features as ``[G, P, C]``, without a copy where strides allow."""
        if self.layout == "nchw":
            return features.flatten(2).transpose(1, 2)
        if self.layout == "nhwc":
            return features.flatten(1, 2)
        if self.layout == "tokens":
            return features[:, self.prefix :]
        return features.reshape(self.groups, self.positions, self.channels)

    def restore(self, values: Tensor, like: Tensor) -> Tensor:
        """``[G', P, C]`` values in the layout, dtype and memory format of ``like``."""
        values = values.to(like.dtype)
        if self.layout == "nchw":
            shaped = values.transpose(1, 2).unflatten(2, like.shape[2:])
            last = torch.channels_last
            known = like.is_contiguous(memory_format=last) and not like.is_contiguous()
            return shaped.contiguous(memory_format=last if known else torch.contiguous_format)
        if self.layout == "nhwc":
            return values.unflatten(1, like.shape[1:3])
        if self.layout == "tokens":
            if not self.prefix:
                return values
            prefix = like[:, : self.prefix]
            return torch.cat((prefix.repeat(len(values) // max(len(like), 1), 1, 1), values), 1)
        return values.flatten(0, 1)

    def flat(self, name: str, mask: Any, like: Tensor) -> Tensor:
        """A mask at the features' resolution as bool ``[G, P]``.

        Raises:
            TypeError: Not a tensor.
            ValueError: Another grid than the features'.
        """
        if not isinstance(mask, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(mask).__name__}")
        expected = self.mask_shape(self.groups)
        if list(mask.shape) != expected and list(mask.shape) != expected[:1] + expected[2:]:
            raise ValueError(
                f"{name}: expected shape {expected} on the features' grid, got "
                f"{list(mask.shape)}; bring it there with anoaug.features.masks.resize"
            )
        if mask.device != like.device:
            raise ValueError(
                f"{name}: expected device {like.device} like the features, got {mask.device}"
            )
        inside = mask if mask.dtype == torch.bool else mask > 0
        return inside.reshape(self.groups, self.positions)

    def mask_shape(self, groups: int) -> list[int]:
        """Shape of a mask of that many groups."""
        if self.layout in ("nchw", "nhwc"):
            assert self.size is not None
            return [groups, 1, *self.size]
        if self.layout == "tokens":
            return [groups, self.positions]
        return [groups * self.positions]

    def shaped(self, inside: Tensor) -> Tensor:
        """A mask ``[G', P]`` as float32 in the layout's shape."""
        return inside.to(torch.float32).reshape(self.mask_shape(len(inside)))

    def labels(self, inside: Tensor) -> Tensor:
        """Labels int64 of a mask ``[G', P]``: one per image, or per row."""
        if self.layout == "rows":
            return inside.to(torch.int64).flatten()
        return inside.any(1).to(torch.int64)


def grid(
    features: Any,
    layout: str | None = None,
    *,
    groups: int | None = None,
    size: tuple[int, int] | None = None,
    prefix: int = 0,
) -> Grid:
    """The grid of features; refuses what does not fit the layout.

    Args:
        features: float16, bfloat16, float32 or float64 of rank 2 to 4.
        layout: ``"nchw"``, ``"nhwc"``, ``"tokens"`` or ``"rows"``; by the rank if None: 4 is
            ``"nchw"``.
        groups: Of rows the samples they are divided among, image by image; 1 by default.
        size: Height and width of the grid, for tokens and rows.
        prefix: Tokens before the first position (class and register tokens).

    Raises:
        TypeError: Not a tensor of floats.
        ValueError: A layout, size, prefix or number of groups that does not fit.
    """
    if not isinstance(features, Tensor):
        raise TypeError(f"features: expected a tensor, got {type(features).__name__}")
    if features.dtype not in DTYPES:
        raise TypeError(f"features: expected a float dtype, got {features.dtype}; use .float()")
    if layout is None:
        if features.dim() not in _BY_RANK:
            raise ValueError(
                f"features: expected rank 2, 3 or 4, got {list(features.shape)}; flatten them"
            )
        layout = _BY_RANK[features.dim()]
    checks.one_of("layout", layout, tuple(LAYOUTS))
    rank, axes = LAYOUTS[layout]
    if features.dim() != rank:
        fitting = _BY_RANK.get(features.dim())
        mend = f"pass layout={fitting!r}" if fitting else f"reshape them to {axes}"
        raise ValueError(
            f"features: expected rank {rank} {axes} for layout={layout!r}, got "
            f"{list(features.shape)}; {mend}"
        )
    if layout != "tokens" and prefix:
        raise ValueError(f"prefix: expected 0 for layout={layout!r}, got {prefix}")
    if layout == "nchw":
        rows, channels, height, width = features.shape
        return Grid(layout, rows, height * width, channels, (height, width), 0)
    if layout == "nhwc":
        rows, height, width, channels = features.shape
        return Grid(layout, rows, height * width, channels, (height, width), 0)
    if layout == "tokens":
        rows, positions, channels = features.shape
        if not 0 <= prefix <= positions:
            raise ValueError(f"prefix: expected 0 to {positions} tokens, got {prefix}")
        positions -= prefix
    else:
        total, channels = features.shape
        rows = 1 if groups is None else groups
        if rows < 1 and total or rows and total % rows:
            raise ValueError(
                f"index: expected a number of samples that divides {total} rows, got {rows}; "
                "each sample has as many rows"
            )
        positions = total // rows if rows else 0
    if size is not None and size[0] * size[1] != positions:
        raise ValueError(
            f"size: expected height x width of {positions} positions, got {size}; "
            "does prefix= count the class and register tokens?"
        )
    return Grid(layout, rows, positions, channels, size, prefix)


def alike(name: str, value: Any, features: Tensor, times: int = 1) -> Tensor:
    """Refuse a tensor that is not like the features, or has not ``times`` their rows.

    Raises:
        TypeError: Not a tensor.
        ValueError: Another shape or device.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
    expected = [times * features.shape[0], *features.shape[1:]]
    if list(value.shape) != expected or value.device != features.device:
        raise ValueError(
            f"{name}: expected {expected} on {features.device} like the features, got "
            f"{list(value.shape)} on {value.device}"
        )
    return value
