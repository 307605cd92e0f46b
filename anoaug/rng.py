"""The specification of randomness: NumPy and torch twins of ``kernels/rng.py``, equal bit for bit.

Everything random in anoaug is a function of ``(seed, epoch, sample index, stream)`` through
Philox4x32-10 (Salmon et al., SC 2011). The key is the 64-bit seed; the counter is
``(index low, index high | block << 16, epoch, stream)``. A *stream* is the 32-bit hash of a part's
name, so that a part keeps its numbers when other parts come or go; a *block* is four 32-bit words.

Python integers stand for 32-bit words everywhere; torch holds them in int64, because torch has no
32-bit unsigned arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Words = npt.NDArray[np.uint32]

_MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
# Of the 48 bits in the counter; the upper half is for samples that came without an index.
_INDEX_BITS = 47

# Least-squares fits on Chebyshev nodes; unit length within 1e-6, exact on every backend (no FMA).
COS = (1.0, -1.2336970567703247, 0.2535986006259918, -0.020408255979418755)
SIN = (1.5707941055297852, -0.6458016633987427, 0.07795426994562149)

SQRT2 = 1.4142135381698608  # float32(sqrt(2))
PERMUTING = 16  # rounds of a keyed permutation
UNIT = 2.0**-24  # weight of the lowest bit of a uniform number


def split64(value: int) -> tuple[int, int]:
    """Low and high 32-bit words of an integer; negative ones sign-extend to 64 bits."""
    value &= 0xFFFFFFFFFFFFFFFF
    return value & _MASK, value >> 32


def signed64(value: int) -> int:
    """The integer with the same 64 bits in [-2**63, 2**63), as int64 tensors hold it."""
    value &= 0xFFFFFFFFFFFFFFFF
    return value - (1 << 64) if value >= 1 << 63 else value


def stream_id(name: str) -> int:
    """32-bit FNV-1a hash of a stream's name."""
    state = 0x811C9DC5
    for byte in name.encode():
        state = ((state ^ byte) * 0x01000193) & _MASK
    return state


def mix64(value: int) -> int:
    """The splitmix64 finaliser: spreads nearby integers over 64 bits."""
    value = (value + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 31)


def philox_numpy(
    key: tuple[Any, Any], counter: tuple[Any, Any, Any, Any]
) -> tuple[Words, Words, Words, Words]:
    """Philox4x32-10 in NumPy.

    Args:
        key: Two words, scalars or uint32 arrays.
        counter: Four words, scalars or uint32 arrays that broadcast.

    Returns:
        Four uint32 arrays of the broadcast shape.
    """
    shape = np.broadcast_shapes(*(np.shape(word) for word in (*key, *counter)))
    _, words = philox_rounds(key, counter, ROUNDS)
    first, second, third, fourth = (np.broadcast_to(w, shape).astype(np.uint32) for w in words)
    return first, second, third, fourth


def philox_rounds(
    key: tuple[Any, Any], counter: tuple[Any, Any, Any, Any], rounds: int
) -> tuple[tuple[Any, Any], tuple[Any, Any, Any, Any]]:
    """Some rounds of Philox4x32 in NumPy: key and counter of the next one.

    Args:
        key: Two words, scalars or arrays.
        counter: Four words, scalars or arrays that broadcast.
        rounds: How many.

    Returns:
        uint64 words, each of the shape of what it depends on alone.
    """
    c0, c1, c2, c3 = (np.asarray(c, np.uint64) for c in counter)
    k0, k1 = (np.asarray(k, np.uint64) for k in key)
    mask, shift = np.uint64(_MASK), np.uint64(32)
    m0, m1 = (np.uint64(factor) for factor in MULTIPLIERS)
    w0, w1 = (np.uint64(step) for step in WEYL)
    for _ in range(rounds):
        p0, p1 = c0 * m0, c2 * m1
        c0, c1, c2, c3 = (
            (p1 >> shift) ^ c1 ^ k0,
            p1 & mask,
            (p0 >> shift) ^ c3 ^ k1,
            p0 & mask,
        )
        k0, k1 = (k0 + w0) & mask, (k1 + w1) & mask
    return (k0, k1), (c0, c1, c2, c3)


