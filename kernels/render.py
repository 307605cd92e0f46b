"""The one render kernel and its launcher: image, mask, label and kind of a batch in one launch."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .masks import f, i
from .sources import round_clip

# Fixed launch configuration: 4 pixels a thread give 16-byte stores; with 8, registers spill.
TILE_PIXELS = 512
WARPS = 4

# Columns of the table's header; anoaug/recipe.py owns their meaning.
ACTIVE = tl.constexpr(0)
KIND = tl.constexpr(1)
MIN_AREA = tl.constexpr(2)
TOLERANCE = tl.constexpr(3)


@triton.jit
def load_value(image, b, channel, pix, numel, ok, C: tl.constexpr, NHWC: tl.constexpr):
    """One channel of the input as stored."""
    if NHWC:
        return tl.load(image + b * C * numel + pix * C + channel, mask=ok, other=0)
    else:
        return tl.load(image + (b * C + channel) * numel + pix, mask=ok, other=0)


@triton.jit
def store_value(
    out, norm, value, b, channel, pix, numel, ok,
    C: tl.constexpr, NHWC: tl.constexpr, NORMALISE: tl.constexpr,
):  # fmt: skip
    """Write one channel, normalised by ``value * norm[0, c] + norm[1, c]`` where asked."""
    if NORMALISE:
        value = value.to(tl.float32) * tl.load(norm + channel) + tl.load(norm + C + channel)
    value = value.to(out.dtype.element_ty)
    if NHWC:
        tl.store(out + b * C * numel + pix * C + channel, value, mask=ok)
    else:
        tl.store(out + (b * C + channel) * numel + pix, value, mask=ok)


@triton.jit
def copy_tile(
    image, out, clean, norm, b, pix, numel, ok,
    C: tl.constexpr, IN_NHWC: tl.constexpr, OUT_NHWC: tl.constexpr,
    NORMALISE: tl.constexpr, CLEAN: tl.constexpr,
):  # fmt: skip
    """Pass the input through to the output (and to ``clean`` where asked)."""
    for channel in range(C):
        v = load_value(image, b, channel, pix, numel, ok, C, IN_NHWC)
        store_value(out, norm, v, b, channel, pix, numel, ok, C, OUT_NHWC, NORMALISE)
        if CLEAN:
            store_value(clean, norm, v, b, channel, pix, numel, ok, C, OUT_NHWC, NORMALISE)


# Values that vary without a better kernel for them.
@triton.jit(do_not_specialize=["P", "B", "tiles_x", "tiles"])
def render_kernel(
    image, out, clean, mask, label, kind, table, norm, slots, banks,
    P, B, H, W, tiles_x, tiles,
    MASKS: tl.constexpr, MASK_OFFS: tl.constexpr, MASK_OPTS: tl.constexpr,
    SPANS: tl.constexpr, GATES: tl.constexpr,
    SOURCES: tl.constexpr, SOURCE_OFFS: tl.constexpr, SOURCE_OPTS: tl.constexpr,
    WEIGHTS: tl.constexpr, WEIGHT_OFFS: tl.constexpr, MIXES: tl.constexpr,
    FOREGROUND: tl.constexpr, CHANGED: tl.constexpr, SOFT: tl.constexpr,
    NORMALISE: tl.constexpr, CLEAN: tl.constexpr, INTEGER: tl.constexpr,
    C: tl.constexpr, CG: tl.constexpr, IN_NHWC: tl.constexpr, OUT_NHWC: tl.constexpr,
    PEAK: tl.constexpr, BY: tl.constexpr, BX: tl.constexpr, DIGEST: tl.constexpr,
):  # fmt: skip
    """Render one tile of one sample.

    Shapes: image, out and clean ``[B, C, H, W]`` (planar or interleaved), mask ``[B, 1, H, W]``
    float32, label int64 ``[B]`` zeroed, kind int64 ``[B]``, table float32 ``[B, P]``, norm float32
    ``[2, C]``. The recipe is the flat tuples MASKS .. MIXES; layer ``n`` owns the mask steps
    ``SPANS[n] .. SPANS[n + 1]``. ``DIGEST`` only keys the compile cache.
    """
    program = tl.program_id(0)
    b = (program // tiles).to(tl.int64)
    tile = program % tiles
    row = table + b * P
    numel = H * W
    iy = (tile // tiles_x) * BY + tl.arange(0, BY)[:, None]
    ix = (tile % tiles_x) * BX + tl.arange(0, BX)[None, :]
    ok = (iy < H) & (ix < W)
    pix = iy * W + ix
    y = iy.to(tl.float32)
    x = ix.to(tl.float32)
    cover = tl.zeros([BY, BX], tl.float32)
    if f(row, ACTIVE) > 0.0:
        weights = ()
        for n in tl.static_range(len(SOURCES)):
            stack = ()
            for m in tl.static_range(len(MASKS)):
                # Triton 3.6 takes no tuple element as a bound, hence the test inside.
                if (m >= SPANS[n]) & (m < SPANS[n + 1]):
                    stack = MASKS[m](
                        stack, row, y, x, b, pix, numel, slots, banks, MASK_OFFS[m], MASK_OPTS[m]
                    )
            weight = WEIGHTS[n](stack[0], row, WEIGHT_OFFS[n], 0)
            weight = tl.where(ok, weight * f(row, GATES[n]), 0.0)
            if FOREGROUND >= 0:
                inside = tl.load(slots[FOREGROUND] + b * numel + pix, mask=ok, other=0)
                if slots[FOREGROUND].dtype.element_ty == tl.uint8:
                    weight = tl.where(inside > 0, weight, 0.0)
                else:
                    weight = tl.where(inside.to(tl.float32) > 0.5, weight, 0.0)
            weights = weights + (weight,)
            cover = tl.maximum(cover, weight)
        if tl.max(tl.max(cover, axis=1), axis=0) > 0.0:
            moved = tl.zeros([BY, BX], tl.float32)
            good = ok
            for c0 in range(0, C, CG):
                values = ()
                for c in tl.static_range(CG):
                    channel = tl.minimum(c0 + c, C - 1)
                    v = load_value(image, b, channel, pix, numel, ok, C, IN_NHWC)
                    if C % CG != 0:
                        good = ok & (pix * 0 + c0 + c < C)
                    if CLEAN:
                        store_value(
                            clean, norm, v, b, channel, pix, numel, good, C, OUT_NHWC, NORMALISE
                        )
                    values = values + (v.to(tl.float32),)
                before = values
                for n in tl.static_range(len(SOURCES)):
                    source = SOURCES[n](
                        image, banks, row, y, x, b, pix, c0, B, H, W,
                        SOURCE_OFFS[n], SOURCE_OPTS[n], C, CG, IN_NHWC, PEAK,
                    )  # fmt: skip
                    mixed = ()
                    for c in tl.static_range(CG):
                        v = MIXES[n](values[c], source[c], weights[n], PEAK)
                        v = tl.minimum(tl.maximum(v, 0.0), PEAK)
                        mixed = mixed + (tl.where(weights[n] > 0.0, v, values[c]),)
                    values = mixed
                for c in tl.static_range(CG):
                    channel = tl.minimum(c0 + c, C - 1)
                    v = values[c]
                    if INTEGER:
                        v = round_clip(v, PEAK)
                    if C % CG != 0:
                        # The last group of channels is padded with copies that must not count.
                        good = ok & (pix * 0 + c0 + c < C)
                    if CHANGED:
                        moved = tl.maximum(moved, tl.where(good, tl.abs(v - before[c]), 0.0))
                    store_value(out, norm, v, b, channel, pix, numel, good, C, OUT_NHWC, NORMALISE)
            if CHANGED:
                cover = tl.where(moved > f(row, TOLERANCE), cover, 0.0)
        else:
            copy_tile(
                image, out, clean, norm, b, pix, numel, ok,
                C, IN_NHWC, OUT_NHWC, NORMALISE, CLEAN,
            )  # fmt: skip
        inside = tl.where(cover > 0.0, 1.0, 0.0)
        if SOFT:
            tl.store(mask + b * numel + pix, cover, mask=ok)
        else:
            tl.store(mask + b * numel + pix, inside, mask=ok)
        count = tl.sum(tl.sum(inside.to(tl.int32), axis=1), axis=0).to(tl.int64)
        # One atomic carries both the area (low word) and the number of tiles done (high word).
        tl.debug_barrier()
        earlier = tl.atomic_add(label + b, count + (1 << 32))
        if (earlier >> 32) == tiles - 1:
            area = (earlier & 0xFFFFFFFF) + count
            if area.to(tl.float32) >= f(row, MIN_AREA):
                tl.store(label + b, area * 0 + 1)
                tl.store(kind + b, i(row, KIND).to(tl.int64))
            else:
                # Too small to count: the last tile to finish turns the whole sample clean again.
                tl.store(label + b, area * 0)
                tl.store(kind + b, area * 0)
                # Nothing was painted where the area is 0, unless changes too small to count were.
                dirty = tiles
                if not CHANGED:
                    dirty = tl.where(area > 0, tiles, 0)
                for again in range(dirty):
                    ry = (again // tiles_x) * BY + tl.arange(0, BY)[:, None]
                    rx = (again % tiles_x) * BX + tl.arange(0, BX)[None, :]
                    rok = (ry < H) & (rx < W)
                    rpix = ry * W + rx
                    copy_tile(
                        image, out, clean, norm, b, rpix, numel, rok,
                        C, IN_NHWC, OUT_NHWC, NORMALISE, False,
                    )  # fmt: skip
                    tl.store(mask + b * numel + rpix, cover * 0.0, mask=rok)
    else:
        copy_tile(
            image, out, clean, norm, b, pix, numel, ok,
            C, IN_NHWC, OUT_NHWC, NORMALISE, CLEAN,
        )  # fmt: skip
        tl.store(mask + b * numel + pix, cover, mask=ok)
        if tile == 0:
            tl.store(kind + b, b * 0)


@triton.jit(do_not_specialize=["P", "tiles_x", "tiles"])
def field_kernel(
    out, table, slots, banks, P, H, W, tiles_x, tiles,
    MASKS: tl.constexpr, MASK_OFFS: tl.constexpr, MASK_OPTS: tl.constexpr, END: tl.constexpr,
    BY: tl.constexpr, BX: tl.constexpr, DIGEST: tl.constexpr,
):  # fmt: skip
    """Signed level of the first ``END`` mask steps, float32 ``[B, 1, H, W]``."""
    program = tl.program_id(0)
    b = (program // tiles).to(tl.int64)
    tile = program % tiles
    row = table + b * P
    numel = H * W
    iy = (tile // tiles_x) * BY + tl.arange(0, BY)[:, None]
    ix = (tile % tiles_x) * BX + tl.arange(0, BX)[None, :]
    pix = iy * W + ix
    y = iy.to(tl.float32)
    x = ix.to(tl.float32)
    stack = ()
    for m in tl.static_range(END):
        stack = MASKS[m](stack, row, y, x, b, pix, numel, slots, banks, MASK_OFFS[m], MASK_OPTS[m])
    level = stack[0] + tl.zeros([BY, BX], tl.float32)
    tl.store(out + b * numel + pix, level, mask=(iy < H) & (ix < W))


def launch_field(
    out: Tensor,
    table: Tensor,
    banks: tuple[Tensor, ...],
    constants: dict[str, Any],
    pixels: int = TILE_PIXELS,
) -> None:
    """Write the level of the first layer's mask into ``out``, float32 ``[B, 1, H, W]``."""
    batch, _, height, width = out.shape
    by, bx = tile_shape(height, width, pixels)
    tiles_x = triton.cdiv(width, bx)
    tiles = tiles_x * triton.cdiv(height, by)
    field_kernel[(batch * tiles,)](
        out, table, (table,), banks or (table,), table.shape[1], height, width, tiles_x, tiles,
        END=constants["SPANS"][1], BY=by, BX=bx, num_warps=WARPS, enable_fp_fusion=False,
        **{name: constants[name] for name in ("MASKS", "MASK_OFFS", "MASK_OPTS", "DIGEST")},
    )  # fmt: skip


