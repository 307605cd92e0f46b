"""Numbers of feature elements by machine code: the compiled twin of ``reference/features``.

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

from ..rng import MULTIPLIERS, WEYL
from .numbers import HALF, ONE, TWO, F, I, U, uniform

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
_M0, _M1 = (np.uint64(factor) for factor in MULTIPLIERS)
_W0, _W1 = (np.uint64(step) for step in WEYL)
_LOWER, _HALF_BITS = np.uint64(0xFFFFFFFF), np.uint64(32)
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


@njit(forceinline=True)
def product(word: Any, factor: Any) -> Any:
    """The 64-bit product of the lower half of a number and a factor of Philox."""
    return (word & _LOWER) * factor


@njit(forceinline=True)
def words_of(s: Any, a: Any, b: Any, c: Any, d: Any, k0: Any, k1: Any) -> Any:
    """Four words of a position's ``s`` and a quad's ``a`` to ``d``, with the fourth round's keys.

    Words are the lower halves of 64-bit numbers and what is above is let lie, or else halves would
    be moved about between the rounds.
    """
    p1 = product((s >> _HALF_BITS) ^ a, _M1)
    c0, c1, c2, c3 = (p1 >> _HALF_BITS) ^ b, p1, s ^ c, d
    for _ in range(3, 10):
        p0, p1 = product(c0, _M0), product(c2, _M1)
        c0, c1, c2, c3 = (p1 >> _HALF_BITS) ^ c1 ^ k0, p1, (p0 >> _HALF_BITS) ^ c3 ^ k1, p0
        k0, k1 = k0 + _W0, k1 + _W1
    return U(c0), U(c1), U(c2), U(c3)


@njit
def tabulate(tables: Any, first: Any, k0: Any, k1: Any) -> None:
    """What the first three rounds have of each quad alone: uint32 ``[4, q]``."""
    a, b, c, d = tables[0], tables[1], tables[2], tables[3]
    for q in range(len(a)):
        p0 = np.uint64(first + q) * _M0
        p1 = product((p0 >> _HALF_BITS) ^ k1, _M1)
        p2 = product((p1 >> _HALF_BITS) ^ (k0 + _W0), _M0)
        a[q], b[q] = U(p0 ^ (k1 + _W1)), U(p1 ^ (k0 + _W0 + _W0))
        c[q], d[q] = U((p2 >> _HALF_BITS) ^ (k1 + _W1 + _W1)), U(p2)


@njit
def quad_words(w0: Any, w1: Any, w2: Any, w3: Any, s: Any, tables: Any, k0: Any, k1: Any) -> None:
    """Four words of a position with each quad: uint32 ``[q]``."""
    a, b, c, d = tables[0], tables[1], tables[2], tables[3]
    j0, j1 = k0 + _W0 + _W0 + _W0, k1 + _W1 + _W1 + _W1
    for q in range(len(w0)):
        w0[q], w1[q], w2[q], w3[q] = words_of(
            s, np.uint64(a[q]), np.uint64(b[q]), np.uint64(c[q]), np.uint64(d[q]), j0, j1
        )


@functools.lru_cache(maxsize=1)
def _digest() -> str:
    here = Path(__file__).parent
    text = b"".join((here / name).read_bytes() for name in ("features.py", "numbers.py"))
    return hashlib.sha256(text).hexdigest()


@functools.lru_cache(maxsize=1)
def row_loop() -> Any:
    """The compiled loop that writes numbers of positions and quads, ``[n, 4 q]`` float32."""
    digest = _digest()

    @njit(nogil=True, cache=True)
    def loop(out: Any, places: Any, first: Any, keys: Any, normal: Any) -> Any:
        if digest == "":
            return
        quads = out.shape[1] // 4
        # Short rows go together: what does not fill a vector is computed one by one.
        most = max(_RUN // max(quads, 1), 1)
        words = np.empty((4, most * quads), np.uint32)
        parts = np.empty((4, most * quads), np.float32)
        w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
        e0, e1, e2, e3 = parts[0], parts[1], parts[2], parts[3]
        tables = np.empty((4, quads), np.uint32)
        k0, k1 = np.uint64(0), np.uint64(0)
        for first_row in range(0, len(places), most):
            rows = min(most, len(places) - first_row)
            for k in range(rows):
                n, some = first_row + k, slice(k * quads, (k + 1) * quads)
                if n == 0 or (n < len(keys) and (keys[n, 0] != k0 or keys[n, 1] != k1)):
                    k0, k1 = keys[n, 0], keys[n, 1]
                    tabulate(tables, first, k0, k1)
                s = product(np.uint64(places[n]) ^ k0, _M0)
                quad_words(w0[some], w1[some], w2[some], w3[some], s, tables, k0, k1)
            run = rows * quads
            if normal:
                pair(w0[:run], w1[:run], e0, e1)
                pair(w2[:run], w3[:run], e2, e3)
            else:
                for k in range(run):
                    e0[k], e1[k] = uniform(w0[k]), uniform(w1[k])
                    e2[k], e3[k] = uniform(w2[k]), uniform(w3[k])
            for k in range(rows):
                row, some = out[first_row + k], slice(k * quads, (k + 1) * quads)
                a, b, c, d = e0[some], e1[some], e2[some], e3[some]
                for q in range(quads):
                    row[4 * q], row[4 * q + 1] = a[q], b[q]
                    row[4 * q + 2], row[4 * q + 3] = c[q], d[q]

    return loop


@functools.lru_cache(maxsize=1)
def plane_loop() -> Any:
    """The compiled loop that writes noise of quads and positions, ``[4 q, n]`` float32."""
    digest = _digest()

    @njit(nogil=True, cache=True)
    def loop(out: Any, places: Any, first: Any, keys: Any) -> Any:
        if digest == "":
            return
        words = np.empty((4, _RUN), np.uint32)
        w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
        quads, k0, k1 = out.shape[0] // 4, keys[0, 0], keys[0, 1]
        tables = np.empty((4, quads), np.uint32)
        tabulate(tables, first, k0, k1)
        j0, j1 = k0 + _W0 + _W0 + _W0, k1 + _W1 + _W1 + _W1
        for number in range(quads):
            planes = out[4 * number : 4 * number + 4]
            t0, t1 = np.uint64(tables[0, number]), np.uint64(tables[1, number])
            t2, t3 = np.uint64(tables[2, number]), np.uint64(tables[3, number])
            for start in range(0, len(places), _RUN):
                end = min(start + _RUN, len(places))
                run = places[start:end]
                for n in range(len(run)):
                    s = product(np.uint64(run[n]) ^ k0, _M0)
                    w0[n], w1[n], w2[n], w3[n] = words_of(s, t0, t1, t2, t3, j0, j1)
                pair(w0[: len(run)], w1[: len(run)], planes[0, start:end], planes[1, start:end])
                pair(w2[: len(run)], w3[: len(run)], planes[2, start:end], planes[3, start:end])

    return loop


def gaussians(
    out: Floats, keys: npt.NDArray[np.int64], places: npt.NDArray[np.int64], first: int,
    planes: bool,
) -> None:  # fmt: skip
    """Write noise; see :class:`anoaug.features.cpu_draws.Draws`."""
    if planes:
        plane_loop()(out, places, first, keys.astype(np.uint64))
    else:
        row_loop()(out, places, first, keys.astype(np.uint64), True)


def uniforms(
    out: Floats, keys: npt.NDArray[np.int64], places: npt.NDArray[np.int64], first: int
) -> None:
    """Write uniform numbers ``[n, 4 q]``; see :class:`anoaug.features.cpu_draws.Draws`."""
    row_loop()(out, places, first, keys.astype(np.uint64), False)


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
