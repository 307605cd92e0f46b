"""What a user may hand to a method in place of a bank."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path

from torch import Tensor

from ..banks import DonorBank, TextureBank

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
        f"donors: expected a DonorBank, a folder or a tensor, got {type(donors).__name__}"
    )
