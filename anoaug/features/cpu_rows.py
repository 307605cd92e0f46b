"""The row laws' faster way on the CPU: a block of the cache at a time, read and written once.

Rows of all groups are one list where they lie so, and a block of it is a slice; only under a mask,
or where channels do not lie side by side, are rows copied together. Noise is drawn for the rows
that get it and no others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..reference.features.laws import LAWS, Row
from .cpu_draws import Floats, Longs, drawing
from .cpu_laws import LAWS as MOVES
from .cpu_laws import Block, Move, length

# Values of a block: fewer, and calls cost as much as they do.
BLOCK = 1 << 18
# Smaller groups go together, even where that takes a copy.
LEAST = 1 << 13


Rows = slice | Tensor
Columns = tuple[Tensor | float, ...]


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


class Span(NamedTuple):
    """Rows ``[N, C]`` that have a common stride: all, or those of a group.

    Attributes:
        first: Number of the first among all rows, ``g P + p``.
        given: What stays where nothing moves: features, or the gradient.
        features: Features.
        out: Where they go.
        other: Other vectors, or None.
        noise: Given noise, or None.
    """

    first: int
    given: Tensor
    features: Tensor
    out: Tensor
    other: Tensor | None
    noise: Tensor | None


class Blocks:
    """A call's blocks: some rows of a span, a slice of them or their numbers int64 ``[n]``.

    Args:
        out: ``[G, P, C]``.
        given: Likewise.
        read: What the law reads.
        compiled: Draw by Numba.
    """

    def __init__(self, out: Tensor, given: Tensor, read: Read, compiled: bool) -> None:
        self.read, self.channels = read, given.shape[2]
        self.draw = drawing(compiled).gaussians
        self.inside = None if read.inside is None else read.inside.flatten()
        if self.inside is not None:
            if self.inside.all():  # host: the CPU alone comes here
                self.inside = None
            else:
                out.copy_(given)
        drawn = LAWS[read.law].noise == "always" and read.noise is None
        small = out.shape[1] * out.shape[2] < LEAST
        self.spans = _spans(out, given, read, drawn and not small)
        longest = max(span.given.shape[0] for span in self.spans)
        self.rows = min(max(BLOCK // self.channels, 1), longest)
        self.lent: dict[str, Tensor] = {}
        if read.columns is not None:
            self.columns = read.columns.to(torch.float32).flatten(0, 1)
        if read.keys is not None:
            self.keys = read.keys.numpy()

    def __iter__(self) -> Iterator[tuple[Span, Rows]]:
        for span in self.spans:
            total = span.given.shape[0]
            if self.inside is None:
                for first in range(0, total, self.rows):
                    yield span, slice(first, min(first + self.rows, total))
                continue
            chosen = self.inside[span.first : span.first + total].nonzero()[:, 0]
            for rows in chosen.split(self.rows):
                if rows.shape[0]:
                    yield span, rows

    def lend(self, name: str, rows: int, channels: int = 0) -> Tensor:
        """float32 ``[n, C]``, or of other channels: the same memory for all blocks."""
        if name not in self.lent:
            self.lent[name] = torch.empty(self.rows, channels or self.channels)
        return self.lent[name][:rows]

    def take(self, name: str, values: Tensor, rows: Rows) -> Tensor:
        """Rows as float32 with channels side by side: a view, or copied together."""
        plain = values.dtype == torch.float32 and values.stride(1) == 1
        if isinstance(rows, slice):
            part = values[rows]
            return part if plain else self.lend(name, part.shape[0]).copy_(part)
        if plain:
            return torch.index_select(values, 0, rows, out=self.lend(name, rows.shape[0]))
        return self.lend(name, rows.shape[0]).copy_(values[rows])

    def row(self, span: Span, rows: Rows, noisy: bool) -> tuple[Tensor, Tensor, Tensor, Columns]:
        """What a law reads: the row, the other vector, noise and columns."""
        x = self.take("x", span.features, rows)
        other = x
        if self.read.place is not None:
            assert self.read.other is not None
            place = self.read.place.flatten()[_among(span, rows)]
            other = self.take("other", self.read.other, place)
        elif span.other is not None:
            other = self.take("other", span.other, rows)
        noise = self.noise(span, rows, x.shape[0]) if noisy else x
        if self.read.columns is None:
            # Rounded as tensors of them would be.
            return x, other, noise, tuple(float(np.float32(n)) for n in self.read.numbers)
        return x, other, noise, self.columns[_among(span, rows)].split(1, 1)

    def noise(self, span: Span, rows: Rows, count: int) -> Tensor:
        """A block of noise that may be written over."""
        if span.noise is not None:
            return self.lend("noise", count).copy_(span.noise[rows])
        quads = -(-self.channels // 4)
        noise = self.lend("noise", count, 4 * quads)
        number = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows.numpy()
        group, place = np.divmod(number + span.first, self.read.features.shape[1])
        own = slice(group[0], group[0] + 1) if group[0] == group[-1] else group
        self.draw(noise.numpy(), self.keys[own], place, 0, False)
        return noise[:, : self.channels]


def _among(span: Span, rows: Rows) -> Any:
    """Where a block is among all rows."""
    if isinstance(rows, slice):
        return slice(span.first + rows.start, span.first + rows.stop)
    return rows + span.first


def _spans(out: Tensor, given: Tensor, read: Read, apart: bool) -> list[Span]:
    """One span where rows lie so, else, or if asked for, the groups'."""
    other = None if read.place is not None else read.other
    all_of = (given, read.features, out, other, read.noise)
    if not apart and all(values is None or _listed(values) for values in all_of):
        return [Span(0, *(None if values is None else values.flatten(0, 1) for values in all_of))]  # type: ignore[arg-type]
    positions = given.shape[1]
    return [
        Span(group * positions, *(None if values is None else values[group] for values in all_of))  # type: ignore[arg-type]
        for group in range(len(given))
    ]


