"""Layers bound to what they read: banks and given tensors get numbers, laws become text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import checks, pictures, recipe
from .banks import Bank, DonorBank, ShapeBank, TextureBank
from .batch import Params
from .blends import Blend, Detail, Hard
from .foregrounds import finder
from .labels import LabelFinder
from .masks import content
from .masks.expressions import Mask
from .masks.planes import Given, Superpixels
from .sources import CoarseToFine, Own, Source, Texture


@dataclass(frozen=True)
class Layer:
    """One anomaly layer: where x what x how.

    Args:
        mask: Where: a mask or a combination of masks.
        source: What.
        blend: How; hard paste by default. One with ``detail`` makes the source a
            :class:`anoaug.sources.CoarseToFine` of it.
        count: Copies of the layer with their own draws: a number or a range (low, high), at most 4
            over all layers. With a range each sample draws how many it gets.
        kind: Name of the kind of anomaly, for ``AnomalyBatch.kind``; the synthesizer's name by
            default.
    """

    mask: Mask
    source: Source
    blend: Blend = Hard()
    count: int | tuple[int, int] = 1
    kind: str | None = None

    def __post_init__(self) -> None:
        for name, value, base in (
            ("mask", self.mask, Mask),
            ("source", self.source, Source),
            ("blend", self.blend, Blend),
        ):
            if not isinstance(value, base):
                raise TypeError(
                    f"Layer: expected {name} from anoaug.{name}s, got {type(value).__name__}"
                )
        self._check_change()
        detail = getattr(self.blend, "detail", None)
        if detail is not None:
            object.__setattr__(self, "source", _coarse_to_fine(self.source, detail))
            blend: Any = self.blend
            object.__setattr__(self, "blend", dataclasses.replace(blend, detail=None))
        low, high = checks.interval("count", self.count, 0, recipe.MAX_LAYERS)
        if low != int(low) or high != int(high) or high < 1:
            raise ValueError(f"count: expected whole numbers, at least 1, got {self.count!r}")
        object.__setattr__(self, "count", (int(low), int(high)))
        if self.kind in ("normal", "given"):
            raise ValueError(f"kind: expected a name other than 'normal' and 'given', which stand "
                             f"for no and for real defects, got {self.kind!r}")  # fmt: skip

    def _check_change(self) -> None:
        """Refuse what would paste pixels onto themselves: an anomaly without a change."""
        source: Any = self.source
        framed = any(step.frames for step in self.mask.steps())
        if type(source) is Own and source.place == "elsewhere" and not framed:
            raise ValueError(
                "Layer: expected a mask with a box, such as masks.Rectangle, for sources.Own from "
                "elsewhere, got one without, where elsewhere is the same place; add a Rectangle, "
                "or take place='same' with photometric="
            )


class Binding:
    """The banks and given tensors that layers read, numbered.

    Args:
        layers: The layers.
        kinds: Names of kinds; a layer's kind is its position here.
        name: Kind of layers that give none.
        before: Banks that come first, numbered as given.
        moving: Whether images are transformed before.

    Attributes:
        laws: The layers with numbers for banks, tensors and pictures, as plain data.
        slots: Names of the planes ``(B, 1, H, W)`` that calls must give.
        finders: What finds those that a call does not give, by name.
        pictures: Names of the pictures ``(B, C, H, W)`` that calls must give.
        banks: The banks.
        objects: Where banks show the object.
        made: How many planes are made between sampling and render.
        computed: The computed sources by the number of their layer.
        categories: Union of the donor banks' category names, sorted.
        numbers: Per bank int64 ``[N]``: its images' categories as numbers into ``categories``.
        digests: Per bank the name of its content, then those of what computed sources hold.
    """

    def __init__(
        self, layers: Sequence[Layer], kinds: Sequence[str], name: str,
        before: Sequence[Bank] = (), moving: bool = False,
    ) -> None:  # fmt: skip
        self._reads: list[Given] = []
        banks: list[Bank] = list(before)
        names: list[str] = []
        sources = [_with_bank(layer.source, banks) for layer in layers]
        steps = [[_with_bank(step, banks) for step in layer.mask.steps()] for layer in layers]
        sources = [_with_picture(source, names, 2 * len(banks)) for source in sources]
        self.computed: dict[int, pictures.Computed] = {}
        first = 2 * len(banks) + len(names)
        for number, (layer, source) in enumerate(zip(layers, sources, strict=True)):
            if isinstance(source, pictures.Computed):
                self.computed[number] = dataclasses.replace(source, number=first)
                first += layer.count[1]  # type: ignore[index]
                sources[number] = pictures.as_plain(self.computed[number])
        self.laws = tuple(
            recipe.LayerLaw(
                tuple(_with_slot(step, self._reads) for step in where),
                source,
                layer.blend,
                layer.count,  # type: ignore[arg-type]
                kinds.index(layer.kind or name),
            )
            for layer, where, source in zip(layers, steps, sources, strict=True)
        )
        self.laws, self.made = content.numbered(self.laws, len(self._reads))
        self.objects = content.Catalogue()
        slots = dict.fromkeys(step.name for step in self._reads)
        if not set(slots).isdisjoint(names):
            raise ValueError(
                f"name: expected other names for sources.Given than for masks, got "
                f"{sorted(set(slots) & set(names))} for both; rename one"
            )
        self.slots = tuple(slots)
        self.finders = _finders(self._reads, moving)
        self.pictures = tuple(names)
        self.banks = tuple(banks)
        # Banks that give colours; those of masks are read as they are.
        read = (source for law in self.laws for source in pictures.chain(law.source))
        self._coloured = {source.bank for source in read if hasattr(source, "bank")}
        donors = [bank for bank in banks if isinstance(bank, DonorBank)]
        self.categories = tuple(sorted({name for bank in donors for name in bank.categories}))
        self.numbers = [_renumbered(bank, self.categories) for bank in banks]
        # What a sample's category may be, per bank of donors that has categories.
        own = [pair for pair in zip(banks, self.numbers, strict=True) if pair[0].categories]
        # host: CPU tensors, when banks are bound
        donated = [(bank, n.tolist()) for bank, n in own if isinstance(bank, DonorBank)]
        self._known = [(bank, {-1, *known}) for bank, known in donated]
        held = [one for source in self.computed.values() for one in pictures.chain(source)]
        self.digests = tuple(bank.digest() for bank in banks) + tuple(
            digest for one in held if isinstance(one, pictures.Computed) for digest in one.digests()
        )
        # Made here and not on first use, which may be inside torch.compile or in a worker.
        self._histograms = [_histograms(bank) for bank in banks]
        for number, bank in enumerate(banks):
            self._smooth(number, bank)
        self._tensors: dict[tuple[torch.device, int], tuple[list[Tensor], list[Tensor]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the cache of device tensors."""
        return {**self.__dict__, "_tensors": {}}

    def tensors(self, device: torch.device, channels: int) -> tuple[list[Tensor], list[Tensor]]:
        """Bank tensors on a device and their histograms on the host, made once.

        Returns:
            Two uint8 tensors ``[N, C, h, w]`` per bank, its images and, where a layer sharpens,
            their smoothed twins (else the images again); and per bank int64 histograms
            ``[N, C, 256]`` of textures, outlines ``[N, 6]`` of shapes, else empty.
        """
        known = self._tensors.get((device, channels))
        if known is not None:
            return known
        pairs, histograms = [], []
        for number, bank in enumerate(self.banks):
            fitting = bank.with_channels(channels) if number in self._coloured else bank
            placed = fitting.to(device)
            pairs += [placed.data, self._smooth(number, placed)]
            histograms.append(self._histograms[number] if fitting is bank else _histograms(fitting))
        if not torch.compiler.is_compiling():  # a graph would be guarded by the cache it fills
            self._tensors[device, channels] = pairs, histograms
        return pairs, histograms

    def _smooth(self, number: int, bank: Bank) -> Tensor:
        """The smoothed twins of a bank's images where some layer sharpens, else the images."""
        if isinstance(bank, TextureBank) and self._sharpened(number):
            return bank.smooth
        return bank.data

    def _sharpened(self, number: int) -> bool:
        """Whether some layer reads the smoothed twin of a bank."""
        for law in self.laws:
            for source in pictures.chain(law.source):
                ops = getattr(getattr(source, "photometric", None), "ops", ())
                if getattr(source, "bank", None) == number and "sharpness" in ops:
                    return True
        return False

    def category(self, category: Any, rows: int) -> Tensor:
        """Category numbers int64 ``[rows]``, -1 where unknown.

        Args:
            category: None, one name or number for all, or one per sample (None, "" or -1 where it
                is unknown).
            rows: Samples.

        Raises:
            ValueError: A name or number that no bank has.
        """
        if category is None:
            return torch.full((rows,), -1, dtype=torch.int64, device="cpu")
        if isinstance(category, (str, int)):
            category = [category] * rows
        if not isinstance(category, Tensor):
            category = [self._category_number(one) for one in category]
        numbers = checks.host_rows("category", category, rows)
        if not self.categories:
            return torch.full_like(numbers, -1)
        if rows and not torch.compiler.is_compiling():
            low, high = int(numbers.min()), int(numbers.max())
            if low < -1 or high >= len(self.categories):
                raise ValueError(
                    f"category: expected numbers below {len(self.categories)}, or -1 where it is "
                    f"unknown, got {low} to {high}"
                )
            self._refuse_lacking(set(numbers.tolist()))  # host: they live there
        return numbers

    def _refuse_lacking(self, wanted: set[int]) -> None:
        """Refuse categories of which a bank that has some has no image."""
        for bank, known in self._known:
            lacking = sorted(wanted - known)
            if lacking:
                raise ValueError(
                    f"category: {bank!r}, from which a layer takes donors, has no image of "
                    f"{self.categories[lacking[0]]!r}, but of {', '.join(bank.categories)}; add "
                    "some, or leave category out"
                )

    def _category_number(self, name: str | int | None) -> int:
        if not name and not isinstance(name, int):  # unknown
            return -1
        if not isinstance(name, str):
            return int(name)  # type: ignore[arg-type]
        if not self.categories:
            return -1
        if name not in self.categories:
            hint = checks.nearest(name, self.categories)
            raise ValueError(f"category: {name!r} is in no bank; {hint}")
        return self.categories.index(name)

    def planes(
        self,
        images: Tensor,
        foreground: Tensor | None,
        given: dict[str, Tensor] | None,
        working: bool = True,
    ) -> tuple[list[Tensor], int]:
        """Given tensors in the recipe's order, and the number of the one that confines every layer.

        Where nothing will be drawn (``working`` False), missing ones are taken as empty.

        Raises:
            ValueError: One is missing, unknown, or does not fit the images.
        """
        left = {name: value for name, value in (given or {}).items() if name not in self.pictures}
        if foreground is not None:
            left["foreground"] = foreground
        for name in self.slots:
            if name not in left and not working:
                size = (len(images), 1, *images.shape[2:])
                left[name] = torch.zeros(size, dtype=torch.uint8, device=images.device)
            if name not in left:
                where = f"{name}=" if name == "foreground" else f"slots={{{name!r}: tensor}}"
                raise ValueError(f"{name}: this recipe needs it; pass {where} (B, 1, H, W)")
        planes = [step.read(left[step.name], images) for step in self._reads]
        left = {name: value for name, value in left.items() if name not in self.slots}
        confined = -1
        if "foreground" in left:
            confined = len(planes)
            planes.append(checks.plane("foreground", left.pop("foreground"), images))
        if left:
            raise ValueError(
                f"slots: expected only {[*self.slots, *self.pictures]}, got {sorted(left)} too; "
                "add masks.Given(name) or sources.Given(name) to the recipe or leave them out"
            )
        if not working and self.made:
            blank = torch.zeros_like(planes[0], dtype=torch.uint8)
            planes += [blank] * self.made
        return planes, confined

    @property
    def seeking(self) -> bool:
        """Whether a mask seeks its place on the images' content."""
        return any(isinstance(step, content.Seeker) for law in self.laws for step in law.mask)

    def found(
        self, images: Tensor, index: Any, given: dict[str, Tensor] | None
    ) -> dict[str, Tensor] | None:
        """The given tensors, and those that are found where they are not given."""
        left = [name for name in self.finders if name not in (given or {})]
        if not left:
            return given
        return {**(given or {}), **{name: self.finders[name](images, index) for name in left}}

    def given_pictures(
        self, images: Tensor, given: dict[str, Tensor] | None, working: bool = True
    ) -> list[Tensor]:
        """Given pictures in the recipe's order, contiguous.

        Where nothing will be drawn (``working`` False), the images stand for missing ones.

        Raises:
            ValueError, TypeError: One is missing or not like the images.
        """
        found = []
        for name in self.pictures:
            value = (given or {}).get(name)
            if value is None and working:
                raise ValueError(
                    f"{name}: this recipe needs it; pass slots={{{name!r}: tensor}} (B, C, H, W)"
                )
            found.append(checks.picture(name, images if value is None else value, images))
        return found

    def replayed(
        self, params: Any, layout: str, width: int, rows: int, size: tuple[int, ...]
    ) -> Tensor:
        """The table of ``params``, if it fits this recipe, these banks, and images like these.

        Raises:
            TypeError, ValueError: It does not.
        """
        if not isinstance(params, Params):
            raise TypeError(
                f"params: expected the params of an AnomalyBatch, got {type(params).__name__}"
            )
        if params.layout != layout:
            raise ValueError(
                "params: expected those of a synthesizer with this recipe, channels and dtype, "
                "got those of another; replay them with the synthesizer that made them"
            )
        if params.banks != self.digests:
            raise ValueError(
                "params: expected those of a synthesizer with the same banks and augmentations, "
                "got those of one with others, into which their numbers do not point; give it the "
                "same ones"
            )
        if len(params.table) != rows:
            raise ValueError(
                f"params: expected {rows} rows like the images, got {len(params.table)}; "
                "params.take(rows) chooses some"
            )
        if params.size != size:
            raise ValueError(
                f"params: expected those of images of {size} pixels, got {params.size}; "
                "sample anew for another size"
            )
        if params.table.shape[1] != width or params.table.dtype != torch.float32:
            raise ValueError(
                f"params: expected a float32 table with {width} columns, got "
                f"{params.table.dtype} {list(params.table.shape)}; do not convert it"
            )
        return params.table


