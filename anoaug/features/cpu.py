"""The noise ops' faster way on the CPU: noise for chosen positions alone, in blocks of the cache.

The torch reference holds words of 64 bits for every element; here NumPy, or Numba where it is asked
for, draws a block at a time and nothing is drawn where the mask is empty.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..reference.features import ROUNDING
from ..reference.features import noise as reference
from ..reference.features.rounding import stochastic as rounded_at_random
from .cpu_draws import Longs, Numbers, drawing

# Values of a block: fewer, and calls cost as much as they do.
BLOCK = 1 << 18


def add_noise(
    features: Tensor, out: Tensor, keys: Tensor, inside: Tensor | None, gain: Tensor | None,
    spread: Tensor | None, sigma: float, mixture: int, growth: float, stochastic: bool,
    compiled: bool = False,
) -> None:  # fmt: skip
    """Write features plus noise into ``out``; see ``reference.features.noise.add_noise``."""
    positions = features.shape[1]
    scale = reference.amplitudes(keys, positions, sigma, gain, mixture, growth)
    scale = scale.expand(len(features), positions)
    blocks = Noise(compiled)
    for group in range(features.shape[0]):
        # host: the CPU alone comes here
        places = torch.arange(positions) if inside is None else inside[group].nonzero()[:, 0]
        if places.shape[0] < positions:
            out[group].copy_(features[group])
        blocks.perturb(
            [(features[group], out[group])], keys[group], places, scale[group], spread, stochastic
        )


def add_given(
    features: Tensor, out: Tensor, inside: Tensor | None, scale: Tensor, noise: Tensor
) -> None:  # fmt: skip
    """Write float32 features plus noise ``[G, P, C]`` times ``scale`` [G, P] into ``out``."""
    _, positions, channels = features.shape
    if inside is not None:
        # Nothing of what is not to be moved, whatever its noise is.
        out.copy_(features)
    step = max(BLOCK // max(channels, 1), 1)
    room = torch.empty(min(step, positions), channels)
    for group in range(features.shape[0]):
        if inside is None:
            for first in range(0, positions, step):
                some = slice(first, min(first + step, positions))
                part = room[: some.stop - some.start]
                torch.mul(noise[group, some], scale[group, some, None], out=part)
                torch.add(features[group, some], part, out=out[group, some])
            continue
        for where in inside[group].nonzero()[:, 0].split(step):  # host: the CPU alone comes here
            part = noise[group].index_select(0, where).mul_(scale[group, where, None])
            out[group].index_add_(0, where, part)


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
    scale, blocks = torch.full((positions,), sigma), Noise(compiled)
    for row in range(2 * batch):
        places = noisy[row].nonzero()[:, 0]  # host: the CPU alone comes here
        pairs = [(source[row % batch], out[row]) for source, out in zip(sources, outs, strict=True)]
        if places.shape[0] < positions:
            for source, out in pairs:
                out.copy_(source)
        blocks.perturb(pairs, keys[row], places, scale, None, stochastic)


class Noise:
    """Noise of the positions of one group after the other, a block at a time.

    Args:
        compiled: Draw by Numba.
    """

    def __init__(self, compiled: bool) -> None:
        self.compiled = compiled
        self.draw = drawing(compiled).gaussians
        self.room = torch.empty(0)

    def perturb(
        self, pairs: list[tuple[Tensor, Tensor]], key: Tensor, places: Tensor, scale: Tensor,
        spread: Tensor | None, stochastic: bool,
    ) -> None:  # fmt: skip
        """Write noisy features of some positions of a group.

        Args:
            pairs: Features ``[P, C]`` and where they go, of any strides; all get the same noise.
                Where only some positions do, the latter hold the former already.
            key: int64 ``[2]``.
            places: int64 positions that get noise.
            scale: float32 ``[P]``.
            spread: float32 ``[C]`` or None.
            stochastic: Round at random.
        """
        count, (total, channels) = places.shape[0], pairs[0][0].shape
        if not count or not channels:
            return
        # Along the order of memory: rows of channels, or planes of positions.
        planes = pairs[0][0].stride(1) != 1
        quads = -(-channels // 4)
        rows = min(count, BLOCK // 4) if planes else max(BLOCK // (4 * quads), 1)
        step = max(BLOCK // (4 * rows), 1) if planes else quads
        keys = key[None].numpy()
        for first in range(0, count, rows):
            chosen = places[first : first + rows]
            where: Any = slice(first, first + rows) if count == total else chosen
            amplitude = scale[where]
            for quad in range(0, quads, step):
                last = min(quad + step, quads)
                span = slice(4 * quad, min(4 * last, channels))
                noise = self._drawn(keys, chosen.numpy(), quad, last, planes)
                noise = noise[:, : span.stop - span.start].mul_(amplitude[:, None])
                if spread is not None:
                    noise *= spread[span]
                word = None
                if stochastic:
                    word = _rounding_words(keys, chosen.numpy(), quad, last, planes)
                    word = word[:, : span.stop - span.start]
                for source, target in pairs:
                    _write(source, target, where, span, noise, word, planes, self.compiled)

    def _drawn(self, keys: Longs, places: Longs, first: int, last: int, planes: bool) -> Tensor:
        """A block of noise ``[n, c]``, which lies in memory as the features do."""
        size = (places.shape[0], 4 * (last - first))
        if self.room.numel() < size[0] * size[1]:
            self.room = torch.empty(size[0] * size[1])
        noise = self.room[: size[0] * size[1]].view(size[::-1] if planes else size)
        self.draw(noise.numpy(), keys, places, first, planes)
        return noise.T if planes else noise


def _rounding_words(keys: Longs, places: Longs, first: int, last: int, planes: bool) -> Tensor:
    """A word for every channel: int64 ``[n, 4 q]``."""
    words = Numbers().words(keys, places, np.arange(first, last), ROUNDING, planes)
    four = (word.T if planes else word for word in words)
    return torch.from_numpy(np.stack(tuple(four), axis=2).astype(np.int64)).flatten(1)


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
    if not planes and single and not full:
        target[:, span].index_add_(0, where, noise)
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