def _listed(values: Tensor) -> bool:
    """Whether rows ``[G, P, C]`` of all groups have a common stride."""
    groups, positions, _ = values.shape
    return min(groups, positions) == 1 or values.stride(0) == positions * values.stride(1)


def _scattered(out: Tensor, read: Read) -> bool:
    """Whether groups are so small that a copy of all is quicker than a block of each."""
    _, positions, channels = out.shape
    other = None if read.place is not None else read.other
    listed = all(
        values is None or _listed(values) for values in (read.features, out, other, read.noise)
    )
    return positions * channels < LEAST and not listed


def _together(read: Read) -> Read:
    """With rows that lie side by side."""
    other = read.other if read.other is None or read.place is not None else read.other.contiguous()
    noise = None if read.noise is None else read.noise.contiguous()
    return read._replace(features=read.features.contiguous(), other=other, noise=noise)


def _store(span: Span, rows: Rows, moved: Tensor) -> None:
    if isinstance(rows, slice):
        span.out[rows].copy_(moved)
    else:
        span.out.index_copy_(0, rows, moved.to(span.out.dtype))


def apply(out: Tensor, read: Read, compiled: bool) -> None:
    """Write rows by a law into ``out``; see :func:`reference.apply`."""
    if _scattered(out, read):
        beside = torch.empty(out.shape, dtype=out.dtype)
        apply(beside, _together(read), compiled)
        out.copy_(beside)
        return
    law, move = LAWS[read.law], _moving(read.law, compiled)
    fed = law.noise == "zero" and (read.keys is not None or read.noise is not None)
    blocks = Blocks(out, read.features, read, compiled)
    for span, rows in blocks:
        x, other, noise, columns = blocks.row(span, rows, law.noise == "always")
        straight = isinstance(rows, slice) and span.out.stride(1) == 1
        straight = straight and span.out.dtype == torch.float32
        moved = span.out[rows] if straight else blocks.lend("moved", x.shape[0])
        far = move(Block(moved, x, other, noise, blocks.lend("room", x.shape[0]), columns))
        lost = (far == 0)[:, 0].nonzero()[:, 0] if fed and far is not None else x[:0]
        if lost.shape[0]:
            columns = tuple(c if isinstance(c, float) else c[lost] for c in columns)
            number = lost + rows.start if isinstance(rows, slice) else rows[lost]
            noise = blocks.noise(span, number, lost.shape[0])
            row = _reference_row(x[lost], (other.expand_as(x))[lost], noise, columns)
            moved[lost] = law.forward(row)[0]
        if not straight:
            _store(span, rows, moved)


def _moving(law: str, compiled: bool) -> Move:
    """What moves the rows of a block: Numba's loops where they have the law."""
    if not compiled:
        return MOVES[law]
    from ..compiled import feature_rows as loops

    return functools.partial(_move, law) if law in loops.KINDS else MOVES[law]


def _move(law: str, block: Block) -> Tensor:
    """A block by Numba, and the lengths of those laws that have them, ``[n, 1]``."""
    from ..compiled import feature_rows as loops

    number, channels = block.x.shape
    far = np.empty(number, np.float32)
    out, x, other = _memory(block.out), _memory(block.x), _memory(block.other)
    if all(isinstance(column, float) for column in block.columns):
        columns = np.array([block.columns], np.float32)
    else:
        columns = torch.cat([torch.as_tensor(c) for c in block.columns], 1).numpy()
    loops.move(law, out, x, other, _memory(block.noise), channels, columns, far)
    return torch.from_numpy(far)[:, None]


