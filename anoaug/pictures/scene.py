"""What a computed source may look at: the call, what the layers before left, its own layer."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import ops
from ..recipe import ACTIVE, MIN_AREA, LayerProgram, Placed, PlacedLayer, Recipe, Step, recipe
from ..recipe import layout as recipe_layout
from .computed import KEY, Computed, Given, keys_of


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
        laid: What :meth:`Scene.laid` keeps from layer to layer, while pictures are computed.
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
    laid: Laid | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def recipe(self) -> Recipe:
        """The parsed laws."""
        return recipe(self.laws)

    def of_rows(self, rows: Tensor) -> Call:
        """The call for some samples alone; ``rows`` int64 on the host, as everything else."""
        banks = len(self.tensors) - (self.given or 0)
        tensors = [*self.tensors[:banks], *(rows_of(one, rows) for one in self.tensors[banks:])]
        return dataclasses.replace(
            self, images=rows_of(self.images, rows), table=rows_of(self.table, rows),
            host=rows_of(self.host, rows), planes=[rows_of(one, rows) for one in self.planes],
            tensors=tensors, where=None if self.where is None else rows_of(self.where, rows),
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
        kept = self._kept
        kept.plain = ops.natively_laid_out(self.images) if kept.plain is None else kept.plain
        return kept.plain

    def laid(self) -> Tensor:
        """What :meth:`before` gives, on the host by compiled loops; not to be changed.

        Each layer is laid once, where the layers before it are laid exactly: by a picture and
        without a weight.
        """
        kept, host = self._kept, self.call.host.numpy()
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
            from ..compiled import driver

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
        columns = self.call.host.numpy()[:, self.offset : self.offset + len(KEY)]
        return keys_of(np.ascontiguousarray(columns).view(np.uint32).T)

    def colours(self, field: str = "") -> Tensor:
        """The wrapped source on every pixel of ``rows``, else the images: a picture.

        Args:
            field: Name of the field that holds it, where there are several.
        """
        offset, held = self.offset + len(KEY), self.source.held
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
        return Step(inner.function, self.offset + len(KEY), inner.option())

    @property
    def _kept(self) -> Laid:
        return Laid() if self.call.laid is None else self.call.laid

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


def _exact(layer: LayerProgram) -> bool:
    """Whether a layer shows a picture as it is, so that nothing is rounded on the way."""
    plain = layer.mix == "replace" or (layer.mix == "over" and layer.weight.name == "opaque")
    return plain and layer.source.name == Given.function


def rows_of(values: Tensor, rows: Tensor) -> Tensor:
    """Some samples of a tensor."""
    return values.index_select(0, rows)


def rows_on(rows: Sequence[int], device: torch.device) -> Tensor:
    """Row numbers on a device, without waiting for the copy."""
    cuda = device.type == "cuda"
    numbers = torch.tensor(rows, dtype=torch.int64, device="cpu", pin_memory=cuda)
    return numbers.to(device, non_blocking=cuda)
