"""Rows of a batch, taken out and put back: any dtype, any memory format, no synchronisation."""

from __future__ import annotations

import torch
from torch import Tensor


def taken(tensor: Tensor, rows: Tensor) -> Tensor:
    """Some rows, in the tensor's memory format."""
    last = _interleaved(tensor)
    taken = _flat(tensor, last).index_select(0, rows)
    taken = taken.view(tensor.dtype) if taken.dtype != tensor.dtype else taken
    return taken.permute(0, 3, 1, 2) if last else taken


def with_rows(part: Tensor, rows: int) -> Tensor:
    """Room for as many rows, in the part's memory format."""
    last = _interleaved(part)
    size = (rows, *_flat(part, last).shape[1:])
    room = torch.empty(size, dtype=part.dtype, device=part.device)
    return room.permute(0, 3, 1, 2) if last else room


def put(whole: Tensor, rows: Tensor, part: Tensor) -> None:
    """Write the part's rows to their places."""
    last = _interleaved(whole)
    to, made = _flat(whole, last), _flat(part, last)
    if to.device.type != "cpu":
        to.index_copy_(0, rows, made)
        return
    for n, row in enumerate(rows.tolist()):  # of bytes, faster here than one index_copy_
        to[row] = made[n]


def _interleaved(tensor: Tensor) -> bool:
    """Whether the channels of a pixel lie together; indexing would draw them apart."""
    if tensor.dim() != 4 or tensor.is_contiguous():
        return False
    return tensor.is_contiguous(memory_format=torch.channels_last)


def _flat(tensor: Tensor, last: bool) -> Tensor:
    """A view to index by row: contiguous if the tensor is dense, of a dtype torch indexes."""
    tensor = tensor.permute(0, 2, 3, 1) if last else tensor
    return tensor.view(torch.int16) if tensor.dtype == torch.uint16 else tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device, without waiting for the copy."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
