"""Sources that are whole images: given at call time, or computed between sampling and render.

A *picture* is a tensor like the batch, ``[B, C, H, W]`` in its dtype and units. The render reads
pictures after the banks; the function is ``given`` in ``kernels/sources.py`` and
``anoaug/reference/sources.py``.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from . import checks, ops
from .parts import Context, Source, Values, part
from .recipe import ACTIVE, MIN_AREA, LayerProgram, Placed, PlacedLayer, Recipe, Step, recipe
from .recipe import layout as recipe_layout

# Columns that every computed source has before those of the source it wraps.
_KEY = ("key0", "key1")


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
        return sum(held.words for held in self.held.values()) + len(_KEY)

    def option(self) -> int:
        """The picture's number."""
        return self.number

    def columns(self, channels: int) -> dict[str, int]:
        """The key, then the columns of the wrapped sources."""
        columns = dict.fromkeys(_KEY, 1)
        for field, held in self.held.items():
            columns |= {f"{field}_{name}": w for name, w in held.columns(channels).items()}
        return columns

    def sample(self, context: Context) -> Values:
        """Draw the wrapped sources' columns and the key."""
        key = context.words(len(_KEY), self.words - len(_KEY))
        columns: dict[str, Any] = dict(zip(_KEY, key, strict=True))
        first = 0
        for field, held in self.held.items():
            own = dataclasses.replace(context, first=context.first + first) if first else context
            columns |= {f"{field}_{name}": value for name, value in held.sample(own).items()}
            first += held.words
        return columns

    def for_copy(self, copy: int) -> Computed:
        """Every copy of a layer has a picture of its own."""
        return dataclasses.replace(self, number=self.number + copy)


@dataclass
class Laid:
    """The images as the loops read them, and with the first ``count`` layers on, layer by layer."""

    plain: Tensor | None = None
    image: Tensor | None = None
    count: int = 0


