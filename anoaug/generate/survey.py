"""What is in the user's folders: normal images with their sizes, and the foreground of each."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import checks
from ..banks import cachefile, imagefolder

_LISTED = 10  # broken files named in the warning


class Source(NamedTuple):
    """A normal image.

    Attributes:
        name: Relative POSIX name.
        category: The category it belongs to.
        sha256: Of the file, in hexadecimal.
        size: Height and width in pixels, turned as EXIF says.
        channels: 1 for grey files, else 3.
    """

    name: str
    category: str
    sha256: str
    size: tuple[int, int]
    channels: int


def sources(folder: Path, progress: bool) -> tuple[Source, ...]:
    """Every readable normal image of a folder, sorted by name; each is decoded once to be sure.

    Layouts and categories are those of :class:`anoaug.DonorBank`; without categories it is named
    after the folder, or after MVTec's category whose ``train/good`` is given.

    Raises:
        ValueError: No normal image, or a folder that holds defects or masks.
    """
    imagefolder.normal_only(folder)
    labels = imagefolder.normal_by_folder(folder, imagefolder.find(folder))
    bar = checks.require("tqdm", "images").tqdm
    results = cachefile.ordered(_looked_at, (folder / name for name in labels), cachefile.threads())
    shown = bar(results, desc="reading", unit="image", total=len(labels), leave=False,
                disable=None if progress else True)  # fmt: skip
    found: list[Source] = []
    broken: list[str] = []
    for (name, label), facts in zip(labels.items(), shown, strict=True):
        if isinstance(facts, str):
            broken.append(f"{name} ({facts})")
        else:
            found.append(Source(name, _category(folder, label), *facts))
    what = f"{len(broken)} of {len(labels)} image files in {str(folder)!r} cannot be read"
    listed = "; ".join(broken[:_LISTED])
    if not found:
        raise ValueError(f"expected images, but {what}: {listed}")
    if broken:
        warnings.warn(f"{what} and are left out: {listed}", stacklevel=3)
    return tuple(sorted(found))


def _looked_at(path: Path) -> tuple[str, tuple[int, int], int] | str:
    """SHA-256, size and channels of an image file, or why it cannot be read."""
    pillow = checks.require("PIL.Image", "images")
    operations = checks.require("PIL.ImageOps", "images")
    try:
        content = path.read_bytes()
        with pillow.open(io.BytesIO(content)) as opened:
            grey = opened.mode in ("1", "L", "LA") or opened.mode.startswith("I")
            width, height = operations.exif_transpose(opened).size
        if opened.mode == "F":
            return "floating point pixels have no agreed range; save it with 8 or 16 bits"
        if min(width, height) < 2:
            return f"{width} x {height} pixels are too few"
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise many types on damaged files
        return imagefolder.why(error)
    return hashlib.sha256(content).hexdigest(), (height, width), 1 if grey else 3


def _category(folder: Path, label: str) -> str:
    folder = folder.resolve()
    if label not in ("", "good"):
        return label
    # MVTec's train/good, or train with good in it, is of the category above.
    if folder.name == "good" and folder.parent.name in ("train", "test"):
        folder = folder.parent.parent
    elif label and folder.name == "train":
        folder = folder.parent
    elif label:
        return label
    return folder.name or "images"


def digest(found: Sequence[Source]) -> str:
    """SHA-256, in hexadecimal, of the images' names, categories and contents."""
    return _digest([[source.name, source.category, source.sha256] for source in found])


def digest_of_files(folder: Path, names: Sequence[str]) -> str:
    """SHA-256, in hexadecimal, of the named files' names and contents."""
    contents = cachefile.ordered(
        lambda name: hashlib.sha256((folder / name).read_bytes()).hexdigest(),
        names,
        cachefile.threads(),
    )
    return _digest([[name, content] for name, content in zip(names, contents, strict=True)])


def _digest(facts: list[list[str]]) -> str:
    return hashlib.sha256(json.dumps(facts).encode("ascii")).hexdigest()


def foregrounds(folder: Path, found: Sequence[Source]) -> dict[str, str]:
    """The foreground file of each image: the same relative name, with any extension or ``_mask``.

    Raises:
        ValueError: An image has none.
    """
    exact = {_stem(name): name for name in imagefolder.find(folder)}
    marked = {stem[:-5]: name for stem, name in exact.items() if stem.endswith("_mask")}
    masks = {**marked, **exact}
    lacking = [source.name for source in found if _stem(source.name) not in masks]
    if lacking:
        raise ValueError(
            f"foreground: expected a mask in {str(folder)!r} for each image, under the image's "
            f"name, found none for {len(lacking)} of them, such as {lacking[0]}; add them"
        )
    return {source.name: masks[_stem(source.name)] for source in found}


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def pixels(folder: Path, source: Source, rule: imagefolder.Rule) -> Tensor:
    """The image uint8 ``[1, C, h, w]``.

    Raises:
        ValueError: The file has changed since it was looked at.
        OSError: It cannot be read.
    """
    content = (folder / source.name).read_bytes()
    if hashlib.sha256(content).hexdigest() != source.sha256:
        raise ValueError(
            f"{str(folder / source.name)!r} is not the image that the data set was begun with; "
            "put that back, or choose another folder for the new one"
        )
    return torch.from_numpy(imagefolder.decode(content, rule).copy())[None]


def foreground(path: Path, size: tuple[int, int], resize: str) -> tuple[Tensor, str]:
    """A mask uint8 ``[1, 1, h, w]``: 1 where it is above half of its own greatest value.

    So masks of {0, 1}, of {0, 255} and lossy ones are all understood. With it comes the file's
    SHA-256 in hexadecimal.

    Raises:
        ValueError: No readable image.
    """
    content = path.read_bytes()
    try:
        level: Any = imagefolder.decode(content, imagefolder.Rule(size, 1, resize))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise many types on damaged files
        raise ValueError(f"foreground: {str(path)!r} cannot be read as an image") from error
    mask = (2 * level.astype(np.int32) > int(level.max())).astype(np.uint8)
    return torch.from_numpy(mask)[None], hashlib.sha256(content).hexdigest()
