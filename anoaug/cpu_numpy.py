"""Parts of the CPU's render by NumPy, which compares many numbers at once, not one by one."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .recipe import LayerProgram
from .reference.masks import Stack, f, i
from .reference.render import store
from .reference.sources import eight_bits, round_clip
from .rng import PERMUTING, lattice_hash

_BITS: dict[int, Any] = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def opaque(level: Tensor, row: Tensor, offset: int, option: int) -> Tensor:
    """``reference.blends.opaque``."""
    return torch.from_numpy(level.numpy() > 0.0).view(torch.uint8).to(torch.float32)


def opacity(level: Tensor, row: Tensor, offset: int, option: int) -> Tensor:
    """``reference.blends.opacity``."""
    return opaque(level, row, offset, option) * f(row, offset)


# ---- lists of pixels -----------------------------------------------------------------------------


def taken(planes: Tensor, pix: Tensor) -> Tensor:
    """Values of planes ``[C, H, W]`` at pixels, float32 ``[C, N]``."""
    if planes.dtype == torch.bfloat16:  # which NumPy does not know
        return planes.flatten(1)[:, pix].to(torch.float32)
    found = planes.flatten(1).numpy().take(pix.numpy(), axis=1)
    return torch.from_numpy(found.astype(np.float32))


def put(planes: Tensor, pix: Tensor, values: Tensor) -> None:
    """Write values ``[C, N]`` of the planes' dtype at pixels of contiguous ones ``[C, H, W]``."""
    bits, at = _BITS[planes.dtype.itemsize], pix.numpy()
    shown = planes.view(bits).view(len(planes), -1).numpy()
    for plane, value in zip(shown, values.contiguous().view(bits).numpy(), strict=True):
        plane[at] = value


def nearest(planes: Tensor, sy: Tensor, sx: Tensor) -> Tensor:
    """Values of planes ``[C, H, W]`` at float32 places ``[1, N]``, float32 ``[C, 1, N]``."""
    height, width = planes.shape[1:]
    iy, ix = (
        np.floor(at.numpy().clip(np.float32(0), np.float32(side - 1)) + np.float32(0.5))
        for at, side in ((sy, height), (sx, width))
    )
    at = iy.astype(np.int64) * width + ix.astype(np.int64)
    return taken(planes, torch.from_numpy(at[0]))[:, None]


def coloured(values: Tensor, row: Tensor, offset: int, peak: float) -> Tensor:
    """``reference.sources.colour_stages`` for one row, on values with white at ``peak``.

    Entries of the matrices are multiples of 2**-12 (see ``anoaug.tonemaps``), so that products and
    sums are exact in any order and a matrix product gives the reference's bits.
    """
    stages = int(i(row, offset))  # host: a host tensor
    if stages == 0:
        return values
    channels = values.shape[0]
    first, last = offset + 1, offset + 1 + 192 * channels
    tables = row[0, first:last].clone().view(torch.uint8).view(3, channels, 256).numpy()
    matrices = row[0, last : last + 36].view(3, 3, 4).numpy()
    eight = eight_bits(values, peak)[:, 0].to(torch.uint8).numpy()
    for stage in range(stages):
        eight = np.stack([tables[stage, c].take(eight[c]) for c in range(channels)])
        if channels == 3:
            mixed = matrices[stage, :, :3] @ eight.astype(np.float32) + matrices[stage, :, 3:]
            mixed += np.float32(0.5)
            eight = np.floor(mixed, out=mixed).clip(0.0, 255.0).astype(np.uint8)
    return torch.from_numpy(eight).to(torch.float32)[:, None] * (peak / 255.0)


# ---- cells ---------------------------------------------------------------------------------------


@functools.cache
def places(count: int, key: int, coin: int) -> npt.NDArray[np.int32]:
    """``rng.permuted`` of all numbers below ``count``; views share it, see :func:`forget`."""
    hashed = lattice_hash(torch.tensor(key), torch.arange(PERMUTING), 0)
    mirrors = ((hashed * count) >> 32).tolist()  # host: host tensors
    number = np.arange(count, dtype=np.int32)
    other, greater = np.empty_like(number), np.empty_like(number)
    shifted = np.empty(count, np.uint32)
    for turn, mirror in enumerate(mirrors):
        np.subtract(np.int32(mirror), number, out=other)
        np.right_shift(other, np.int32(31), out=greater)  # -1 where negative
        greater &= np.int32(count)
        other += greater
        np.maximum(number, other, out=greater)
        # ``lattice_hash`` of the coin, the turn and the greater number, of which one bit is asked.
        word = greater.view(np.uint32)
        word *= np.uint32(0x85EBCA77)
        word += np.uint32((coin + turn * 0x9E3779B1) & 0xFFFFFFFF)
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            np.right_shift(word, np.uint32(shift), out=shifted)
            word ^= shifted
            word *= np.uint32(factor)
        word >>= np.uint32(31)
        other -= number
        other *= greater
        number += other
    return number


def forget() -> None:
    """Let go of the permutations of a batch."""
    places.cache_clear()


def cells(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], banks: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """``reference.masks.cells`` for one row of the table, permuting each cell once."""
    across, count, first, last, key, coin = (int(i(row, offset + n)) for n in range(1, 7))
    place = places(count, key & 0xFFFFFFFF, coin & 0xFFFFFFFF)
    inside = (place >= first) & (place < last)
    rows = -(-count // across)
    grid = np.full(rows * across, -1.0, np.float32)
    grid[:count] = inside * np.float32(2.0) - np.float32(1.0)
    cy, cx = (
        torch.floor((axis + 0.5) * f(row, offset)).flatten().to(torch.int64).numpy()
        for axis in (y, x)
    )
    # Wider, then taller: rows are copied whole.
    wide = grid.reshape(rows, across).take(cx, axis=1)
    return (torch.from_numpy(wide.take(cy, axis=0)), *stack)


# ---- one colour ----------------------------------------------------------------------------------


def filled(layer: LayerProgram, integer: bool, changed: bool) -> bool:
    """Whether a layer lays one colour hard into integers; of integers, since 0 times NaN stays."""
    hard = layer.weight.name == "opaque" and layer.mix == "over"
    return hard and layer.source.name == "constant" and integer and not changed


def fill(
    planes: Tensor, inside: npt.NDArray[np.bool_], layer: LayerProgram, row: Tensor,
    norm: Tensor | None, peak: float,
) -> None:  # fmt: skip
    """Lay a layer's colour into planes ``[C, H, W]`` of the output, in place, where inside."""
    first = layer.source.offset
    colour = (row[0, first : first + len(planes), None] * peak).clamp(0.0, peak)
    bits = _BITS[planes.dtype.itemsize]
    values = store(round_clip(colour, peak), norm, planes.dtype).contiguous().view(bits).numpy()
    shown = planes.view(bits).numpy()
    everywhere = np.negative(inside.view(np.int8)).astype(shown.dtype)  # all bits, or none
    for plane, value in zip(shown, values, strict=True):
        plane ^= (plane ^ value) & everywhere
