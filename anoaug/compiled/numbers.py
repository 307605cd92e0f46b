"""Hashing and random words for one pixel: the compiled twins of ``kernels/rng.py``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

from ..rng import COS, PERMUTING, SIN, SQRT2, UNIT

F = np.float32
I = np.int32  # noqa: E741
U = np.uint32
B = np.uint8
P = np.uint64  # of indices: Numba looks for negative ones among the signed

# Literals would be float64 and draw every product along.
ZERO, ONE, HALF, TWO = F(0.0), F(1.0), F(0.5), F(2.0)
SIX, TEN, FIFTEEN = F(6.0), F(10.0), F(15.0)
_C0, _C1, _C2, _C3 = (F(value) for value in COS)
_S0, _S1, _S2 = (F(value) for value in SIN)
_UNIT = F(UNIT)
_TURN = F(2.0 * math.pi)
ROOT2 = F(SQRT2)


@intrinsic
def _pointer(typing: Any, address: Any) -> Any:
    """An integer as a pointer."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.voidptr(address), codegen


@njit
def bytes_at(address: Any, count: Any) -> Any:
    """``count`` uint8 values from an address on."""
    return carray(_pointer(address), (count,), np.uint8)


@njit
def floats_at(address: Any, count: Any) -> Any:
    """``count`` float32 values from an address on."""
    return carray(_pointer(address), (count,), np.float32)


@njit(forceinline=True)
def lattice_hash(key: Any, iy: Any, ix: Any) -> Any:
    """Hash of a lattice node: uint32 from a uint32 key and int32 coordinates."""
    h = U(key + U(U(iy) * U(0x9E3779B1)) + U(U(ix) * U(0x85EBCA77)))
    h = U((h ^ (h >> U(16))) * U(0x7FEB352D))
    h = U((h ^ (h >> U(15))) * U(0x846CA68B))
    return h ^ (h >> U(16))


@njit
def permute(numbers: Any, count: Any, key: Any, coin: Any) -> Any:
    """Places of int32 numbers in a keyed permutation of ``0 .. count - 1``, in place: swap-or-not.

    Round by round, so that the loop over the numbers is vectorised.
    """
    for n in range(PERMUTING):
        turn = I(n)
        word = np.uint64(lattice_hash(key, turn, I(0))) * np.uint64(count)
        base = I(word >> np.uint64(32))
        for k in range(len(numbers)):
            number = numbers[k]
            other = I(base - number)
            other = I(other + count) if other < 0 else other
            swap = lattice_hash(coin, turn, max(number, other)) >> U(31) > U(0)
            numbers[k] = other if swap else number


@njit(forceinline=True)
def unit_vector(word: Any) -> Any:
    """A unit vector of uniform angle (row, column component)."""
    f = F(I((word >> U(6)) & U(0xFFFFFF))) * _UNIT - HALF
    z = f * f
    c = _C0 + z * (_C1 + z * (_C2 + z * _C3))
    s = f * (_S0 + z * (_S1 + z * _S2))
    quarter = word >> U(30)
    odd = (quarter & U(1)) > U(0)
    gy = s if odd else c
    gx = c if odd else s
    gy = -gy if (quarter == U(1)) | (quarter == U(2)) else gy
    gx = -gx if quarter >= U(2) else gx
    return gy, gx


@njit(forceinline=True)
def philox(k0: Any, k1: Any, c0: Any, c1: Any) -> Any:
    """Four uint32 words of Philox4x32-10 for the counter ``(c0, c1, 0, 0)``."""
    c2, c3 = U(0), U(0)
    for _ in range(10):
        p0 = np.uint64(c0) * np.uint64(0xD2511F53)
        p1 = np.uint64(c2) * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            U(p1 >> np.uint64(32)) ^ c1 ^ k0,
            U(p1),
            U(p0 >> np.uint64(32)) ^ c3 ^ k1,
            U(p0),
        )
        k0, k1 = U(k0 + U(0x9E3779B9)), U(k1 + U(0xBB67AE85))
    return c0, c1, c2, c3


@njit(forceinline=True)
def uniform(word: Any) -> Any:
    """Uniform float32 in [0, 1) from the upper 24 bits."""
    return F(I(word >> U(8))) * _UNIT


@njit(forceinline=True)
def gaussian_pair(first: Any, second: Any) -> Any:
    """Two standard normal float32 numbers (Box-Muller); equal to the reference within 1e-5."""
    radius = F(math.sqrt(-TWO * F(math.log(ONE - uniform(first)))))
    angle = uniform(second) * _TURN
    return radius * F(math.cos(angle)), radius * F(math.sin(angle))


@njit(forceinline=True)
def copy(line: Any, values: Any) -> Any:
    """A line of values, of which there may be more.

    Where ``line[:] = values`` stands, Numba compiles seconds of error messages for it. Binaries of
    other files hold this and ``fill``, and are not made anew with it: what they do is to stay.
    """
    for k in range(len(line)):
        line[k] = values[k]


@njit(forceinline=True)
def fill(line: Any, value: Any) -> Any:
    """A line of one value, see ``copy``."""
    for k in range(len(line)):
        line[k] = value


@njit(forceinline=True)
def clamp(value: Any, low: Any, high: Any) -> Any:
    """The value within [low, high]; NaN stays NaN, as in torch."""
    if value < low:
        return low
    return high if value > high else value


@njit(forceinline=True)
def round_clip(value: Any, peak: Any) -> Any:
    """Round half up to an integer in [0, peak]."""
    return clamp(np.floor(value + HALF), ZERO, peak)
