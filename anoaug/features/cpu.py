"""The noise ops' faster way on the CPU: noise for chosen positions alone, in blocks of the cache.

The torch reference holds words of 64 bits for every element; here NumPy, or Numba where it is asked
for, draws a block at a time and nothing is drawn where the mask is empty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .. import checks, rng
from ..reference.features import ELEMENT, ROUNDING
from ..reference.features import noise as reference
from ..reference.features.rounding import stochastic as rounded_at_random

Floats = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]
# Values of a block: its words and noise stay in the second cache.
BLOCK = 1 << 16


def add_noise(
    features: Tensor, out: Tensor, keys: Tensor, inside: Tensor | None, gain: Tensor | None,
    spread: Tensor | None, sigma: float, mixture: int, growth: float, stochastic: bool,
    compiled: bool = False,
) -> None:  # fmt: skip
    """Write features plus noise into ``out``; see ``reference.features.noise.add_noise``."""
    positions = features.shape[1]
    scale = reference.amplitudes(keys, positions, sigma, gain, mixture, growth)
    scale = scale.expand(len(features), positions)
    draw = drawing(compiled)
    for group, key in enumerate(keys.tolist()):  # host: the CPU alone comes here
        places = torch.arange(positions) if inside is None else inside[group].nonzero()[:, 0]
        if len(places) < positions:
            out[group].copy_(features[group])
        perturb(
            [(features[group], out[group])], key, places, scale[group], spread, stochastic, draw
        )


def duplicate(
    sources: list[Tensor], outs: list[Tensor], keys: Tensor, noisy: Tensor, sigma: float,
    stochastic: bool, compiled: bool = False,
) -> None:  # fmt: skip
    """Write both copies of every tensor, with the same noise where the masks are.

    Args:
        sources: ``[B, P, C]`` each.
        outs: ``[2 B, P, C]`` each.
        keys: int64 ``[2 B, 2]``.
        noisy: bool ``[2 B, P]``.
        sigma: Standard deviation.
        stochastic: Round at random.
        compiled: Draw by Numba.
    """
    batch, positions, _ = sources[0].shape
    scale, draw = torch.full((positions,), sigma), drawing(compiled)
    for row, key in enumerate(keys.tolist()):  # host: the CPU alone comes here
        places = noisy[row].nonzero()[:, 0]
        pairs = [(source[row % batch], out[row]) for source, out in zip(sources, outs, strict=True)]
        if len(places) < positions:
            for source, out in pairs:
                out.copy_(source)
        perturb(pairs, key, places, scale, None, stochastic, draw)


Draw = Callable[[list[int], Longs, int, int, bool], Floats]


def drawing(compiled: bool) -> Draw:
    """What draws a block of noise: NumPy, or the compiled loops.

    Raises:
        ImportError: Numba was asked for and is not installed.
    """
    if not compiled:
        return gaussians
    checks.require("numba", "compiled")
    from ..compiled import features as loops

    return loops.gaussians


def perturb(
    pairs: list[tuple[Tensor, Tensor]], key: list[int], places: Tensor, scale: Tensor,
    spread: Tensor | None, stochastic: bool, draw: Draw,
) -> None:  # fmt: skip
    """Write noisy features of some positions of a group.

    Args:
        pairs: Features ``[P, C]`` and where they go, of any strides; all get the same noise. Where
            only some positions do, the latter hold the former already.
        key: The group's two words.
        places: int64 positions that get noise.
        scale: float32 ``[P]``.
        spread: float32 ``[C]`` or None.
        stochastic: Round at random.
        draw: See :func:`drawing`.
    """
    count, (total, channels) = len(places), pairs[0][0].shape
    if not count or not channels:
        return
    # Along the order of memory: rows of channels, or planes of positions.
    planes = pairs[0][0].stride(1) != 1
    quads = -(-channels // 4)
    rows = min(count, BLOCK // 4) if planes else max(BLOCK // (4 * quads), 1)
    step = max(BLOCK // (4 * rows), 1) if planes else quads
    for first in range(0, count, rows):
        chosen = places[first : first + rows]
        where: Any = slice(first, first + rows) if count == total else chosen
        amplitude, numbers = scale[chosen], chosen.numpy()
        for quad in range(0, quads, step):
            last = min(quad + step, quads)
            span = slice(4 * quad, min(4 * last, channels))
            noise = torch.from_numpy(draw(key, numbers, quad, last, planes))
            noise = noise.T if planes else noise
            noise = noise[:, : span.stop - span.start].mul_(amplitude[:, None])
            if spread is not None:
                noise *= spread[span]
            word = None
            if stochastic:
                words = element_words(key, numbers, quad, last, ROUNDING, planes)
                word = torch.from_numpy(np.stack(words, axis=2).astype(np.int64)).flatten(1)
                word = word[:, : span.stop - span.start]
            for source, target in pairs:
                _write(source, target, where, span, noise, word, planes, draw is not gaussians)


def _write(
    source: Tensor, target: Tensor, where: Any, span: slice, noise: Tensor, word: Tensor | None,
    planes: bool, compiled: bool,
) -> None:  # fmt: skip
    """Add a block of noise ``[n, c]``, which lies in memory as the features do."""
    full = isinstance(where, slice)
    single = target.dtype == torch.float32
    if planes and single and not full and compiled:
        from ..compiled.features import add_to_planes

        # The target holds the source already.
        add_to_planes(target.T[span].numpy(), where.numpy().view(np.uint64), noise.T.numpy())
        return
    if planes:  # torch walks through memory in the order of its indices
        source, target, noise = source.T[span], target.T[span], noise.T
        taken = source[:, where]
    else:
        source, target = source[:, span], target[:, span]
        taken = source[where]
    if full and single:
        torch.add(taken, noise, out=target[:, where] if planes else target[where])
        return
    moved = taken.to(torch.float32) + noise
    if word is None or source.element_size() != 2:
        moved = moved.to(source.dtype)
    else:
        moved = rounded_at_random(moved, source.dtype, word.T if planes else word)
    if planes:
        target[:, where] = moved
    else:
        target[where] = moved


def element_words(
    key: list[int], places: Longs, first: int, last: int, site: int, planes: bool
) -> tuple[rng.Words, rng.Words, rng.Words, rng.Words]:
    """Four times uint32 ``[n, q]``: words of the quads ``first`` to ``last`` of positions."""
    quads = np.arange(first, last)
    if not planes:
        return rng.philox_numpy((key[0], key[1]), (quads, places[:, None], site, 0))
    a, b, c, d = rng.philox_numpy((key[0], key[1]), (quads[:, None], places, site, 0))
    return a.T, b.T, c.T, d.T


def gaussians(key: list[int], places: Longs, first: int, last: int, planes: bool) -> Floats:
    """Noise of the quads ``first`` to ``last`` of positions: float32 ``[n, 4 q]``.

    With ``planes`` the other way round, ``[4 q, n]``.
    """
    words = element_words(key, places, first, last, ELEMENT, planes)
    unit, size = np.float32(rng.UNIT), (len(places), last - first, 4)
    # Written in the order of memory that is wanted.
    out = np.empty((size[1], 4, size[0]) if planes else size, np.float32)
    view = out.transpose(2, 0, 1) if planes else out
    for n in (0, 2):
        u, v = ((word >> np.uint32(8)).astype(np.float32) * unit for word in words[n : n + 2])
        radius = np.sqrt(np.float32(-2.0) * np.log(np.float32(1.0) - u))
        angle = v * np.float32(6.283185307179586)
        np.multiply(radius, np.cos(angle), out=view[..., n])
        np.multiply(radius, np.sin(angle), out=view[..., n + 1])
    return out.reshape(-1, size[0]) if planes else out.reshape(size[0], -1)
