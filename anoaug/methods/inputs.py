"""What a user may hand to a method in place of a bank."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..banks import DonorBank, ShapeBank, TextureBank

TextureLike = TextureBank | Tensor | str | Path | None
DonorLike = DonorBank | Tensor | str | Path


@functools.lru_cache(maxsize=1)
def _procedural() -> TextureBank:
    warnings.warn(
        "textures=None: procedural textures are used, not the paper's DTD; "
        "pass textures='path/to/textures' for a folder of your own",
        UserWarning,
        stacklevel=5,
    )
    return TextureBank.procedural()


def as_textures(textures: TextureLike) -> TextureBank:
    """A TextureBank from a bank, a folder, a tensor ``[N, C, H, W]`` or None (procedural)."""
    if textures is None:
        return _procedural()
    if isinstance(textures, TextureBank):
        return textures
    if isinstance(textures, Tensor):
        return TextureBank.from_tensors(textures)
    if isinstance(textures, (str, Path)):
        return TextureBank.from_folder(textures)
    raise TypeError(
        f"textures: expected a TextureBank, a folder, a tensor or None, got "
        f"{type(textures).__name__}"
    )


def as_donors(donors: DonorLike) -> DonorBank:
    """A DonorBank from a bank, a folder or a tensor ``[N, C, H, W]``."""
    if isinstance(donors, DonorBank):
        return donors
    if isinstance(donors, Tensor):
        return DonorBank.from_tensors(donors)
    if isinstance(donors, (str, Path)):
        return DonorBank.from_folder(donors)
    raise TypeError(
        f"donors: expected a DonorBank, a folder or a tensor, got {type(donors).__name__}; "
        "donors='path/to/normal/images' takes patches of other images, whatever the batch"
    )


@functools.lru_cache(maxsize=1)
def _blank_textures() -> TextureBank:
    return TextureBank.from_tensors(torch.zeros(1, 3, 8, 8, dtype=torch.uint8, device="cpu"))


@functools.lru_cache(maxsize=1)
def _blank_donors() -> DonorBank:
    return DonorBank.from_tensors(torch.zeros(1, 3, 8, 8, dtype=torch.uint8, device="cpu"))


@functools.lru_cache(maxsize=1)
def _plain_shapes() -> ShapeBank:
    """A blob and a clump, each a square."""
    squares = torch.full((2, 1, 32, 32), 255, dtype=torch.uint8, device="cpu")
    return ShapeBank.from_tensors(squares, categories=["blob", "clump"])


# What a method is made with only to be asked what it is.
STAND_INS: dict[str, Callable[[], Any]] = {
    "textures": _blank_textures,
    "donors": _blank_donors,
    "shapes": _plain_shapes,
}