def _memory(rows: Tensor) -> tuple[Floats, int]:
    """Rows as one-dimensional memory, and the step from one to the next."""
    number, channels = rows.shape
    step = rows.stride(0) if number > 1 else channels
    flat: Floats = rows.as_strided(((number - 1) * step + channels,), (1,)).numpy()
    return flat, step


def backward(out: Tensor, grad: Tensor, read: Read, compiled: bool) -> None:
    """Write the features' gradient into ``out``; see :func:`reference.backward`."""
    law = LAWS[read.law]
    assert law.backward is not None
    fed = read.keys is not None or read.noise is not None
    blocks = Blocks(out, grad, read, compiled)
    for span, rows in blocks:
        x, other, noise, columns = blocks.row(span, rows, law.noise == "always")
        if law.noise != "always":
            # Of rows of no direction: that there is noise is all the gradient asks.
            noise = x.new_zeros(1 if law.noise == "zero" and fed else 0)
        row = _reference_row(x, other, noise, columns)
        _store(span, rows, law.backward(row, blocks.take("grad", span.given, rows)[None])[0])


def _reference_row(x: Tensor, other: Tensor, noise: Tensor, columns: Columns) -> Row:
    """``[1, n, C]``, as the reference's laws read it."""
    own = (x.new_full((1, 1, 1), c) if isinstance(c, float) else c[None] for c in columns)
    return Row(x[None], other[None], noise[None], tuple(own))


def distances(
    features: Tensor, other: Tensor, index: Tensor | None, compiled: bool
) -> Tensor:  # fmt: skip
    """Distance of every row to the other vector; see :func:`reference.distances`."""
    read = Read(features, other, index, None, None, None, (), None, "push")
    far = torch.empty(features.shape[:2])
    if _scattered(features, read):
        read = _together(read)
    blocks = Blocks(read.features, read.features, read, compiled)
    for span, rows in blocks:
        x, beside, _, _ = blocks.row(span, rows, False)
        room = blocks.lend("room", x.shape[0])
        if compiled:
            size = _move("distance", Block(x, x, beside, x, room, (0.0,)))
        else:
            size = length(torch.sub(x, beside, out=room))
        far.view(-1)[_among(span, rows)] = size[:, 0]
    return far


def gaussians(keys: Tensor, positions: int, channels: int, compiled: bool) -> Tensor:
    """Normal numbers float32 ``[G, P, C]``."""
    draw = drawing(compiled).gaussians
    return _drawn(
        keys, positions, channels, lambda out, key, places: draw(out, key, places, 0, False)
    )


def uniforms(keys: Tensor, positions: int, channels: int, compiled: bool) -> Tensor:
    """Uniform numbers float32 ``[G, P, C]`` in [0, 1)."""
    draw = drawing(compiled).uniforms
    return _drawn(keys, positions, channels, lambda out, key, places: draw(out, key, places, 0))


def _drawn(keys: Tensor, positions: int, channels: int, draw: Callable[..., None]) -> Tensor:
    quads = -(-channels // 4)  # room behind the channels where no quad ends
    groups, known = keys.shape[0], keys.numpy()  # host: the CPU alone comes here
    numbers = torch.empty(groups * positions, 4 * quads)
    step = max(BLOCK // max(4 * quads, 1), 1)
    for span, which, places in _runs(groups, positions, step):
        draw(numbers[span].numpy(), known[which], places)
    return numbers.view(groups, positions, 4 * quads)[:, :, :channels].contiguous()


def _runs(groups: int, positions: int, step: int) -> Iterator[tuple[slice, Longs, Longs]]:
    """Blocks of all groups' rows, whose groups may be small: rows, their groups, their places.

    A block within one group has it once.
    """
    for first in range(0, groups * positions, step):
        at = np.arange(first, min(first + step, groups * positions))
        which = at // positions
        which = which[:1] if which[0] == which[-1] else which
        yield slice(first, first + step), which, at % positions


def noise_lengths(out: Tensor, keys: Tensor, channels: int, compiled: bool) -> None:
    """Write lengths of noise; see :func:`reference.noise_lengths`."""
    draw, (groups, positions) = drawing(compiled).gaussians, out.shape
    step = max(BLOCK // max(channels, 1), 1)
    room = np.empty((min(step, groups * positions), 4 * -(-channels // 4)), np.float32)
    known, flat = keys.numpy(), out.view(-1)  # host: the CPU alone comes here
    for span, which, places in _runs(groups, positions, step):
        noise = room[: len(places)]
        draw(noise, known[which], places, 0, False)
        flat[span] = length(torch.from_numpy(noise)[:, :channels])[:, 0]