def _coarse_to_fine(source: Source, detail: Any) -> CoarseToFine:
    """The source with its detail, or the image's structure with that of the source."""
    told = detail if isinstance(detail, Detail) else Detail(detail)
    own = {"structure": "image", "detail": source} if told.of == "source" else {
        "structure": source, "detail": told.of,
    }  # fmt: skip
    return CoarseToFine(**own, scale=told.scale, gain=told.gain)


def named(category: Any, rows: int, known: Sequence[str]) -> list[str] | None:
    """Names of samples' categories, "" where unknown; None where a call brings none.

    Args:
        category: None, one name or number for all, or one per sample.
        rows: Samples.
        known: The names that numbers count.

    Raises:
        ValueError: Numbers that count no names, or as many categories as there are no samples.
    """
    if category is None:
        return None
    if isinstance(category, (str, int)):
        category = [category] * rows
    if isinstance(category, Tensor):
        category = checks.host_rows("category", category, rows).tolist()  # host: it lives there
    names = list(category)
    if len(names) != rows:
        raise ValueError(f"category: expected one per sample, {rows}, got {len(names)}")
    for place, one in enumerate(names):
        if isinstance(one, str):
            continue
        number = -1 if one is None else int(one)
        if not -1 <= number < len(known):
            raise ValueError(
                f"category: expected names, or numbers below {len(known)} as the synthesizer's "
                f"categories count them, got {number}; pass names"
            )
        names[place] = known[number] if number >= 0 else ""
    return names


