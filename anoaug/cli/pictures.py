"""What the commands that draw share: images from folders, scikit-image's, the device."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from .. import checks, doctor
from ..banks import imagefolder

DEMO_IMAGES = ("brick", "gravel", "grass", "coins")
# What they show, of methods.SURFACES.
DEMO_SURFACES = (("texture", "regular texture"), ("texture",), ("texture",), ("object",))

T = TypeVar("T")


def device_of(name: str, backend: str | None) -> tuple[torch.device, str]:
    """The device and what runs on it, or a refusal.

    Args:
        name: ``"auto"`` (CUDA where there is one), or what torch calls a device.
        backend: As for every method; None for the default.

    Raises:
        ValueError: torch finds no such device here, or the backend does not run on it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device).cpu()  # host: whether the device answers
    except (AssertionError, NotImplementedError, RuntimeError) as error:  # torch says which
        raise ValueError(
            f"--device: expected cpu, cuda or another device that torch finds here, got {name!r}; "
            "anoaug doctor shows what there is"
        ) from error
    found = doctor.backend(device, backend)
    if found["backend"] is None:
        raise ValueError(f"--backend: {found['why']}")
    return device, found["backend"]


def found(paths: Sequence[Path], count: int) -> list[tuple[list[tuple[str, Path]], int]]:
    """For each argument its candidates as (label, file), and how many of them to take.

    Raises:
        ValueError: A path does not exist, or a folder holds no image.
    """
    listed = []
    for path in (path.expanduser() for path in paths):
        if path.is_dir():
            inside = sorted(imagefolder.normal_by_folder(path, imagefolder.find(path)))
            part = imagefolder.defect_part(path)
            if part is not None:
                warnings.warn(
                    f"{str(path)!r} is {part} of a dataset: its images are not known to be normal; "
                    "give train/good",
                    stacklevel=2,
                )
            listed.append(([(name, path / name) for name in inside], count))
        elif path.exists():
            listed.append(([(path.name, path)], 1))
        else:
            raise ValueError(f"{str(path)!r} does not exist; check the path")
    return listed


def spread(count: int, wanted: int) -> Iterator[int]:
    """All numbers below ``count``, first ``wanted`` of them evenly spread."""
    wanted = min(count, wanted)
    first = [(2 * k + 1) * count // (2 * wanted) for k in range(wanted)]
    yield from first
    yield from sorted(set(range(count)) - set(first))


def bar(items: Iterable[T], unit: str, total: int | None = None) -> Iterator[T]:
    """The items, with a bar on a terminal."""
    tqdm = checks.require("tqdm", "images").tqdm
    yield from tqdm(items, unit=unit, total=total, leave=False, disable=None)


def read(
    listed: Sequence[tuple[list[tuple[str, Path]], int]], rule: imagefolder.Rule
) -> tuple[list[str], Tensor]:
    """Labels and images uint8 ``[B, 3, H, W]``; unreadable files are named.

    Args:
        listed: As :func:`found` gives it.
        rule: What images are brought to.

    Raises:
        ValueError: None of a path's files can be read; the message says why of each.
    """
    labels: list[str] = []
    images: list[Tensor] = []
    for candidates, wanted in bar(listed, "path"):
        broken: list[str] = []
        kept: dict[int, Tensor] = {}
        for at in spread(len(candidates), wanted):
            path = candidates[at][1]
            try:
                kept[at] = torch.from_numpy(imagefolder.decode(path.read_bytes(), rule).copy())
            except MemoryError:
                raise
            except Exception as error:  # Pillow's plugins raise many types on damaged files
                broken.append(f"{path} ({imagefolder.why(error)})")
            if len(kept) == wanted:
                break
        if not kept:
            raise ValueError(f"expected images, could not read {'; '.join(broken)}")
        if broken:
            warnings.warn(f"left out, could not be read: {'; '.join(broken)}", stacklevel=2)
        labels += [candidates[at][0] for at in sorted(kept)]
        images += [kept[at] for at in sorted(kept)]
    return labels, torch.stack(images)


def demo_images(size: int = 256) -> Tensor:
    """The middle of scikit-image's bundled brick, gravel, grass and coins.

    Args:
        size: Side in pixels; 256 is their own resolution.

    Returns:
        uint8 ``[4, 3, size, size]``, three equal channels.

    Raises:
        ImportError: scikit-image or Pillow is missing.
    """
    data = checks.require("skimage.data", "demo")
    pillow = checks.require("PIL.Image", "images")
    images = []
    for name in DEMO_IMAGES:
        image = pillow.fromarray(getattr(data, name)())
        left, top = (image.width - 256) // 2, (image.height - 256) // 2
        box = (left, top, left + 256, top + 256)
        image = image.resize((size, size), pillow.Resampling.BICUBIC, box=box)
        images.append(torch.from_numpy(np.array(image)))
    return torch.stack(images)[:, None].repeat(1, 3, 1, 1)


def demo_crops(size: int = 256) -> tuple[Tensor, list[str]]:
    """The four corners of the same pictures, which :func:`demo_images` shows the middle of.

    Returns:
        uint8 ``[16, 3, size, size]``, and the name of each one's picture.

    Raises:
        ImportError: scikit-image or Pillow is missing.
    """
    data = checks.require("skimage.data", "demo")
    pillow = checks.require("PIL.Image", "images")
    crops, names = [], []
    for name in DEMO_IMAGES:
        image = pillow.fromarray(getattr(data, name)())
        for left in (0, image.width - 256):
            for top in (0, image.height - 256):
                box = (left, top, left + 256, top + 256)
                crop = image.resize((size, size), pillow.Resampling.BICUBIC, box=box)
                crops.append(torch.from_numpy(np.array(crop)))
                names.append(name)
    return torch.stack(crops)[:, None].repeat(1, 3, 1, 1), names
