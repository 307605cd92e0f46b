"""Which image comes when: the order of an epoch, each rank's share of it, and resuming in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from ..numbering import Numbering, place_among_ranks
from ..rng import Draws
from .contract import moved

if TYPE_CHECKING:
    from .resident import ResidentDataset

Indices = npt.NDArray[np.int64]

_ORDER = "loader.order"  # the random stream of the shuffle


class ResidentLoader:
    """A data set's batches in the order of a seed and an epoch, this rank's share of them.

    **Order.** The shuffle is a function of (seed, epoch) alone: image ``i`` draws 64 bits from
    Philox4x32-10 at (seed, epoch, i), and the images are sorted by them, ties by ``i``. It is the
    same on every platform and rank and reads no global generator.

    **Epoch.** Every ``iter()`` is an epoch, counted from 0; ``set_epoch`` fixes the next one.

    **Ranks.** Of the epoch's order rank ``r`` takes every ``world``-th image, from the ``r``-th on,
    as ``DistributedSampler`` does. So that all ranks have as many batches, up to ``world - 1``
    images from the beginning of the order are given once more at the end; with ``drop_last`` up to
    ``world * batch_size - 1`` at the end are left out instead. To score a test split, where a
    repeated image would count twice, use ``rank=0, world=1``.

    **Resuming.** ``state_dict`` says how many images all ranks together have been given. Saved in
    the middle of an epoch, it lets the next ``iter()`` go on after the last batch that was handed
    out, with other ranks or another batch size too; saved after an epoch, with the next one.

    Args:
        dataset: The images.
        batch_size: Images per batch and rank; the last batch of an epoch may be smaller.
        shuffle: False keeps the order of the names, and batches of one rank are then views.
        seed: 64-bit seed of the order, the same on all ranks; None takes ``torch.initial_seed()``.
        drop_last: Give whole batches only.
        rank, world: This process's place; None asks ``torch.distributed`` at each iteration, which
            is 0 of 1 without a process group.

    Raises:
        ValueError: A batch size, seed, epoch or place that cannot be.
    """

    def __init__(
        self,
        dataset: ResidentDataset,
        batch_size: int = 32,
        *,
        shuffle: bool = True,
        seed: int | None = 0,
        drop_last: bool = False,
        rank: int | None = None,
        world: int | None = None,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size: expected a whole number >= 1, got {batch_size!r}")
        if (rank is None) != (world is None):
            raise ValueError(
                f"rank, world: expected both or neither, got {rank!r} and {world!r}; "
                "leave both out to take torch.distributed's"
            )
        if rank is not None and world is not None and not 0 <= rank < world:
            raise ValueError(f"rank: expected one of 0 to world - 1, got {rank} of {world}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self._numbering = Numbering(seed)
        self._place = None if rank is None or world is None else (rank, world)
        self._next = _Pass(0)
        self._now: _Pass | None = None

    @property
    def seed(self) -> int:
        """The 64-bit seed of the order (signed)."""
        return self._numbering.seed

    def set_epoch(self, epoch: int) -> None:
        """Fix the epoch of the next iteration; a resumed one of this epoch keeps its position."""
        self._numbering.set_epoch(epoch)
        if self._next.epoch != int(epoch):
            self._next = _Pass(int(epoch))

    def __len__(self) -> int:
        """Batches of a whole epoch, on each rank."""
        images = len(self._share(_Pass(0), np.arange(len(self.dataset))))
        return -(-images // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        state = self._next
        self._next, self._now = _Pass(state.epoch + 1), state
        return self._run(state)

    def _run(self, state: _Pass) -> Iterator[dict[str, Any]]:
        _, world = self._ranks()
        rows = torch.from_numpy(self._share(state, self.order(state.epoch)))
        placed = moved(rows, self.dataset.device)  # once; the batches take slices of it
        for begin in range(0, len(rows), self.batch_size):
            part = slice(begin, begin + self.batch_size)
            state.given += world * len(rows[part])
            yield self.dataset.take(rows[part], placed[part])
        if self._now is state:
            self._now = None

    def order(self, epoch: int) -> Indices:
        """The images of an epoch in order, before ranks share them, int64 ``[N]``."""
        numbers = np.arange(len(self.dataset), dtype=np.int64)
        if not self.shuffle:
            return numbers
        draws = Draws(self.seed, epoch, numbers, {_ORDER: 2})
        high, low = draws.words(_ORDER, 2).astype(np.uint64)
        return np.argsort(high << np.uint64(32) | low, kind="stable").astype(np.int64)

    def _share(self, state: _Pass, order: Indices) -> Indices:
        """This rank's images among those that a pass has still to give."""
        rank, world = self._ranks()
        left = len(order) - state.given
        left += -(left % (self.batch_size * world)) if self.drop_last else -left % world
        places = np.arange(state.given + rank, state.given + left, world)
        return order[places % len(order)]

    def _ranks(self) -> tuple[int, int]:
        return self._place or place_among_ranks()

    def state_dict(self) -> dict[str, Any]:
        """The place in the epoch under way, or the next epoch if none is."""
        return {
            **asdict(self._now or self._next),
            "seed": self.seed,
            "shuffle": self.shuffle,
            "images": len(self.dataset),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` gave, the seed included; the next ``iter()`` goes on there.

        Raises:
            ValueError: The state is of other images or of another kind of order.
        """
        for name, mine in (("images", len(self.dataset)), ("shuffle", self.shuffle)):
            if state[name] != mine:
                what = {"images": "a data set of {} images", "shuffle": "shuffle={}"}[name]
                raise ValueError(
                    f"state_dict: expected one for {what.format(mine)}, got one for "
                    f"{what.format(state[name])}; make the loader as it was when it was saved"
                )
        self._numbering = Numbering(state["seed"])
        self._next, self._now = _Pass(int(state["epoch"]), int(state["given"])), None


@dataclass
class _Pass:
    """An iteration: its epoch, and how many images all ranks together have been given."""

    epoch: int
    given: int = 0
