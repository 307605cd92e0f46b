"""Sources whose colours are pictures: handed in, or computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..parts import Context, Source, Values, part

if TYPE_CHECKING:
    from .scene import Scene

# Columns that every computed source has before those of the source it wraps.
KEY = ("key0", "key1")


@part
@dataclass(frozen=True)
class Given(Source):
    """A picture handed in at call time, ``synth(images, slots={name: tensor})``.

    Each pixel takes the picture's colour at the same place. The tensor is ``(B, C, H, W)`` like the
    images, of their dtype and units; what lies outside those is clipped as it is blended.

    Args:
        name: Name under which the tensor is passed; not that of a mask's tensor.
        number: Number of the picture in the op's list; set by the synthesizer.
    """

    name: str = "what"
    number: int = -1

    function: ClassVar[str] = "given"

    def option(self) -> int:
        """The picture's number."""
        return self.number


@dataclass(frozen=True)
class Computed(Source):
    """Base of sources whose colours need whole images at once.

    A subclass is a registered frozen dataclass with a method ``compute``, which the synthesizer
    calls between sampling and render. Each sample has a 64-bit key from the part's own stream; what
    else is random in ``compute`` must come from it, or from the wrapped source.

    Attributes:
        number: Number of the first picture in the op's list, one per copy of the layer; set by the
            synthesizer.
        wraps: Name of the field that holds the wrapped source (or a TextureBank, which stands for
            ``sources.Texture`` of it), if there is one; of several parted by spaces.
        by_rows: Whether ``compute`` may be called with those samples alone that are looked at, as
            it is on the host: it then takes nothing from how many there are.

    On CUDA a replay reads the keys back from ``params.table``: the host waits for the device. A
    first call does not. ``Synthesizer.capture`` refuses computed sources, and ``torch.compile``
    breaks the graph at them.
    """

    number: int = dataclasses.field(default=-1, kw_only=True)

    function: ClassVar[str] = "given"
    wraps: ClassVar[str] = ""
    by_rows: ClassVar[bool] = False

    def compute(self, scene: Scene) -> Tensor:
        """The colours of a batch.

        Args:
            scene: The images, the samples' keys, the wrapped source's colours, the layer's weight.

        Returns:
            A picture: shape, dtype and device of ``scene.images``. Only ``scene.rows`` are looked
            at; where there are none, nothing is computed.
        """
        raise NotImplementedError(f"{type(self).__name__}: expected a method compute, got none")

    def compiled(self, scene: Scene) -> Tensor | None:
        """The same by compiled loops, where ``backend="compiled"`` has a faster way; else None.

        A pixel on which the layer does not lie may then be anything.
        """
        return None

    def plain(self) -> Computed:
        """The source as laws hold it: what is no plain data replaced by the name of its content."""
        return self

    def digests(self) -> tuple[str, ...]:
        """Names of the contents that a replay needs and that are no banks."""
        return ()

    @property
    def held(self) -> dict[str, Source]:
        """The wrapped sources by the names of their fields."""
        fields = {name: getattr(self, name) for name in self.wraps.split()}
        return {name: held for name, held in fields.items() if isinstance(held, Source)}

    @property
    def inner(self) -> Source | None:
        """The wrapped source, if there is one; of several the first."""
        return next(iter(self.held.values()), None)

    def holding(self, change: Callable[[Any], Any]) -> Any:
        """The source with what its wrapping fields hold changed."""
        fields = {name: change(getattr(self, name)) for name in self.wraps.split()}
        return dataclasses.replace(self, **fields) if fields else self

    @property
    def words(self) -> int:
        """Those of the wrapped sources, then two: the key."""
        return sum(held.words for held in self.held.values()) + len(KEY)

    def option(self) -> int:
        """The picture's number."""
        return self.number

    def columns(self, channels: int) -> dict[str, int]:
        """The key, then the columns of the wrapped sources."""
        columns = dict.fromkeys(KEY, 1)
        for field, held in self.held.items():
            columns |= {f"{field}_{name}": w for name, w in held.columns(channels).items()}
        return columns

    def sample(self, context: Context) -> Values:
        """Draw the wrapped sources' columns and the key."""
        key = context.words(len(KEY), self.words - len(KEY))
        columns: dict[str, Any] = dict(zip(KEY, key, strict=True))
        first = 0
        for field, held in self.held.items():
            own = dataclasses.replace(context, first=context.first + first) if first else context
            columns |= {f"{field}_{name}": value for name, value in held.sample(own).items()}
            first += held.words
        return columns

    def for_copy(self, copy: int) -> Computed:
        """Every copy of a layer has a picture of its own."""
        return dataclasses.replace(self, number=self.number + copy)


def as_plain(source: Source) -> Source:
    """A source and those it wraps as laws hold them."""
    if not isinstance(source, Computed):
        return source
    made: Source = source.plain().holding(as_plain)
    return made


def chain(source: Source) -> Iterator[Source]:
    """A source, those it wraps, and so on."""
    yield source
    for held in source.held.values() if isinstance(source, Computed) else ():
        yield from chain(held)


def innermost(source: Any, offset: int) -> tuple[Any, int]:
    """The source that computed ones wrap, and its first column, given theirs."""
    while isinstance(source, Computed) and source.inner is not None:
        source, offset = source.inner, offset + len(KEY)
    return source, offset


def keys_of(words: npt.NDArray[np.uint32]) -> list[int]:
    """64-bit numbers from words ``[2, B]``, the lower halves first."""
    low, high = words.astype(np.uint64)
    keys: list[int] = (low | high << np.uint64(32)).tolist()  # host: of the host's table
    return keys