@dataclass(frozen=True)
class Call:
    """What the computed sources of one call share.

    Attributes:
        images: ``[B, C, H, W]``, views included, as the render gets them.
        table: float32 ``[B, P]`` on the images' device.
        host: The same on the host.
        planes: Tensors ``[B, 1, H, W]`` of the masks.
        tensors: The op's list: banks and given pictures.
        foreground: Plane that confines every layer, or -1.
        laws: The specialised laws.
        backend: What renders.
        where: Boxes in which masks that seek their place are to find it, float64 ``[B, copies, 4]``
            on the images' device: y0, x0, y1, x1 in shares of the image, NaN: anywhere. Or None.
        given: How many of ``tensors``, the last, are pictures; None where it is not known.
        laid: What :meth:`Scene.laid` keeps from layer to layer.
    """

    images: Tensor
    table: Tensor
    host: Tensor
    planes: Sequence[Tensor]
    tensors: Sequence[Tensor]
    foreground: int
    laws: str
    backend: str
    where: Tensor | None = None
    given: int | None = None
    laid: Laid = dataclasses.field(default_factory=Laid, compare=False, repr=False)

    @property
    def recipe(self) -> Recipe:
        """The parsed laws."""
        return recipe(self.laws)

    def of_rows(self, rows: Tensor) -> Call:
        """The call for some samples alone; ``rows`` int64 on the host, as everything else."""
        banks = len(self.tensors) - (self.given or 0)
        tensors = [*self.tensors[:banks], *(_rows(one, rows) for one in self.tensors[banks:])]
        return dataclasses.replace(
            self, images=_rows(self.images, rows), table=_rows(self.table, rows),
            host=_rows(self.host, rows), planes=[_rows(one, rows) for one in self.planes],
            tensors=tensors, where=None if self.where is None else _rows(self.where, rows),
            laid=Laid(),
        )  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """What one computed source may look at.

    Attributes:
        call: What all of them share.
        layer: Position of the layer among the recipe's, copies counted.
        source: The computed source.
        offset: Its first column in the table.
        made: Pictures of the computed sources of the layers before.
    """

    call: Call
    layer: int
    source: Computed
    offset: int
    made: Sequence[Tensor] = ()

    @property
    def images(self) -> Tensor:
        """The batch, ``[B, C, H, W]``, views included."""
        return self.call.images

    def before(self) -> Tensor:
        """The images with the layers before this one on them: what it is laid over.

        In the images' dtype. Like :meth:`weight`, it does not know of anomalies that are given up.
        """
        drawn = self.call.host.numpy()
        if not any((drawn[:, x.gate] > 0).any() for x in self.call.recipe.layers[: self.layer]):
            return self.images
        layers = json.loads(self.call.recipe.layout)["layers"][: self.layer]
        return self._render(layers, [*self.call.tensors, *self.made], self.call.foreground)[0]

    def plain(self) -> Tensor:
        """The images, contiguous or so in channels_last: made once for all layers."""
        kept = self.call.laid
        kept.plain = ops.natively_laid_out(self.images) if kept.plain is None else kept.plain
        return kept.plain

    def laid(self) -> Tensor:
        """What :meth:`before` gives, on the host by compiled loops; not to be changed.

        Each layer is laid once, where the layers before it are laid exactly: by a picture and
        without a weight.
        """
        kept, host = self.call.laid, self.call.host.numpy()
        kept.image = self.plain() if kept.image is None else kept.image
        drawn = [
            number
            for number in range(kept.count, self.layer)
            if (host[:, self.call.recipe.layers[number].gate] > 0).any()
        ]
        layers = recipe_layout(self.call.recipe.layout).layers
        if not all(_exact(layers[number]) for number in drawn):
            return ops.natively_laid_out(self.before())
        if drawn:
            from .compiled import driver

            if kept.image is kept.plain:
                kept.image = kept.image.clone()
            layout = recipe_layout(self.call.recipe.layout)
            tensors = [*self.call.tensors, *self.made]
            driver.lay(
                kept.image, kept.image, self.call.table, self.call.planes, tensors,
                layout._replace(layers=tuple(layers[number] for number in drawn)),
                self.call.foreground,
            )  # fmt: skip
        kept.count = self.layer
        return kept.image

    @property
    def peak(self) -> float:
        """White in image units: 255, 65535 or 1."""
        return self.call.recipe.laws.peak

    @property
    def mix(self) -> str:
        """Name of the mix by which the layer's blend joins source and image."""
        return str(getattr(self._placed.blend.part, "mix", "over"))

    @property
    def parts(self) -> tuple[Placed, ...]:
        """The parts of the layer's mask, in the order in which they are joined."""
        return self._placed.mask

    @property
    def rows(self) -> list[int]:
        """Rows on which the layer will be laid; the others need no colours."""
        host = self.call.host.numpy()
        return np.flatnonzero((host[:, ACTIVE] > 0) & (host[:, self._placed.gate] > 0)).tolist()

    @property
    def keys(self) -> list[int]:
        """A 64-bit number per row of the batch, from the part's own stream."""
        columns = self.call.host.numpy()[:, self.offset : self.offset + len(_KEY)]
        return keys_of(np.ascontiguousarray(columns).view(np.uint32).T)

    def colours(self, field: str = "") -> Tensor:
        """The wrapped source on every pixel of ``rows``, else the images: a picture.

        Args:
            field: Name of the field that holds it, where there are several.
        """
        offset, held = self.offset + len(_KEY), self.source.held
        inner = held.get(field) if field else self.source.inner
        if inner is None:
            return self.images
        for name, before in held.items():
            if name == field or not field:
                break
            offset += sum(before.columns(self.call.recipe.laws.channels).values())
        if isinstance(inner, Computed):
            return inner.compute(dataclasses.replace(self, source=inner, offset=offset))
        everywhere = {
            "mask": [["everywhere", 0, 0]],
            "source": [inner.function, offset, inner.option()],
            "weight": ["opaque", 0, 0],
            "mix": "over",
        }
        return self._render(self._alone(everywhere), self.call.tensors, -1)[0]

    def weight(self) -> Tensor:
        """The layer's weight as the render will lay it, float32 ``[B, 1, H, W]`` in [0, 1].

        It does not know that an anomaly below ``min_area`` or ``tolerance`` is given up.
        """
        tensors = [*self.call.tensors, self.images.contiguous()]
        itself = {"source": ["given", 0, len(self.call.tensors)], "mix": "over"}
        return self._render(self._alone(itself), tensors, self.call.foreground)[2]

    def patch(self, steps: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """The wrapped source where the layer's mask is, else the images; and where that is.

        Args:
            steps: Inside all of these parts of the mask instead, whatever confines the layer.

        Returns:
            A picture, and float32 ``[B, 1, H, W]``, 1 or 0.
        """
        tensors: list[Tensor] = list(self.call.tensors)
        painted = self.inner
        if painted is None:
            painted = Step("given", 0, len(tensors))
            tensors += [self.colours().contiguous()]
        layer = self._alone({"source": painted, "weight": ["opaque", 0, 0], "mix": "over"})
        if steps:
            first, *others = (layer[0]["mask"][step] for step in steps)
            both = ["intersection", 0, 0]
            layer[0]["mask"] = [first, *(one for other in others for one in (other, both))]
        confined = -1 if steps else self.call.foreground
        made = self._render(layer, tensors, confined)
        return made[0], made[2]

    @property
    def inner(self) -> Step | None:
        """What the render calls for the wrapped source's colours; None if it cannot make them."""
        inner = self.source.inner
        if inner is None or isinstance(inner, Computed):
            return None
        return Step(inner.function, self.offset + len(_KEY), inner.option())

    @property
    def _placed(self) -> PlacedLayer:
        return self.call.recipe.layers[self.layer]

    def _alone(self, changes: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The layer alone, with some entries of its layout changed."""
        return [json.loads(self.call.recipe.layout)["layers"][self.layer] | changes]

    def _render(
        self, layers: list[dict[str, Any]], tensors: Sequence[Tensor], foreground: int
    ) -> tuple[Tensor, ...]:
        """What some layers make of the images: image, and as the third the soft mask."""
        layout = json.loads(self.call.recipe.layout) | {"layers": layers}
        table = self.call.table.clone()
        table[:, MIN_AREA] = 0.0
        return ops.render(
            self.images, table, list(self.call.planes), list(tensors), None, json.dumps(layout),
            foreground, False, True, False, self.images.dtype, False, self.call.backend,
        )  # fmt: skip


def compute(call: Call, sources: Mapping[int, Computed]) -> list[Tensor]:
    """The pictures of the computed sources, in the order of their numbers.

    Args:
        call: The call.
        sources: The bound sources by the number of their layer among the laws.

    Raises:
        ValueError, TypeError: A source made something else than a picture.
    """
    made: list[Tensor] = untraced(_compute)(call, sources)
    return made


def _compute(call: Call, sources: Mapping[int, Computed]) -> list[Tensor]:
    made: list[Tensor] = []
    for number, placed in enumerate(call.recipe.layers):
        source = sources.get(placed.law)
        if source is not None:
            scene = Scene(call, number, source, placed.source.offset, tuple(made))
            colours = _computed(scene) if scene.rows else call.images
            made.append(checks.picture(f"{type(source).__name__}.compute", colours, call.images))
    return made


def _exact(layer: LayerProgram) -> bool:
    """Whether a layer shows a picture as it is, so that nothing is rounded on the way."""
    plain = layer.mix == "replace" or (layer.mix == "over" and layer.weight.name == "opaque")
    return plain and layer.source.name == Given.function


def _computed(scene: Scene) -> Tensor:
    """The picture, on the host of the rows alone that are looked at."""
    call, rows = scene.call, scene.rows
    if ops.resolve_backend(call.backend, call.images.device) == "compiled":
        colours = scene.source.compiled(scene)
        if colours is not None:
            return colours
    apart = not any(
        one.others or (isinstance(one, Computed) and not one.by_rows) for one in chain(scene.source)
    )
    few = apart and call.given is not None and len(rows) < len(call.images)
    if not few or call.images.device.type != "cpu" or call.images.dtype == torch.uint16:
        return scene.source.compute(scene)
    chosen = torch.tensor(rows, dtype=torch.int64, device="cpu")
    made = tuple(one if one is call.images else _rows(one, chosen) for one in scene.made)
    less = call.of_rows(chosen)
    made = tuple(less.images if one is call.images else one for one in made)
    part = scene.source.compute(dataclasses.replace(scene, call=less, made=made))
    part = checks.picture(f"{type(scene.source).__name__}.compute", part, less.images)
    # Plane by plane, as every later render reads them.
    whole = torch.empty_like(call.images, memory_format=torch.contiguous_format)
    # Bytes that nobody looks at may be anything; floats might be NaN.
    if call.images.dtype.is_floating_point:
        whole.copy_(call.images)
    for row, one in zip(rows, part, strict=True):
        whole[row].copy_(one)
    return whole


def _rows(values: Tensor, rows: Tensor) -> Tensor:
    return values.index_select(0, rows)


def as_plain(source: Source) -> Source:
    """A source and those it wraps as laws hold them."""
    if not isinstance(source, Computed):
        return source
    made: Source = source.plain().holding(as_plain)
    return made


def rows_on(rows: Sequence[int], device: torch.device) -> Tensor:
    """Row numbers on a device, without waiting for the copy."""
    cuda = device.type == "cuda"
    numbers = torch.tensor(rows, dtype=torch.int64, device="cpu", pin_memory=cuda)
    return numbers.to(device, non_blocking=cuda)


def untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which Dynamo will not look into: for work of the host.

    ``torch.compiler.disable`` would import all of Dynamo; where it is not loaded, nothing traces.
    """
    dynamo = sys.modules.get("torch._dynamo")
    return function if dynamo is None else dynamo.disable(function)


def chain(source: Source) -> Iterator[Source]:
    """A source, those it wraps, and so on."""
    yield source
    for held in source.held.values() if isinstance(source, Computed) else ():
        yield from chain(held)


def innermost(source: Any, offset: int) -> tuple[Any, int]:
    """The source that computed ones wrap, and its first column, given theirs."""
    while isinstance(source, Computed) and source.inner is not None:
        source, offset = source.inner, offset + len(_KEY)
    return source, offset


def keys_of(words: npt.NDArray[np.uint32]) -> list[int]:
    """64-bit numbers from words ``[2, B]``, the lower halves first."""
    low, high = words.astype(np.uint64)
    keys: list[int] = (low | high << np.uint64(32)).tolist()  # host: of the host's table
    return keys
