"""A bank of shapes: signed distances to the edges of defects, which ``masks.Shape`` puts somewhere.

Drawing shapes is the business of :mod:`.outlines`, distances that of :mod:`.distances`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .. import checks
from . import cachefile, distances, imagefolder, outlines
from .bank import Bank, Indices

if TYPE_CHECKING:
    from typing_extensions import Self

_MARGIN = 4  # pixels of a real mask's level that stay free at every edge
_DECODED = 512  # side to which the files of real masks are brought
_WAYS = "ShapeBank.procedural(), ShapeBank.from_masks(folder) or ShapeBank.from_tensors(levels)"


class ShapeBank(Bank):
    """Shapes of defects as levels, uint8 ``[N, 1, h, w]``.

    128 is the edge, each step above it an eighth of a pixel farther inside, each below it farther
    outside; 16 pixels from the edge levels saturate. The categories are the kinds of shape.

    Use :meth:`procedural`, :meth:`from_masks` or :meth:`from_tensors`; ``masks.Shape(bank)`` then
    puts the shapes somewhere.
    """

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        # What :meth:`procedural` was asked for: kinds, n, size, seed, epoch.
        self._asked: tuple[tuple[str, ...], int, int, int, int] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return *super().__reduce__(), {"_asked": self._asked}

    @classmethod
    def procedural(
        cls,
        kinds: Sequence[str] | str | None = None,
        n: int = 64,
        size: int = 128,
        seed: int = 0,
    ) -> Self:
        """Shapes drawn from a seed, the kinds in turn; shape i does not depend on ``n``.

        About 12 ms per shape of 128 x 128; a bank of up to 32 MiB is made once per process.

        Args:
            kinds: Names out of ``"blob"``, ``"scar"``, ``"clump"`` (REB), ``"polygon"``,
                ``"crack"``, ``"scratch"``, ``"stain"``, ``"holes"``, ``"islands"`` (Perlin noise)
                and ``"fractal"`` (ASBench); one or several, all when None.
            n: Number of shapes, at least 1.
            size: Side in pixels, at least 32.
            seed: Integer; any sign.

        Raises:
            ValueError: An argument is out of range.
        """
        chosen = _checked_kinds(kinds)
        if n < 1:
            raise ValueError(f"n: expected at least 1 shape, got {n}")
        if size < 2 * distances.REACH:
            raise ValueError(f"size: expected a side of at least 32 pixels, got {size}")
        made: Self = _drawn(cls, (chosen, int(n), int(size), int(seed), 0))
        return made

    @classmethod
    @torch.inference_mode(False)
    def from_masks(
        cls,
        masks: Tensor | str | os.PathLike[str],
        size: int = 128,
        names: Sequence[str] | None = None,
        kinds: Sequence[str] | None = None,
        *,
        cache: bool = True,
        progress: bool = True,
    ) -> Self:
        """Shapes of real defects, cut from their masks: what a mask marks is one shape.

        Each is cut out and brought to the square, its longer side filling it. Masks without a
        marked pixel are left out.

        Args:
            masks: ``[N, 1, H, W]``: bool, uint8 (marked where not 0) or float (above 0.5). Or a
                folder of images, such as MVTec's ``bottle/ground_truth``, which are brought to
                512 x 512 pixels and marked above 127; the first folder on a file's relative path
                is the kind. Levels are kept in the cache folder, see ``Bank.from_folder``.
            size: Side in pixels, at least 32.
            names: One per mask of a tensor; ``"0"``, ``"1"``, ... when None.
            kinds: One per mask of a tensor, its kind; none when None.
            cache: False makes a folder's levels in memory every time.
            progress: Show a bar on a terminal while a folder is decoded.

        Raises:
            ValueError: No mask marks a pixel, or an argument does not fit.
            TypeError: ``masks`` is neither a tensor nor a folder.
        """
        if size < 2 * distances.REACH:
            raise ValueError(f"size: expected a side of at least 32 pixels, got {size}")
        if not isinstance(masks, Tensor):
            if names is not None or kinds is not None:
                raise ValueError("names, kinds: expected None for a folder, which says them itself")
            return cls._from_folder(masks, size, cache, progress)
        marked = _marked(masks)
        some = [n for n, one in enumerate(marked) if one.any()]
        if not some:
            raise ValueError("masks: expected at least one with a marked pixel, got none")
        for what, given in (("names", names), ("kinds", kinds)):
            if given is not None and len(given) != len(marked):
                raise ValueError(f"{what}: expected one per mask ({len(marked)}), got {len(given)}")
        levels = np.stack([_cut(marked[n], size) for n in some])[:, None]
        return cls.from_tensors(
            torch.from_numpy(levels),
            [str(n) if names is None else names[n] for n in some],
            None if kinds is None else [kinds[n] for n in some],
        )

    @classmethod
    def _from_folder(
        cls, path: str | os.PathLike[str], size: int, cache: bool, progress: bool
    ) -> Self:
        rule = imagefolder.Rule((_DECODED, _DECODED), 1)
        found = imagefolder.find(path)
        loaded = imagefolder.load(path, found, rule, cache, progress, None)
        marked = loaded.data.numpy()[:, 0] > 127
        some = [n for n, one in enumerate(marked) if one.any()]
        if not some:
            raise ValueError(
                f"expected masks of defects in {os.fspath(path)!r}, got images without a pixel "
                "above 127; give a folder of masks, such as ground_truth"
            )
        rows: Iterator[Any] = (_cut(marked[n], size)[None] for n in some)
        if loaded.path is None:
            data = torch.from_numpy(np.stack(list(rows)))
        else:
            file = loaded.path.with_name(f"{loaded.path.stem}.levels{size}.rows")
            data = cachefile.once(file, rows).data
        names = [loaded.names[n] for n in some]
        kinds = [imagefolder.by_folder(names)[name] for name in names]
        return cls.from_tensors(data, names, kinds if all(kinds) else None)

    @classmethod
    def from_tensors(
        cls,
        images: Tensor,
        names: Sequence[str] | None = None,
        categories: Sequence[str] | Sequence[int] | None = None,
    ) -> Self:
        """A bank of a copy of the given levels, on their device.

        Args:
            images: Levels, uint8 ``[N, 1, h, w]``: above 128 is inside, see the class. Each needs
                a pixel inside; beyond the tensor everything is outside.
            names: One per shape; ``"0"``, ``"1"``, ... when None.
            categories: One per shape: its kind, or the kind's index. None for no kinds.

        Raises:
            TypeError, ValueError: They are no such levels, or another number of names or
                categories than shapes.
        """
        if not isinstance(images, Tensor) or images.dtype != torch.uint8:
            got = images.dtype if isinstance(images, Tensor) else type(images).__name__
            raise TypeError(
                f"images: expected levels as a uint8 tensor, got {got}; "
                "ShapeBank.from_masks takes masks"
            )
        made = super().from_tensors(images, names, categories)
        if made.channels != 1:
            raise ValueError(f"images: expected levels [N, 1, h, w], got {list(images.shape)}")
        empty = np.flatnonzero(made.outlines[:, 0] == 0)
        if len(empty):
            raise ValueError(
                f"images: expected levels above {distances.EDGE} in every shape, got none in "
                f"number {empty[0]}; leave it out"
            )
        return made

    @classmethod
    def from_folder(cls, *args: Any, **keywords: Any) -> Self:
        """Refused: :meth:`from_masks` reads a folder of masks.

        Raises:
            TypeError: Always.
        """
        raise TypeError(f"ShapeBank.from_folder: expected masks, not images; use {_WAYS}")

    @property
    def origin(self) -> tuple[str, dict[str, Any]] | None:
        """As of any bank; shapes that were drawn, as long as they are the first epoch's."""
        asked = self._origin()._asked
        if asked is None or asked[4]:
            return None
        kinds, n, size, seed, _ = asked
        return "procedural", {"kinds": list(kinds), "n": n, "size": size, "seed": seed}

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kind of each shape, ``""`` where there are none."""
        return tuple(self.categories[n] if self.categories else "" for n in self.category)

    @functools.cached_property
    def outlines(self) -> Indices:
        """int64 ``[N, 5]``: pixels inside; first row, row after the last, and so for columns."""
        inside = self._origin().data.cpu().numpy()[:, 0] > distances.EDGE  # host: once per bank
        found = np.zeros((len(inside), 5), np.int64)
        found[:, 0] = inside.sum((1, 2))
        for column, axis in ((1, 2), (3, 1)):
            along = inside.max(axis)
            found[:, column] = along.argmax(1)
            found[:, column + 1] = along.shape[1] - along[:, ::-1].argmax(1)
        found.flags.writeable = False
        return found

    @functools.cached_property
    def cover(self) -> Indices:
        """int64 ``[N]``: area inside the shapes' smooth edges, in sixteenths of a pixel.

        Of thin shapes that is not the number of their pixels.
        """
        levels = self._origin().data.cpu().numpy()[:, 0]  # host: once per bank
        found = np.asarray([distances.cover(level) for level in levels], np.int64)
        found.flags.writeable = False
        return found

    def with_kinds(self, *kinds: str) -> Self:
        """A bank of the shapes of some kinds.

        Raises:
            ValueError: No kind is named, or one that the bank does not have.
        """
        if not kinds:
            raise ValueError(f"kinds: expected at least one of {self.categories}, got none")
        chosen = np.sort(np.concatenate([self.members(kind) for kind in kinds]))
        return type(self).from_tensors(
            self.data[torch.from_numpy(chosen).to(self.device)],
            [self.names[n] for n in chosen],
            [self.kinds[n] for n in chosen],
        )

    def renewed(self, epoch: int) -> Self:
        """As many other shapes of the same kinds, a function of the bank's seed and the epoch.

        A synthesizer keeps the bank it was made with; for new shapes make a new one::

            for epoch in range(epochs):
                shape = anoaug.masks.Shape(bank.renewed(epoch))
                synth = anoaug.Synthesizer(anoaug.Layer(shape, source), seed=0)

        Args:
            epoch: In [0, 2**32); 0 gives the bank itself.

        Raises:
            ValueError: The bank does not come from :meth:`procedural`, or epoch is out of range.
        """
        asked = self._origin()._asked
        if asked is None:
            raise ValueError(
                "renewed: expected a bank from ShapeBank.procedural, got one of given shapes; "
                "vary those with masks.Shape(elastic=)"
            )
        if not 0 <= epoch < 2**32:
            raise ValueError(f"epoch: expected a number in [0, 2**32), got {epoch}")
        made: Self = _drawn(type(self), (*asked[:4], int(epoch)))
        return made.to(self.device)


def _checked_kinds(kinds: Sequence[str] | str | None) -> tuple[str, ...]:
    known = tuple(outlines.KINDS)
    chosen = known if kinds is None else (kinds,) if isinstance(kinds, str) else tuple(kinds)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"kinds: expected different names out of {known}, got {kinds!r}")
    for kind in chosen:
        checks.one_of("kinds", kind, known)
    return chosen


def _drawn(kind: Any, asked: tuple[tuple[str, ...], int, int, int, int]) -> Any:
    _, n, size, _, _ = asked
    draw: Callable[..., Any] = _kept if n * size * size <= 1 << 25 else _draw
    return draw(kind, asked)


@torch.inference_mode(False)
def _draw(kind: Any, asked: tuple[tuple[str, ...], int, int, int, int]) -> Any:
    kinds, n, size, seed, epoch = asked
    known = tuple(outlines.KINDS)
    levels = np.empty((n, 1, size, size), np.uint8)
    for number in range(n):  # host: shapes of a bank, when it is made
        name = kinds[number % len(kinds)]
        # A kind's shapes are the same in whatever company.
        nth = (number // len(kinds)) * len(known) + known.index(name)
        inside = outlines.shape(name, (seed, epoch << 32 | nth), distances.FINER * size)
        levels[number, 0] = distances.levels(inside)
    category = np.arange(n, dtype=np.int64) % len(kinds)
    names = [f"{kinds[which]}-{number}" for number, which in enumerate(category)]
    bank = kind(torch.from_numpy(levels), names, kinds, category)
    bank._asked = asked
    return bank


_kept = functools.lru_cache(maxsize=4)(_draw)


def _cut(marked: Any, size: int) -> Any:
    """The level of what a mask marks, uint8 ``[size, size]``."""
    finer = distances.FINER
    found = distances.resampled(marked, finer * size, finer * _MARGIN)
    return distances.levels(found)


def _marked(masks: Tensor) -> Any:
    """Checked masks as booleans ``[N, H, W]`` on the host."""
    if masks.dim() != 4 or masks.shape[1] != 1 or 0 in masks.shape:
        raise ValueError(f"masks: expected [N, 1, H, W], got {list(masks.shape)}")
    if masks.dtype in (torch.bool, torch.uint8):
        found = masks > 0
    elif masks.dtype.is_floating_point:
        found = masks > 0.5
    else:
        raise TypeError(f"masks: expected bool, uint8 or float, got {masks.dtype}")
    return found[:, 0].cpu().numpy()  # host: once per bank
