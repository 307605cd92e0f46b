"""Recipes: how parts become columns of one table and steps of one kernel.

Two strings describe a synthesizer. The *laws* hold the parts with their ranges and are all that
``sample`` needs to draw a table; the *layout* holds function names, column offsets and options and
is all that ``render`` needs to read one. A table fits every recipe with the same layout.

A part is a frozen dataclass registered with :func:`part`; the function it names lives in
``kernels/`` with a twin in ``anoaug/reference/``, or is given by :func:`register_function`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from . import checks
from .rng import Draws

SPEC_VERSION = 1
MAX_LAYERS = 4

# The table's header; kernels/render.py reads the same numbers.
HEADER = ("active", "kind", "min_area", "tolerance")
ACTIVE, KIND, MIN_AREA, TOLERANCE = range(4)

Floats = npt.NDArray[np.float64]
Values = Mapping[str, npt.NDArray[Any]]
T = TypeVar("T")

_PLAIN: dict[str, type] = {}
_FUNCTIONS: dict[tuple[str, str], tuple[Any, Any]] = {}
ROLES = ("masks", "sources", "blends")


# ---- what a part is ------------------------------------------------------------------------------


class Frame(NamedTuple):
    """Oriented box of a layer's mask, float64 ``[B]`` each: centre and half sides in pixels."""

    cy: Floats
    cx: Floats
    half_h: Floats
    half_w: Floats
    angle: Floats  # radians


class BankInfo(NamedTuple):
    """What laws may know of a bank: sizes, categories and, for textures, histograms."""

    images: int
    channels: int
    height: int
    width: int
    category: npt.NDArray[np.int64]  # [images]
    histograms: npt.NDArray[np.int64] | None  # [images, C, 256]


@dataclasses.dataclass
class Context:
    """What a part's law may depend on besides its own draws.

    Attributes:
        batch: Rows B of the table.
        images: Distinct images among them; with views, row r shows image ``r % images``.
        height: Image height in pixels.
        width: Image width in pixels.
        channels: Image channels.
        draws: Random words of every stream.
        banks: One entry per bank of the recipe.
        category: int64 ``[B]`` category of each sample, -1 where unknown.
        frame: Box of the current layer's mask; the whole image until a mask part sets it.
        stream: Stream of the part being sampled.
    """

    batch: int
    images: int
    height: int
    width: int
    channels: int
    draws: Draws
    banks: Sequence[BankInfo]
    category: npt.NDArray[np.int64]
    frame: Frame
    stream: str = ""

    def uniform(self, count: int, start: int = 0) -> Floats:
        """float64 ``[count, B]`` in [0, 1) from the part's own stream."""
        return self.draws.uniform(self.stream, count, start)

    def words(self, count: int, start: int = 0) -> npt.NDArray[np.uint32]:
        """uint32 ``[count, B]`` from the part's own stream."""
        return self.draws.words(self.stream, count, start)


def whole_frame(rows: int, size: tuple[int, int]) -> Frame:
    """The frame of the whole image."""
    height, width = size
    centre_and_sides = ((height - 1) / 2, (width - 1) / 2, height / 2, width / 2, 0.0)
    return Frame(*(np.full(rows, value) for value in centre_and_sides))


class Part:
    """Base of masks, sources and blends: one function of the kernel with a law for its columns.

    Attributes:
        role: Package module of the function: ``"masks"``, ``"sources"`` or ``"blends"``.
        function: Name of the function in ``kernels/<role>.py`` and ``reference/<role>.py``.
    """

    role: ClassVar[str]
    function: ClassVar[str]

    @property
    def words(self) -> int:
        """Random words this part draws per sample."""
        return 0

    def columns(self, channels: int) -> dict[str, int]:
        """Named columns in the order the function reads them, with widths in float32."""
        return {}

    def option(self) -> int:
        """The function's one compile-time integer."""
        return 0

    def sample(self, context: Context) -> Values:
        """Draw the columns: name to array ``[B]`` or ``[B, width]``.

        Floating arrays are rounded to float32; integer arrays are stored bit-cast; float32 arrays
        of a wide column are stored as they are.
        """
        return {}


