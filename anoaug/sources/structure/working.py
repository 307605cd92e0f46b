"""What structural sources share: the rows they work on as floats, shifts, moments of regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ...pictures import Scene, rows_on
from ...prepare import closing
from ...reference.render import indexable

Edit = Callable[[Tensor, Tensor], Tensor]
Window = tuple[slice, slice]
WHOLE: Window = (slice(None), slice(None))


def edited(scene: Scene, edit: Edit, visible: float) -> Tensor:
    """The images with some rows edited: a picture.

    Changes that nobody sees are taken back, so that what differs from the image is the anomaly.

    Args:
        scene: The scene.
        edit: Takes float32 ``[R, C, H, W]`` in [0, 1] and the numbers of these rows, int64 ``[R]``
            on their device; returns the edited images. On the CPU it gets one row at a time, so
            that no neighbour moves a bit.
        visible: Least change that counts, in [0, 1]; gaps of two pixels in it are closed.
    """
    images, peak = scene.images, scene.peak
    out = images.clone(memory_format=torch.contiguous_format)
    # torch cannot write uint16 by index: through the same bits as int16.
    target = out.view(torch.int16) if out.dtype == torch.uint16 else out
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        for group in [scene.rows] if images.is_cuda else [[row] for row in scene.rows]:
            rows = rows_on(group, images.device)
            before = indexable(images)[rows].to(torch.float32)
            units = before / peak
            after = edit(units, rows).clamp(0.0, 1.0)
            seen = ((after - units).abs().amax(1, keepdim=True) > visible).to(torch.uint8)
            after = after * peak
            if not images.dtype.is_floating_point:
                after = torch.floor(after + 0.5)
            after = torch.where(closing(seen, 5, "disc") > 0, after, before)
            after = after.to(indexable(out[:0]).dtype).to(images.dtype)
            target[rows] = after.view(torch.int16) if out.dtype == torch.uint16 else after
    return out


def columns(scene: Scene, rows: Tensor, first: int, count: int) -> Tensor:
    """Some columns of the source's part of the table, float32 ``[R, count]``."""
    start = scene.offset + first
    return scene.call.table[rows, start : start + count]


def constants(values: Sequence[Sequence[float]], device: torch.device) -> Tensor:
    """Numbers on a device, float32, without waiting for the copy."""
    cuda = device.type == "cuda"
    host = torch.tensor(values, dtype=torch.float32, device="cpu", pin_memory=cuda)
    return host.to(device, non_blocking=cuda)


