"""PNG files, written whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from .. import checks
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
    temporary = path.with_name(f".{os.getpid()}-{uuid.uuid4().hex}.png.tmp")
    try:
        with open(temporary, "xb") as stream:
            image.save(stream, format="PNG")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def png_path(path: str | os.PathLike[str]) -> Path:
    """Refuse a path that :func:`save_png` could not write; nothing is created.

    Raises:
        ValueError: Another extension, a folder, or in a folder that does not exist.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() != ".png":
        raise ValueError(f"expected a name that ends in .png, got {str(path)!r}; change it")
    if path.is_dir():
        raise ValueError(f"expected a file to write, got the folder {str(path)!r}; add a name")
    if not path.parent.is_dir():
        raise ValueError(f"expected a folder that exists, got {str(path.parent)!r}; make it first")
    return path
