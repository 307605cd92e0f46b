"""The code at a given rank of distance, by counting: no matrix of tokens x codes, no sort.

Twin of ``anoaug/reference/features/codebook.py``. A program has a few tokens that are to be
replaced. Eight times it walks over all codes, computes a tile of scores and counts those below 16
pivots of every token, which gives four more bits of the order statistic; once more, to find its
code. Scores are computed by the same instructions in every walk, so that they are equal.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Tokens and codes of a tile, channels of a step of its product; 8 warps.
TOKENS, CODES, CHANNELS = 32, 64, 32
WARPS = 8


@triton.jit
def swap_kernel(
    features, out, tokens, total, ranks, codes, apart, squares, middle, number,
    P, C, K, in_g, in_p, in_c, out_g, out_p, out_c,
    BM: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """``BM`` tokens of the list, of which the first ``total[0]`` count.

    Shapes: features and out ``[G, P, C]`` by strides, tokens int64 ``[N]`` numbers in ``[G, P]``,
    ranks and number int64 ``[G, P]``, codes, apart float32 ``[K, C]``, squares ``[K]``, middle
    ``[C]``.
    """
    first = tl.program_id(0) * BM
    if first < tl.load(total):
        turn = first + tl.arange(0, BM)
        on = turn < tl.load(total)
        token = tl.load(tokens + turn, mask=on, other=0)
        group, place = token // P, token % P
        source = features + group * in_g + place * in_p
        rank = tl.load(ranks + token, mask=on, other=0).to(tl.int32)
        pivot = tl.arange(0, 16)
        # The key so far, from the least of all; how many scores lie below it.
        key = tl.full((BM,), -2147483648, tl.int32)
        below = tl.zeros((BM,), tl.int32)
        chosen = tl.zeros((BM,), tl.int32)
        for walk in range(9):
            shift = tl.maximum(28 - 4 * walk, 0)
            counts = tl.zeros((BM, 16), tl.int32)
            seen = tl.zeros((BM,), tl.int32)
            for start in range(0, K, BN):
                code = start + tl.arange(0, BN)
                there = code < K
                product = tl.zeros((BM, BN), tl.float32)
                for c in range(0, C, BC):
                    channel = c + tl.arange(0, BC)
                    near = channel < C
                    x = tl.load(
                        source[:, None] + channel[None, :] * in_c, mask=on[:, None] & near[None, :],
                        other=0.0,
                    ).to(tl.float32)  # fmt: skip
                    x = tl.where(
                        near[None, :], x - tl.load(middle + channel, mask=near, other=0.0), 0.0
                    )
                    y = tl.load(
                        apart + code[None, :].to(tl.int64) * C + channel[:, None],
                        mask=there[None, :] & near[:, None], other=0.0,
                    )  # fmt: skip
                    product = tl.dot(x, y, product, input_precision="ieee")
                score = tl.load(squares + code, mask=there, other=0.0)[None, :] - 2.0 * product
                bits = (score + 0.0).to(tl.int32, bitcast=True)
                bits = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
                bits = tl.where(there[None, :], bits, 0x7FFFFFFF)
                if walk < 8:
                    pivots = key[:, None] + (pivot[None, :] << shift)
                    less = bits[:, :, None] < pivots[:, None, :]
                    counts += tl.sum(less.to(tl.int32), axis=1)
                else:
                    equal = ((bits == key[:, None]) & there[None, :]).to(tl.int32)
                    turns = tl.cumsum(equal, axis=1) + seen[:, None]
                    hit = (equal > 0) & (turns == (rank - below + 1)[:, None])
                    chosen += tl.sum(tl.where(hit, code[None, :], 0), axis=1)
                    seen += tl.sum(equal, axis=1)
            if walk < 8:
                digit = tl.sum((counts <= rank[:, None]).to(tl.int32), axis=1) - 1
                key = key + (digit << shift)
                below = tl.sum(tl.where(pivot[None, :] == digit[:, None], counts, 0), axis=1)
        tl.store(number + token, chosen.to(tl.int64), mask=on)
        target = out + group * out_g + place * out_p
        for c in range(0, C, BC):
            channel = c + tl.arange(0, BC)
            ok = on[:, None] & (channel < C)[None, :]
            value = tl.load(
                codes + chosen[:, None].to(tl.int64) * C + channel[None, :], mask=ok, other=0.0
            )
            tl.store(
                target[:, None] + channel[None, :] * out_c, value.to(out.dtype.element_ty), mask=ok
            )


def launch(
    features: Tensor, out: Tensor, inside: Tensor | None, ranks: Tensor, codes: Tensor,
    prepared: tuple[Tensor, Tensor, Tensor], number: Tensor,
    tile: tuple[int, int, int] = (TOKENS, CODES, CHANNELS),
) -> None:  # fmt: skip
    """Write codes over ``out``, a copy of the features, and their numbers over ``number``.

    Args:
        features: ``[G, P, C]``, any strides.
        out: Likewise.
        inside: bool ``[G, P]``, or None for all.
        ranks: int64 ``[G, P]``.
        codes: float32 ``[K, C]``.
        prepared: Mean, centred codes and squared lengths, see the reference's ``centred``.
        number: int64 ``[G, P]``.
        tile: Tokens, codes and channels of a tile, powers of two from 16 on.
    """
    positions, channels = features.shape[1:]
    count = ranks.numel()
    if inside is None:
        tokens = torch.arange(count, device=features.device)
        total = torch.full((1,), count, device=features.device)
    else:
        # Those that count come first; how many, only the device knows.
        tokens = torch.argsort(inside.flatten().logical_not(), stable=True)
        total = inside.sum().reshape(1)
    middle, apart, squares = (each.contiguous() for each in prepared)
    swap_kernel[(triton.cdiv(count, tile[0]),)](
        features, out, tokens, total, ranks.contiguous(), codes.contiguous(), apart, squares,
        middle, number, positions, channels, len(codes), *features.stride(), *out.stride(),
        BM=tile[0], BN=tile[1], BC=tile[2], num_warps=WARPS, enable_fp_fusion=True,
    )  # fmt: skip
