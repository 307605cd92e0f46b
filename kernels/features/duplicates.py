"""Every image twice, each with noise under its own mask: SuperSimpleNet's step in one launch.

Twin of ``anoaug/reference/features/duplicates.py``. Features are read once and written twice; the
mask is drawn where it is used, noise only where the mask is, and nothing else touches memory but
the masks and labels themselves.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..masks import f
from .noise import TILE, WARPS, channels_last
from .randomness import element_gaussians, element_words, group_key, interleaved
from .rounding import stored

# Column of the table's header that says whether a row has an anomaly; anoaug/recipe.py owns it.
ACTIVE = tl.constexpr(0)


@triton.jit
def noise_mask(
    row, r, b, position, there, y, x, P, banks, given, allowed, real, label,
    MASKS: tl.constexpr, MASK_OFFS: tl.constexpr, MASK_OPTS: tl.constexpr, END: tl.constexpr,
    DRAWN: tl.constexpr, FULL: tl.constexpr, ALLOWED: tl.constexpr, REAL: tl.constexpr,
    OVERLAP: tl.constexpr, BAD: tl.constexpr,
):  # fmt: skip
    """Where row ``r``, a copy of image ``b``, gets noise; and that united with real defects."""
    if DRAWN:
        level = y * 0.0 + (1.0 if FULL else -1.0)
        if f(row, ACTIVE) > 0.0:
            stack = ()
            for m in tl.static_range(END):
                stack = MASKS[m](
                    stack, row, y, x, r, position, P, (row,), banks, MASK_OFFS[m], MASK_OPTS[m]
                )
            level = y * 0.0 + stack[0]
        on = there & (level > 0.0)
    else:
        on = there & (tl.load(given + r * P + position, mask=there, other=0) > 0)
    if ALLOWED:
        on = on & (tl.load(allowed + b * P + position, mask=there, other=0) > 0)
    if BAD:
        pass
    else:
        # A block, because the interpreter broadcasts no scalar comparison against booleans.
        on = on & (position * 0 + tl.load(label + b).to(tl.int32) <= 0)
    union = on
    if REAL:
        defect = there & (tl.load(real + b * P + position, mask=there, other=0) > 0)
        if OVERLAP:
            pass
        else:
            on = on & (position * 0 + defect.to(tl.int32) == 0)
        union = on | defect
    return on, union


@triton.jit
def noisy(value, step, on, word, WIDE: tl.constexpr, DTYPE: tl.constexpr, RANDOM: tl.constexpr):
    """A stored block with noise where it is on."""
    moved = stored(value.to(WIDE) + step.to(WIDE), word, DTYPE, RANDOM)
    return tl.where(on, moved, value)


@triton.jit
def duplicate_kernel(
    features, raw, out, raw_out, mask, label_out, keys, table, banks, given, allowed, real, label,
    sigma, B, P, C, W, COLUMNS, in_g, in_p, in_c, raw_g, raw_p, raw_c, out_g, out_p, out_c,
    ro_g, ro_p, ro_c, tiles, chunks,
    MASKS: tl.constexpr, MASK_OFFS: tl.constexpr, MASK_OPTS: tl.constexpr, END: tl.constexpr,
    DRAWN: tl.constexpr, FULL: tl.constexpr, ALLOWED: tl.constexpr, REAL: tl.constexpr,
    OVERLAP: tl.constexpr, BAD: tl.constexpr, RAW: tl.constexpr, STOCHASTIC: tl.constexpr,
    LAST: tl.constexpr, BP: tl.constexpr, BQ: tl.constexpr, ROUNDS: tl.constexpr,
    DIGEST: tl.constexpr,
):  # fmt: skip
    """Both copies of ``BP`` positions of an image, for ``ROUNDS`` times ``BQ`` quads of channels.

    Shapes: features and raw ``[B, P, C]``, out and raw_out ``[2 B, P, C]``, all by strides; mask
    uint8 ``[2 B, P]``; label_out int64 ``[2 B]``, the images' labels already; keys int64
    ``[2 B, 2]``; table float32 ``[2 B, COLUMNS]``; given uint8 ``[2 B, P]``; allowed and real uint8
    ``[B, P]``; label int64 ``[B]``. ``W`` is the grid's width.
    """
    program = tl.program_id(0)
    b = (program // (tiles * chunks)).to(tl.int64)
    if LAST:
        tile = program % (tiles * chunks) // chunks
        chunk = program % chunks
    else:
        tile = program % tiles
        chunk = program % (tiles * chunks) // tiles
    position = tile * BP + tl.arange(0, BP)
    there = position < P
    y = (position // W).to(tl.float32)
    x = (position % W).to(tl.float32)
    WIDE: tl.constexpr = tl.float64 if features.dtype.element_ty == tl.float64 else tl.float32
    DTYPE: tl.constexpr = out.dtype.element_ty
    ons = ()
    for copy in tl.static_range(2):
        r = b + copy * B
        on, union = noise_mask(
            table + r * COLUMNS, r, b, position, there, y, x, P, banks, given, allowed, real, label,
            MASKS, MASK_OFFS, MASK_OPTS, END, DRAWN, FULL, ALLOWED, REAL, OVERLAP, BAD,
        )  # fmt: skip
        if chunk == 0:
            tl.store(mask + r * P + position, union.to(tl.uint8), mask=there)
            if tl.max(union.to(tl.int32), axis=0) > 0:
                # Whoever finds an anomaly writes the same 1: no need for an atomic.
                tl.store(label_out + r, tl.full((), 1, tl.int64))
        ons = ons + (on,)
    source = features + b * in_g
    raw_source = raw + b * raw_g
    for q in range(chunk * BQ * ROUNDS, tl.minimum((chunk + 1) * BQ * ROUNDS, (C + 3) // 4), BQ):
        if LAST:
            place = position[:, None]
            quad = q + tl.arange(0, BQ)[None, :]
            channel = q * 4 + tl.arange(0, 4 * BQ)[None, :]
            ok = there[:, None] & (channel < C)
            wide = place.to(tl.int64)
            value = tl.load(source + wide * in_p + channel * in_c, mask=ok, other=0.0)
            if RAW:
                other = tl.load(raw_source + wide * raw_p + channel * raw_c, mask=ok, other=0.0)
            for copy in tl.static_range(2):
                r = b + copy * B
                k0, k1 = group_key(keys, r)
                on = ons[copy]
                step = (place + channel) * 0.0
                word = place + channel
                if tl.max(on.to(tl.int32), axis=0) > 0:
                    n0, n1, n2, n3 = element_gaussians(k0, k1, place, quad)
                    step = interleaved(n0, n1, n2, n3) * sigma
                if STOCHASTIC:
                    w0, w1, w2, w3 = element_words(k0, k1, place, quad, 3)
                    word = interleaved(w0, w1, w2, w3)
                moved = noisy(value, step, on[:, None], word, WIDE, DTYPE, STOCHASTIC)
                tl.store(out + r * out_g + wide * out_p + channel * out_c, moved, mask=ok)
                if RAW:
                    moved = noisy(other, step, on[:, None], word, WIDE, DTYPE, STOCHASTIC)
                    tl.store(raw_out + r * ro_g + wide * ro_p + channel * ro_c, moved, mask=ok)
        else:
            values = ()
            others = ()
            for j in tl.static_range(4):
                channel = q * 4 + j
                ok = there & (position * 0 + channel < C)
                far = channel.to(tl.int64)
                values = values + (
                    tl.load(source + position * in_p + far * in_c, mask=ok, other=0.0),
                )
                if RAW:
                    others = others + (
                        tl.load(raw_source + position * raw_p + far * raw_c, mask=ok, other=0.0),
                    )
            for copy in tl.static_range(2):
                r = b + copy * B
                k0, k1 = group_key(keys, r)
                on = ons[copy]
                n0 = position * 0.0
                n1, n2, n3 = n0, n0, n0
                if tl.max(on.to(tl.int32), axis=0) > 0:
                    n0, n1, n2, n3 = element_gaussians(k0, k1, position, position * 0 + q)
                steps = (n0, n1, n2, n3)
                words = (position, position, position, position)
                if STOCHASTIC:
                    words = element_words(k0, k1, position, position * 0 + q, 3)
                for j in tl.static_range(4):
                    channel = q * 4 + j
                    ok = there & (position * 0 + channel < C)
                    far = channel.to(tl.int64)
                    step = steps[j] * sigma
                    moved = noisy(values[j], step, on, words[j], WIDE, DTYPE, STOCHASTIC)
                    tl.store(out + r * out_g + position * out_p + far * out_c, moved, mask=ok)
                    if RAW:
                        moved = noisy(others[j], step, on, words[j], WIDE, DTYPE, STOCHASTIC)
                        tl.store(raw_out + r * ro_g + position * ro_p + far * ro_c, moved, mask=ok)


# Quads of channels of a program: its masks are drawn once for all of them.
QUADS = 32
# What the recipe gives where the masks are given.
NO_RECIPE: dict[str, Any] = {"MASKS": (), "MASK_OFFS": (), "MASK_OPTS": (), "END": 0, "DIGEST": ""}


def tile_of(
    positions: int, channels: int, last: bool, elements: int = TILE
) -> tuple[int, int, int]:
    """Positions and quads of a program's tile, and how many tiles it goes through."""
    quads = triton.cdiv(channels, 4)
    if last:
        wide = min(triton.next_power_of_2(quads), max(elements // 4, 1), 128)
        rows = max(min(elements // (4 * wide), triton.next_power_of_2(positions)), 1)
        return rows, wide, triton.cdiv(quads, wide)
    return min(triton.next_power_of_2(positions), max(elements // 4, 1)), 1, min(quads, QUADS)


def launch(
    features: Tensor, raw: Tensor | None, out: Tensor, raw_out: Tensor, mask: Tensor,
    label_out: Tensor, keys: Tensor, table: Tensor | None, banks: tuple[Tensor, ...],
    given: Tensor | None, allowed: Tensor | None, real: Tensor | None, label: Tensor | None,
    width: int, sigma: float, full: bool, overlap: bool, bad: bool, stochastic: bool,
    recipe: dict[str, Any], elements: int = TILE,
) -> None:  # fmt: skip
    """Write both copies, masks (bool ``[2 B, P]``) and labels; shapes as in the kernel.

    ``label_out`` holds the images' labels already; ``recipe`` are the compile-time arguments of the
    mask that ``table`` is of, or ``NO_RECIPE`` with ``given`` masks.
    """
    batch, positions, channels = features.shape
    last = channels_last(features)
    rows, quads, rounds = tile_of(positions, channels, last, elements)
    tiles = triton.cdiv(positions, rows)
    chunks = triton.cdiv(triton.cdiv(channels, 4), quads * rounds)

    def octets(plane: Tensor | None) -> Tensor:
        # Triton needs pointers even where a compile-time flag leaves them unread.
        return mask.view(torch.uint8) if plane is None else plane.view(torch.uint8)

    unused = keys
    flags: dict[str, Any] = {
        "DRAWN": table is not None, "FULL": full, "ALLOWED": allowed is not None,
        "REAL": real is not None, "OVERLAP": overlap, "BAD": bad or label is None,
        "RAW": raw is not None, "STOCHASTIC": stochastic and features.element_size() == 2,
        "LAST": last, "BP": rows, "BQ": quads, "ROUNDS": rounds,
    }  # fmt: skip
    duplicate_kernel[(batch * tiles * chunks,)](
        features, features if raw is None else raw, out, out if raw is None else raw_out,
        mask.view(torch.uint8), label_out, keys, unused if table is None else table,
        banks or (unused,), octets(given), octets(allowed), octets(real),
        unused if label is None else label, sigma, batch, positions, channels, width,
        0 if table is None else table.shape[1], *features.stride(),
        *(features if raw is None else raw).stride(), *out.stride(),
        *(out if raw is None else raw_out).stride(), tiles, chunks,
        num_warps=WARPS, enable_fp_fusion=False, **flags, **recipe,
    )  # fmt: skip
