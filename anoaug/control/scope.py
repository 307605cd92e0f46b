"""What of a control a synthesizer can do, read off its parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..banks import ShapeBank
from ..binding import Layer
from ..blends import Hard, Opacity
from ..masks import Everywhere
from ..masks.content import Objects
from ..masks.ellipses import Ellipses
from ..masks.expressions import Complement, Intersection, Joined, MaskPart, Union
from ..masks.planes import Given
from ..pictures import chain
from .request import Control

OPERATORS = (Intersection, Union, Complement, Joined)
# Beside a mask that is sized by its sides: what only cuts it, or lies in it.
_CUTTING = (Given, Objects, Ellipses, Everywhere)

# The keys of ``describe()["controls"]``, in their order.
NAMES = ("size", "location", "strength", "shape", "aspect", "rotation", "count", "kind")


def weighed(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers with a weight for every source: a hard paste is an opacity of 1."""
    return tuple(
        dataclasses.replace(layer, blend=Opacity(1.0, mix=layer.blend.mix))
        if isinstance(layer.blend, Hard)
        else layer
        for layer in layers
    )


def polarities(steps: Sequence[MaskPart]) -> list[int]:
    """For each step of a postfix mask 1 where its level raises the mask's, -1 where it lowers it.

    Operators have 0.
    """
    signs = [0] * len(steps)
    stack: list[list[int]] = []
    for number, step in enumerate(steps):
        if isinstance(step, Complement):
            for leaf in stack[-1]:
                signs[leaf] = -signs[leaf]
        elif isinstance(step, OPERATORS):
            last = stack.pop()
            stack[-1] = stack[-1] + last
        else:
            signs[number] = 1
            stack.append([number])
    return signs


@dataclass(frozen=True)
class _Scoped:
    """What of a control one layer can do."""

    by_threshold: bool
    framed: bool
    controls: dict[str, str]


class Scope:
    """What of a control a synthesizer can do.

    Args:
        layers: Its layers.
        kinds: Its kinds.
        choose: As of the synthesizer, likewise the next two.
        views: See above.
        label_rule: See above.
        control: Its own control.

    Attributes:
        controls: By name, how each control applies.
        shapes: Names of the kinds of shape that its masks draw from, numbered.
        numbers: Per copy of a layer, the number in its bank of each of ``shapes``, -1 for none.
        copies: Copies over all layers.
        most: The most copies that a sample can have.
        confines: Whether a location is a region: some mask has no box of its own.
        laws: Number of the layer of each copy.
        thresholds: Per copy, whether its size goes by a threshold.
        hard: Whether some source has no weight.
        replaces: Whether some blend shows its source whatever its weight.
    """

    def __init__(
        self, layers: Sequence[Layer], kinds: Sequence[str], choose: str, views: bool | int,
        label_rule: str, control: Control | None = None,
    ) -> None:  # fmt: skip
        scoped = [_scoped(layer) for layer in layers]
        counts: list[tuple[int, int]] = [layer.count for layer in layers]  # type: ignore[misc]
        self.laws = tuple(n for n, (_, most) in enumerate(counts) for _ in range(most))
        self.copies = len(self.laws)
        self.most = max(most for _, most in counts) if choose == "one" else self.copies
        self.kinds = tuple(kinds)
        self.confines = any(not one.framed for one in scoped)
        self.thresholds = tuple(scoped[law].by_threshold for law in self.laws)
        self.hard = any(isinstance(layer.blend, Hard) for layer in layers)
        self.replaces = any(layer.blend.mix == "replace" for layer in layers)
        self.shapes, self.numbers = self._shapes(layers)
        self.controls = self._applying(scoped, choose, views, label_rule, len(set(kinds)) - 2)
        if len(self.shapes) < 2:
            self.controls.pop("shape", None)
        self.control = control
        if control is not None:
            self.check(control)

    def waits(self, control: Control) -> bool:
        """Whether something of a control is decided by the pixels, after sampling."""
        reached = control.strength is not None and (control.unit or "weight") != "weight"
        return reached or (control.size is not None and any(self.thresholds))

    def seeks(self, control: Control) -> bool:
        """Whether masks of noise have to be found in a place, where no size is asked for."""
        free = control.size is None or isinstance(control.size, Tensor)
        return control.location is not None and free and any(self.thresholds)

    def _shapes(self, layers: Sequence[Layer]) -> tuple[tuple[str, ...], list[list[int]]]:
        banks: list[Any] = [_shapes_of(layer) for layer in layers]
        if not all(bank is not None and bank.categories for bank in banks):
            return (), []
        # Only what every layer can draw.
        names = dict.fromkeys(name for bank in banks for name in bank.categories)
        shared = [name for name in names if all(name in bank.categories for bank in banks)]
        rows = [[bank.categories.index(name) for name in shared] for bank in banks]
        return tuple(shared), [rows[law] for law in self.laws]

    def _applying(
        self, scoped: Sequence[_Scoped], choose: str, views: bool | int, label_rule: str, kinds: int
    ) -> dict[str, str]:
        found = {
            name: "; or ".join(dict.fromkeys(one.controls[name] for one in scoped))
            for name in NAMES
            if all(name in one.controls for one in scoped)
        }
        if "size" in found and label_rule == "changed":
            found["size"] += "; the mask shows only what changes visibly there"
        if "location" in found and self.confines and any(one.framed for one in scoped):
            found["location"] = "; ".join((_CENTRED, _CONFINED)) + ", here for all layers"
        found["strength"] = _WEIGHED if not self.replaces else _MIXED
        if self.most > 1 and views is not True:
            found["count"] = f"how many of its up to {self.most} copies a sample gets"
        if kinds > 1 and views is not True:
            names = ", ".join(self.kinds[1:-1])
            found["kind"] = f"which of its kinds a sample gets: {names}"
        return {name: found[name] for name in NAMES if name in found}

    def check(self, control: Control, rows: int | None = None) -> None:
        """Refuse what the synthesizer cannot do, and values of another number than the samples.

        Raises:
            ValueError: See above.
        """
        for name in control.given:
            if name not in self.controls:
                known = ", ".join(self.controls) or "none"
                raise ValueError(
                    f"control: {name} does not apply to this synthesizer; those that do: {known}"
                )
        if control.strength is not None:
            if self.hard:
                raise ValueError(
                    "strength: expected a synthesizer whose sources have a weight, got one with a "
                    "hard paste; make it with control=True, which gives it one"
                )
            unit = control.unit or "weight"
            if unit != "weight" and self.replaces:
                raise ValueError(
                    f"unit: expected 'weight' where gradients are mixed, got {unit!r}: the "
                    "difference is not in proportion to it"
                )
            most = _most(control.strength)
            if unit != "sigma" and most > 1:
                raise ValueError(
                    f"strength: expected numbers in [0, 1] as {unit}, got up to {most:g}"
                )
            if unit == "sigma" and control.variation is None:
                raise ValueError(
                    "variation: expected one with unit='sigma', got none; pass "
                    "anoaug.prepare.Variation.of(normal_images) or a standard deviation"
                )
        if control.count is not None:
            most = _most(control.count)
            if most > self.most:
                raise ValueError(
                    f"count: expected at most {self.most} copies, which this synthesizer has, got "
                    f"{most:g}; make its layers with a larger count"
                )
        if rows is None or torch.compiler.is_compiling():
            return
        for name in control.by_sample:
            got = len(getattr(control, name))
            if got != rows:
                raise ValueError(f"{name}: expected one value per sample, {rows}, got {got}")


