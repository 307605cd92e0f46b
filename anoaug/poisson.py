"""Poisson correction of a source, as ``cv2.seamlessClone`` computes it, for a whole batch.

The correction solves a Poisson equation on a rectangle by the discrete sine transform, which is a
product with a sine matrix from either side: exact, no iteration, a few matrix products a batch.
``reference/poisson.py`` says which equation; here is who solves it. On the CPU each rectangle is
solved at its own size. Elsewhere a batch has windows of one size, in which a lesser rectangle's
sine matrix is followed by zeros: rectangles that the host knows are grouped by size and share the
least window that holds the group; those found in the masks on the device have windows of the
image's size, and nothing waits for the device.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import checks, cpu, ops
from .reference import poisson as reference

MODES = ("normal", "mixed")

# Windows up to this side form one group: below it, launches cost more than arithmetic.
_LEAST_WINDOW = 64

_library = torch.library.Library("anoaug", "FRAGMENT")
_library.define(
    "poisson(Tensor destination, Tensor source, Tensor weight, Tensor? boxes, bool mixed, "
    "bool confine, str backend) -> Tensor"
)


def solve(
    destination: Tensor,
    source: Tensor,
    weight: Tensor,
    boxes: Tensor | None = None,
    mode: str = "normal",
    confine: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Lay sources into destinations and correct them by Poisson's equation.

    Shapes and dtypes are taken on trust; ``functional.poisson_blend`` is the door.

    Args:
        destination: ``[B, C, H, W]`` uint8, uint16 or float.
        source: Like ``destination``; of any dtype, in the destination's units.
        weight: ``[B, 1, H, W]`` uint8 (255 is 1) or float32 in [0, 1].
        boxes: int64 ``[B, 4]`` on the host: top, left, height and width of the rectangle of each
            sample on whose edge the destination stays as it is, in pixels; outside of it weights
            count as 0, and a rectangle without area leaves the sample alone. By default the
            bounding rectangle of weight > 0, found on the device.
        mode: ``"normal"`` or ``"mixed"``.
        confine: Whether pixels of weight 0 keep their value.
        backend: ``"auto"``, ``"triton"`` or ``"torch"``.

    Returns:
        Like ``destination``.

    Raises:
        ValueError: A box leaves the image, or an unknown mode or backend.
    """
    mixed = checks.one_of("mode", mode, MODES) == "mixed"
    name = checks.one_of("backend", backend, ops.BACKENDS)
    return poisson(destination, source, weight, boxes, mixed, confine, name)


# ---- the door ------------------------------------------------------------------------------------


def weights(mask: Any, like: Tensor) -> Tensor:
    """A mask as weights of the source's gradients, uint8 (255 is 1) or float32 in [0, 1].

    Raises:
        TypeError: Not a tensor, or of another dtype than bool, uint8 or float.
        ValueError: Another size or device than the images, or, on the CPU, uint8 of 0 and 1.
    """
    weight = checks.plane("mask", mask, like)
    if mask.dtype == torch.bool:
        return weight * 255
    if weight.dtype.is_floating_point:
        # NaN weighs nothing.
        return torch.where(weight > 0, weight, 0.0).clamp(max=1.0).to(torch.float32)
    # Elsewhere looking would make the host wait for the device.
    looks = weight.device.type == "cpu" and not torch.compiler.is_compiling()
    if looks and weight.numel() and int(weight.max()) == 1:
        raise ValueError(
            "mask: expected uint8 weights from 0 to 255, got none above 1, which would change "
            "nothing; pass mask.bool() or mask * 255"
        )
    return weight


def host_boxes(boxes: Any, rows: int) -> Tensor | None:
    """Boxes as int64 ``[B, 4]`` on the host, or None.

    Raises:
        TypeError: Not integers.
        ValueError: On another device (reading it would synchronise), or of another shape.
    """
    if boxes is None:
        return None
    if isinstance(boxes, Tensor) and boxes.device.type != "cpu":
        raise ValueError(
            f"boxes: expected a CPU tensor, got one on {boxes.device}; leave boxes out to have the "
            "rectangles found on the device"
        )
    table = torch.as_tensor(boxes, device="cpu")
    if table.numel() and (table.dtype.is_floating_point or table.dtype == torch.bool):
        raise TypeError(f"boxes: expected integers, got {table.dtype}; use .long()")
    if list(table.shape) != [rows, 4] and (rows or table.numel()):
        raise ValueError(
            f"boxes: expected shape [{rows}, 4] (top, left, height, width), got {list(table.shape)}"
        )
    return table.to(torch.int64).reshape(rows, 4)