def part(cls: type[T]) -> type[T]:
    """Class decorator: let a dataclass appear in laws, by its class name."""
    known = _PLAIN.setdefault(cls.__name__, cls)
    if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"part: expected a new name, got {cls.__name__!r}, which {known} has")
    _PLAIN[cls.__name__] = cls
    return cls


def register_function(role: str, name: str, kernel: Any, reference: Callable[..., Any]) -> None:
    """Add a function from outside the package.

    Args:
        role: ``"masks"``, ``"sources"`` or ``"blends"``.
        name: Name that parts give as ``function``.
        kernel: The ``@triton.jit`` function, or None where Triton is not installed.
        reference: Its torch twin.

    Raises:
        ValueError: The role is unknown or the package has a function of that name.
    """
    if role not in ROLES:
        raise ValueError(f"role: expected one of {ROLES}, got {role!r}")
    if hasattr(importlib.import_module(f"anoaug.reference.{role}"), name):
        raise ValueError(f"name: {name!r} is a function of anoaug.reference.{role}; take another")
    known = _FUNCTIONS.get((role, name), (None, reference))[1]
    if (known.__module__, known.__qualname__) != (reference.__module__, reference.__qualname__):
        raise ValueError(f"name: {name!r} is registered by {known.__module__}; take another")
    _FUNCTIONS[role, name] = (kernel, reference)


def reference_function(role: str, name: str) -> Callable[..., Any]:
    """The torch twin of a part function."""
    if (role, name) in _FUNCTIONS:
        twin: Callable[..., Any] = _FUNCTIONS[role, name][1]
        return twin
    twin = getattr(importlib.import_module(f"anoaug.reference.{role}"), name)
    return twin


def kernel_function(role: str, name: str) -> Any:
    """The ``@triton.jit`` function of a part.

    Raises:
        RuntimeError: An outside part was registered without a kernel.
    """
    if (role, name) in _FUNCTIONS:
        kernel = _FUNCTIONS[role, name][0]
        if kernel is None:
            raise RuntimeError(f"{name}: registered without a kernel; use backend='torch'")
        return kernel
    return getattr(importlib.import_module(f"anoaug.kernels.{role}"), name)


# ---- plain data ----------------------------------------------------------------------------------