_CENTRED = "the mask's centre lies there, moved into the image where it fits"
_CONFINED = (
    "the mask is confined to the box, or to a disc about the point; without a size the threshold "
    "of noise sinks where less than a twentieth of the place would be inside"
)
_WEIGHED = (
    "weight of the source; or a mean difference inside the mask, also in units of the product's "
    "own variation, by scaling that weight"
)
_MIXED = "weight by which the source is mixed in; no difference, which is not in proportion to it"
_SIZED = {
    "threshold": "area of the mask, by the threshold that leaves it within foreground and location",
    "sides": "area of each copy, whose sides are made to fit; a foreground cuts some of it off",
    "cells": "area of the mask, to the cell",
}


def _shapes_of(layer: Layer) -> ShapeBank | None:
    """The bank of shapes that a layer's mask draws from."""
    banks = [getattr(step, "bank", None) for step in layer.mask.steps()]
    return next((bank for bank in banks if isinstance(bank, ShapeBank)), None)


def _most(values: Any) -> float:
    """The greatest number of a range or of a tensor with NaN; 0 of an empty one."""
    if isinstance(values, Tensor):
        if torch.compiler.is_compiling():
            return 0.0
        values = values.tolist()  # host: controls live there
    return max([0.0, *[float(value) for value in values if value == value]])


def _scoped(layer: Layer) -> _Scoped:
    steps = layer.mask.steps()
    signs = polarities(steps)
    leaves = [step for step in steps if not isinstance(step, OPERATORS)]
    shifted = any(step.shifts is not None for step in leaves)
    framed = [step for step in leaves if step.frames]
    own = {name for step in leaves for name in step.controls}
    controls = {}
    if shifted:
        controls["size"] = _SIZED["threshold"]
    else:
        sized = [step for step in leaves if "size" in step.controls]
        others = [step for step in leaves if step not in sized]
        alone = len(sized) == 1 and all(isinstance(step, _CUTTING) for step in others)
        alone = alone and not any(isinstance(step, Union) for step in steps)
        if alone and signs[steps.index(sized[0])] > 0:
            controls["size"] = _SIZED["sides" if sized[0].frames else "cells"]
    confinable = all(source.confined for source in chain(layer.source))
    if framed and all("location" in step.controls for step in framed):
        controls["location"] = _CENTRED
    elif not framed and confinable:
        controls["location"] = _CONFINED
    words = {
        "aspect": "width / height of its box, which keeps its area",
        "rotation": "degrees by which the mask is turned",
        "shape": "which kind of shape of its bank",
    }
    controls |= {name: text for name, text in words.items() if name in own}
    controls["strength"] = ""
    return _Scoped(shifted, bool(framed), controls)
