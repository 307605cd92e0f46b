"""A modality's columns: what is drawn for it, and the recipe that reads them behind the image's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import recipe
from ..parts import BankInfo, part, whole_frame
from ..recipe import ACTIVE, LayerLaw, PlacedLayer, Recipe
from ..wanted import of_copy


@part
@dataclass(frozen=True)
class BesideLaws:
    """What ``sample`` needs for a modality besides the image's laws, which stand on the next line.

    Attributes:
        name: Of the modality; its streams begin with it.
        layers: The image's layers with this modality's sources and blends, or one of its own.
        shared: Whether they are the image's.
        together: Whether their streams are.
        p: P(shown).
        channels: The modality's; set by :func:`recipe.specialise`.
        peak: White minus black in its units; likewise.
    """

    name: str
    layers: tuple[LayerLaw, ...]
    shared: bool
    together: bool
    p: float
    channels: int = 0
    peak: float = 1.0

    def over(self, beneath: Recipe) -> Recipe:
        """The recipe of a modality of images with a recipe."""
        return Beside(self, beneath)


class Beside(Recipe):
    """The recipe of a modality: columns that stand behind those of the image's table.

    It samples its own columns only; its layout reads both.
    """

    def __init__(self, own: BesideLaws, beneath: Recipe) -> None:
        self.laws = dataclasses.replace(beneath.laws, channels=own.channels, peak=own.peak)
        self._own, self._first = own, beneath._end
        self._of = "" if own.together else f"{own.name}:"
        self._shown = f"{own.name}:shown"
        self.columns: dict[str, tuple[int, int]] = {}
        self.streams: dict[str, int] = {self._shown: 1}
        self._end = self._first
        self._place("shown", 1)
        seen: dict[str, int] = {}
        self.layers: list[PlacedLayer] = []
        for number, under in enumerate(beneath.layers if own.shared else beneath.layers[:1]):
            label = f"layer{number}"
            law = own.layers[under.law]
            mask, gate = under.mask, under.gate
            # The masks are drawn again for the boxes that they hand to sources, from their streams.
            self.streams |= {placed.stream: placed.part.words for placed in mask if own.shared}
            if not own.shared:
                mask = tuple(self._add(p, f"{label}.mask", seen) for p in law.mask)
                gate = ACTIVE
            source = self._add(law.source.for_copy(under.copy), f"{label}.source", seen)
            blend = self._add(law.blend, f"{label}.blend", seen)
            self.layers.append(under._replace(gate=gate, mask=mask, source=source, blend=blend))
        self.width = self._end - self._first
        self.layout = recipe.compact(self._layout())
        self.columns = {n: (at - self._first, wide) for n, (at, wide) in self.columns.items()}

    def sample(
        self,
        seed: int,
        epoch: int,
        index: npt.NDArray[np.int64],
        category: npt.NDArray[np.int64],
        size: tuple[int, int],
        banks: Sequence[BankInfo],
        out: npt.NDArray[np.float32] | None = None,
        wanted: npt.NDArray[np.float64] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Draw the modality's own columns; see :meth:`Recipe.sample`."""
        rows = len(index) * self.laws.rows
        table = np.zeros((rows, self.width), np.float32) if out is None else out
        if rows == 0:
            return table
        context = self._context(seed, epoch, index, category, size, banks)
        table[:, 0] = context.draws.uniform(self._shown, 1)[0] < self._own.p
        wanted = None if wanted is None else np.tile(wanted, (self.laws.rows, 1, 1))
        for number, layer in enumerate(self.layers):
            context.frame, context.wanted = whole_frame(rows, size), of_copy(wanted, number)
            for placed in (*layer.mask, layer.source, layer.blend):
                context.stream = placed.stream
                values = placed.part.sample(context)
                if placed.offset >= self._first:
                    here = placed._replace(offset=placed.offset - self._first)
                    self._fill(table, here, values)
        return table
