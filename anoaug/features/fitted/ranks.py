"""What ranks of a process group tell each other while they fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, distributed


def world() -> int:
    """Number of ranks; 1 without a process group."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def summed(value: Tensor, share: bool = True) -> Tensor:
    """The sum over all ranks, without waiting; the tensor itself where there is one rank."""
    if not share or world() == 1:
        return value
    total = value.detach().clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total


def averaged(values: Tensor, share: bool = True) -> Tensor:
    """The mean of all ranks' values, of nothing 0; a constant for autograd."""
    values = values.detach()
    count = values.new_full((), values.numel())
    total = summed(torch.stack((values.sum(), count)), share)
    return total[0] / total[1].clamp(min=1)


def gathered(value: Tensor, share: bool = True) -> Tensor:
    """``[ranks, ...]``: the tensor of every rank, which has the same shape on all of them."""
    if not share or world() == 1:
        return value[None]
    parts = [torch.empty_like(value) for _ in range(world())]
    distributed.all_gather(parts, value.contiguous())
    return torch.stack(parts)


def rounds(batches: Iterable[Any], share: bool = True) -> Iterator[tuple[Any, bool]]:
    """(batch, True) until every rank has run out; (None, False) where only this one has.

    So each rank takes part in every reduction, however unequal the loaders are.

    Raises:
        ValueError: The loader of some rank, or the only one, is empty; on every rank.
    """
    over = object()
    iterator = iter(batches)
    start = True
    while True:
        batch = next(iterator, over)
        going = _count(batch is not over, share)
        if start and going < (world() if share else 1):
            raise ValueError(
                "fit: expected a loader with at least one batch on every rank, got an empty one; "
                "is the data set smaller than the number of ranks, or drop_last set?"
            )
        if not going:
            return
        yield (None, False) if batch is over else (batch, True)
        start = False


def _count(flag: bool, share: bool) -> int:
    if not share or world() == 1:
        return int(flag)
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    total = torch.tensor(int(flag), device=device)
    distributed.all_reduce(total)
    return int(total)  # host: once a batch of a fit


def rank() -> int:
    """This process's rank; 0 without a process group."""
    return distributed.get_rank() if world() > 1 else 0


def of_first(value: Tensor, share: bool = True) -> Tensor:
    """The tensor of the first rank, on all."""
    if not share or world() == 1:
        return value
    value = value.contiguous()
    distributed.broadcast(value, 0)
    return value
