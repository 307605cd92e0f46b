"""Rows by a law, forward and backward: one kernel for all of ``laws.py``.

Twin of ``anoaug/reference/features/rows.py``. A program takes some positions of one group, all
channels: at once where channels lie side by side and fit, else in runs, once for the sums and once
to move.
"""

from __future__ import annotations

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from ..render import digest
from .laws import LAWS, ratio
from .randomness import element_gaussians, group_key, interleaved

# Channels side by side that are held at once; values of a tile.
MOST_CHANNELS = 4096
TILE = 2048
# Positions a tile takes where those lie side by side.
POSITIONS = 64


@triton.jit
def place(steps, g, p):
    """Offset of rows, int64 ``[ROWS, 1]``."""
    return g * steps[0] + p * steps[1]


@triton.jit
def fetch(
    at, first, C, VECTOR: tl.constexpr, NOISE: tl.constexpr, GIVEN: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Channels from ``first`` on: the row, the other vector, the law's and noise, float32."""
    x, x_step, o, o_step, noise, noise_step, k0, k1, position, rows_ok = at
    channel = first + tl.arange(0, BLOCK)[None, :]
    ok = rows_ok & (channel < C)
    row = tl.load(x + channel * x_step, mask=ok, other=0.0).to(tl.float32)
    other = row
    vector = row
    if VECTOR > 0:
        other = tl.load(o + channel * o_step, mask=ok, other=0.0).to(tl.float32)
        vector = row - other
        if VECTOR > 1:
            vector = other
    e = row
    if NOISE:
        if GIVEN:
            e = tl.load(noise + channel * noise_step, mask=ok, other=0.0).to(tl.float32)
        else:
            quad = first // 4 + tl.arange(0, BLOCK // 4)[None, :]
            a, b, c, d = element_gaussians(k0, k1, position, quad)
            e = tl.where(ok, interleaved(a, b, c, d), 0.0)
    return row, other, vector, e


@triton.jit
def dot(a, b):
    """Products of rows, ``[ROWS, 1]``."""
    return tl.sum(a * b, axis=1, keep_dims=True)


@triton.jit(do_not_specialize=["tiles"])
def rows_kernel(
    x, o, index, keys, noise, inside, columns, grad, out, slopes,
    x_steps, o_steps, noise_steps, inside_steps, column_steps, grad_steps, out_steps,
    n0, n1, n2, G, P, C, tiles,
    WEIGH: tl.constexpr, MOVE: tl.constexpr, BACKWARD: tl.constexpr, VECTOR: tl.constexpr,
    SUMS: tl.constexpr, MOVES: tl.constexpr, ACROSS: tl.constexpr, LOST: tl.constexpr,
    COLUMNS: tl.constexpr, INDEXED: tl.constexpr, GIVEN: tl.constexpr, MASKED: tl.constexpr,
    SLOPES: tl.constexpr, WHOLE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    DIGEST: tl.constexpr,
):  # fmt: skip
    """Some rows of a group by a law, or BACKWARD the gradient of that.

    Shapes: x, grad, out and noise ``[G, P, C]``; o likewise or, INDEXED, ``[K, C]`` with index
    int64 ``[G, P]``, contiguous; keys int64 ``[G, 2]``; inside uint8 ``[G, P]``; columns float32
    ``[G, P, COLUMNS]``, or the numbers n0 to n2 for all rows; slopes float32 ``[2, G, P]``,
    contiguous. SUMS and MOVES: the sums read noise, and what moves. LOST: rows of no direction get
    one of the noise.
    """
    program = tl.program_id(0)
    g = (program // tiles).to(tl.int64)
    position = (program % tiles) * ROWS + tl.arange(0, ROWS)[:, None]
    rows_ok = position < P
    p = position.to(tl.int64)
    o_at = o
    if VECTOR > 0:
        if INDEXED:
            o_at = o + tl.load(index + g * P + p, mask=rows_ok, other=0) * o_steps[1]
        else:
            o_at = o + place(o_steps, g, p)
    k0 = tl.full((), 0, tl.uint32)
    k1 = k0
    if (SUMS or MOVES or LOST) and not GIVEN:
        k0, k1 = group_key(keys, g)
    at = (
        x + place(x_steps, g, p), x_steps[2], o_at, o_steps[2],
        noise + place(noise_steps, g, p), noise_steps[2], k0, k1, position, rows_ok,
    )  # fmt: skip
    vv = tl.zeros((ROWS, 1), tl.float32)
    c0 = vv + n0
    c1 = vv + n1
    c2 = vv + n2
    columns_at = columns + place(column_steps, g, p)
    if COLUMNS > 0:
        c0 = tl.load(columns_at, mask=rows_ok, other=0.0)
    if COLUMNS > 1:
        c1 = tl.load(columns_at + column_steps[2], mask=rows_ok, other=0.0)
    if COLUMNS > 2:
        c2 = tl.load(columns_at + 2 * column_steps[2], mask=rows_ok, other=0.0)
    chosen = rows_ok
    if MASKED:
        chosen = tl.load(inside + place(inside_steps, g, p), mask=rows_ok, other=0) > 0
    grad_at = grad + place(grad_steps, g, p)
    out_at = out + place(out_steps, g, p)

    ve = vv
    ee = vv
    gv = vv
    ge = vv
    # Where a tile holds all channels the loops run once, over what is fetched here.
    begin = tl.full((), 0, tl.int32)
    row, other, v, e = fetch(at, begin, C, VECTOR, SUMS or MOVES, GIVEN, BLOCK)
    for first in range(0, C, BLOCK):
        if not WHOLE:
            row, other, v, e = fetch(at, first, C, VECTOR, SUMS, GIVEN, BLOCK)
        vv += dot(v, v)
        if SUMS:
            ve += dot(v, e)
            ee += dot(e, e)
        if BACKWARD:
            channel = first + tl.arange(0, BLOCK)[None, :]
            ok = rows_ok & (channel < C)
            d = tl.load(grad_at + channel * grad_steps[2], mask=ok, other=0.0).to(tl.float32)
            gv += dot(d, v)
            if SUMS:
                ge += dot(d, e)
    if ACROSS:
        # ve becomes what of the row is in the noise, ee the square of what is left across it, ge
        # the gradient's product with that. Two steps: the first difference of nearly parallel
        # vectors keeps few digits.
        lean = ratio(ve, vv)
        rest = vv * 0.0
        far = rest
        for first in range(0, C, BLOCK):
            if not WHOLE:
                row, other, v, e = fetch(at, first, C, VECTOR, True, GIVEN, BLOCK)
            part = e - lean * v
            rest += dot(part, v)
            far += dot(part, part)
        ve = lean + ratio(rest, vv)
        ee = far - ratio(rest * rest, vv)
        ge = ge - ve * gv

    if BACKWARD:
        a, b, r, t = WEIGH(vv, ve, ee, gv, ge, c0, c1, c2)
    else:
        a, b, t = WEIGH(vv, ve, ee, c0, c1, c2)
        r = t
    lost = chosen & (vv == 0.0) & LOST
    if BACKWARD and VECTOR == 1 and not LOST:
        # At the centre, where it stays.
        a = tl.where(vv == 0.0, 1.0, a)
    for first in range(0, C, BLOCK):
        if not WHOLE:
            row, other, v, e = fetch(at, first, C, VECTOR, MOVES, GIVEN, BLOCK)
        channel = first + tl.arange(0, BLOCK)[None, :]
        ok = rows_ok & (channel < C)
        if BACKWARD:
            d = tl.load(grad_at + channel * grad_steps[2], mask=ok, other=0.0).to(tl.float32)
            moved = a * d + b * v
            if MOVES:
                moved += r * (e - t * v)
            moved = tl.where(chosen, moved, d)
        else:
            moved = tl.where(chosen, MOVE(row, other, v, e, a, b, t), row)
        tl.store(out_at + channel * out_steps[2], moved.to(out.dtype.element_ty), mask=ok)
    if SLOPES:
        far = tl.sqrt_rn(vv)
        along = ratio(gv, far + c2)
    if LOST:
        if tl.max(lost.to(tl.int32)) > 0:
            # What follows overwrites what other threads have just written.
            tl.debug_barrier()
            size = vv * 0.0
            onto = size
            for first in range(0, C, BLOCK):
                row, other, v, e = fetch(at, first, C, 0, True, GIVEN, BLOCK)
                size += dot(e, e)
                if SLOPES:
                    channel = first + tl.arange(0, BLOCK)[None, :]
                    ok = rows_ok & (channel < C)
                    d = tl.load(grad_at + channel * grad_steps[2], mask=ok, other=0.0)
                    onto += dot(d.to(tl.float32), e)
            size = tl.sqrt_rn(size)
            reach = ratio(c0, size)
            if SLOPES:
                along = tl.where(lost, ratio(onto, size), along)
            for first in range(0, C, BLOCK):
                row, other, v, e = fetch(at, first, C, 0, True, GIVEN, BLOCK)
                channel = first + tl.arange(0, BLOCK)[None, :]
                moved = row + reach * e
                if BACKWARD:
                    moved = row * 0.0
                ok = rows_ok & (channel < C) & lost
                tl.store(out_at + channel * out_steps[2], moved.to(out.dtype.element_ty), mask=ok)
    if SLOPES:
        low = tl.where(chosen & (far < c0), along, 0.0)
        high = tl.where(chosen & (far > c1), along, 0.0)
        tl.store(slopes + g * P + p, low, mask=rows_ok)
        # g first: G may be a constant, of 32 bits.
        tl.store(slopes + (g + G) * P + p, high, mask=rows_ok)


@triton.jit(do_not_specialize=["tiles"])
def lengths_kernel(
    x, o, index, keys, out, x_steps, o_steps, P, C, tiles,
    FEATURES: tl.constexpr, INDEXED: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Distances of some rows to the other vector or, not FEATURES, the lengths of their noise.

    Shapes as in ``rows_kernel``; out float32 ``[G, P]``, contiguous.
    """
    program = tl.program_id(0)
    g = (program // tiles).to(tl.int64)
    position = (program % tiles) * ROWS + tl.arange(0, ROWS)[:, None]
    rows_ok = position < P
    p = position.to(tl.int64)
    vv = tl.zeros((ROWS, 1), tl.float32)
    if FEATURES:
        o_at = o + place(o_steps, g, p)
        if INDEXED:
            o_at = o + tl.load(index + g * P + p, mask=rows_ok, other=0) * o_steps[1]
        zero = tl.full((), 0, tl.uint32)
        x_at = x + place(x_steps, g, p)
        at = (x_at, x_steps[2], o_at, o_steps[2], x_at, 0, zero, zero, position, rows_ok)
        for first in range(0, C, BLOCK):
            _, _, v, _ = fetch(at, first, C, 1, False, False, BLOCK)
            vv += dot(v, v)
    else:
        k0, k1 = group_key(keys, g)
        for first in range(0, C, BLOCK):
            quad = first // 4 + tl.arange(0, BLOCK // 4)[None, :]
            a, b, c, d = element_gaussians(k0, k1, position, quad)
            ok = rows_ok & (first + tl.arange(0, BLOCK)[None, :] < C)
            e = tl.where(ok, interleaved(a, b, c, d), 0.0)
            vv += dot(e, e)
    tl.store(out + g * P + p, tl.sqrt_rn(vv), mask=rows_ok)


# ---- launchers -----------------------------------------------------------------------------------


def tile_shape(positions: int, channels: int, together: bool, values: int) -> dict[str, int]:
    """Positions and channels of a tile, and warps.

    Args:
        positions: P.
        channels: C.
        together: Whether the channels of a position lie side by side.
        values: Of a tile, about.
    """
    channels = max(triton.next_power_of_2(channels), 4)
    positions = triton.next_power_of_2(positions)
    if together or channels * POSITIONS <= values:
        block = min(channels, MOST_CHANNELS)
        rows = min(max(values // block, 1), positions)
    else:
        rows = min(POSITIONS, positions)
        block = min(max(values // rows, 4), channels)
    return {"ROWS": rows, "BLOCK": block, "num_warps": 8 if rows * block > 2048 else 4}


def launch(
    out: Tensor,
    features: Tensor,
    other: Tensor | None,
    index: Tensor | None,
    keys: Tensor | None,
    noise: Tensor | None,
    inside: Tensor | None,
    numbers: Sequence[float],
    columns: Tensor | None,
    law: str,
    grad: Tensor | None = None,
    slopes: Tensor | None = None,
    values: int = TILE,
) -> None:
    """Write rows perturbed by a law or, with ``grad``, the gradient of the features.

    Args:
        out: ``[G, P, C]``, any strides.
        features: ``[G, P, C]``, any strides.
        other: ``[G, P, C]``, any strides or, with ``index``, ``[K, C]``; or None.
        index: int64 ``[G, P]``, contiguous, or None.
        keys: int64 ``[G, 2]``, contiguous, or None.
        noise: ``[G, P, C]``, any strides, or None.
        inside: uint8 ``[G, P]``, any strides, or None.
        numbers: The law's columns where they are the same for all rows.
        columns: float32 ``[G, P, N]``, any strides, where they are not, or None.
        law: A name of ``LAWS``.
        grad: ``[G, P, C]``, any strides, or None.
        slopes: float32 ``[2, G, P]``, contiguous, or None.
        values: Of a tile.
    """
    chosen = LAWS[law]
    groups, positions, channels = features.shape
    backward = grad is not None
    shape = tile_shape(positions, channels, features.stride(2) == 1, values)
    tiles = triton.cdiv(positions, shape["ROWS"])
    unused = features
    grad = unused if grad is None else grad
    vector = unused if other is None else other
    steps = vector.stride() if index is None else (0, *vector.stride())
    weigh = chosen.backward if backward else chosen.weigh
    numbers = [*(float(number) for number in numbers), 0.0, 0.0, 0.0][:3]
    rows_kernel[(groups * tiles,)](
        features, vector, unused if index is None else index, unused if keys is None else keys,
        unused if noise is None else noise, unused if inside is None else inside,
        unused if columns is None else columns, grad, out, out if slopes is None else slopes,
        features.stride(), steps, (features if noise is None else noise).stride(),
        (0, 0) if inside is None else inside.stride(),
        (0, 0, 0) if columns is None else columns.stride(), grad.stride(), out.stride(),
        *numbers, groups, positions, channels, tiles,
        WEIGH=weigh, MOVE=chosen.move, BACKWARD=backward, VECTOR=chosen.vector,
        SUMS=chosen.sums or (backward and chosen.moves),
        MOVES=chosen.returns if backward else chosen.moves,
        ACROSS=chosen.across, LOST=chosen.lost and (keys is not None or noise is not None),
        COLUMNS=0 if columns is None else columns.shape[2], INDEXED=index is not None,
        GIVEN=noise is not None, MASKED=inside is not None, SLOPES=slopes is not None,
        WHOLE=channels <= shape["BLOCK"], DIGEST=digest((weigh, chosen.move)),
        enable_fp_fusion=False, **shape,
    )  # fmt: skip


def launch_lengths(
    out: Tensor,
    features: Tensor | None,
    other: Tensor | None,
    index: Tensor | None,
    keys: Tensor | None,
    channels: int,
    values: int = TILE,
) -> None:
    """Write the distances of features to other vectors or, without features, lengths of noise.

    Args:
        out: float32 ``[G, P]``, contiguous.
        features: ``[G, P, C]``, any strides, or None.
        other: ``[G, P, C]``, any strides or, with ``index``, ``[K, C]``; or None.
        index: int64 ``[G, P]``, contiguous, or None.
        keys: int64 ``[G, 2]``, contiguous, where there are no features.
        channels: C.
        values: Of a tile.
    """
    groups, positions = out.shape
    x = out if features is None else features
    o = out if other is None else other
    steps = (0, 0, 0) if other is None else other.stride()
    together = features is None or features.stride(2) == 1
    shape = tile_shape(positions, channels, together, values)
    tiles = triton.cdiv(positions, shape["ROWS"])
    lengths_kernel[(groups * tiles,)](
        x, o, out if index is None else index, out if keys is None else keys, out,
        (0, 0, 0) if features is None else features.stride(),
        steps if index is None else (0, *steps), positions, channels, tiles,
        FEATURES=features is not None, INDEXED=index is not None, enable_fp_fusion=False, **shape,
    )  # fmt: skip
