"""What a part is: one function of the kernel with a law for its columns, as plain data.

A part is a frozen dataclass registered with :func:`part`; the function it names lives in
``kernels/`` with a twin in ``anoaug/reference/``, or is given by :func:`register_function`.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from . import checks
from .rng import Draws
from .wanted import Wanted

Floats = npt.NDArray[np.float64]
Values = Mapping[str, npt.NDArray[Any]]
T = TypeVar("T")

_PLAIN: dict[str, type] = {}
_FUNCTIONS: dict[tuple[str, str], tuple[Any, Any]] = {}
ROLES = ("masks", "sources", "blends")

# Columns of an affine map from an image pixel, rows first.
AFFINE = ("yy", "yx", "y0", "xy", "xx", "x0")


class Frame(NamedTuple):
    """Oriented box of a layer's mask, float64 ``[B]`` each: centre and half sides in pixels."""

    cy: Floats
    cx: Floats
    half_h: Floats
    half_w: Floats
    angle: Floats  # radians


class BankInfo(NamedTuple):
    """What laws may know of a bank: sizes, categories, textures' histograms, shapes' outlines."""

    images: int
    channels: int
    height: int
    width: int
    category: npt.NDArray[np.int64]  # [images]
    histograms: npt.NDArray[np.int64] | None  # [images, C, 256]
    outlines: npt.NDArray[np.int64] | None = None  # [images, 6], see ShapeBank


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
        view: int64 ``[B]``, which of an image's views each row is, where layers are laid once per
            view; else None.
        views: How many of them there are.
        active: bool ``[B]``, the samples that get the current layer; the columns of others are not
            read. None: all.
        stream: Stream of the part being sampled.
        origin: Box in the source that goes to the frame, where a mask part draws both.
        first: The part's first word in the stream, where parts share one.
        wanted: What a control asks of the current copy of a layer; None where there is none.
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
    view: npt.NDArray[np.int64] | None = None
    views: int = 1
    active: npt.NDArray[np.bool_] | None = None
    stream: str = ""
    origin: Frame | None = None
    first: int = 0
    wanted: Wanted | None = None

    def uniform(self, count: int, start: int = 0) -> Floats:
        """float64 ``[count, B]`` in [0, 1) from the part's own stream."""
        return self.draws.uniform(self.stream, count, self.first + start)

    def words(self, count: int, start: int = 0) -> npt.NDArray[np.uint32]:
        """uint32 ``[count, B]`` from the part's own stream."""
        return self.draws.words(self.stream, count, self.first + start)


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

    def for_copy(self, copy: int) -> Any:
        """The part as the layer's copy of that number has it, counted from 0."""
        return self

    def sample(self, context: Context) -> Values:
        """Draw the columns: name to array ``[B]`` or ``[B, width]``.

        Floating arrays are rounded to float32; integer arrays are stored bit-cast; float32 arrays
        of a wide column are stored as they are.
        """
        return {}


class Source(Part):
    """Base of sources."""

    role: ClassVar[str] = "sources"
    # Whether what confines the layer may stand for a place that a control asks for.
    confined: ClassVar[bool] = True
    # Whether it shows other images of the batch, which then has to stay together.
    others: ClassVar[bool] = False


def part(cls: type[T]) -> type[T]:
    """Class decorator: let a dataclass appear in laws, by its role and class name."""
    known = _PLAIN.setdefault(_name(cls), cls)
    if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"part: expected a new name, got {cls.__name__!r}, which {known} has")
    _PLAIN[_name(cls)] = cls
    return cls


def _name(cls: type) -> str:
    """A class's name in laws: a mask and a source may be called alike."""
    role = getattr(cls, "role", None)
    return f"{role}.{cls.__name__}" if role else cls.__name__


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
    checks.one_of("role", role, ROLES)
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


def to_plain(value: Any) -> Any:
    """Turn parts into JSON data: a dataclass becomes ``{"$": its name, field: value}``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"$": _name(type(value)), **fields}
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
