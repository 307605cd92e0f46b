"""What is found in an image, kept by sample index: found once, then one gather a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from .. import checks
from ..rows import sent, taken


class ByIndex:
    """Base of caches by index: which samples are known, and a row of the device for each.

    Which are known is kept on the host, so nothing waits for the device. A subclass says what is
    accepted, and how it is kept.

    Args:
        find: A callable from images to planes ``(B, 1, H, W)``; None if all are given.
        count: Length of the dataset.
    """

    # What is found, and the keyword that brings what finds it.
    what: ClassVar[str] = ""

    def __init__(self, find: Callable[[Tensor], Tensor] | None, count: int) -> None:
        if find is not None and not callable(find):
            raise TypeError(f"{self.what}: expected a callable on images, got {find!r}")
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"count: expected the dataset's length, 1 or more, got {count!r}")
        self.find = find
        self._known = np.zeros(count, dtype=bool)
        self._rows: Tensor | None = None
        self._size: tuple[int, int] | None = None

    def accepted(self, found: Any, images: Tensor) -> Tensor:
        """What was found for these images, refused where it does not fit them."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method accepted, got none")

    def packed(self, planes: Tensor) -> Tensor:
        """Accepted planes ``(B, 1, H, W)`` as rows to keep, ``[B, n]``."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method packed, got none")

    def unpacked(self, rows: Tensor, size: tuple[int, int]) -> Tensor:
        """Rows as planes again."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method unpacked, got none")

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.find!r}, {len(self)})"

    @property
    def known(self) -> int:
        """How many samples are kept by now."""
        return int(self._known.sum())

    @torch.no_grad()
    def __call__(
        self,
        images: Tensor,
        index: Tensor | Sequence[int],
        category: str | Sequence[str] | None = None,
    ) -> Tensor:
        """The planes of a batch, ``(B, 1, H, W)``.

        Args:
            images: ``(B, C, H, W)``, always of one size, on one device.
            index: Sample indices ``[B]`` on the host, below ``len(self)``.
            category: Names of the samples' categories, for what finds planes by them.

        Raises:
            ValueError: An index out of range or on a device, images of another size or device, or
                an index that nothing was given for.
        """
        checks.images(images)
        rows = checks.host_rows("index", index, len(images)).numpy()
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self)):
            raise ValueError(
                f"index: expected 0 to {len(self) - 1}, got {rows.min()} to {rows.max()}; "
                "count is the length of the whole dataset"
            )
        size = (images.shape[2], images.shape[3])
        name = type(self).__name__
        if self._rows is not None and self._size != size:
            raise ValueError(
                f"images: expected {self._size} pixels like the first ones, got {size}; "
                f"make another {name} for another size"
            )
        if self._rows is not None and self._rows.device != images.device:
            if self.find is None:
                self._rows = self._rows.to(images.device)
            else:
                raise ValueError(
                    f"images: expected device {self._rows.device} like the first ones, got "
                    f"{images.device}; make another {name} for another device"
                )
        first, places = np.unique(rows, return_index=True)
        new = np.sort(places[~self._known[first]])
        if len(new):
            self._add(images, rows, new, category)
        if self._rows is None:  # an empty batch before any other
            return self.accepted(images.new_zeros((0, 1, *size), dtype=torch.uint8), images)
        return self.unpacked(self._rows.index_select(0, _sent(rows, images.device)), size)

    @property
    def by_category(self) -> bool:
        """Whether the samples' categories are asked for."""
        return bool(getattr(self.find, "by_category", False))

    def _add(self, images: Tensor, rows: Any, new: Any, category: Any) -> None:
        if self.find is None:
            raise ValueError(f"index: expected samples with a mask, got {rows[new[0]]} without")
        if len(new) < len(images):
            images = taken(images, _sent(new, images.device))
            if category is not None and not isinstance(category, str):
                category = [category[place] for place in new]
        find: Any = self.find
        found = find(images, category=category) if self.by_category else find(images)
        self.keep(rows[new], self.accepted(found, images))

    def keep(self, rows: Any, planes: Tensor) -> None:
        """Keep accepted planes for samples, numbered on the host."""
        packed = self.packed(planes)
        if self._rows is None:
            self._size = (planes.shape[2], planes.shape[3])
            with torch.inference_mode(False):  # whoever calls next may not be in inference mode
                self._rows = packed.new_zeros((len(self), packed.shape[1]))
        self._rows.index_copy_(0, _sent(rows, planes.device), packed)
        self._known[rows] = True


def _sent(numbers: Any, device: torch.device) -> Tensor:
    """Host numbers on a device, without waiting for the copy."""
    return sent(torch.from_numpy(np.ascontiguousarray(numbers)), device)
