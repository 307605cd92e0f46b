"""A uniform sample of the rows of a stream, and k-means on it; both from our own randomness."""

from __future__ import annotations

import torch
from torch import Tensor

from ...reference.features import GROUP, position_words, words
from ...rng import uniform
from .. import randomness
from ..functional.nearest import nearest
from . import ranks

# A row that does not count: larger than any key.
_NEVER = 1 << 62


class RowSample:
    """As many rows as it may hold, each row of the stream with the same chance.

    Every row has a random key; those with the smallest are kept.

    Args:
        size: Rows to hold.
        seed: 64-bit seed.
        stream: Name of the randomness.
    """

    def __init__(self, size: int, seed: int, stream: str) -> None:
        self.size, self.seed, self.stream = size, seed, stream
        self.batches = 0
        self.rows: Tensor | None = None
        self.keys: Tensor | None = None

    def add(self, rows: Tensor) -> None:
        """Offer rows float ``[N, C]``."""
        number = self.batches * ranks.world() + ranks.rank()
        self.batches += 1
        key = randomness.keys(
            self.seed, torch.tensor([number]), stream=self.stream, device=str(rows.device)
        )
        drawn = position_words(key, len(rows))[:2, 0]
        self._keep(rows, (drawn[0] << 29) ^ drawn[1])  # 61 bits

    def _keep(self, rows: Tensor, keys: Tensor) -> None:
        if self.rows is not None and self.keys is not None:
            rows, keys = torch.cat((self.rows, rows)), torch.cat((self.keys, keys))
        if len(rows) > self.size:
            keys, chosen = keys.topk(self.size, largest=False)
            rows = rows[chosen]
        self.rows, self.keys = rows, keys

    def shared(self, share: bool) -> Tensor:
        """The sample of all ranks' rows ``[n, C]``, in an order that their number does not change.

        Raises:
            ValueError: No row was offered.
        """
        assert self.rows is not None and self.keys is not None
        rows, keys = self.rows, self.keys
        missing = self.size - len(rows)
        if share and ranks.world() > 1:
            rows = torch.cat((rows, rows.new_zeros(missing, rows.shape[1])))
            keys = torch.cat((keys, keys.new_full((missing,), _NEVER)))
            rows = ranks.gathered(rows).flatten(0, 1)
            keys = ranks.gathered(keys).flatten()
        order = keys.argsort()[: self.size]
        order = order[keys[order] < _NEVER]
        return rows[order]


def seeded(rows: Tensor, count: int, key: Tensor) -> Tensor:
    """k-means++ (Arthur and Vassilvitskii, 2007): rows far from those chosen before, ``[K, C]``.

    Each is drawn with a chance proportional to its squared distance to the nearest chosen one;
    once all rows are chosen, uniformly.

    Args:
        rows: float32 ``[N, C]``.
        count: K.
        key: int64 ``[1, 2]`` of the randomness.
    """
    turn = torch.arange(count, device=rows.device)
    drawn = uniform(torch.stack(words(key, turn[:, None], 0, GROUP))[0, 0, :, 0]).double()
    first = (drawn[0] * len(rows)).long()
    chosen = [rows.index_select(0, first[None])]
    apart = (rows - chosen[0]).square().sum(1)
    for n in range(1, count):
        mass = torch.where(apart.max() > 0, apart, 1.0).double().cumsum(0)
        place = torch.searchsorted(mass, (drawn[n] * mass[-1])[None], right=True)
        chosen.append(rows.index_select(0, place.clamp(max=len(rows) - 1)))
        apart = torch.minimum(apart, (rows - chosen[-1]).square().sum(1))
    return torch.cat(chosen)


def assigned(rows: Tensor, codes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(places ``[N]``, distances ``[N]``, counts ``[K]``, sums ``[K, C]``) of the nearest codes."""
    place, apart = nearest(rows, codes, "euclidean")
    counts = rows.new_zeros(len(codes)).index_add_(0, place, torch.ones_like(apart))
    sums = torch.zeros_like(codes).index_add_(0, place, rows)
    return place, apart, counts, sums


def lloyd(rows: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """One round of Lloyd's: codes at the means of their rows; and counts ``[K]``.

    Codes without rows move to the rows that are farthest from their own.
    """
    _, apart, counts, sums = assigned(rows, codes)
    empty = counts == 0
    far = apart.topk(min(len(codes), len(rows))).indices
    turn = (empty.cumsum(0) - 1).clamp(min=0, max=len(far) - 1)
    means = sums / counts.clamp(min=1)[:, None]
    return torch.where(empty[:, None], rows[far[turn]], means), counts
