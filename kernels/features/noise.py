"""Gaussian noise on features, regenerated wherever it is needed and never stored.

Twin of ``anoaug/reference/features/noise.py``. Two orders of memory, one body each: channels side
by side (channels_last, tokens, rows) and positions side by side (NCHW).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..rng import uniform
from .randomness import element_gaussians, element_words, group_key, interleaved, position_word
from .rounding import stored

# Elements of a tile; 4 warps, 16 elements a thread in 4 stores of 16 bytes (float32).
TILE = 2048
WARPS = 4


@triton.jit
def amplitude(k0, k1, position, ok, sigma, gain, growth, GAIN: tl.constexpr, MIXTURE: tl.constexpr):
    """What normal noise is multiplied by at every position."""
    scale = position * 0.0 + sigma
    if GAIN:
        scale = scale * tl.load(gain + position, mask=ok, other=0.0)
    if MIXTURE > 1:
        level = uniform(position_word(k0, k1, position)) * MIXTURE
        for n in tl.static_range(1, MIXTURE):
            scale = tl.where(level >= n, scale * growth, scale)
    return scale


@triton.jit
def noise_kernel(
    features, out, keys, inside, gain, spread, sigma, growth,
    P, C, in_g, in_p, in_c, out_g, out_p, out_c, tiles, chunks,
    INSIDE: tl.constexpr, GAIN: tl.constexpr, SPREAD: tl.constexpr, MIXTURE: tl.constexpr,
    STOCHASTIC: tl.constexpr, LAST: tl.constexpr, BP: tl.constexpr, BQ: tl.constexpr,
):  # fmt: skip
    """Noise on ``BP`` positions of a group, for ``BQ`` quads of channels.

    Shapes: features and out ``[G, P, C]`` by strides, keys int64 ``[G, 2]``, inside uint8
    ``[G, P]``, gain float32 ``[G, P]``, spread float32 ``[C]``. ``LAST`` where channels lie side by
    side.
    """
    program = tl.program_id(0)
    group = (program // (tiles * chunks)).to(tl.int64)
    if LAST:
        tile = program % (tiles * chunks) // chunks
        chunk = program % chunks
    else:
        tile = program % tiles
        chunk = program % (tiles * chunks) // tiles
    k0, k1 = group_key(keys, group)
    position = tile * BP + tl.arange(0, BP)
    there = position < P
    on = there
    if INSIDE:
        on = there & (tl.load(inside + group * P + position, mask=there, other=0) > 0)
    scale = amplitude(k0, k1, position, there, sigma, gain + group * P, growth, GAIN, MIXTURE)
    busy = tl.max(on.to(tl.int32), axis=0) > 0
    source = features + group * in_g
    target = out + group * out_g
    # float64 stays float64; everything else is computed in float32.
    WIDE: tl.constexpr = tl.float64 if features.dtype.element_ty == tl.float64 else tl.float32
    DTYPE: tl.constexpr = out.dtype.element_ty
    if LAST:
        place = position[:, None]
        quad = chunk * BQ + tl.arange(0, BQ)[None, :]
        channel = chunk * BQ * 4 + tl.arange(0, 4 * BQ)[None, :]
        ok = there[:, None] & (channel < C)
        value = tl.load(source + place.to(tl.int64) * in_p + channel * in_c, mask=ok, other=0.0)
        if busy:
            n0, n1, n2, n3 = element_gaussians(k0, k1, place, quad)
            step = interleaved(n0, n1, n2, n3) * scale[:, None]
            if SPREAD:
                step = step * tl.load(spread + channel, mask=channel < C, other=0.0)
            word = place * 0 + channel * 0
            if STOCHASTIC:
                w0, w1, w2, w3 = element_words(k0, k1, place, quad, 3)
                word = interleaved(w0, w1, w2, w3)
            moved = stored(value.to(WIDE) + step.to(WIDE), word, DTYPE, STOCHASTIC)
            value = tl.where(on[:, None], moved, value)
        tl.store(target + place.to(tl.int64) * out_p + channel * out_c, value, mask=ok)
    else:
        for q in range(chunk * BQ, tl.minimum(chunk * BQ + BQ, (C + 3) // 4)):
            values = ()
            for j in tl.static_range(4):
                channel = q * 4 + j
                ok = there & (position * 0 + channel < C)
                value = tl.load(
                    source + position * in_p + channel.to(tl.int64) * in_c, mask=ok, other=0.0
                )
                values = values + (value,)
            n0 = position * 0.0
            n1, n2, n3 = n0, n0, n0
            if busy:
                n0, n1, n2, n3 = element_gaussians(k0, k1, position, position * 0 + q)
            steps = (n0, n1, n2, n3)
            words = (position, position, position, position)
            if STOCHASTIC:
                words = element_words(k0, k1, position, position * 0 + q, 3)
            for j in tl.static_range(4):
                channel = q * 4 + j
                ok = there & (position * 0 + channel < C)
                step = steps[j] * scale
                if SPREAD:
                    step = step * tl.load(spread + tl.minimum(channel, C - 1))
                moved = stored(values[j].to(WIDE) + step.to(WIDE), words[j], DTYPE, STOCHASTIC)
                value = tl.where(on, moved, values[j])
                tl.store(target + position * out_p + channel.to(tl.int64) * out_c, value, mask=ok)


def channels_last(features: Tensor) -> bool:
    """Whether the channels of ``[G, P, C]`` lie side by side, rather than the positions."""
    return features.stride(2) == 1 or features.stride(1) != 1


def tile_of(positions: int, channels: int, last: bool, elements: int = TILE) -> tuple[int, int]:
    """Positions and quads of channels of a program."""
    quads = triton.cdiv(channels, 4)
    if last:
        wide = min(triton.next_power_of_2(quads), max(elements // 4, 1), 128)
        return max(min(elements // (4 * wide), triton.next_power_of_2(positions)), 1), wide
    # Whole vectors of positions; a program goes on over quads, which costs no registers.
    return min(triton.next_power_of_2(positions), max(elements // 4, 1)), min(quads, 8)


def launch(
    features: Tensor, out: Tensor, keys: Tensor, inside: Tensor | None, gain: Tensor | None,
    spread: Tensor | None, sigma: float, mixture: int, growth: float, stochastic: bool,
    elements: int = TILE,
) -> None:  # fmt: skip
    """Write features plus noise into ``out``, ``[G, P, C]`` of the same dtype; any strides."""
    groups, positions, channels = features.shape
    last = channels_last(features)
    rows, quads = tile_of(positions, channels, last, elements)
    tiles, chunks = triton.cdiv(positions, rows), triton.cdiv(triton.cdiv(channels, 4), quads)
    flags: dict[str, Any] = {
        "INSIDE": inside is not None, "GAIN": gain is not None, "SPREAD": spread is not None,
        "MIXTURE": mixture, "STOCHASTIC": stochastic and features.element_size() == 2,
        "LAST": last, "BP": rows, "BQ": quads,
    }  # fmt: skip
    # Triton needs pointers even where a compile-time flag leaves them unread.
    noise_kernel[(groups * tiles * chunks,)](
        features, out, keys, keys if inside is None else inside.view(torch.uint8),
        keys if gain is None else gain, keys if spread is None else spread, sigma, growth,
        positions, channels, *features.stride(), *out.stride(), tiles, chunks,
        num_warps=WARPS, enable_fp_fusion=False, **flags,
    )  # fmt: skip
