"""Device functions for randomness: Philox words, uniform and normal numbers, lattice hashing.

Twins of ``anoaug/rng.py``, name for name; integers and uniforms are equal bit for bit.
"""

import triton
import triton.language as tl


@triton.jit
def philox(k0, k1, c0, c1, c2, c3):
    """Philox4x32-10 on uint32 words or blocks; returns four uint32 blocks."""
    for _ in tl.static_range(10):
        low0 = c0 * tl.full((), 0xD2511F53, tl.uint32)
        low1 = c2 * tl.full((), 0xCD9E8D57, tl.uint32)
        high0 = tl.umulhi(c0, tl.full((), 0xD2511F53, tl.uint32))
        high1 = tl.umulhi(c2, tl.full((), 0xCD9E8D57, tl.uint32))
        c0 = high1 ^ c1 ^ k0
        c1 = low1
        c2 = high0 ^ c3 ^ k1
        c3 = low0
        k0 = k0 + tl.full((), 0x9E3779B9, tl.uint32)
        k1 = k1 + tl.full((), 0xBB67AE85, tl.uint32)
    return c0, c1, c2, c3


@triton.jit
def uniform(word):
    """Uniform float32 in [0, 1) from the upper 24 bits of a uint32 word."""
    # The detour over int32 is exact for 24 bits and converts in one instruction.
    return (word >> 8).to(tl.int32).to(tl.float32) * 5.9604644775390625e-08


@triton.jit
def gaussian_pair(first, second):
    """Two standard normal float32 numbers from two words (Box-Muller), good to about 1e-6."""
    radius = tl.sqrt(-2.0 * tl.log(1.0 - uniform(first)))
    angle = uniform(second) * 6.283185307179586
    return radius * tl.cos(angle), radius * tl.sin(angle)


@triton.jit
def lattice_hash(key, iy, ix):
    """Hash of lattice nodes: ``key`` uint32, ``iy`` and ``ix`` int32 blocks."""
    h = (
        key
        + iy.to(tl.uint32) * tl.full((), 0x9E3779B1, tl.uint32)
        + ix.to(tl.uint32) * tl.full((), 0x85EBCA77, tl.uint32)
    )
    h = (h ^ (h >> 16)) * tl.full((), 0x7FEB352D, tl.uint32)
    h = (h ^ (h >> 15)) * tl.full((), 0x846CA68B, tl.uint32)
    return h ^ (h >> 16)


@triton.jit
def permuted(number, count, key, coin):
    """Place of each number (int32) in a keyed permutation of ``0 .. count - 1``: swap-or-not."""
    for n in tl.static_range(16):
        turn = tl.full((), n, tl.int32)
        mirror = tl.umulhi(lattice_hash(key, turn, turn * 0), count.to(tl.uint32))
        other = mirror.to(tl.int32) - number
        other = tl.where(other < 0, other + count, other)
        swap = lattice_hash(coin, turn, tl.maximum(number, other)) >> 31
        number = tl.where(swap > 0, other, number)
    return number


@triton.jit
def unit_vector(word):
    """A unit vector of uniform angle from a uint32 word: (row, column) component."""
    f = ((word >> 6) & 0xFFFFFF).to(tl.int32).to(tl.float32) * 5.9604644775390625e-08 - 0.5
    z = f * f
    c = 1.0 + z * (-1.2336970567703247 + z * (0.2535986006259918 + z * -0.020408255979418755))
    s = f * (1.5707941055297852 + z * (-0.6458016633987427 + z * 0.07795426994562149))
    quarter = word >> 30
    odd = (quarter & 1) > 0
    gy = tl.where(odd, s, c)
    gx = tl.where(odd, c, s)
    gy = tl.where((quarter == 1) | (quarter == 2), -gy, gy)
    gx = tl.where(quarter >= 2, -gx, gx)
    return gy, gx
