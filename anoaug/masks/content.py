"""Placement on content: masks that look at the images before they lie down.

Between sampling and render, on the device, a :class:`Seeker` reads its own columns, the foreground
of the images and that of the images its source takes from; it says which columns change, and
whether there is a place at all. Where there is none the layer's gate becomes 0. The table is
rewritten before anything else reads it, so that it is the rewritten one that params hold; a row
that has its place says so in the column ``placed`` and is left alone from then on. Nothing waits
for the device.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from .. import pictures
from ..banks import Bank
from ..parts import AFFINE, Source, part
from ..pictures import Call
from ..recipe import ACTIVE, KIND, LayerLaw, Placed, PlacedLayer
from ..reference.masks import level_of
from ..rng import lattice_hash
from .expressions import MaskPart
from .planes import Given

# Of a bank's number: where its images show the object, uint8 [N, 1, h, w].
ObjectsOf = Callable[[int], Tensor]

# Images of a bank whose foreground is found in one go.
_AT_ONCE = 64


class Choice(NamedTuple):
    """What a seeker chose for some rows.

    Attributes:
        mask: New values of its own columns by name, float32 ``[b]``.
        source: New values of the columns of the source that gathers, by name, likewise.
        found: bool ``[b]``: where it found a place.
    """

    mask: Mapping[str, Tensor]
    source: Mapping[str, Tensor]
    found: Tensor


@dataclass(frozen=True)
class Seeker(Given):
    """Base of masks that choose their place: they need the images' foreground.

    A subclass has a column ``placed``, which its law leaves 0, and a method ``seek``. Candidates
    come from a key in the table, :meth:`Site.words`. Constant shapes: what is not found among a
    fixed number of candidates is not found.
    """

    name: str = "foreground"

    # Whether it has something to say to a source that gathers, and to no other.
    takes: ClassVar[bool] = True

    def option(self) -> int:
        """None: it reads no tensor in the render."""
        return 0

    def seek(self, site: Site) -> Choice:
        """Choose a place for each row of a site."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method seek, got none")

    def region(self, site: Site) -> Tensor:
        """What :class:`Objects` shows for placed rows, bool ``[b, H, W]``."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method region, got none")


@part
@dataclass(frozen=True)
class Objects(MaskPart):
    """Where the object is, in the image or in what is laid over it: ``ObjectPatch() & Objects()``.

    Of the patch beside it in the same layer. Where both are background, nothing is inside.
    """

    slot: int = -1

    function: ClassVar[str] = "given"

    def option(self) -> int:
        """The plane's number."""
        return self.slot

    def for_copy(self, copy: int) -> Objects:
        """Every copy of a layer has a plane of its own."""
        return dataclasses.replace(self, slot=self.slot + copy)


def numbered(laws: Sequence[LayerLaw], first: int) -> tuple[tuple[LayerLaw, ...], int]:
    """The laws with numbers from ``first`` on for the planes of Objects, and how many those are.

    Raises:
        ValueError: Objects without a seeker, or a seeker with a source that gathers nothing.
    """
    made, end = [], first
    for law in laws:
        steps: list[Any] = []
        seekers = [step for step in law.mask if isinstance(step, Seeker)]
        for step in law.mask:
            if isinstance(step, Objects):
                if len(seekers) != 1:
                    raise ValueError(
                        "masks.Objects: expected one ObjectPatch in the same layer, got "
                        f"{len(seekers)}; masks.Foreground() is the object in the image alone"
                    )
                step = dataclasses.replace(step, slot=end)
                end += law.count[1]
            steps.append(step)
        taken = pictures.innermost(law.source, 0)[0]
        takes = any(step.takes for step in seekers)
        if takes and getattr(taken, "function", "") not in ("gather_image", "gather_bank"):
            raise ValueError(
                f"Layer: expected sources.Own or sources.Donor under a mask that seeks its place, "
                f"got {type(taken).__name__}"
            )
        made.append(dataclasses.replace(law, mask=tuple(steps)))
    return tuple(made), end - first


