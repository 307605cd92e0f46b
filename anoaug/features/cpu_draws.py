"""Words, normal and uniform numbers of feature elements in NumPy, in memory that is taken once.

A round of Philox is some passes over 64-bit products, of which the halves are read where they lie.
"""

from __future__ import annotations

import math
import sys
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .. import checks, rng
from ..reference.features import ELEMENT

Floats = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]
# Counters at once: with fewer NumPy's calls cost more than a nearer cache gains.
LANES = 1 << 16
# Where the halves of a 64-bit product lie.
_LOW, _HIGH = (0, 1) if sys.byteorder == "little" else (1, 0)


class Draws(Protocol):
    """Numbers of positions ``[n]`` by keys ``[n, 2]``, or ``[1, 2]`` for all.

    They are of the quads of channels from a first one on, and go to float32 ``[n, 4 q]``, of any
    step between rows.
    """

    def gaussians(
        self, out: Floats, keys: Longs, places: Longs, first: int, planes: bool, /
    ) -> None:
        """Write normal numbers; planes: the other way round, ``[4 q, n]``."""

    def uniforms(self, out: Floats, keys: Longs, places: Longs, first: int, /) -> None:
        """Write uniform numbers in [0, 1)."""


def drawing(compiled: bool) -> Draws:
    """What draws a block of numbers: NumPy, with memory of its own, or the compiled loops.

    Raises:
        ImportError: Numba was asked for and is not installed.
    """
    if not compiled:
        return Numbers()
    checks.require("numba", "compiled")
    from ..compiled import features as loops

    return loops


class Numbers:
    """Draws block after block in the same memory."""

    def __init__(self) -> None:
        self.lanes = -1  # no memory yet, not even for nothing

    def gaussians(self, out: Floats, keys: Longs, places: Longs, first: int, planes: bool) -> None:
        """Write normal numbers; see :class:`Draws`."""
        four = [out[n::4] if planes else out[:, n::4] for n in range(4)]
        rows, across = four[0].shape
        quads = np.arange(first, first + (rows if planes else across))
        step = max(LANES // max(across, 1), 1)
        for start in range(0, rows, step):
            some = slice(start, start + step)
            if planes:
                words = self.words(keys, places, quads[some], ELEMENT, True)
            else:
                key = keys if len(keys) == 1 else keys[some]
                words = self.words(key, places[some], quads, ELEMENT, False)
            for n in (0, 2):
                self._pair(words[n : n + 2], four[n][some], four[n + 1][some])

    def uniforms(self, out: Floats, keys: Longs, places: Longs, first: int) -> None:
        """Write uniform numbers; see :class:`Draws`."""
        rows, across = out[:, ::4].shape
        quads = np.arange(first, first + across)
        step = max(LANES // max(across, 1), 1)
        for start in range(0, rows, step):
            some = slice(start, start + step)
            key = keys if len(keys) == 1 else keys[some]
            for n, word in enumerate(self.words(key, places[some], quads, ELEMENT, False)):
                bits = self._bits[: word.size].reshape(word.shape)
                np.right_shift(word, np.uint32(8), out=bits)
                number = out[some, n::4]
                np.copyto(number, bits.view(np.int32), casting="same_kind")
                np.multiply(number, np.float32(rng.UNIT), out=number)

    def words(
        self, keys: Longs, places: Longs, quads: Longs, site: int | Longs, planes: bool
    ) -> list[rng.Words]:
        """Four times uint32 ``[n, q]``, or ``[q, n]``; good until the next call."""
        c0, c1 = (quads[:, None], places) if planes else (quads, places[:, None])
        k0, k1 = keys.T if planes else keys.T[..., None]
        shape = np.broadcast_shapes(c0.shape, c1.shape)
        lanes = shape[0] * shape[1]
        self._grow(lanes)
        old, new = self._products[:, :lanes].reshape(2, 2, *shape)
        x, y = self._counters[:, :lanes].reshape(2, *shape)
        # After two rounds most words are still a position's or a quad's alone.
        key, (a, b, c, d) = rng.philox_rounds((k0, k1), (c0, c1, site, 0), 2)
        k0, k1, b, d = (word.astype(np.uint32) for word in (*key, b, d))
        for _ in range(2, rng.ROUNDS):
            for product, word, factor in zip(new, (a, c), rng.MULTIPLIERS, strict=True):
                np.multiply(word, np.uint64(factor), out=product)
            halves = new.view(np.uint32)
            low, high = halves[..., _LOW::2], halves[..., _HIGH::2]
            for word, kept, other, k in ((x, b, high[1], k0), (y, d, high[0], k1)):
                np.bitwise_xor(other, kept, out=word)
                np.bitwise_xor(word, k, out=word)
            a, b, c, d = x, low[1], y, low[0]
            k0, k1 = (k + np.uint32(step) for k, step in zip((k0, k1), rng.WEYL, strict=True))
            old, new = new, old
        return [a, b, c, d]

    def _grow(self, lanes: int) -> None:
        if lanes > self.lanes:
            self.lanes = lanes
            self._products = np.empty((4, lanes), np.uint64)
            self._counters = np.empty((2, lanes), np.uint32)
            self._bits = np.empty(lanes, np.uint32)
            self._parts = np.empty((3, lanes), np.float32)

    def _pair(self, words: list[rng.Words], cosines: Floats, sines: Floats) -> None:
        """Two normal numbers of each two words, as :func:`anoaug.rng.gaussian_pair` has them."""
        shape, size = words[0].shape, words[0].size
        radius, angle, cosine = self._parts[:, :size].reshape(3, *shape)
        bits = self._bits[:size].reshape(shape)
        # 1 - u, which is exact.
        np.right_shift(words[0], np.uint32(8), out=bits)
        np.subtract(np.uint32(1 << 24), bits, out=bits)
        np.copyto(radius, bits.view(np.int32), casting="same_kind")
        np.multiply(radius, np.float32(rng.UNIT), out=radius)
        np.log(radius, out=radius)
        np.multiply(radius, np.float32(-2.0), out=radius)
        np.sqrt(radius, out=radius)
        np.right_shift(words[1], np.uint32(8), out=bits)
        np.copyto(angle, bits.view(np.int32), casting="same_kind")
        np.multiply(angle, np.float32(2.0 * math.pi * rng.UNIT), out=angle)
        np.cos(angle, out=cosine)
        np.sin(angle, out=angle)
        np.multiply(radius, cosine, out=cosines)
        np.multiply(radius, angle, out=sines)