def philox(
    key: tuple[Tensor | int, Tensor | int], counter: Sequence[Tensor | int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10 in torch: words as int64 tensors in [0, 2**32), on the inputs' device.

    Args:
        key: Two words, Python integers or int64 tensors in [0, 2**32).
        counter: Four words, likewise; at least one word of key and counter is a tensor.
    """
    k0, k1 = key
    c0, c1, c2, c3 = counter
    for _ in range(ROUNDS):
        # The 64-bit product wraps into the sign; shifting and masking recovers both halves exactly.
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _MASK) ^ c1 ^ k0,
            p1 & _MASK,
            ((p0 >> 32) & _MASK) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0, k1 = (k0 + WEYL[0]) & _MASK, (k1 + WEYL[1]) & _MASK
    words = [torch.as_tensor(c, dtype=torch.int64) for c in (c0, c1, c2, c3)]
    first, second, third, fourth = torch.broadcast_tensors(*words)
    return first, second, third, fourth


def uniform_numpy(words: Words) -> npt.NDArray[np.float64]:
    """Uniform numbers in [0, 1) from the upper 24 bits of each word; exact in float32 too."""
    return np.asarray((words >> np.uint32(8)) * UNIT, np.float64)


def uniform(words: Tensor) -> Tensor:
    """Uniform float32 numbers in [0, 1) from the upper 24 bits of each word (int64)."""
    return (words >> 8).to(torch.float32) * UNIT


def gaussian_pair(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two standard normal float32 numbers from two words (Box-Muller).

    A named exception to bit equality: log, cos and sin differ between backends by about 1e-6.
    """
    radius = torch.sqrt(-2.0 * torch.log(1.0 - uniform(first)))
    angle = uniform(second) * 6.283185307179586
    return radius * torch.cos(angle), radius * torch.sin(angle)


def lattice_hash(key: Tensor, iy: Tensor | int, ix: Tensor | int) -> Tensor:
    """Hash of a lattice node: two rounds of multiply and xor-shift on 32 bits.

    Args:
        key: int64 words in [0, 2**32).
        iy: int64 node rows, negative ones allowed.
        ix: int64 node columns, negative ones allowed.

    Returns:
        int64 words in [0, 2**32) of the broadcast shape.
    """
    h = (key + iy * 0x9E3779B1 + ix * 0x85EBCA77) & _MASK
    h = ((h ^ (h >> 16)) * 0x7FEB352D) & _MASK
    h = ((h ^ (h >> 15)) * 0x846CA68B) & _MASK
    return h ^ (h >> 16)


def permuted(number: Tensor, count: Tensor, key: Tensor, coin: Tensor) -> Tensor:
    """Place of each number in a keyed permutation of ``0 .. count - 1``, for any count.

    Swap-or-not (Hoang, Morris and Rogaway, CRYPTO 2012): in every round a number and its mirror
    image about a random point change places, or not. Each round halves what is left of order.

    Args:
        number: int64 numbers below ``count``.
        count: int64, below 2**31.
        key: int64 words in [0, 2**32): of the mirrors.
        coin: int64 words, likewise: of whether to swap.

    Returns:
        int64 places of the broadcast shape.
    """
    for n in range(PERMUTING):
        mirror = (lattice_hash(key, n, 0) * count) >> 32
        other = mirror - number
        other = torch.where(other < 0, other + count, other)
        # Both of a pair ask the same coin.
        swap = lattice_hash(coin, n, torch.maximum(number, other)) >> 31
        number = torch.where(swap > 0, other, number)
    return number


def unit_vector(word: Tensor) -> tuple[Tensor, Tensor]:
    """A unit vector of uniform angle (row, column component), without transcendental functions.

    The upper two bits choose the quarter turn, the next 24 the place in it; cosine and sine of the
    remaining +-45 degrees are short polynomials. Length within 1e-6 of one.
    """
    f = ((word >> 6) & 0xFFFFFF).to(torch.float32) * UNIT - 0.5
    z = f * f
    c = COS[0] + z * (COS[1] + z * (COS[2] + z * COS[3]))
    s = f * (SIN[0] + z * (SIN[1] + z * SIN[2]))
    quarter = word >> 30
    odd = (quarter & 1) > 0
    gy, gx = torch.where(odd, s, c), torch.where(odd, c, s)
    gy = torch.where((quarter == 1) | (quarter == 2), -gy, gy)
    gx = torch.where(quarter >= 2, -gx, gx)
    return gy, gx


class Draws:
    """Random words of a batch: every stream of a recipe from one vectorised Philox pass.

    Args:
        seed: 64-bit seed; negative ones sign-extend.
        epoch: Epoch in [0, 2**32).
        index: int64 array ``[B]`` of sample indices in [0, 2**48).
        streams: Stream name to number of words needed.
    """

    def __init__(
        self, seed: int, epoch: int, index: npt.NDArray[np.int64], streams: dict[str, int]
    ) -> None:
        ids: list[int] = []
        blocks: list[int] = []
        self._start: dict[str, int] = {}
        for name, words in streams.items():
            count = -(-words // 4)
            self._start[name] = 4 * len(ids)
            ids += [stream_id(name)] * count
            blocks += range(count)
        low = (index & _MASK).astype(np.uint32)
        high = (index >> 32).astype(np.uint32)
        block = np.asarray(blocks, np.uint32)[:, None]
        stream = np.asarray(ids, np.uint32)[:, None]
        counter = (low, high | (block << np.uint32(16)), np.uint32(epoch), stream)
        words4 = philox_numpy(split64(seed), counter)
        self._words = np.stack(words4, axis=1).reshape(4 * len(ids), len(index))

    def words(self, stream: str, count: int, start: int = 0) -> Words:
        """uint32 ``[count, B]``: words ``start`` to ``start + count`` of a stream."""
        first = self._start[stream] + start
        words: Words = self._words[first : first + count]
        return words

    def uniform(self, stream: str, count: int, start: int = 0) -> npt.NDArray[np.float64]:
        """float64 ``[count, B]`` in [0, 1)."""
        return uniform_numpy(self.words(stream, count, start))


def check_index_range(low: int, high: int) -> None:
    """Refuse sample indices that are not a dataset's.

    Raises:
        ValueError: An index is negative or at least 2**47.
    """
    if low < 0 or high >= 1 << _INDEX_BITS:
        raise ValueError(
            f"index: expected sample indices in [0, 2**{_INDEX_BITS}), got {low} to {high}; "
            "number your samples from 0"
        )