@dataclass(frozen=True)
class Site:
    """What a seeker may look at.

    Attributes:
        call: The call.
        layer: The layer.
        placed: The seeker in it.
        objects_of: Where the images of banks show the object.
        rows: int64 ``[b]``: the rows that are looked at; None: all.
    """

    call: Call
    layer: PlacedLayer
    placed: Placed
    objects_of: ObjectsOf
    rows: Tensor | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.call.images.shape[2], self.call.images.shape[3]

    def column(self, name: str) -> Tensor:
        """A column of the seeker's own, float32 ``[b]``."""
        return self._rows(self.call.table[:, self._number(self.placed, name)])

    def taken(self, name: str) -> Tensor:
        """A column of the source that gathers, float32 ``[b]``."""
        source, offset = self.source
        return self._rows(self.call.table[:, self._number(Placed(source, "", offset), name)])

    def mirrored(self, name: str) -> Tensor:
        """Bool ``[b]``: whether the source's law drew a negative number for one of its columns."""
        source, offset = self.source
        return self._rows(self.call.table[:, self._number(Placed(source, "", offset), name)]) < 0

    def columns_of(self, placed: Placed, name: str, width: int) -> Tensor:
        """A wide column of another part, float32 ``[b, width]``."""
        first = self._number(placed, name)
        return self._rows(self.call.table[:, first : first + width])

    def follows(self, table: Tensor, own: Placed) -> None:
        """Write into ``table`` what another part of the mask makes of the seeker's place."""
        part: Any = own.part
        for name, value in part.follow(self, own).items():
            first = self._number(own, name)
            last = first + value.shape[1]
            if self.rows is None:
                table[:, first:last] = value
            else:
                table[self.rows, first:last] = value

    def words(self, name: str, count: int, each: int) -> Tensor:
        """Random words for candidates, int64 ``[b, count, each]`` in [0, 2**32).

        Args:
            name: Column of the key.
            count: Candidates.
            each: Words a candidate.
        """
        key = self._rows(self.call.table.view(torch.int32)[:, self._number(self.placed, name)])
        return candidates(key.to(torch.int64) & 0xFFFFFFFF, count, each)

    @property
    def where(self) -> Tensor | None:
        """Boxes that a control asks for, float64 ``[b, 4]`` in shares; NaN: none. None: nowhere."""
        where = self.call.where
        if where is None:
            return None
        return self._rows(where[:, self.call.recipe.layers.index(self.layer)])

    def allowed(self) -> Tensor | None:
        """Pixels where a control would have centres, bool ``[b, H, W]``, if any does."""
        if self.where is None:
            return None
        return boxed(self.where, self.size)

    def objects(self) -> Tensor:
        """The images' foreground, bool ``[b, H, W]``."""
        number = self.placed.part.slot  # type: ignore[attr-defined]
        return _inside(self._rows(self.call.planes[number][:, 0]))

    def origin(self) -> Tensor:
        """The foreground of the images that the source takes from, bool ``[b, h, w]``."""
        source, offset = self.source
        picked = self.call.table.view(torch.int32)[:, offset + len(AFFINE)].to(torch.int64)
        if source.function == "gather_bank":
            planes = self.objects_of(source.bank)[:, 0]  # type: ignore[attr-defined]
            return planes.index_select(0, self._rows(picked)).bool()
        number = self.placed.part.slot  # type: ignore[attr-defined]
        own = torch.arange(len(picked), device=picked.device)
        donor = torch.where(picked < 0, own, picked).clamp(max=len(picked) - 1)
        return _inside(self.call.planes[number][:, 0].index_select(0, self._rows(donor)))

    @property
    def source(self) -> tuple[Source, int]:
        """The source that gathers, and its first column."""
        placed: Any = self.layer.source
        return pictures.innermost(placed.part, placed.offset)

    def written(self, table: Tensor, choice: Choice) -> None:
        """Write a choice into ``table``."""
        source, offset = self.source
        gatherer = Placed(source, "", offset)
        changes = [(self._number(self.placed, "placed"), torch.ones_like(choice.found))]
        changes += [(self._number(self.placed, k), value) for k, value in choice.mask.items()]
        changes += [(self._number(gatherer, k), value) for k, value in choice.source.items()]
        gate = torch.where(choice.found, self._rows(table[:, self.layer.gate]), 0.0)
        changes += [(self.layer.gate, gate)]
        if self.rows is not None:
            for column, value in changes:
                table[self.rows, column] = value.to(torch.float32)
            return
        # Asked before the first change: it is among them.
        waiting = table[:, changes[0][0]].clone() == 0
        for column, value in changes:
            table[:, column] = torch.where(waiting, value.to(torch.float32), table[:, column])

    def _number(self, placed: Placed, name: str) -> int:
        at = placed.offset
        for known, width in placed.part.columns(self.call.recipe.laws.channels).items():
            if known == name:
                return at
            at += width
        raise KeyError(name)

    def _rows(self, values: Tensor) -> Tensor:
        return values if self.rows is None else values.index_select(0, self.rows)