def _histograms(bank: Bank) -> Tensor:
    """int64 ``[N, C, 256]`` of textures, outlines and cover ``[N, 6]`` of shapes, else empty."""
    if isinstance(bank, TextureBank):
        return torch.tensor(bank.histograms, device="cpu")
    if isinstance(bank, ShapeBank):
        return torch.tensor(np.column_stack([bank.outlines, bank.cover]), device="cpu")
    return torch.empty(0, dtype=torch.int64, device="cpu")


def _with_slot(step: Any, reads: list[Given]) -> Any:
    if not isinstance(step, Given):
        return step
    known = [one.reading for one in reads]
    if step.reading not in known:
        reads.append(step)
        known.append(step.reading)
    return dataclasses.replace(step.plain(), slot=known.index(step.reading))


def _finders(reads: Sequence[Given], moving: bool) -> dict[str, LabelFinder]:
    """What finds the labels that calls do not bring, by their name."""
    found: dict[str, LabelFinder] = {}
    for step in reads:
        if not isinstance(step, Superpixels) or step.of is None:
            continue
        if step.name in found:
            raise ValueError(
                f"{step.name}: expected one of= for all masks.Superpixels of that name, got two; "
                "give one of them another name="
            )
        found[step.name] = LabelFinder(step)
        finder(found[step.name], moving)
    return found