def to_plain(value: Any) -> Any:
    """Turn parts into JSON data: a dataclass becomes ``{"$": class name, field: value}``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"$": type(value).__name__, **fields}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return value


def from_plain(value: Any) -> Any:
    """The inverse of :func:`to_plain`; lists come back as tuples."""
    if isinstance(value, dict):
        fields = {name: from_plain(item) for name, item in value.items() if name != "$"}
        if value["$"] not in _PLAIN:
            raise ValueError(
                f"recipe: no part is called {value['$']!r}; import the module that defines it"
            )
        return _PLAIN[value["$"]](**fields)
    if isinstance(value, list):
        return tuple(from_plain(item) for item in value)
    return value


# ---- recipes -------------------------------------------------------------------------------------


@part
@dataclasses.dataclass(frozen=True)
class LayerLaw:
    """One layer with bound banks: postfix mask parts, source, blend and the number of copies."""

    mask: tuple[Part, ...]
    source: Part
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
        views: Whether rows come in ``1 + len(layers)`` views: untouched, then each layer alone.
        min_area: Least realised area in pixels (float) or, below 1, as a share of the image.
        tolerance: Least change in [0, 1] for ``label_rule="changed"``.
        channels: Image channels; set by :func:`specialise`.
        peak: White in image units; likewise.
    """

    layers: tuple[LayerLaw, ...]
    probability: float
    weights: tuple[float, ...]
    views: bool
    min_area: float
    tolerance: float
    channels: int = 0
    peak: float = 1.0


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
                mask = tuple(self._add(p, f"{label}.mask", seen) for p in law.mask)
                source = self._add(law.source, f"{label}.source", seen)
                blend = self._add(law.blend, f"{label}.blend", seen)
                # Like the parts' streams, that of the count goes by a name, not by a position.
                counted = counted or f"count of {mask[0].stream}"
                self.streams[counted] = 1
                self.layers.append(PlacedLayer(number, copy, counted, gate, mask, source, blend))
        self.width = self._end
        self.layout = json.dumps(self._layout(), separators=(",", ":"))

    def _place(self, name: str, width: int) -> int:
        start = self._end
        self.columns[name] = (start, width)
        self._end += width
        return start

    def _add(self, p: Part, label: str, seen: dict[str, int]) -> Placed:
        # Streams go by the part's name, so that they stay when other parts come or go.
        base = f"{p.role}.{type(p).__name__}"
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
            "width": self.width,
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

        Returns:
            float32 ``[B * views, width]``; with views, the rows of a view lie together.
        """
        views = 1 + len(self.laws.layers) if self.laws.views else 1
        rows = len(index) * views
        table = np.zeros((rows, self.width), np.float32) if out is None else out
        if rows == 0:
            return table
        draws = Draws(seed, epoch, np.tile(index, views), self.streams)
        context = Context(
            rows, len(index), *size, self.laws.channels, draws, banks, np.tile(category, views),
            whole_frame(rows, size),
        )  # fmt: skip
        self._header(table, draws, size, views)
        for layer in self.layers:
            context.frame = whole_frame(rows, size)
            for placed in (*layer.mask, layer.source, layer.blend):
                context.stream = placed.stream
                self._fill(table, placed, placed.part.sample(context))
        return table

    def _header(
        self, table: npt.NDArray[np.float32], draws: Draws, size: tuple[int, int], views: int
    ) -> None:
        laws, rows = self.laws, len(table)
        bits = table.view(np.int32)
        active = draws.uniform("anomalous", 1)[0] < laws.probability
        chosen = np.full(rows, -1)
        if views > 1:
            chosen = np.repeat(np.arange(views) - 1, rows // views)
            active = chosen >= 0
        elif laws.weights:
            odds = np.cumsum(laws.weights) / np.sum(laws.weights)
            chosen = np.searchsorted(odds, draws.uniform("layer", 1)[0], side="right")
        least = laws.min_area if laws.min_area >= 1 else laws.min_area * size[0] * size[1]
        table[:, ACTIVE] = active
        table[:, MIN_AREA] = max(least, 1.0)
        table[:, TOLERANCE] = laws.tolerance * laws.peak
        kind = np.zeros(rows, np.int32)
        for layer in self.layers:
            low, high = laws.layers[layer.law].count
            u = draws.uniform(layer.counted, 1)[0]
            wanted = low + np.floor(u * (high - low + 1)).astype(np.int64)
            gate = active & (layer.copy < wanted) & ((chosen == layer.law) | (chosen < 0))
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


def encode(laws: Laws) -> str:
    """Canonical JSON of laws."""
    return json.dumps(to_plain(laws), separators=(",", ":"))


def specialise(text: str, channels: int, peak: float) -> str:
    """Encoded laws for images of a channel count and a white level in image units."""
    return f"{channels} {peak} {text}"


@functools.lru_cache(maxsize=256)
def recipe(text: str) -> Recipe:
    """The recipe of specialised laws."""
    channels, peak, laws = text.split(" ", 2)
    plain = from_plain(json.loads(laws))
    return Recipe(dataclasses.replace(plain, channels=int(channels), peak=float(peak)))


def layout_of(text: str) -> str:
    """The layout of specialised laws."""
    return recipe(text).layout


def width_of(text: str) -> int:
    """The table width of specialised laws."""
    return recipe(text).width


# What torch.compiler.assume_constant_result does, which would import all of Dynamo, and Triton.
layout_of._dynamo_marked_constant = True  # type: ignore[attr-defined]
width_of._dynamo_marked_constant = True  # type: ignore[attr-defined]


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


def one_of(name: str, value: str, known: Sequence[str]) -> str:
    """Return ``value`` if it is known, else raise naming the nearest."""
    if value not in known:
        raise ValueError(f"{name}: expected one of {tuple(known)}, got {value!r}; "
                         f"{checks.nearest(value, known)}")  # fmt: skip
    return value