def boxed(sides: Tensor, size: tuple[int, int]) -> Tensor:
    """The pixels of boxes, at least one each, bool ``[B, H, W]``.

    Args:
        sides: float64 ``[B, 4]``: y0, x0, y1, x1 in shares of the image; NaN: all of it.
        size: Height and width.
    """
    inside = []
    for axis, side in enumerate(size):
        pixel = torch.arange(side, device=sides.device)
        first = torch.floor(sides[:, axis] * side).clamp(0, side - 1)[:, None]
        last = torch.maximum(torch.ceil(sides[:, 2 + axis] * side)[:, None], first + 1)
        # Not the opposite comparisons: NaN is to be inside.
        inside.append(~((pixel < first) | (pixel >= last)))
    return inside[0][:, :, None] & inside[1][:, None]


def _inside(plane: Tensor) -> Tensor:
    """Where a given tensor's level is above 0."""
    return plane.bool() if plane.dtype == torch.uint8 else level_of(plane) > 0


def candidates(key: Tensor, count: int, each: int) -> Tensor:
    """Words of numbered candidates, int64 ``[B, count, each]``; the same on every device.

    Args:
        key: int64 ``[B]`` in [0, 2**32).
        count: Candidates.
        each: Words a candidate.
    """
    number = torch.arange(count, device=key.device)[None, :, None]
    word = torch.arange(each, device=key.device)[None, None, :]
    return lattice_hash(key[:, None, None], number, word)


def below(words: Tensor, bound: Tensor | int) -> Tensor:
    """Whole numbers in [0, bound) from words, exactly alike on every device."""
    return ((words >> 8) * bound) >> 24


def settle(call: Call, count: int, objects_of: ObjectsOf) -> Call:
    """The call with its masks in their places.

    Args:
        call: The call as drawn, or a replay.
        count: How many planes Objects wants.
        objects_of: Where the images of banks show the object.

    Returns:
        The call with a table of its own and with those planes, uint8 ``[B, 1, H, W]``. On the CPU
        ``host`` is that table.
    """
    made: Call = pictures.untraced(_settle)(call, count, objects_of)
    return made


