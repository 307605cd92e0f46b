"""Noise of feature elements by machine code: the compiled twin of ``reference/features``.

Logarithm, cosine and sine are polynomials, because the loops are vectorised only where no function
is called; noise is the reference's within 1e-5.
"""

from __future__ import annotations

import functools
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from .numbers import HALF, ONE, TWO, F, I, U, philox

Floats = npt.NDArray[np.float32]

# log(m) / (m - 1) on [sqrt(1/2), sqrt(2)] as 2 artanh(s), s = (m - 1) / (m + 1): odd powers of s.
_L1, _L3, _L5, _L7, _L9 = (F(2.0 / n) for n in (1, 3, 5, 7, 9))
_LOG2 = F(math.log(2.0))
_ROOT_HALF_BITS = I(0x3F3504F3)
# Taylor of sin(pi/2 f) and cos(pi/2 f) on [-1/2, 1/2]; the first term left out is below 1e-8.
_TURNS = [(math.pi / 2) ** n / math.factorial(n) for n in range(11)]
_S1, _S3, _S5, _S7, _S9 = F(_TURNS[1]), F(-_TURNS[3]), F(_TURNS[5]), F(-_TURNS[7]), F(_TURNS[9])
_C2, _C4, _C6, _C8 = F(-_TURNS[2]), F(_TURNS[4]), F(-_TURNS[6]), F(_TURNS[8])
_UNIT = F(2.0**-24)
_QUARTERS = F(2.0**-22)
# Quads whose words lie in the first cache between the two loops.
_RUN = 512


# NumPy's rules for a division: a test for zero would be a branch.
@njit(forceinline=True, error_model="numpy")
def radius_of(word: Any) -> Any:
    """``sqrt(-2 log(1 - u))`` of a word's uniform number u."""
    number = np.float32(ONE - F(I(word >> U(8))) * _UNIT)
    bits = np.int32(number.view(np.int32) - _ROOT_HALF_BITS)
    exponent = np.int32(bits >> I(23))
    mantissa = np.int32((bits & I(0x7FFFFF)) + _ROOT_HALF_BITS).view(np.float32)
    s = (mantissa - ONE) / (mantissa + ONE)
    z = s * s
    log = F(exponent) * _LOG2 + s * (_L1 + z * (_L3 + z * (_L5 + z * (_L7 + z * _L9))))
    return np.sqrt(max(-TWO * log, F(0.0)))


@njit(forceinline=True)
def turned(word: Any) -> Any:
    """Cosine and sine of the angle of a word: 2 pi times its uniform number."""
    place = F(I(word >> U(8))) * _QUARTERS
    nearest = np.floor(place + HALF)
    f = place - nearest
    z = f * f
    s = f * (_S1 + z * (_S3 + z * (_S5 + z * (_S7 + z * _S9))))
    c = ONE + z * (_C2 + z * (_C4 + z * (_C6 + z * _C8)))
    quarter = I(nearest)
    odd = (quarter & I(1)) > I(0)
    cosine = s if odd else c
    sine = c if odd else s
    cosine = -cosine if ((quarter + I(1)) & I(2)) > I(0) else cosine
    sine = -sine if (quarter & I(2)) > I(0) else sine
    return cosine, sine


@njit
def pair(first: Any, second: Any, cosines: Any, sines: Any) -> Any:
    """Two normal numbers of each two words."""
    for q in range(len(first)):
        radius = radius_of(first[q])
        cosine, sine = turned(second[q])
        cosines[q], sines[q] = radius * cosine, radius * sine


@functools.lru_cache(maxsize=1)
def _digest() -> str:
    here = Path(__file__).parent
    text = b"".join((here / name).read_bytes() for name in ("features.py", "numbers.py"))
    return hashlib.sha256(text).hexdigest()


@functools.lru_cache(maxsize=1)
def row_loop() -> Any:
    """The compiled loop that writes noise of positions and quads, ``[n, 4 q]`` float32."""
    digest = _digest()

    @njit(nogil=True, cache=True)
    def loop(out: Any, places: Any, first: Any, k0: Any, k1: Any) -> Any:
        if digest == "":
            return
        quads = out.shape[1] // 4
        words, parts = np.empty((4, _RUN), np.uint32), np.empty((4, _RUN), np.float32)
        w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
        a, b, c, d = parts[0], parts[1], parts[2], parts[3]
        for n in range(len(places)):
            position = U(places[n])
            for start in range(0, quads, _RUN):
                count, base = min(_RUN, quads - start), U(first + start)
                for q in range(count):
                    w0[q], w1[q], w2[q], w3[q] = philox(k0, k1, U(base + U(q)), position)
                pair(w0[:count], w1[:count], a, b)
                pair(w2[:count], w3[:count], c, d)
                row = out[n, 4 * start : 4 * (start + count)]
                for q in range(count):
                    row[4 * q], row[4 * q + 1] = a[q], b[q]
                    row[4 * q + 2], row[4 * q + 3] = c[q], d[q]

    return loop


@functools.lru_cache(maxsize=1)
def plane_loop() -> Any:
    """The compiled loop that writes noise of quads and positions, ``[4 q, n]`` float32."""
    digest = _digest()

    @njit(nogil=True, cache=True)
    def loop(out: Any, places: Any, first: Any, k0: Any, k1: Any) -> Any:
        if digest == "":
            return
        words = np.empty((4, _RUN), np.uint32)
        w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
        for number in range(out.shape[0] // 4):
            quad, planes = U(first + number), out[4 * number : 4 * number + 4]
            for start in range(0, len(places), _RUN):
                end = min(start + _RUN, len(places))
                run = places[start:end]
                for n in range(len(run)):
                    w0[n], w1[n], w2[n], w3[n] = philox(k0, k1, quad, U(run[n]))
                pair(w0[: len(run)], w1[: len(run)], planes[0, start:end], planes[1, start:end])
                pair(w2[: len(run)], w3[: len(run)], planes[2, start:end], planes[3, start:end])

    return loop


def gaussians(
    key: list[int], places: npt.NDArray[np.int64], first: int, last: int, planes: bool
) -> Floats:
    """Noise of the quads ``first`` to ``last`` of positions: float32 ``[n, 4 q]``.

    With ``planes`` the other way round, ``[4 q, n]``.
    """
    size = (len(places), 4 * (last - first))
    out = np.empty(size[::-1] if planes else size, np.float32)
    loop = plane_loop() if planes else row_loop()
    loop(out, places, first, np.uint32(key[0]), np.uint32(key[1]))
    return out


@functools.lru_cache(maxsize=1)
def adding_loop() -> Any:
    """The compiled loop that adds noise ``[c, n]`` to places of planes ``[c, P]``, in place."""
    digest = _digest()

    @njit(nogil=True, cache=True)
    def loop(planes: Any, places: Any, noise: Any) -> Any:
        if digest == "":
            return
        for c in range(len(planes)):
            plane, step = planes[c], noise[c]
            for n in range(len(places)):
                plane[places[n]] += step[n]

    return loop


def add_to_planes(planes: Floats, places: npt.NDArray[np.uint64], noise: Floats) -> None:
    """Add noise ``[c, n]`` to places of planes ``[c, P]``, in place."""
    adding_loop()(planes, places, noise)
