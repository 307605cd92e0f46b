"""Laws of single rows on a block of the cache: third twins of ``reference/features/laws.py``.

A law's sums are one number a row, and what moves the row is one product and one sum more: so there
is no temporary of the block's size but the one that is lent. Results are the reference's within its
kernels' tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Number = Tensor | float
# The part across of noise that leans on its row more than this loses digits to one difference.
LEANING = 4.0


class Block(NamedTuple):
    """Rows at once, each with its channels side by side.

    Attributes:
        out: float32 ``[n, C]``, written by the law; none of the others.
        x: Features, float32 ``[n, C]``.
        other: Likewise, or ``[1, C]``, for laws that have another vector.
        noise: Standard normal, likewise, for laws that always have noise; written over.
        room: Likewise, written over.
        columns: Numbers, or float32 ``[n, 1]``.
    """

    out: Tensor
    x: Tensor
    other: Tensor
    noise: Tensor
    room: Tensor
    columns: tuple[Number, ...]


def length(a: Tensor) -> Tensor:
    """Lengths of rows ``[n, 1]``."""
    return torch.linalg.vector_norm(a, dim=1, keepdim=True)


def over(a: Number, b: Tensor) -> Tensor:
    """A / b, and 0 where b is 0."""
    found = torch.reciprocal(b).mul_(a) if isinstance(a, float) else torch.div(a, b)
    return found.masked_fill_(b == 0, 0.0)


def jitter(block: Block) -> None:
    """X + c |x| e."""
    gain = length(block.x).mul_(block.columns[0])
    torch.addcmul(block.x, block.noise, gain, out=block.out)


def unit_jitter(block: Block) -> None:
    """X + c |x| e / |e|."""
    gain = over(length(block.x), length(block.noise)).mul_(block.columns[0])
    torch.addcmul(block.x, block.noise, gain, out=block.out)


def shell(block: Block) -> None:
    """X + c e / |e|."""
    gain = over(block.columns[0], length(block.noise))
    torch.addcmul(block.x, block.noise, gain, out=block.out)


def ascend(block: Block) -> None:
    """X + c o / (|o| + eps)."""
    gain = over(block.columns[0], length(block.other).add_(block.columns[1]))
    torch.addcmul(block.x, block.other, gain, out=block.out)


def push(block: Block) -> Tensor:
    """X + c (x - o) / |x - o|; returns |x - o|."""
    away = torch.sub(block.x, block.other, out=block.room)
    far = length(away)
    torch.addcmul(block.x, away, over(block.columns[0], far), out=block.out)
    return far


def project(block: Block) -> Tensor:
    """O + h clamp(|h|, low, high) / (|h| + eps), or x within; returns |h| = |x - o|."""
    low, high, eps = block.columns
    away = torch.sub(block.x, block.other, out=block.room)
    far = length(away)
    held = torch.clamp(far, low, high)  # type: ignore[arg-type]
    torch.addcmul(block.other, away, over(held, far + eps), out=block.out)
    stays = ((far >= low) & (far <= high))[:, 0].nonzero()[:, 0]
    if len(stays):
        block.out.index_copy_(0, stays, block.x.index_select(0, stays))
    return far


def sphere(block: Block) -> None:
    """Cos x + sin |x| times the unit vector of the noise's part across x."""
    cosine, sine = block.columns
    x, across = block.x, block.noise
    far = length(x)
    lean = _leaning(x, across, far, block.room)
    across.addcmul_(x, lean, value=-1.0)
    wide = length(across)
    # Nearly parallel: the difference keeps few digits, so once more.
    few = ((lean * far).abs() > LEANING * wide)[:, 0].nonzero()[:, 0]
    if len(few):
        part, row = across.index_select(0, few), x.index_select(0, few)
        part.addcmul_(row, _leaning(row, part, far[few], torch.empty_like(part)), value=-1.0)
        across.index_copy_(0, few, part)
        wide[few] = length(part)
    gain = over(sine * far, wide)
    stays = (far == 0) | (wide == 0)
    torch.mul(x, torch.where(stays, 1.0, cosine), out=block.out)
    block.out.addcmul_(across, gain)


def _leaning(x: Tensor, noise: Tensor, far: Tensor, room: Tensor) -> Tensor:
    """``<e, x> / |x|^2``, by two divisions, so that no square leaves the range."""
    along = torch.mul(x, noise, out=room).sum(1, keepdim=True)
    return over(over(along, far), far)


def stereographic(block: Block) -> None:
    """The gyro-sum of x and t e / |e|; columns K and t."""
    curvature, reach = block.columns
    x, noise = block.x, block.noise
    wide, square = length(noise), length(x).square_()
    along = over(torch.mul(x, noise, out=block.room).sum(1, keepdim=True), wide)
    bend = curvature * reach
    first = 1 - 2 * bend * along
    below = first + bend * bend * square
    torch.mul(x, over(first - bend * reach, below), out=block.out)
    block.out.addcmul_(noise, over(over((1 + curvature * square) * reach, below), wide))


Move = Callable[[Block], Tensor | None]
# What returns lengths does so for laws whose rows of length 0 may get noise.
LAWS: dict[str, Move] = {
    "jitter": jitter,
    "unit_jitter": unit_jitter,
    "shell": shell,
    "ascend": ascend,
    "push": push,
    "project": project,
    "sphere": sphere,
    "stereographic": stereographic,
}
