"""Sources corrected in rectangles that the host knows: the compiled way of ``sources.Poisson``.

Only the rectangles are read and written, where the general way renders and copies whole images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .. import cpu
from ..reference import poisson as reference
from . import driver, poisson
from .numbers import ONE, ZERO, F, copy


def pictured(
    laid: Tensor, patch: Tensor, boxes: Tensor, rects: Tensor, mixed: Tensor,
    transform: Callable[..., Tensor],
) -> Tensor:  # fmt: skip
    """A picture of what the samples show in their boxes, once a patch is corrected there.

    Args:
        laid: ``[B, C, H, W]`` uint8 or float32: what the patch is to join.
        patch: Like ``laid``; only its pixels in the boxes count.
        boxes: int64 ``[B, 4]``: top, left, height and width; 0 where there is none.
        rects: int64 ``[b, 5]``: those in which the equation is solved, as of
            ``poisson.host_rectangles``.
        mixed: bool ``[B]``: whether the stronger gradients count, or the source's.
        transform: ``poisson.transform_one``.

    Returns:
        Like ``laid``, contiguous; pixels outside the boxes are left undefined.
    """
    picture = torch.empty_like(laid, memory_format=torch.contiguous_format)
    under, over, source = laid.numpy(), picture.numpy(), patch.numpy()
    _copied(under, over, boxes.numpy())
    found, modes, channels = rects.numpy(), mixed.numpy(), laid.shape[1]
    # Where each rectangle's field begins among all of them.
    ends = np.concatenate([[0], np.cumsum((found[:, 3] - 2) * (found[:, 4] - 2))]) * channels
    peak = F(1.0 if laid.dtype.is_floating_point else 255.0)

    def work(start: int, stop: int) -> None:
        fields = torch.empty(int(ends[stop] - ends[start]), dtype=torch.float32, device="cpu")
        some, places = found[start:stop], ends[start:stop] - ends[start]
        _guided(under, source, some, modes, reference.EROSION, fields.numpy(), places)
        with cpu.one_thread:
            # host: host arrays; each rectangle is a product of its own size
            for (_, _, _, tall, wide), place in zip(some.tolist(), places.tolist(), strict=True):
                size = (tall - 2, channels, wide - 2)
                field = fields[place : place + size[0] * size[1] * size[2]].view(size)
                transform(field, field, poisson.scaled)
        _pasted(under, over, some, fields.numpy(), places, peak)

    driver.share_out(work, len(found))
    return picture


@njit(nogil=True, cache=True)
def _copied(under: Any, over: Any, boxes: Any) -> Any:
    """The boxes of ``under`` into ``over``."""
    for n in range(len(boxes)):
        top, left, tall, wide = boxes[n]
        for c in range(under.shape[1]):
            for y in range(top, top + tall):
                row = under[n, c, y][left : left + wide]
                copy(over[n, c, y][left : left + wide], row)


@njit
def _floats(images: Any, n: Any, top: Any, left: Any, tall: Any, wide: Any) -> Any:
    """A rectangle of an image as float32 rows, channels, columns."""
    channels = images.shape[1]
    out = np.empty((tall, channels, wide), np.float32)
    for c in range(channels):
        for y in range(tall):
            line, into = images[n, c, top + y][left : left + wide], out[y, c]
            for x in range(wide):
                into[x] = F(line[x])
    return out


@njit(nogil=True, cache=True)
def _guided(
    under: Any, source: Any, rects: Any, mixed: Any, reach: Any, fields: Any, places: Any
) -> Any:
    """Write the right sides of some rectangles' equations, one after another."""
    for k in range(len(rects)):
        n, top, left, tall, wide = rects[k]
        old, new = (
            _floats(under, n, top, left, tall, wide), _floats(source, n, top, left, tall, wide),
        )  # fmt: skip
        whole = np.ones((tall, wide), np.float32)
        field = poisson.guidance(old, new, whole, mixed[n], reach, ONE)
        copy(fields[places[k] : places[k] + field.size], field.reshape(-1))


@njit(nogil=True, cache=True)
def _pasted(under: Any, over: Any, rects: Any, fields: Any, places: Any, peak: Any) -> Any:
    """Add fields to ``under`` within the rectangles' edges; see ``reference.corrected``."""
    for k in range(len(rects)):
        n, top, left, tall, wide = rects[k]
        width, at = wide - 2, places[k]
        for y in range(top + 1, top + tall - 1):
            for c in range(under.shape[1]):
                more, at = fields[at : at + width], at + width
                old, line = under[n, c, y][left + 1 :][:width], over[n, c, y][left + 1 :][:width]
                for x in range(width):
                    value = min(max(F(old[x]) + more[x], ZERO), peak)
                    line[x] = np.floor(value) if peak > ONE else value
