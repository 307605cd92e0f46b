"""The same things as functions of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import checks, ops, recipe
from .blends import Hard
from .masks import Given, Mask, Perlin
from .numbering import Numbering
from .sources import Constant


def perlin(
    batch: int,
    size: tuple[int, int],
    cells: tuple[float, float] = (8.0, 8.0),
    rotation: float = 0.0,
    octaves: int = 1,
    persistence: float = 0.5,
    seed: int = 0,
    index: Tensor | Sequence[int] | None = None,
    device: str | torch.device | None = None,
) -> Tensor:
    """Perlin noise fields.

    Args:
        batch: Number of fields B.
        size: Height and width in pixels.
        cells: Lattice cells per axis (rows, columns); any positive floats.
        rotation: Degrees about the image centre; the field goes on beyond the image.
        octaves: 1 to 8.
        persistence: Amplitude of an octave relative to the one before.
        seed: 64-bit seed.
        index: Sample indices ``[B]``; 0 to B - 1 by default. Field k is a function of
            ``(seed, index[k])`` alone.
        device: Where to compute.

    Returns:
        float32 ``(B, 1, H, W)`` in [-1, 1] for one octave.
    """
    if batch < 0:
        raise ValueError(f"batch: expected at least 0, got {batch}")
    if not isinstance(cells, Sequence) or len(cells) != 2:
        raise TypeError(f"cells: expected a pair (rows, columns), got {cells!r}")
    rows = (
        torch.arange(batch, device="cpu")
        if index is None
        else checks.host_rows("index", index, batch)
    )
    part = Perlin(
        cells=((cells[0], cells[0]), (cells[1], cells[1])),
        threshold=0.0,
        rotation=rotation,
        rotation_fill="continue",
        octaves=octaves,
        persistence=persistence,
    )
    return field(part, size, rows, seed=seed, device=device)


def field(
    mask: Mask,
    size: tuple[int, int],
    index: Tensor | Sequence[int],
    *,
    seed: int = 0,
    epoch: int = 0,
    device: str | torch.device | None = None,
    backend: str | None = None,
) -> Tensor:
    """The signed level of a mask, inside > 0, without images.

    Args:
        mask: A mask or a combination of masks, without given tensors.
        size: Height and width in pixels.
        index: Sample indices ``[B]``.
        seed: 64-bit seed.
        epoch: Epoch in [0, 2**32).
        device: Where to compute.
        backend: ``"auto"``, ``"triton"`` or ``"torch"``.

    Returns:
        float32 ``(B, 1, H, W)``.
    """
    if not isinstance(mask, Mask):
        raise TypeError(f"mask: expected a mask of anoaug.masks, got {type(mask).__name__}")
    if any(isinstance(step, Given) for step in mask.steps()):
        raise ValueError("mask: expected one without given tensors; call a Synthesizer for those")
    height, width = size
    if height < 1 or width < 1 or height * width >= 2**31:
        raise ValueError(
            f"size: expected height and width of at least 1 and fewer than 2**31 pixels, got {size}"
        )
    rows, state = Numbering(seed)(index, epoch, len(index))
    law = recipe.LayerLaw(mask.steps(), Constant(), Hard(), (1, 1), 0)
    laws = recipe.specialise(recipe.encode(recipe.Laws((law,), 1.0, (), False, 1.0, 0.0)), 1, 1.0)
    unknown = torch.full_like(rows, -1)
    table = ops.sample(rows, state, unknown, [], [], [], laws, height, width, False)
    name = checks.one_of("backend", backend or ops.default_backend(), ops.BACKENDS)
    place = torch.device(device or "cpu")
    return ops.field(table.to(place), recipe.layout_of(laws), height, width, name)