def _with_bank(source: Any, banks: list[Bank]) -> Any:
    if isinstance(source, pictures.Computed):
        source = source.holding(lambda held: _with_bank(_as_source(held), banks))
    bank = getattr(source, "bank", None)
    if bank is None:
        return source
    if not isinstance(bank, Bank):
        raise TypeError(
            f"bank: expected a bank such as TextureBank, got {type(bank).__name__}; "
            "TextureBank.from_folder(path) makes one"
        )
    if not any(bank is known for known in banks):
        banks.append(bank)
    return dataclasses.replace(source, bank=next(n for n, b in enumerate(banks) if b is bank))


def _as_source(held: Any) -> Any:
    return Texture(held) if isinstance(held, TextureBank) else held


def _with_picture(source: Any, names: list[str], first: int) -> Any:
    """The source with the number of its given picture, counted from ``first``."""
    if isinstance(source, pictures.Computed) and source.inner is not None:
        return source.holding(lambda held: _with_picture(held, names, first))
    if not isinstance(source, pictures.Given):
        return source
    if source.name not in names:
        names.append(source.name)
    return dataclasses.replace(source, number=first + names.index(source.name))


def _renumbered(bank: Bank, names: Sequence[str]) -> Tensor:
    """A bank's categories as numbers into the union of all banks' names, -1 where it has none.

    Kinds of shapes stay numbered as their bank has them.
    """
    if isinstance(bank, ShapeBank) and bank.categories:
        return torch.tensor(bank.category, device="cpu")
    if not isinstance(bank, DonorBank) or not bank.categories:
        return torch.full((len(bank),), -1, dtype=torch.int64, device="cpu")
    table = torch.tensor([names.index(name) for name in bank.categories], device="cpu")
    return table[torch.tensor(bank.category, device="cpu")]
