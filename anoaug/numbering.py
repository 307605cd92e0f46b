"""Which sample a row is: seed, epoch and sample indices, given or counted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from . import checks, rng

# Indices from the counter never meet those of a dataset.
COUNTER_DOMAIN = 1 << 47
# An epoch that was never set counts as 0; seeds are any 64 bits.
_LOWEST = torch.tensor([-(1 << 63), 0], device="cpu")


class Numbering:
    """Seed, epoch and the counter of samples that came without an index.

    Lives on the host whatever the module's device is, because sampling happens there. It is no
    buffer: DDP would broadcast it and every rank would repeat rank 0.

    Args:
        seed: 64-bit seed; None takes ``torch.initial_seed()``, so that ``torch.manual_seed`` is
            obeyed.

    Attributes:
        state: int64 ``[2]``: seed and epoch, -1 for an epoch that was never set.
        counter: int64 scalar: samples numbered so far, over all ranks.
    """

    def __init__(self, seed: int | None) -> None:
        seed = torch.initial_seed() if seed is None else _checked_seed(seed)
        # Tensors made in inference mode could not be written outside it.
        with torch.inference_mode(False):
            self.state = torch.tensor([rng.signed64(seed), -1], dtype=torch.int64, device="cpu")
            self.counter = torch.zeros((), dtype=torch.int64, device="cpu")
        # What torch.compile may ask without reading a tensor.
        self._epoch_given = False

    def copy(self) -> Numbering:
        """An independent copy, also of a shared one."""
        twin = Numbering(0)
        twin.set_state(self.get_state())
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Numbering:
        """The same."""
        return self.copy()

    def share(self) -> None:
        """Move seed and epoch to shared memory, so that ``set_epoch`` reaches running workers."""
        self.state.share_memory_()

    @property
    def seed(self) -> int:
        """The 64-bit seed (signed)."""
        return int(self.state[0])

    @property
    def epoch(self) -> int:
        """The epoch used where a call gives none; 0 until one is set."""
        return max(int(self.state[1]), 0)

    def set_epoch(self, epoch: int) -> None:
        """Set the lasting epoch."""
        self.state[1] = _checked_epoch(epoch)
        self._epoch_given = True

    def get_state(self) -> dict[str, int]:
        """Seed, epoch (-1 if it was never set) and counter."""
        seed, epoch = self.state.tolist()  # host: the state lives there
        return {"seed": seed, "epoch": epoch, "counter": int(self.counter)}

    def set_state(self, state: dict[str, int]) -> None:
        """Restore what :meth:`get_state` gave."""
        self.state[0], self.state[1] = state["seed"], state["epoch"]
        self.counter.fill_(state["counter"])
        self._epoch_given = state["epoch"] >= 0

    def __call__(
        self, index: Tensor | Sequence[int] | None, epoch: int | None, rows: int
    ) -> tuple[Tensor, Tensor]:
        """Sample indices int64 ``[rows]`` and (seed, epoch) int64 ``[2]`` of a call.

        Raises:
            ValueError: An index without an epoch, on CUDA, out of range or of the wrong length.
        """
        state = self.state.clamp(min=_LOWEST)
        if epoch is not None:
            state = torch.stack([state[0], torch.tensor(_checked_epoch(epoch), device="cpu")])
        if index is None:
            return self._count(rows), _worker_state(state)
        if epoch is None and not self._epoch_known():
            raise ValueError(
                "index: expected an epoch with it, or every epoch would repeat the same anomaly; "
                "pass epoch= or call set_epoch() first"
            )
        vector = checks.host_rows("index", index, rows)
        if rows and not torch.compiler.is_compiling():
            rng.check_index_range(int(vector.min()), int(vector.max()))
        return vector, state

    @contextlib.contextmanager
    def kept_if_refused(self) -> Iterator[None]:
        """A block that numbers no samples if it raises."""
        before = self.counter.clone()
        try:
            yield
        except BaseException:
            self.counter.copy_(before)
            raise

    def _epoch_known(self) -> bool:
        """Whether an epoch was set, here or, in a worker, by the process that shares it."""
        return self._epoch_given or (not torch.compiler.is_compiling() and int(self.state[1]) >= 0)

    def _count(self, rows: int) -> Tensor:
        """Indices from the counter: disjoint between ranks, also when their number changes."""
        rank, world = place_among_ranks()
        # Rounded up to a multiple of the world, so that a resumed run may have another size.
        base = torch.div(self.counter + (world - 1), world, rounding_mode="floor") * world
        index = base + rank + world * torch.arange(rows, device="cpu") + COUNTER_DOMAIN
        self.counter.copy_(base + world * rows)
        return index


def _checked_seed(seed: int) -> int:
    if isinstance(seed, (bool, float, str)) or not -(2**63) <= int(seed) < 2**64:
        raise ValueError(f"seed: expected an integer of 64 bits or None, got {seed!r}")
    return int(seed)


def _checked_epoch(epoch: int) -> int:
    if isinstance(epoch, (bool, float, str)) or not 0 <= int(epoch) < 2**32:
        raise ValueError(f"epoch: expected an integer in [0, 2**32), got {epoch!r}")
    return int(epoch)


def place_among_ranks() -> tuple[int, int]:
    """Rank and world size: of the process group, times the DataLoader workers inside a rank."""
    rank, world = 0, 1
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    if not torch.compiler.is_compiling():
        worker = torch.utils.data.get_worker_info()
        if worker is not None:
            rank, world = rank * worker.num_workers + worker.id, world * worker.num_workers
    return rank, world


def _worker_state(state: Tensor) -> Tensor:
    """In a DataLoader worker the counter starts anew each epoch: its seed moves the stream."""
    if torch.compiler.is_compiling():
        return state
    worker = torch.utils.data.get_worker_info()
    if worker is None:
        return state
    base = worker.seed - worker.id  # the same in all workers of an epoch
    seed = rng.signed64(rng.mix64(int(state[0]) ^ base))
    return torch.stack([torch.tensor(seed, device="cpu"), state[1]])