def _settle(call: Call, count: int, objects_of: ObjectsOf) -> Call:
    table = call.table.clone()
    for layer, placed in _seekers(call):
        site = Site(call, layer, placed, objects_of, None)
        rows = _rows(table, layer, site._number(placed, "placed"))
        site = dataclasses.replace(site, rows=rows)
        if rows is None or len(rows):
            site.written(table, placed.part.seek(site))  # type: ignore[attr-defined]
    kind = torch.zeros(len(table), dtype=torch.int32, device=table.device)
    for layer in call.recipe.layers:
        number = call.recipe.laws.layers[layer.law].kind
        there = (kind == 0) & (table[:, layer.gate] > 0)
        kind = torch.where(there, number, kind)
    table.view(torch.int32)[:, KIND] = kind
    host = table if table.device.type == "cpu" else call.host
    call = dataclasses.replace(call, table=table, host=host)
    for layer, placed in _seekers(call):
        rows = _rows(table, layer)
        site = Site(call, layer, placed, objects_of, rows)
        for step in layer.mask:
            if isinstance(step.part, Follower) and (rows is None or len(rows)):
                site.follows(table, step)
    if not count:
        return call
    height, width = call.images.shape[2:]
    size = (count, len(table), 1, height, width)
    planes = torch.zeros(size, dtype=torch.uint8, device=table.device)
    first = len(call.planes)
    for layer, placed in _seekers(call):
        rows = _rows(table, layer)
        site = Site(call, layer, placed, objects_of, rows)
        for step in layer.mask:
            if isinstance(step.part, Objects) and (rows is None or len(rows)):
                inside = placed.part.region(site).to(torch.uint8)[:, None]  # type: ignore[attr-defined]
                planes[step.part.slot - first, slice(None) if rows is None else rows] = inside
    return dataclasses.replace(call, planes=[*call.planes, *planes])


class Follower(MaskPart):
    """Base of masks that lie in a seeker's place: their columns follow it."""

    def follow(self, site: Site, own: Placed) -> Mapping[str, Tensor]:
        """New values of its columns by name, float32 ``[b]`` or ``[b, width]``.

        Args:
            site: Of the seeker, which has its place.
            own: This part in the table.
        """
        raise NotImplementedError(f"{type(self).__name__}: expected a method follow, got none")


class Catalogue:
    """Where the images of banks show the object: found once per bank and device."""

    def __init__(self) -> None:
        self._known: dict[Any, tuple[Tensor, Tensor, Any]] = {}

    def by(
        self, finder: Any, tensors: Sequence[Tensor], banks: Sequence[Bank] = ()
    ) -> ObjectsOf:  # fmt: skip
        """Of a bank's number, by a synthesizer's finder, or None if it has none.

        Args:
            finder: A :class:`anoaug.foregrounds.Finder`, or None.
            tensors: The op's list, two per bank.
            banks: The banks: of one with categories each image is looked at as one of its own.
        """

        def objects(number: int) -> Tensor:
            if finder is None or finder.by_index:
                raise ValueError(
                    "foreground: expected one that finds the donors' objects too, got "
                    f"{'none' if finder is None else repr(finder) + ', by index'}; make the "
                    "synthesizer with foreground=anoaug.prepare.Foreground(...)"
                )
            bank = tensors[2 * number]
            key = (finder.rule, id(bank))
            if key not in self._known:
                names = _names(banks[number]) if finder.by_category else None
                found = [
                    finder(some, None, names and names[first : first + _AT_ONCE])
                    for first, some in zip(
                        range(0, len(bank), _AT_ONCE), bank.split(_AT_ONCE), strict=True
                    )
                ]
                # Kept with what they name, so that ids stay their own.
                self._known[key] = torch.cat(found), bank, finder.find
            return self._known[key][0]

        return objects

    def __deepcopy__(self, memo: dict[int, Any]) -> Catalogue:
        return Catalogue()

    def __reduce__(self) -> tuple[Any, ...]:
        return Catalogue, ()


def _names(bank: Bank) -> list[str] | None:
    """Names of the categories of a bank's images, if it has any."""
    return [bank.categories[k] for k in bank.category.tolist()] if bank.categories else None


def _seekers(call: Call) -> list[tuple[PlacedLayer, Placed]]:
    return [
        (layer, step)
        for layer in call.recipe.layers
        for step in layer.mask
        if isinstance(step.part, Seeker)
    ]


def _rows(table: Tensor, layer: PlacedLayer, placed: int | None = None) -> Tensor | None:
    """Rows that get the layer (and have no place yet) where the host may know; else None."""
    if table.device.type != "cpu":
        return None
    wanted = (table[:, ACTIVE] > 0) & (table[:, layer.gate] > 0)
    if placed is not None:
        wanted &= table[:, placed] == 0
    return wanted.nonzero()[:, 0]  # host: a host tensor
