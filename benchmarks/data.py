"""Decoded inputs for benchmarks: the shared real images where present, else generated ones."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from anoaug.checks import require

Bytes = npt.NDArray[np.uint8]
_SUFFIXES = (".jpg", ".jpeg", ".png")


def data_root() -> Path | None:
    """The folder of shared data: ``ANOAUG_DATA``, else ``../shared/data`` beside the checkout.

    Raises:
        ValueError: ``ANOAUG_DATA`` is set and is not a folder.
    """
    named = os.environ.get("ANOAUG_DATA")
    if named:
        if not Path(named).is_dir():
            raise ValueError(
                f"ANOAUG_DATA: expected a folder, got {named!r}; correct or unset the variable"
            )
        return Path(named)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return beside if beside.is_dir() else None


def files(folder: Path) -> list[Path]:
    """Image files directly in a folder, sorted by name.

    Raises:
        ValueError: The folder holds none.
    """
    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in _SUFFIXES)
    if not found:
        raise ValueError(f"expected images ({', '.join(_SUFFIXES)}), got none in {folder}")
    return found


def read(paths: list[Path], size: int, grey: bool = False) -> Bytes:
    """Decode and resize images to ``size`` squared.

    Args:
        paths: Image files.
        size: Side in pixels.
        grey: Read masks: one channel, nearest; else RGB, area-averaging.

    Returns:
        (N, size, size, 3) or, for ``grey``, (N, size, size) uint8.
    """
    image = require("PIL.Image", "images")
    filter_ = image.Resampling.NEAREST if grey else image.Resampling.BOX
    mode = "L" if grey else "RGB"
    pictures = []
    for path in paths:
        with image.open(path) as picture:
            pictures.append(np.asarray(picture.convert(mode).resize((size, size), filter_)))
    return np.stack(pictures)


def generated(count: int, size: int, seed: int) -> Bytes:
    """Smooth random colours plus grain, (count, size, size, 3) uint8, for want of photographs."""
    image = require("PIL.Image", "images")
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(count):
        coarse = rng.integers(0, 256, size=(8, 8, 3), dtype=np.uint8)
        smooth = image.fromarray(coarse).resize((size, size), image.Resampling.BICUBIC)
        grain = rng.normal(0.0, 12.0, size=(size, size, 3))
        pictures.append(np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8))
    return np.stack(pictures)


@dataclass(frozen=True)
class Inputs:
    """What a speed case starts from.

    Args:
        images: (N, size, size, 3) uint8.
        textures: (M, size, size, 3) uint8.
        about: Where they come from, for the record.
    """

    images: Bytes
    textures: Bytes
    about: str


def inputs(size: int, count: int, textures: int = 60) -> Inputs:
    """``count`` normal images and ``textures`` textures, decoded and resized."""
    root = data_root()
    if root is None:
        return Inputs(
            generated(count, size, seed=0),
            generated(textures, size, seed=1),
            "generated colours and grain",
        )
    normal = files(root / "bsd_pitting" / "train" / "good")
    texture = files(root / "textures_cc0")
    stride = max(len(texture) // textures, 1)
    chosen = [normal[i % len(normal)] for i in range(count)]
    return Inputs(
        read(chosen, size),
        read(texture[::stride][:textures], size),
        "bsd_pitting/train/good and textures_cc0, decoded and resized beforehand",
    )
