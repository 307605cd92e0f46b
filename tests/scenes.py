"""Images whose components are known, for the tests of structural anomalies."""

from __future__ import annotations

import torch
from torch import Tensor


def ground(rows: int, size: tuple[int, int] = (96, 112), seed: int = 0) -> Tensor:
    """Grey of a slight slope and slight noise, uint8 ``[rows, 3, H, W]``."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(-3, 4, (rows, 3, *size), generator=generator)
    slope = torch.arange(size[1]) // 8 + torch.arange(size[0])[:, None] // 6
    return (90 + slope + noise).to(torch.uint8)


def squares(rows: int, side: int = 16, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A coloured square with a dark quarter on the ground of each image.

    Returns:
        The images, the squares as uint8 ``[rows, 1, H, W]``, and the images without them.
    """
    bare = ground(rows, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    height, width = bare.shape[2:]
    top = torch.randint(14, height - side - 14, (rows,), generator=generator).tolist()
    left = torch.randint(14, width - side - 14, (rows,), generator=generator).tolist()
    images, where = bare.clone(), torch.zeros(rows, 1, height, width, dtype=torch.uint8)
    for n in range(rows):
        box = (slice(top[n], top[n] + side), slice(left[n], left[n] + side))
        images[(n, slice(None), *box)] = torch.tensor([230, 180, 60], dtype=torch.uint8)[
            :, None, None
        ]
        quarter = (slice(top[n], top[n] + side // 2), slice(left[n], left[n] + side // 2))
        images[(n, slice(None), *quarter)] = 20
        where[(n, 0, *box)] = 1
    return images, where, bare