def tile_shape(height: int, width: int, pixels: int = TILE_PIXELS) -> tuple[int, int]:
    """Rows and columns of a tile: wide for coalescing, never wider than the image needs."""
    columns = min(triton.next_power_of_2(width), 256, pixels)
    return max(pixels // columns, 1), columns


def digest(functions: tuple[Any, ...]) -> str:
    """Hash of the sources of jit functions.

    Triton keys its disk cache by the *names* of functions inside a constexpr tuple, so an edited
    part would meet its old binary without this.
    """
    keys = "".join(str(getattr(function, "cache_key", function)) for function in functions)
    return hashlib.sha256(keys.encode()).hexdigest()[:16]


def launch(
    image: Tensor,
    out: Tensor,
    clean: Tensor | None,
    mask: Tensor,
    label: Tensor,
    kind: Tensor,
    table: Tensor,
    norm: Tensor | None,
    slots: tuple[Tensor, ...],
    banks: tuple[Tensor, ...],
    constants: dict[str, Any],
    pixels: int = TILE_PIXELS,
) -> None:
    """Launch the render kernel once for the batch.

    Args:
        image: ``[B, C, H, W]``, contiguous or channels_last.
        out: Like ``image``; contiguous or channels_last on its own account.
        clean: Like ``out``, or None.
        mask: float32 ``[B, 1, H, W]``.
        label: int64 ``[B]``, zero.
        kind: int64 ``[B]``.
        table: float32 ``[B, P]``.
        norm: float32 ``[2, C]`` (scale, bias), or None.
        slots: Per-pixel tensors ``[B, 1, H, W]``, contiguous.
        banks: uint8 ``[N, C, h, w]``, then pictures like ``image``; all contiguous.
        constants: The recipe's compile-time arguments, by the kernel's names.
        pixels: Pixels per tile (tests use big tiles: the interpreter pays per program).
    """
    batch, channels, height, width = image.shape
    by, bx = tile_shape(height, width, pixels)
    tiles_x = triton.cdiv(width, bx)
    tiles = tiles_x * triton.cdiv(height, by)
    # Triton needs pointers even where a compile-time flag leaves them unread.
    unused = table
    render_kernel[(batch * tiles,)](
        image,
        out,
        out if clean is None else clean,
        mask,
        label,
        kind,
        table,
        unused if norm is None else norm,
        slots or (unused,),
        banks or (unused,),
        table.shape[1],
        batch,
        height,
        width,
        tiles_x,
        tiles,
        NORMALISE=norm is not None,
        CLEAN=clean is not None,
        INTEGER=not image.dtype.is_floating_point,
        C=channels,
        CG=min(channels, 4),
        IN_NHWC=interleaved(image),
        OUT_NHWC=interleaved(out),
        BY=by,
        BX=bx,
        num_warps=WARPS,
        enable_fp_fusion=False,
        **constants,
    )


def interleaved(tensor: Tensor) -> bool:
    """Whether a tensor is stored pixel by pixel (channels_last) rather than plane by plane."""
    return not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)
