"""What the tests of the Poisson correction share: scenes, and OpenCV's answer to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anoaug import ops
from anoaug.reference import poisson as reference

needs_triton = pytest.mark.skipif(ops.triton_trouble() is not None, reason="needs Triton")
everywhere = pytest.mark.parametrize(
    "backend", ["auto", "torch", pytest.param("triton", marks=needs_triton)]
)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZE = (45, 52)
# For the interpreter.
SMALL = (20, 27)


# ---- scenes --------------------------------------------------------------------------------------


def smooth(rng: np.random.Generator, size: tuple[int, int], cells: int) -> Any:
    """A bilinear field of random nodes in [0, 1], float64."""
    nodes = rng.random((cells + 1, cells + 1))
    rows, columns = (np.linspace(0, cells, side) for side in size)
    halves = np.stack([np.interp(columns, range(cells + 1), line) for line in nodes])
    return np.stack([np.interp(rows, range(cells + 1), line) for line in halves.T], axis=1)


def picture(rng: np.random.Generator, size: tuple[int, int], channels: int) -> Any:
    """uint8 ``[C, H, W]``: something smooth with noise of any strength, saturated in places."""
    planes = [smooth(rng, size, int(rng.integers(1, 6))) for _ in range(channels)]
    grain = rng.normal(0.0, rng.choice([0.0, 0.03, 0.3]), (channels, *size))
    return (np.clip((np.stack(planes) - 0.5) * 1.3 + 0.5 + grain, 0.0, 1.0) * 255).astype(np.uint8)


def rectangle(rng: np.random.Generator, size: tuple[int, int], value: int = 255) -> Any:
    """A rectangle of any place and any size, 1 pixel to the whole image."""
    mask = np.zeros(size, np.uint8)
    (top, bottom), (left, right) = (np.sort(rng.integers(0, side + 1, 2)) for side in size)
    mask[top : bottom + 1, left : right + 1] = value
    return mask


def blob(rng: np.random.Generator, size: tuple[int, int]) -> Any:
    return ((smooth(rng, size, 5) > rng.uniform(0.3, 0.7)) * 255).astype(np.uint8)


def weights(rng: np.random.Generator, size: tuple[int, int]) -> Any:
    """Weights from 0 to 255 in a rectangle or a blob."""
    where = rectangle(rng, size) if rng.random() < 0.5 else blob(rng, size)
    level = smooth(rng, size, 3) * 255 if rng.random() < 0.5 else np.full(size, rng.integers(256))
    return np.minimum(where, level.astype(np.uint8))


def scene(
    size: tuple[int, int] = SIZE, rows: int = 6, channels: int = 3, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Destinations, sources and masks of all kinds, the last rectangle the whole image."""
    rng = np.random.default_rng([seed, *size, channels])
    make = (rectangle, blob, weights)
    masks = [make[n % 3](rng, size) for n in range(rows - 1)] + [np.full(size, 255, np.uint8)]
    first, second = (np.stack([picture(rng, size, channels) for _ in range(rows)]) for _ in "ab")
    stacked = np.stack(masks)[:, None]
    first, second, stacked = (
        torch.from_numpy(each).to(DEVICE) for each in (first, second, stacked)
    )
    return first, second, stacked


def as_dtype(image: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype.is_floating_point:
        return (image / 255).to(dtype)
    return image if dtype == torch.uint8 else (image.to(torch.int32) * 257).to(dtype)


def wide(values: Tensor) -> Tensor:
    """In a dtype that subtracts without wrapping around."""
    return values.to(torch.float64)


def far(one: Tensor, other: Tensor) -> Tensor:
    return (wide(one) - wide(other)).abs()


def channels_last(image: Tensor) -> Tensor:
    return image.contiguous(memory_format=torch.channels_last)


def boxes_of(mask: Tensor) -> Tensor:
    return reference.rectangles(mask)[:, 1:].to(torch.int64)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


# ---- OpenCV --------------------------------------------------------------------------------------


def opencv(destination: Tensor, source: Tensor, mask: Tensor, mode: str) -> Tensor:
    """``cv2.seamlessClone`` of one sample, the source kept in its place; uint8 ``[C, H, W]``."""
    cv2 = pytest.importorskip("cv2")
    # It zeroes the outermost pixels before it looks for the rectangle, in the mask it was given.
    inner = np.zeros(mask.shape[1:], np.uint8)
    inner[1:-1, 1:-1] = mask[0, 1:-1, 1:-1].cpu().numpy()
    left, top, width, height = cv2.boundingRect(inner)
    if min(width, height) < 3:
        # Nothing to solve: nothing changes, or it raises.
        return destination
    channels = len(destination)
    planes = [im.expand(3, -1, -1).permute(1, 2, 0).cpu().numpy() for im in (source, destination)]
    flag = {"normal": cv2.NORMAL_CLONE, "mixed": cv2.MIXED_CLONE}[mode]
    centre = (left + width // 2, top + height // 2)
    out = cv2.seamlessClone(*map(np.ascontiguousarray, planes), inner, centre, flag)
    return torch.from_numpy(out).permute(2, 0, 1)[:channels].to(DEVICE)