def reduction(images: Tensor, most: int = 128) -> int:
    """The factor by which images shrink so that no side exceeds ``most`` pixels."""
    return max(-(-max(images.shape[2:]) // most), 1)


def shrunk(planes: Tensor, factor: int) -> Tensor:
    """Means of squares of ``factor`` x ``factor`` pixels, of what there is of them at the edge."""
    return functional.avg_pool2d(planes, factor, ceil_mode=True) if factor > 1 else planes


def grid(planes: Tensor, window: Window = WHOLE) -> tuple[Tensor, Tensor]:
    """Pixel rows ``[1, 1, h, 1]`` and columns ``[1, 1, 1, w]`` of a window, float32."""
    y, x = (torch.arange(n, device=planes.device, dtype=torch.float32) for n in planes.shape[2:])
    return y[window[0]][None, None, :, None], x[window[1]][None, None, None, :]


def gathered(planes: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Planes ``[R, C, H, W]`` at float places ``[R, 1, h, w]``, bilinear, the edge going on."""
    height, width = planes.shape[2:]
    y, x = y.clamp(0.0, height - 1.0), x.clamp(0.0, width - 1.0)
    top, left = torch.floor(y), torch.floor(x)
    ty, tx = y - top, x - left
    iy, ix = top.to(torch.int64), left.to(torch.int64)
    ny, nx = (iy + 1).clamp(max=height - 1), (ix + 1).clamp(max=width - 1)
    flat = planes.flatten(2)

    def tap(rows: Tensor, places: Tensor) -> Tensor:
        at = (rows * width + places).flatten(2).expand(-1, planes.shape[1], -1)
        return flat.gather(2, at).view(*planes.shape[:2], *y.shape[2:])

    upper = tap(iy, ix) * (1 - tx) + tap(iy, nx) * tx
    lower = tap(ny, ix) * (1 - tx) + tap(ny, nx) * tx
    return upper * (1 - ty) + lower * ty


def shifted(planes: Tensor, shift: Tensor, window: Window = WHOLE) -> Tensor:
    """Planes at each pixel plus a shift in whole pixels, int64 ``[R, 2]``, the edge going on.

    Args:
        planes: ``[R, C, H, W]``.
        shift: The shifts: rows, columns.
        window: The pixels that are wanted.
    """
    height, width = planes.shape[2:]
    down = torch.arange(height, device=planes.device)[window[0]] + shift[:, :1]
    right = torch.arange(width, device=planes.device)[window[1]] + shift[:, 1:]
    iy, ix = down.clamp(0, height - 1), right.clamp(0, width - 1)
    if len(planes) == 1:  # rows and columns that are chosen one after the other stay contiguous
        return planes.index_select(2, iy[0]).index_select(3, ix[0])
    number = torch.arange(len(planes), device=planes.device)[:, None, None]
    return planes[number, :, iy[:, :, None], ix[:, None, :]].permute(0, 3, 1, 2)


def around(region: Tensor) -> Window:
    """The pixels that hold a region ``[R, 1, H, W]``; all of them on a device we do not wait for.

    What is summed over the window or done pixel by pixel is worth doing there alone.
    """
    if region.device.type != "cpu":
        return WHOLE
    sides = []
    for axis in (3, 2):
        line = (region > 0).any(axis).flatten(0, 1).any(0).nonzero()
        if not len(line):
            return WHOLE
        sides.append(slice(int(line[0]), int(line[-1]) + 1))  # host: of the host's tensor
    return sides[0], sides[1]


def span(boxes: Tensor, grown: float = 1.0) -> Window:
    """The pixels that hold boxes ``[R, 4, n]``, like :func:`around`: half sides, centres; y, x."""
    if boxes.device.type != "cpu":
        return WHOLE
    half, centre = boxes[:, :2] * grown, boxes[:, 2:]
    first = torch.floor((centre - half).amin((0, 2))).clamp(min=0.0)
    last = torch.ceil((centre + half).amax((0, 2))).clamp(min=0.0) + 1.0
    top, left, bottom, right = map(int, [*first.tolist(), *last.tolist()])  # host: of the host's
    return slice(top, bottom), slice(left, right)


def share(weight: Tensor, values: Tensor) -> Tensor:
    """Weighted means over an image, ``[R, C, 1, 1]``; 0 where nothing weighs."""
    total = weight.sum((2, 3), keepdim=True)
    return (weight * values).sum((2, 3), keepdim=True) / total.clamp(min=1e-6)


def bounds(region: Tensor) -> Tensor:
    """Centre and half sides of regions' bounding boxes in pixels, float32 ``[R, 4]``: y, x, y, x.

    Args:
        region: ``[R, 1, H, W]``, inside > 0.
    """
    found = []
    for axis in (3, 2):
        line = (region[:, 0] > 0).any(axis - 1)
        first = line.to(torch.int32).argmax(1)
        last = line.shape[1] - 1 - line.flip(1).to(torch.int32).argmax(1)
        # Whole numbers times 0.5 would be of torch's default dtype.
        total, length = ((first + last).float(), (last - first + 1).clamp(min=1).float())
        found.append((total * 0.5, length * 0.5))
    (cy, half_h), (cx, half_w) = found
    return torch.stack([cy, cx, half_h, half_w], 1)
