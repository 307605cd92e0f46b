"""What every bank is: its pixels, what their copies share, and how another process gets them."""

from __future__ import annotations

import hashlib
import json
import operator
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .. import checks
from . import cachefile, imagefolder

if TYPE_CHECKING:
    from typing_extensions import Self

Indices = npt.NDArray[np.int64]

_CHUNK = 1 << 20  # values worked on at once when a derived tensor is computed


@dataclass
class Facts:
    """What the copies of a bank on several devices share; it refers to no bank."""

    file: Path | None = None
    rows: tuple[str, ...] | None = None
    digest: str | None = None
    histograms: Indices | None = None
    members: dict[int, Indices] = field(default_factory=dict)
    origin: tuple[str, dict[str, Any]] | None = None


class Bank:
    """uint8 images of one size with names and, if there are any, categories.

    Use :meth:`from_folder` or :meth:`from_tensors`.

    Attributes:
        data: uint8 ``[N, C, h, w]``, contiguous. To be read only.
        categories: Category names, ``()`` when there are none.
        category: int64 ``[N]``, index into ``categories`` (zeros when there are none).
        names: File names relative to the folder, or ``"0"``, ``"1"``, ...
    """

    data: Tensor
    categories: tuple[str, ...]
    category: Indices
    names: tuple[str, ...]

    def __init__(
        self,
        data: Tensor,
        names: Sequence[str],
        categories: Sequence[str],
        category: Indices,
        facts: Facts | None = None,
    ) -> None:
        self.data = data
        self.names = tuple(names)
        self.categories = tuple(categories)
        self.category = category
        self.category.flags.writeable = False
        self._facts = facts or Facts()
        self._copies: dict[torch.device, Self] = {}
        self._home: weakref.ref[Self] | None = None
        self._grey: Self | None = None

    @classmethod
    @torch.inference_mode(False)
    def from_tensors(
        cls,
        images: Tensor,
        names: Sequence[str] | None = None,
        categories: Sequence[str] | Sequence[int] | None = None,
    ) -> Self:
        """A bank of a copy of the given images, on their device.

        Args:
            images: ``[N, C, H, W]``, N >= 1, uint8, or float within [0, 1], which becomes
                ``v * 255 + 0.5`` truncated.
            names: One per image; ``"0"``, ``"1"``, ... when None.
            categories: One per image: its category's name, or its index (the names are then
                ``"0"``, ``"1"``, ...). None for no categories.

        Raises:
            TypeError: ``images`` is no tensor, or neither uint8 nor float.
            ValueError: Not four dimensions, none or too small images, values out of range or NaN,
                a tensor that requires grad, or another number of names or categories than images.
        """
        data = _as_bytes(images)
        if names is None:
            names = [str(index) for index in range(len(data))]
        _one_each("names", names, len(data))
        known, category = _labelled(categories, len(data))
        return cls(data, names, known, category)

    @classmethod
    def from_folder(
        cls,
        path: str | os.PathLike[str],
        size: int | tuple[int, int] = 256,
        channels: int = 3,
        cache: bool = True,
        progress: bool = True,
        *,
        resize: str = "stretch",
        workers: int | None = None,
    ) -> Self:
        """A bank of every readable image in a folder and below it, sorted by name, on the CPU.

        Decoded once on threads; afterwards a map of a file in the cache folder (``ANOAUG_CACHE``,
        else ``$XDG_CACHE_HOME/anoaug``, else ``~/.cache/anoaug``) that is found by the images'
        contents. Mixed sizes, channel counts, 16 bits, palettes, CMYK, transparency and EXIF turns
        are dealt with as :mod:`.imagefolder` says. Files that cannot be read are named in one
        warning and left out. An image's category is the first folder on its relative path;
        :class:`DonorBank` knows more layouts.

        Args:
            path: The folder. Names that begin with a dot are passed over.
            size: Side, or (height, width), in pixels.
            channels: 3 (RGB) or 1 (luma, equal to ``with_channels(1)`` of the 3-channel bank).
            cache: False decodes into memory every time.
            progress: Show a bar on a terminal while decoding.
            resize: ``"stretch"`` ignores the aspect ratio, as DRAEM does; ``"crop"`` brings the
                shorter side to size and takes the centre.
            workers: Threads; all processors when None.

        Raises:
            ValueError: The folder is missing or holds no readable image, or an argument is wrong.
            OSError: The cache folder cannot be written.
        """
        rule = imagefolder.Rule(imagefolder.pair(size), channels, resize)
        labels = cls._layout(Path(path).expanduser(), imagefolder.find(path))
        loaded = imagefolder.load(path, list(labels), rule, cache, progress, workers)
        said = {"path": os.fspath(path), "size": size, "channels": channels, "resize": resize}
        facts = Facts(loaded.path, loaded.digests, origin=("from_folder", said))
        of_kept = [labels[name] for name in loaded.names]
        known, category = _labelled(of_kept if all(of_kept) else None, len(of_kept))
        return cls(loaded.data, loaded.names, known, category, facts)

    @classmethod
    def _layout(cls, folder: Path, names: Sequence[str]) -> dict[str, str]:
        """The files to take and the category of each, ``""`` for none."""
        return imagefolder.all_by_folder(folder, names)

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        count, channels, height, width = self.data.shape
        groups = f", {len(self.categories)} categories" if self.categories else ""
        kind = type(self).__name__
        return f"{kind}({count} images, {channels} x {height} x {width}, {self.device}{groups})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        file = self._facts.file
        where = self.data if file is None else (str(file), str(self.device))
        facts = (self._facts.rows, self._facts.digest)
        return _restored, (type(self), where, self.names, self.categories, self.category, facts)

    @property
    def origin(self) -> tuple[str, dict[str, Any]] | None:
        """Which class method made the bank, with what, if plain data can say it."""
        return self._facts.origin

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.data.shape[1])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.data.shape[2]), int(self.data.shape[3])

    @property
    def device(self) -> torch.device:
        """Where the pixels are."""
        return self.data.device

    def to(self, device: str | torch.device) -> Self:
        """The bank on a device: itself, or a copy made once and kept as long as this bank lives."""
        device = torch.device(device)
        if device == self.data.device:
            return self
        if device.index is None and device.type == "cuda":
            device = torch.device("cuda", torch.cuda.current_device())
        origin = self._origin()
        if origin is not self:
            return origin.to(device)
        if device == self.data.device:
            return self
        if device not in self._copies:
            with torch.inference_mode(False):
                data = self.data.to(device)
            copy = type(self)(data, self.names, self.categories, self.category, self._facts)
            # Held weakly: a cycle would keep device memory until the garbage collector runs.
            copy._home = weakref.ref(self)
            self._copies[device] = copy
        return self._copies[device]

    def with_channels(self, c: int) -> Self:
        """The bank as something with ``c`` channels can use it.

        Itself when it has ``c`` channels, or one (sources broadcast it). From three to one by the
        integer luma ``(299 R + 587 G + 114 B + 500) // 1000``, made once and kept.

        Raises:
            ValueError: Any other pair of counts.
        """
        if self.channels in (c, 1):
            return self
        if (self.channels, c) != (3, 1):
            raise ValueError(
                f"expected a bank with 1 or {c} channels, got {self.channels}; "
                f"pass one from_tensors with {c}, or textures=TextureBank.procedural(channels=1)"
            )
        if self._grey is None:
            height, width = self.size
            data, facts = self._derived("luma", _luma, (1, height, width))
            self._grey = type(self)(data, self.names, self.categories, self.category, facts)
        return self._grey

    def members(self, category: str | int | None) -> Indices:
        """Indices of a category's images, ascending, int64.

        Args:
            category: Its name, its index into ``categories``, or None for all images.

        Raises:
            ValueError: No such category; the message names the nearest.
            TypeError: Neither a name, an integer nor None.
        """
        key = -1 if category is None else self._category_index(category)
        if key not in self._facts.members:
            chosen = np.arange(len(self)) if key < 0 else np.flatnonzero(self.category == key)
            chosen = chosen.astype(np.int64)
            chosen.flags.writeable = False
            self._facts.members[key] = chosen
        return self._facts.members[key]

    def digest(self) -> str:
        """16 hexadecimal digits that name the content: pixels, shape and categories, not names."""
        facts = self._facts
        if facts.digest is None:
            if facts.rows is None:
                rows = self._origin().data.cpu().numpy()  # host: once per bank
                facts.rows = tuple(
                    cachefile.ordered(cachefile.row_digest, iter(rows), cachefile.threads())
                )
            category = self.category.tolist()  # host: once per bank
            parts = [facts.rows, self.data.shape, self.categories, category]
            facts.digest = hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()[:16]
        return facts.digest

    def _origin(self) -> Self:
        """The bank this one is a copy of, if it still exists, else this one."""
        home = self._home() if self._home is not None else None
        return self if home is None else home

    def _category_index(self, category: str | int) -> int:
        if isinstance(category, str):
            if category not in self.categories:
                hint = checks.nearest(category, self.categories or ("none",))
                raise ValueError(f"expected a category of this bank, got {category!r}; {hint}")
            return self.categories.index(category)
        try:
            index = operator.index(category)
        except TypeError:
            raise TypeError(
                f"expected a category's name or index or None, got {type(category).__name__}"
            ) from None
        if not 0 <= index < len(self.categories):
            raise ValueError(
                f"expected a category index below {len(self.categories)}, got {index}; "
                f"categories: {', '.join(self.categories) or 'none'}"
            )
        return index

    @torch.inference_mode(False)
    def _derived(
        self, name: str, function: Callable[[Tensor], Tensor], shape: tuple[int, ...]
    ) -> tuple[Tensor, Facts]:
        """A row-wise uint8 function of ``data``; in a cache file too if ``data`` is in one."""
        file = self._facts.file if self.device.type == "cpu" else None
        if file is not None:
            path = file.with_name(f"{file.stem}.{name}.rows")
            rows = (row for _, part in self._parts(function) for row in part.numpy())
            found = cachefile.once(path, rows)
            return found.data, Facts(found.path, found.digests)
        data = torch.empty((len(self), *shape), dtype=torch.uint8, device=self.device)
        for start, part in self._parts(function):
            data[start : start + len(part)] = part
        return data, Facts()

    def _parts(self, function: Callable[[Tensor], Tensor]) -> Iterator[tuple[int, Tensor]]:
        step = max(1, _CHUNK // self.data[0].numel())
        for start in range(0, len(self), step):
            yield start, function(self.data[start : start + step]).contiguous()


@torch.inference_mode(False)
def _restored(
    kind: type[Bank],
    where: Tensor | tuple[str, str],
    names: tuple[str, ...],
    categories: tuple[str, ...],
    category: Indices,
    facts: tuple[tuple[str, ...] | None, str | None],
) -> Bank:
    """The other end of pickling."""
    rows, digest = facts
    if isinstance(where, Tensor):
        where = where.clone() if where.is_inference() else where
        return kind(where, names, categories, category, Facts(None, rows, digest))
    file, device = Path(where[0]), where[1]
    found = cachefile.read(file, check=False)
    if found is None or found.digests != rows:
        raise ValueError(
            f"this bank is a map of the cache file {str(file)!r}, which is missing here; "
            "make the bank again with from_folder"
        )
    return kind(found.data, names, categories, category, Facts(file, rows, digest)).to(device)


def _as_bytes(images: Tensor) -> Tensor:
    """A checked uint8 copy."""
    images = checks.images(images)
    if len(images) == 0:
        raise ValueError(f"images: expected at least one, got {list(images.shape)}")
    if images.dtype == torch.uint16:
        raise TypeError(
            "images: a bank holds 8 bits, got uint16; choose how to scale, then .to(torch.uint8)"
        )
    checks.content(images)
    if images.dtype == torch.uint8:
        return images.clone(memory_format=torch.contiguous_format)
    return (images.float() * 255 + 0.5).to(torch.uint8).contiguous()


def _one_each(what: str, given: Sequence[Any], count: int) -> None:
    if len(given) != count:
        raise ValueError(f"{what}: expected one per image ({count}), got {len(given)}")


def _labelled(
    labels: Sequence[str] | Sequence[int] | None, count: int
) -> tuple[tuple[str, ...], Indices]:
    """Category names and each image's index, from one name or index per image."""
    if labels is None:
        return (), np.zeros(count, dtype=np.int64)
    _one_each("categories", labels, count)
    if all(isinstance(label, str) for label in labels):
        known = sorted({str(label) for label in labels})
        place = {label: index for index, label in enumerate(known)}
        return tuple(known), np.array([place[str(label)] for label in labels], dtype=np.int64)
    try:
        indices = np.array([operator.index(label) for label in labels], dtype=np.int64)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError("categories: expected all names or all integers, got a mixture") from None
    if indices.min() < 0:
        raise ValueError(f"categories: expected indices of at least 0, got {indices.min()}")
    return tuple(str(index) for index in range(int(indices.max()) + 1)), indices


def _luma(images: Tensor) -> Tensor:
    red, green, blue = images.to(torch.int32).unbind(1)
    grey = (299 * red + 587 * green + 114 * blue + 500).div(1000, rounding_mode="floor")
    return grey.to(torch.uint8).unsqueeze(1)
