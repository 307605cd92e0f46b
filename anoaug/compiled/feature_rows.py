"""Laws of single rows by machine code: a row is read once for its sums and, nearby, to be moved.

Twins of ``features/cpu_laws.py`` for laws whose row becomes itself, or the other vector, and some
of one vector: a loop adds up squares, a few numbers are made of them, a loop writes.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from .numbers import ZERO, F, copy

Floats = npt.NDArray[np.float32]
Rows = tuple[Floats, int]
JITTER, UNIT_JITTER, SHELL, ASCEND, PUSH, PROJECT, DISTANCE = range(7)
KINDS = {
    "jitter": JITTER, "unit_jitter": UNIT_JITTER, "shell": SHELL, "ascend": ASCEND, "push": PUSH,
    "project": PROJECT, "distance": DISTANCE,
}  # fmt: skip
_SUMMED = {"reassoc", "contract", "nsz"}


# Sums in any order, or the loop is not vectorised.
@njit(fastmath=_SUMMED)
def length(a: Any) -> Any:
    """|a|."""
    total = ZERO
    for c in range(len(a)):
        total += a[c] * a[c]
    return np.sqrt(total)


@njit(fastmath=_SUMMED)
def distance(a: Any, b: Any) -> Any:
    """|a - b|."""
    total = ZERO
    for c in range(len(a)):
        step = a[c] - b[c]
        total += step * step
    return np.sqrt(total)


@njit(forceinline=True, error_model="numpy")
def over(a: Any, b: Any) -> Any:
    """A / b, and 0 where b is 0."""
    return ZERO if b == ZERO else F(a / b)


@njit
def part(memory: Any, first: Any, count: Any) -> Any:
    """A row: of one whose channels are known to lie side by side loops are vectorised."""
    return memory[first : first + count]


@njit
def add(out: Any, x: Any, step: Any, gain: Any) -> None:
    """X and some of another vector."""
    for c in range(len(out)):
        out[c] = x[c] + gain * step[c]


@njit
def add_difference(out: Any, base: Any, x: Any, other: Any, gain: Any) -> None:
    """A base and some of x - o."""
    for c in range(len(out)):
        out[c] = base[c] + gain * (x[c] - other[c])


@functools.lru_cache(maxsize=1)
def _loop() -> Any:
    here = Path(__file__).parent
    text = b"".join((here / name).read_bytes() for name in ("feature_rows.py", "numbers.py"))
    digest = hashlib.sha256(text).hexdigest()

    @njit(nogil=True, cache=True)
    def loop(
        kind: Any, channels: Any, out: Any, x: Any, other: Any, noise: Any, steps: Any,
        columns: Any, far: Any,
    ) -> Any:  # fmt: skip
        if digest == "":
            return
        for n in range(len(far)):
            to, row = part(out, n * steps[0], channels), part(x, n * steps[1], channels)
            vector = part(other, n * steps[2], channels)
            e = part(noise, n * steps[3], channels)
            own = columns[min(n, len(columns) - 1)]
            if kind == JITTER:
                add(to, row, e, own[0] * length(row))
            elif kind == UNIT_JITTER:
                add(to, row, e, own[0] * over(length(row), length(e)))
            elif kind == SHELL:
                add(to, row, e, over(own[0], length(e)))
            elif kind == ASCEND:
                add(to, row, vector, over(own[0], length(vector) + own[1]))
            elif kind == PUSH:
                far[n] = distance(row, vector)
                add_difference(to, row, row, vector, over(own[0], far[n]))
            else:
                size = distance(row, vector)
                far[n] = size
                if kind == DISTANCE:
                    continue
                if own[0] <= size and size <= own[1]:
                    copy(to, row)
                else:
                    # As in torch's clamp the upper end wins, and NaN stays.
                    held = own[0] if size < own[0] else size
                    held = own[1] if held > own[1] else held
                    add_difference(to, vector, row, vector, over(held, size + own[2]))

    return loop


def move(
    law: str, out: Rows, x: Rows, other: Rows, noise: Rows, channels: int, columns: Floats,
    far: Floats,
) -> None:  # fmt: skip
    """Write n rows by a law.

    Args:
        law: Of ``KINDS``.
        out: Memory of rows, one-dimensional, and the step from one to the next; likewise others.
        x: Features.
        other: Other vectors, or x.
        noise: Normal numbers, or x.
        channels: Of a row.
        columns: float32 ``[n, N]``, or ``[1, N]`` for all.
        far: float32 ``[n]``, written by ``distance``, which writes nothing else, and laws whose
            rows of length 0 may get noise.
    """
    memory, steps = zip(out, x, other, noise, strict=True)
    _loop()(KINDS[law], channels, *memory, steps, columns, far)
