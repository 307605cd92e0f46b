"""Foregrounds and label maps by sample index: computed, or read from files, once, and kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .. import checks
from ..banks import imagefolder
from .byindex import ByIndex
from .foreground import given


class Cached(ByIndex):
    """Foregrounds of a dataset's samples, each computed when its index is first seen.

    Kept on the images' device, a bit per pixel (80 MB for 10,000 images of 256 x 256). Which are
    known is kept on the host, so nothing waits for the device; after the first epoch a call is one
    gather. The image at an index must be the same each time: crop, turn or mirror before this only
    if it is done alike each time, otherwise call the foreground itself.

    Args:
        foreground: A :class:`Foreground` or any callable from images to masks ``(B, 1, H, W)`` of
            bool or uint8; None if all masks are given.
        count: Length of the dataset.

    Example:
        ::

            masks = anoaug.prepare.Cached(anoaug.prepare.Foreground("otsu"), len(dataset))
            for images, index in loader:
                images = images.cuda()
                batch = synth(images, index=index, epoch=e, foreground=masks(images, index))
    """

    what: ClassVar[str] = "foreground"

    def __init__(self, foreground: Callable[[Tensor], Tensor] | None, count: int) -> None:
        super().__init__(foreground, count)

    @classmethod
    def from_masks(cls, masks: Tensor) -> Cached:
        """Masks given for every sample, ``(N, 1, H, W)`` of bool, uint8 or float (above 0)."""
        made = cls(None, len(masks))
        masks = given(masks, (masks.shape[-2], masks.shape[-1]))
        made.keep(np.arange(len(masks)), masks)
        return made

    @classmethod
    def from_folder(
        cls,
        folder: str | os.PathLike[str],
        size: int | tuple[int, int],
        names: Sequence[str] | None = None,
    ) -> Cached:
        """Masks from image files, one per sample; any pixel that is not black is foreground.

        Args:
            folder: Where they are.
            size: Side, or height and width, of the images they are for.
            names: The samples' file names in the order of their indices. Each is given the mask of
                the same name below the folder, whatever its extension, with or without ``_mask``.
                None: the masks are the samples', sorted by name.

        Raises:
            ValueError: No folder, no mask for a sample, or more than one.
        """
        found = imagefolder.find(folder)
        if names is not None:
            found = _matched(found, names, str(folder))
        order = sorted(set(found))
        rule = imagefolder.Rule(imagefolder.pair(size), channels=1)
        loaded = imagefolder.load(Path(folder), order, rule, cache=False, progress=False)
        if list(loaded.names) != order:
            raise ValueError(
                f"folder: expected readable masks in {str(folder)!r}, got {len(loaded.names)} of "
                f"{len(order)}; mend the others, named in the warning"
            )
        place_of = {name: place for place, name in enumerate(order)}
        return cls.from_masks(loaded.data[[place_of[name] for name in found]])

    def accepted(self, found: Any, images: Tensor) -> Tensor:
        """Masks as 0 and 1."""
        return (checks.plane("foreground", found, images) > 0).to(torch.uint8)

    def packed(self, planes: Tensor) -> Tensor:
        """As bits."""
        return _packed(planes)

    def unpacked(self, rows: Tensor, size: tuple[int, int]) -> Tensor:
        """As bytes again."""
        return _unpacked(rows, size)


class CachedLabels(ByIndex):
    """Label maps of a dataset's samples, such as superpixels, each found when it is first seen.

    As :class:`Cached`, but two bytes a pixel (1.3 GB for 10,000 images of 256 x 256), or one.

    Args:
        labels: A :class:`Superpixels` or any callable from images to whole numbers
            ``(B, 1, H, W)`` from -1 on.
        count: Length of the dataset.
        dtype: ``torch.int16`` for labels below 32768, or ``torch.uint8`` for those from 0 to 255.

    Example:
        ::

            labels = anoaug.prepare.CachedLabels(anoaug.prepare.Superpixels(200), len(dataset))
            synth = anoaug.create("smai", superpixels=labels)
            batch = synth(images, index=index, epoch=e)
    """

    what: ClassVar[str] = "labels"

    def __init__(
        self, labels: Callable[[Tensor], Tensor], count: int, dtype: torch.dtype = torch.int16
    ) -> None:
        if labels is None or dtype not in (torch.int16, torch.uint8):
            raise TypeError(
                f"labels, dtype: expected a callable and torch.int16 or torch.uint8, got "
                f"{labels!r} and {dtype}"
            )
        super().__init__(labels, count)
        self.dtype = dtype

    def accepted(self, found: Any, images: Tensor) -> Tensor:
        """The labels in the dtype they are kept in."""
        whole = found.to(torch.float32) if isinstance(found, Tensor) else found
        return checks.plane("labels", whole, images).to(self.dtype)

    def packed(self, planes: Tensor) -> Tensor:
        """As they are."""
        return planes.flatten(1)

    def unpacked(self, rows: Tensor, size: tuple[int, int]) -> Tensor:
        """As they were."""
        return rows.view(-1, 1, *size)


def _packed(masks: Tensor) -> Tensor:
    """0 and 1 to bits: uint8 ``(B, 1, H, W)`` to ``[B, ceil(H W / 8)]``."""
    flat = masks.flatten(1)
    flat = functional.pad(flat, (0, -flat.shape[1] % 8)).view(len(flat), -1, 8)
    packed = flat[..., 0].clone()
    for place in range(1, 8):
        packed |= flat[..., place] << place
    return packed


def _unpacked(packed: Tensor, size: tuple[int, int]) -> Tensor:
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    flat = (packed[..., None] >> places & 1).flatten(1)
    return flat[:, : size[0] * size[1]].reshape(-1, 1, *size)


def _matched(found: Sequence[str], names: Sequence[str], folder: str) -> list[str]:
    """The mask of each sample, by the stem of its name."""
    by_stem: dict[str, list[str]] = {}
    for name in found:
        by_stem.setdefault(PurePosixPath(name).stem.removesuffix("_mask"), []).append(name)
    result = []
    for name in names:
        fitting = by_stem.get(Path(name).stem, [])
        if len(fitting) != 1:
            what = f"{len(fitting)} ({', '.join(fitting[:3])})" if fitting else "none"
            raise ValueError(f"names: expected one mask for {name!r} in {folder!r}, found {what}")
        result.append(fitting[0])
    return result
