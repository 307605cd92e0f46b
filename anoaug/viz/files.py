"""PNG files, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from .. import checks, files
from .overlays import pixels

if TYPE_CHECKING:
    from PIL.Image import Image


def save_png(image: Image | Tensor, path: str | os.PathLike[str]) -> Path:
    """Write a PNG in one step, as others see it: never a half-written file.

    Args:
        image: A Pillow image, or a tensor ``(C, H, W)`` as for :func:`pixels`.
        path: A name that ends in ``.png``, in a folder that exists.

    Returns:
        The path.

    Raises:
        ValueError: Another extension, or no such folder.
        OSError: The folder cannot be written.
    """
    path = png_path(path)
    if isinstance(image, Tensor):
        shown = pixels(image[None])[0].permute(1, 2, 0).cpu().contiguous().numpy()
        image = checks.require("PIL.Image", "images").fromarray(shown)
    with files.replaced(path) as temporary, open(temporary, "xb") as stream:
        image.save(stream, format="PNG")
    return path


def png_path(path: str | os.PathLike[str]) -> Path:
    """Refuse a path that :func:`save_png` could not write; nothing is created.

    Raises:
        ValueError: Another extension, a folder, or in a folder that does not exist.
    """
    return files.to_write(path, ".png")