# ---- the op --------------------------------------------------------------------------------------


def _poisson(
    destination: Tensor,
    source: Tensor,
    weight: Tensor,
    boxes: Tensor | None,
    mixed: bool,
    confine: bool,
    backend: str,
) -> Tensor:
    chosen = ops.resolve_backend(backend, destination.device)
    known = None if boxes is None else host_rectangles(boxes, destination.shape)
    destination = ops.natively_laid_out(destination)
    out = destination.clone()
    if out.numel() == 0:
        return out
    # Autocast would round the operands of the matrix products.
    with torch.autocast(out.device.type, enabled=False):
        if chosen in ("cpu", "compiled"):
            with cpu.one_thread:
                run_one = _compiled_one if chosen == "compiled" else _one
                _one_by_one(out, destination, source, weight, known, mixed, confine, run_one)
        else:
            source, weight = ops.natively_laid_out(source), weight.contiguous()
            for rects, rows, columns in _groups(weight, known):
                run = _triton if chosen == "triton" else _torch
                run(out, destination, source, weight, rects, rows, columns, mixed, confine)
    return out


def _poisson_fake(
    destination: Tensor,
    source: Tensor,
    weight: Tensor,
    boxes: Tensor | None,
    mixed: bool,
    confine: bool,
    backend: str,
) -> Tensor:
    return torch.empty_like(ops.natively_laid_out(destination))


_library.impl("poisson", _poisson, "CompositeExplicitAutograd")
torch.library.register_fake("anoaug::poisson", _poisson_fake)
poisson = torch.ops.anoaug.poisson.default


def _peak(image: Tensor) -> float:
    return checks.PEAKS.get(image.dtype, 1.0)


# ---- rectangles ----------------------------------------------------------------------------------


def host_rectangles(boxes: Tensor, shape: torch.Size) -> Tensor:
    """Boxes as rectangles within the outermost pixels of their images, which never count.

    Returns:
        int64 ``[b, 5]`` on the host: sample, top, left, height and width of those in which
        something can change, by growing side of the least window that holds them.

    Raises:
        ValueError: A box leaves its image.
    """
    batch, _, height, width = shape
    top, left, tall, wide = boxes.to(torch.int64).unbind(1)
    bottom, right = top + tall, left + wide
    bad = (boxes < 0).any(1) | (bottom > height) | (right > width)
    if bad.any():  # host: boxes are a host tensor
        n = int(bad.int().argmax())
        raise ValueError(
            f"boxes: expected (top, left, height, width) within {height} x {width}, got "
            f"{boxes[n].tolist()} for sample {n}; clip the box to the image"
        )
    top, left = top.clamp(min=1), left.clamp(min=1)
    tall, wide = bottom.clamp(max=height - 1) - top, right.clamp(max=width - 1) - left
    rects = torch.stack((torch.arange(batch, device="cpu"), top, left, tall, wide), 1)
    rects = rects[torch.minimum(tall, wide) >= reference.LEAST_SIDE]
    return rects[rects[:, 3:].amax(1).argsort(stable=True)] if len(rects) else rects


def _groups(weight: Tensor, known: Tensor | None) -> list[tuple[Tensor, int, int]]:
    """Rectangles on the weights' device with rows and columns of the windows they share."""
    if known is None:
        height, width = weight.shape[2:]
        if min(height, width) < reference.LEAST_SIDE + 2:
            return []
        return [(reference.rectangles(weight), _padded(height - 4), _padded(width - 4))]
    if len(known) == 0:
        return []
    host = known.to(torch.int32)
    if weight.device.type == "cuda":
        host = host.pin_memory()
    rects = host.to(weight.device, non_blocking=True)
    sides = known[:, 3:].amax(1).tolist()  # host: boxes live there
    classes = [(max(side, _LEAST_WINDOW) - 1).bit_length() for side in sides]
    groups = []
    for kind in sorted(set(classes)):
        first, count = classes.index(kind), classes.count(kind)
        tall, wide = known[first : first + count, 3:].amax(0).tolist()  # host: a host tensor
        groups.append((rects[first : first + count], _padded(tall - 2), _padded(wide - 2)))
    return groups


