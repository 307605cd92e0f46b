"""Recipes: how parts become columns of one table and steps of one kernel.

Two strings describe a synthesizer. The *laws* hold the parts with their ranges and are all that
``sample`` needs to draw a table; the *layout* holds function names, column offsets and options and
is all that ``render`` needs to read one. A table fits every recipe with the same layout.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .parts import BankInfo, Context, Part, Source, Values, from_plain, part, to_plain, whole_frame
from .rng import Draws
from .wanted import Wanted, of_copy

SPEC_VERSION = 1
MAX_LAYERS = 4

# The table's header; kernels/render.py reads the same numbers.
HEADER = ("active", "kind", "min_area", "tolerance")
ACTIVE, KIND, MIN_AREA, TOLERANCE = range(4)


@part
@dataclasses.dataclass(frozen=True)
class LayerLaw:
    """One layer with bound banks: postfix mask parts, source, blend and the number of copies."""

    mask: tuple[Part, ...]
    source: Source
    blend: Part
    count: tuple[int, int]
    kind: int


@part
@dataclasses.dataclass(frozen=True)
class Laws:
    """Everything ``sample`` needs besides the banks' sizes.

    Attributes:
        layers: The layers, in the order they are folded.
        probability: P(anomalous) in [0, 1].
        weights: Empty, or the odds with which exactly one layer is chosen per sample.
        views: False; True for ``1 + len(layers)`` rows per image: untouched, then each layer alone;
            or in how many views the layers are laid anew, with the same draws.
        min_area: Least realised area in pixels (float) or, below 1, as a share of the image.
        tolerance: Least change in [0, 1] for ``label_rule="changed"``.
        channels: Image channels; set by :func:`specialise`.
        peak: White in image units; likewise.
    """

    layers: tuple[LayerLaw, ...]
    probability: float
    weights: tuple[float, ...]
    views: bool | int
    min_area: float
    tolerance: float
    channels: int = 0
    peak: float = 1.0

    @property
    def rows(self) -> int:
        """Rows per image."""
        return 1 + len(self.layers) if self.views is True else max(int(self.views), 1)


class Step(NamedTuple):
    """One call of a part function: its name, first column and compile-time option."""

    name: str
    offset: int
    option: int


class LayerProgram(NamedTuple):
    """What a backend runs for one layer."""

    gate: int
    mask: tuple[Step, ...]
    source: Step
    weight: Step
    mix: str


class Layout(NamedTuple):
    """What a backend needs to read a table."""

    width: int
    channels: int
    peak: float
    layers: tuple[LayerProgram, ...]


class Placed(NamedTuple):
    """A part with its stream and its first column."""

    part: Part
    stream: str
    offset: int


class PlacedLayer(NamedTuple):
    """A copy of a layer with placed parts."""

    law: int
    copy: int
    counted: str  # stream of the count
    gate: int
    mask: tuple[Placed, ...]
    source: Placed
    blend: Placed


class Recipe:
    """A parsed recipe: assigns streams and columns, draws tables, describes them.

    Use :func:`recipe` to get one from its laws; equal laws give the same object.
    """

    # What the names of the parts' streams begin with.
    _of = ""

    def __init__(self, laws: Laws) -> None:
        self.laws = laws
        self.columns: dict[str, tuple[int, int]] = {name: (k, 1) for k, name in enumerate(HEADER)}
        self.streams: dict[str, int] = {"anomalous": 1, "layer": 1}
        self._end = len(HEADER)
        self.layers: list[PlacedLayer] = []
        seen: dict[str, int] = {}
        for number, law in enumerate(laws.layers):
            counted = ""
            for copy in range(law.count[1]):
                label = f"layer{len(self.layers)}"
                gate = self._place(f"{label}.gate", 1)
                mask = tuple(self._add(p.for_copy(copy), f"{label}.mask", seen) for p in law.mask)
                source = self._add(law.source.for_copy(copy), f"{label}.source", seen)
                blend = self._add(law.blend, f"{label}.blend", seen)
                # Like the parts' streams, that of the count goes by a name, not by a position.
                counted = counted or f"count of {mask[0].stream}"
                self.streams[counted] = 1
                self.layers.append(PlacedLayer(number, copy, counted, gate, mask, source, blend))
        self.width = self._end
        self.layout = compact(self._layout())

    def _place(self, name: str, width: int) -> int:
        start = self._end
        self.columns[name] = (start, width)
        self._end += width
        return start

    def _add(self, p: Part, label: str, seen: dict[str, int]) -> Placed:
        # Streams go by the part's name, so that they stay when other parts come or go.
        base = f"{self._of}{p.role}.{type(p).__name__}"
        nth = seen.get(base, 0)
        seen[base] = nth + 1
        stream = base if nth == 0 else f"{base}#{nth}"
        self.streams[stream] = p.words
        offset = self._end
        for name, width in p.columns(self.laws.channels).items():
            self._place(f"{label}.{type(p).__name__.lower()}{nth or ''}.{name}", width)
        return Placed(p, stream, offset)

    def _layout(self) -> dict[str, Any]:
        def step(placed: Placed) -> list[Any]:
            return [placed.part.function, placed.offset, placed.part.option()]

        return {
            "version": SPEC_VERSION,
            "width": self._end,
            "channels": self.laws.channels,
            "peak": self.laws.peak,
            "layers": [
                {
                    "gate": layer.gate,
                    "mask": [step(p) for p in layer.mask],
                    "source": step(layer.source),
                    "weight": step(layer.blend),
                    "mix": getattr(layer.blend.part, "mix", "over"),
                }
                for layer in self.layers
            ],
        }

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
        """Draw the table of a batch.

        Args:
            seed: 64-bit seed.
            epoch: Epoch in [0, 2**32).
            index: int64 ``[B]`` sample indices.
            category: int64 ``[B]`` categories, -1 where unknown.
            size: Image height and width in pixels.
            banks: The recipe's banks.
            out: float32 array to fill, ``[B * views, width]``.
            wanted: What a control asks for, ``[B, copies, columns]``; see :mod:`anoaug.wanted`.

        Returns:
            float32 ``[B * views, width]``; with views, the rows of a view lie together.
        """
        views = self.laws.rows
        rows = len(index) * views
        table = np.zeros((rows, self.width), np.float32) if out is None else out
        if rows == 0:
            return table
        context = self._context(seed, epoch, index, category, size, banks)
        wanted = None if wanted is None else np.tile(wanted, (views, 1, 1))
        self._header(table, context.draws, size, of_copy(wanted, 0))
        for number, layer in enumerate(self.layers):
            context.frame, context.origin = whole_frame(rows, size), None
            context.wanted = of_copy(wanted, number)
            context.active = table[:, layer.gate] > 0
            for placed in (*layer.mask, layer.source, layer.blend):
                context.stream = placed.stream
                self._fill(table, placed, placed.part.sample(context))
        return table

    def _context(
        self, seed: int, epoch: int, index: npt.NDArray[np.int64], category: npt.NDArray[np.int64],
        size: tuple[int, int], banks: Sequence[BankInfo],
    ) -> Context:  # fmt: skip
        """What the parts' laws may look at, for every row of the table."""
        views = self.laws.rows
        rows = len(index) * views
        draws = Draws(seed, epoch, np.tile(index, views), self.streams)
        context = Context(
            rows, len(index), *size, self.laws.channels, draws, banks, np.tile(category, views),
            whole_frame(rows, size),
        )  # fmt: skip
        if views > 1 and self.laws.views is not True:
            context.view, context.views = np.repeat(np.arange(views), len(index)), views
        return context

    def _header(
        self, table: npt.NDArray[np.float32], draws: Draws, size: tuple[int, int],
        asked: Wanted | None = None,
    ) -> None:  # fmt: skip
        laws, rows = self.laws, len(table)
        bits = table.view(np.int32)
        active = draws.uniform("anomalous", 1)[0] < laws.probability
        chosen = np.full(rows, -1)
        if laws.views is True:
            chosen = np.repeat(np.arange(laws.rows) - 1, rows // laws.rows)
            active = chosen >= 0
        elif laws.weights:
            odds, u = np.asarray(laws.weights), draws.uniform("layer", 1)[0]
            chosen = np.searchsorted(np.cumsum(odds) / np.sum(odds), u, side="right")
            for kind in () if asked is None else np.unique(asked.kind[~np.isnan(asked.kind)]):
                rows_of_it = asked.kind == kind  # type: ignore[union-attr]
                its = np.asarray([law.kind == kind for law in laws.layers])
                among = odds * its if (odds * its).any() else 1.0 * its
                among = np.cumsum(among) / np.sum(among)
                chosen[rows_of_it] = np.searchsorted(among, u[rows_of_it], side="right")
        least = laws.min_area if laws.min_area >= 1 else laws.min_area * size[0] * size[1]
        table[:, ACTIVE] = active
        table[:, MIN_AREA] = max(least, 1.0)
        table[:, TOLERANCE] = laws.tolerance * laws.peak
        kind = np.zeros(rows, np.int32)
        before = np.zeros(rows, np.int64)
        for layer in self.layers:
            low, high = laws.layers[layer.law].count
            u = draws.uniform(layer.counted, 1)[0]
            wanted = low + np.floor(u * (high - low + 1)).astype(np.int64)
            may = (chosen == layer.law) | (chosen < 0)
            there = layer.copy < wanted
            if asked is not None:
                may &= np.isnan(asked.kind) | (asked.kind == laws.layers[layer.law].kind)
                there = np.where(np.isnan(asked.copies), there, before < asked.copies)
                before += may
            gate = active & there & may
            table[:, layer.gate] = gate
            # The kind is that of the first layer that is there.
            kind = np.where((kind == 0) & gate, laws.layers[layer.law].kind, kind)
        bits[:, KIND] = kind

    def _fill(self, table: npt.NDArray[np.float32], placed: Placed, values: Values) -> None:
        bits = table.view(np.int32)
        offset = placed.offset
        for name, width in placed.part.columns(self.laws.channels).items():
            value = values[name]
            target = bits if value.dtype.kind in "iu" else table
            if value.dtype == np.uint32:
                value = value.view(np.int32)
            if width == 1:
                target[:, offset] = value
            else:
                target[:, offset : offset + width] = value
            offset += width

    def describe(self, table: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        """The table's columns by name, float32 ``[B]`` or ``[B, width]``."""
        return {
            name: table[:, start] if width == 1 else table[:, start : start + width]
            for name, (start, width) in self.columns.items()
        }


def encode(laws: Any) -> str:
    """Canonical JSON of laws."""
    return compact(to_plain(laws))


def compact(data: Any) -> str:
    """JSON without spaces, of one line."""
    return json.dumps(data, separators=(",", ":"))


def specialise(text: str, channels: int, peak: float) -> str:
    """Encoded laws for images of a channel count and a white level in image units."""
    return f"{channels} {peak} {text}"


@functools.lru_cache(maxsize=256)
def recipe(text: str) -> Recipe:
    """The recipe of specialised laws, or of laws over those that follow on the next line."""
    channels, peak, laws = text.split(" ", 2)
    laws, _, beneath = laws.partition("\n")
    plain = from_plain(json.loads(laws))
    plain = dataclasses.replace(plain, channels=int(channels), peak=float(peak))
    made: Recipe = plain.over(recipe(beneath)) if beneath else Recipe(plain)
    return made


def layout_of(text: str) -> str:
    """The layout of specialised laws."""
    return recipe(text).layout


def width_of(text: str) -> int:
    """The table width of specialised laws."""
    return recipe(text).width


def rows_of(text: str) -> int:
    """The rows per image of specialised laws."""
    return recipe(text).laws.rows


# What torch.compiler.assume_constant_result does, which would import all of Dynamo, and Triton.
layout_of._dynamo_marked_constant = True  # type: ignore[attr-defined]
width_of._dynamo_marked_constant = True  # type: ignore[attr-defined]
rows_of._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.lru_cache(maxsize=256)
def layout(text: str) -> Layout:
    """Parse a layout.

    Raises:
        ValueError: It was written by another version of the specification.
    """
    data = json.loads(text)
    if data["version"] != SPEC_VERSION:
        raise ValueError(
            f"params: expected spec version {SPEC_VERSION}, got {data['version']}; "
            "sample them again or install the anoaug that made them"
        )
    layers = tuple(
        LayerProgram(
            layer["gate"],
            tuple(Step(*step) for step in layer["mask"]),
            Step(*layer["source"]),
            Step(*layer["weight"]),
            layer["mix"],
        )
        for layer in data["layers"]
    )
    return Layout(data["width"], data["channels"], data["peak"], layers)


def check_layers(counts: Sequence[int]) -> None:
    """Refuse no layer and more than the kernel folds; ``counts`` are the layers' greatest."""
    if not counts:
        raise ValueError("layers: expected at least one Layer, got none")
    if sum(counts) > MAX_LAYERS:
        raise ValueError(
            f"layers: expected at most {MAX_LAYERS} with their counts, got {sum(counts)}; "
            "lower the counts or synthesise in two passes"
        )


def checked_views(views: bool | int) -> bool | int:
    """Refuse what is neither yes, no, nor a number of views."""
    if not isinstance(views, int) or (not isinstance(views, bool) and views < 2):
        raise ValueError(
            f"views: expected True, False or a number from 2 on, got {views!r}; "
            "False gives one row per image"
        )
    return views
