"""The row laws' faster way on the CPU: the reference's own laws, some positions at a time.

Noise is drawn a block at a time as for :mod:`.cpu`, for the rows that get it and no others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..reference.features.laws import LAWS, Row, dot, length
from ..reference.features.noise import wide
from .cpu import BLOCK, drawing

# Groups smaller than this are not worth a loop over them.
LEAST = 1 << 13


class Read(NamedTuple):
    """What a law reads, as :func:`reference.apply` takes it; ``place`` is its index."""

    features: Tensor
    other: Tensor | None
    place: Tensor | None
    keys: Tensor | None
    noise: Tensor | None
    inside: Tensor | None
    numbers: Sequence[float]
    columns: Tensor | None
    law: str


def worthwhile(read: Read) -> bool:
    """Whether the groups are large enough."""
    _, positions, channels = read.features.shape
    return positions * channels >= LEAST


def apply(out: Tensor, read: Read, compiled: bool) -> None:
    """Write rows by a law into ``out``; see :func:`reference.apply`."""
    law = LAWS[read.law]
    for group, where, block in _blocks(out, read.features, read.inside):
        row = _row(read, group, where, block, compiled, law.noise == "always")
        moved = law.forward(row)
        if law.noise == "zero" and (read.keys is not None or read.noise is not None):
            lost = dot(row.x - row.other, row.x - row.other)[0, :, 0] == 0
            if lost.any():  # host: the CPU alone comes here
                again = _row(read, group, where[lost], block[lost], compiled, True)
                moved[:, lost] = law.forward(again)
        out[group, where] = moved[0].to(out.dtype)


def backward(out: Tensor, grad: Tensor, read: Read, compiled: bool) -> None:
    """Write the features' gradient into ``out``; see :func:`reference.backward`."""
    law = LAWS[read.law]
    assert law.backward is not None
    for group, where, block in _blocks(out, grad, read.inside):
        row = _row(read, group, where, read.features[group, where], compiled, law.noise == "always")
        if law.noise == "zero" and (read.keys is not None or read.noise is not None):
            # That there is noise is all the gradient asks.
            row = row._replace(noise=row.x.new_zeros(1))
        out[group, where] = law.backward(row, wide(block)[None])[0].to(out.dtype)


def _blocks(out: Tensor, given: Tensor, inside: Tensor | None) -> Iterator[tuple[int, Any, Tensor]]:
    """Group, positions and their values of every block; where nothing moves ``given`` stays."""
    groups, positions, channels = given.shape
    step = max(BLOCK // max(channels, 1), 1)
    for group in range(groups):
        places = torch.arange(positions)
        if inside is not None:
            out[group].copy_(given[group])
            places = inside[group].nonzero()[:, 0]
        for where in places.split(step):
            if len(where):
                yield group, where, given[group, where]


def _row(read: Read, group: int, where: Tensor, block: Tensor, compiled: bool, noisy: bool) -> Row:
    """What a law reads of a block: ``[1, n, C]``."""
    x = wide(block).contiguous()[None]
    other = x
    if read.other is not None:
        found = (
            read.other[group, where] if read.place is None else read.other[read.place[group, where]]
        )
        other = found.to(x.dtype).contiguous()[None]
    noise = x.new_empty(0)
    if noisy and read.noise is not None:
        noise = read.noise[group, where].to(x.dtype).contiguous()[None]
    elif noisy:
        assert read.keys is not None
        channels = x.shape[2]
        key = read.keys[group].tolist()  # host: the CPU alone comes here
        drawn = drawing(compiled)(key, where.numpy(), 0, -(-channels // 4), False)
        noise = torch.from_numpy(drawn)[:, :channels].contiguous()[None]
    if read.columns is None:
        return Row(x, other, noise, tuple(x.new_full((1, 1, 1), n) for n in read.numbers))
    own = read.columns[group, where].to(x.dtype)
    return Row(x, other, noise, own[None, :, None].unbind(-1))


def noise_lengths(out: Tensor, keys: Tensor, channels: int, compiled: bool) -> None:
    """Write lengths of noise; see :func:`reference.noise_lengths`."""
    draw, positions = drawing(compiled), out.shape[1]
    step = max(BLOCK // max(channels, 1), 1)
    for group, key in enumerate(keys.tolist()):  # host: the CPU alone comes here
        for where in torch.arange(positions).split(step):
            drawn = torch.from_numpy(draw(key, where.numpy(), 0, -(-channels // 4), False))
            out[group, where] = length(drawn[:, :channels])[:, 0]