def _padded(side: int) -> int:
    """Up to a multiple of 4: rows of matrices then start at multiples of 16 bytes."""
    return -(-side // 4) * 4


# ---- windows of one size -------------------------------------------------------------------------


def _torch(
    out: Tensor, destination: Tensor, source: Tensor, weight: Tensor, rects: Tensor,
    rows: int, columns: int, mixed: bool, confine: bool,
) -> None:  # fmt: skip
    field = reference.guidance(destination, source, weight, rects, rows, columns, mixed)
    reference.paste(out, transform(field, rects), weight, rects, _peak(out), confine)


def _triton(
    out: Tensor, destination: Tensor, source: Tensor, weight: Tensor, rects: Tensor,
    rows: int, columns: int, mixed: bool, confine: bool,
) -> None:  # fmt: skip
    from .kernels import poisson as kernels

    tile = ops.INTERPRETED_TILE if ops.interpreting() else kernels.TILE_PIXELS
    size = (len(rects), rows, out.shape[1], columns)
    field = torch.empty(size, dtype=torch.float32, device=out.device)
    with ops.current(out.device):
        kernels.launch_guidance(field, destination, source, weight, rects, mixed, tile)
        correction = transform(field, rects)
        kernels.launch_paste(out, correction, weight, rects, _peak(out), confine, tile)


def transform(field: Tensor, rects: Tensor) -> Tensor:
    """Solve Poisson's equation with zeros on the edge in windows of one size.

    Args:
        field: float32 ``[b, rows, C, columns]``, 0 beyond each rectangle.
        rects: int32 ``[b, 5]``.

    Returns:
        float32 ``[b, rows, C, columns]``.
    """
    count, rows, channels, columns = field.shape
    vertical, tall = _sines(rects[:, 3] - 2, rows)
    horizontal, wide = _sines(rects[:, 4] - 2, columns)
    scale = ((tall + wide.transpose(1, 2)) * _half_squares(rects)).reciprocal()
    # Rows, channels, columns: either transform is one product a window, without a copy.
    flat, planes = (count, rows, channels * columns), (count, rows * channels, columns)
    values = torch.bmm(torch.bmm(vertical, field.view(flat)).view(planes), horizontal)
    values = (values.view(field.shape) * scale[:, :, None]).view(planes)
    return torch.bmm(vertical, torch.bmm(values, horizontal).view(flat)).view(field.shape)


def _half_squares(rects: Tensor) -> Tensor:
    """(height - 1) (width - 1) / 4, float32 ``[b, 1, 1]``: twice either transform's square."""
    sides = (rects[:, 3:] - 1).clamp(min=1).to(torch.float32)
    return (sides[:, 0] * sides[:, 1] * 0.25)[:, None, None]


def _sines(lengths: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Sine matrices of several lengths in the corner of matrices of one size, else 0.

    Args:
        lengths: int32 ``[b]``, at most ``size``.
        size: Rows and columns.

    Returns:
        float32 ``[b, size, size]``, and ``[b, size, 1]``: the second difference's eigenvalues, with
        -1 after the last.
    """
    ends = (lengths.clamp(min=0) + 1)[:, None, None]
    number = torch.arange(1, size + 1, dtype=torch.int32, device=lengths.device)
    row, column = number[:, None], number[None]
    step = math.pi / ends.to(torch.float32)
    # The period out first, in integers, or the angle would be rounded coarsely.
    turn = torch.remainder(row * column, 2 * ends)
    matrix = torch.sin(turn.to(torch.float32) * step)
    matrix = torch.where((row < ends) & (column < ends), matrix, 0.0)
    half = torch.sin(row.to(torch.float32) * (step * 0.5))
    return matrix, torch.where(row < ends, -4.0 * half * half, -1.0)


# ---- one by one, on the CPU ----------------------------------------------------------------------


def _one_by_one(
    out: Tensor, destination: Tensor, source: Tensor, weight: Tensor, known: Tensor | None,
    mixed: bool, confine: bool, run: Callable[..., Tensor],
) -> None:  # fmt: skip
    """Each rectangle at its own size: nothing is padded, and no neighbour moves a bit."""
    rects = reference.rectangles(weight) if known is None else known
    peak = _peak(out)
    for n, top, left, tall, wide in rects.tolist():  # host: the CPU's way
        if min(tall, wide) < reference.LEAST_SIDE:
            continue
        area = (n, slice(None), slice(top, top + tall), slice(left, left + wide))
        old, new = _floats(destination[area]), _floats(source[area])
        weights = weight[area].transpose(0, 1)
        value = run(old, new, weights, mixed, peak, not out.dtype.is_floating_point)
        if confine:
            value = torch.where(weights[1:-1, :, 1:-1] > 0, value, old[1:-1, :, 1:-1])
        out[area].transpose(0, 1)[1:-1, :, 1:-1] = value.to(out.dtype)


def _one(
    old: Tensor, new: Tensor, weights: Tensor, mixed: bool, peak: float, integer: bool
) -> Tensor:
    """One rectangle's new pixels within its edge, float32 rows, channels, columns."""
    field = reference.divergence(old, new, weights, mixed)
    value = old[1:-1, :, 1:-1] + transform_one(field)
    return reference.corrected(value, peak, integer)


def _compiled_one(
    old: Tensor, new: Tensor, weights: Tensor, mixed: bool, peak: float, integer: bool
) -> Tensor:
    """The same by Numba, but for the matrix products."""
    from .compiled import poisson as compiled

    before, lines = old.numpy(), weights[:, 0].contiguous().numpy()
    unit = np.float32(reference.UNIT if weights.dtype == torch.uint8 else 1.0)
    guided = (before, new.numpy(), lines, mixed, reference.EROSION, unit)
    field = torch.from_numpy(compiled.guidance(*guided))
    added = transform_one(field, scaled=compiled.scaled).numpy()
    return torch.from_numpy(compiled.corrected(before, added, np.float32(peak), integer))


def _floats(planes: Tensor) -> Tensor:
    """``[C, h, w]`` as float32 rows, channels, columns."""
    return planes.transpose(0, 1).to(torch.float32, memory_format=torch.contiguous_format)


def transform_one(
    field: Tensor, out: Tensor | None = None, scaled: Callable[..., Any] | None = None
) -> Tensor:
    """Solve Poisson's equation with zeros on the edge, float32 ``[h, C, w]`` on the CPU.

    The solution goes into ``out``, if that is given: contiguous, of the same shape, maybe the same.
    ``scaled`` is ``compiled.poisson.scaled``, which spares calls.
    """
    rows, channels, columns = field.shape
    vertical, tall = sine_matrix(rows)
    horizontal, wide = sine_matrix(columns)
    factor = (rows + 1) * (columns + 1) / 4.0
    flat, planes = (rows, channels * columns), (rows * channels, columns)
    values = torch.mm(torch.mm(vertical, field.reshape(flat)).view(planes), horizontal)
    if scaled is None:
        scale = ((tall[:, None] + wide) * factor).reciprocal()
        values = (values.view(field.shape) * scale[:, None]).view(planes)
    else:
        lines = values.view(field.shape).numpy()
        scaled(lines, tall.numpy(), wide.numpy(), np.float32(factor))
    solved = None if out is None else out.view(flat)
    return torch.mm(vertical, torch.mm(values, horizontal).view(flat), out=solved).view(field.shape)


def sine_matrix(length: int) -> tuple[Tensor, Tensor]:
    """The sine matrix of a length and the second difference's eigenvalues, on the CPU.

    ``S[i, j] = sin(pi (i + 1) (j + 1) / (length + 1))``; S times S is ``(length + 1) / 2``.

    Returns:
        float32 ``[length, length]`` and ``[length]``, rounded once from float64.
    """
    return (_small if length <= _SMALL else _large)(length)


def _sine_matrix(length: int) -> tuple[Tensor, Tensor]:
    ends = length + 1
    turns = torch.arange(2 * ends, dtype=torch.float64, device="cpu")
    sines = torch.sin(turns * (math.pi / ends)).to(torch.float32)
    number = torch.arange(1, ends, device="cpu")
    half = torch.sin(number.to(torch.float64) * (math.pi / (2 * ends)))
    return sines[torch.outer(number, number) % (2 * ends)], (-4.0 * half * half).to(torch.float32)


# All of the lesser lengths are kept, 22 MB of them; of greater ones a few.
_SMALL = 256
_small = functools.lru_cache(maxsize=_SMALL)(_sine_matrix)
_large = functools.lru_cache(maxsize=16)(_sine_matrix)
