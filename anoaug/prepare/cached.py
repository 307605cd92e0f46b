"""Foregrounds by sample index: computed, or read from files, once, and kept as bits."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .. import checks, imagefolder
from .foreground import given


class Cached:
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

    def __init__(self, foreground: Callable[[Tensor], Tensor] | None, count: int) -> None:
        if foreground is not None and not callable(foreground):
            raise TypeError(f"foreground: expected a callable on images, got {foreground!r}")
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"count: expected the dataset's length, 1 or more, got {count!r}")
        self.foreground = foreground
        self._known = np.zeros(count, dtype=bool)
        self._bits: Tensor | None = None
        self._size: tuple[int, int] | None = None

    @classmethod
    def from_masks(cls, masks: Tensor) -> Cached:
        """Masks given for every sample, ``(N, 1, H, W)`` of bool, uint8 or float (above 0)."""
        made = cls(None, len(masks))
        masks = given(masks, (masks.shape[-2], masks.shape[-1]))
        made._keep(np.arange(len(masks)), masks)
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

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return f"Cached({self.foreground!r}, {len(self)})"

    @property
    def known(self) -> int:
        """How many foregrounds are kept by now."""
        return int(self._known.sum())

    @torch.no_grad()
    def __call__(self, images: Tensor, index: Tensor | Sequence[int]) -> Tensor:
        """Foregrounds of a batch.

        Args:
            images: ``(B, C, H, W)``, always of one size, on one device.
            index: Sample indices ``[B]`` on the host, below ``len(self)``.

        Returns:
            uint8 ``(B, 1, H, W)``.

        Raises:
            ValueError: An index out of range or on a device, images of another size or device, or
                an index that was given no mask.
        """
        checks.images(images)
        rows = checks.host_rows("index", index, len(images)).numpy()
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self)):
            raise ValueError(
                f"index: expected 0 to {len(self) - 1}, got {rows.min()} to {rows.max()}; "
                "count is the length of the whole dataset"
            )
        size = (images.shape[2], images.shape[3])
        if self._bits is not None and self._size != size:
            raise ValueError(
                f"images: expected {self._size} pixels like the first ones, got {size}; "
                "make another Cached for another size"
            )
        if self._bits is not None and self._bits.device != images.device:
            if self.foreground is None:
                self._bits = self._bits.to(images.device)
            else:
                raise ValueError(
                    f"images: expected device {self._bits.device} like the first ones, got "
                    f"{images.device}; make another Cached for another device"
                )
        first, places = np.unique(rows, return_index=True)
        new = np.sort(places[~self._known[first]])
        if len(new):
            self._add(images, rows, new)
        if self._bits is None:  # an empty batch before any other
            return images.new_zeros((0, 1, *size), dtype=torch.uint8)
        return _unpacked(self._bits.index_select(0, _sent(rows, images.device)), size)

    def _add(self, images: Tensor, rows: Any, new: Any) -> None:
        if self.foreground is None:
            raise ValueError(f"index: expected samples with a mask, got {rows[new[0]]} without")
        if len(new) < len(images):
            images = images.index_select(0, _sent(new, images.device))
        masks = checks.plane("foreground", self.foreground(images), images)
        self._keep(rows[new], (masks > 0).to(torch.uint8))

    def _keep(self, rows: Any, masks: Tensor) -> None:
        packed = _packed(masks)
        if self._bits is None:
            self._size = (masks.shape[2], masks.shape[3])
            with torch.inference_mode(False):  # whoever calls next may not be in inference mode
                self._bits = packed.new_zeros((len(self), packed.shape[1]))
        self._bits.index_copy_(0, _sent(rows, masks.device), packed)
        self._known[rows] = True


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


def _sent(numbers: Any, device: torch.device) -> Tensor:
    """Host numbers on a device, without waiting for the copy."""
    tensor = torch.from_numpy(np.ascontiguousarray(numbers))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


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
