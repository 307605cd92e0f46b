"""Sources that are whole images: given at call time, or computed between sampling and render.

A *picture* is a tensor like the batch, ``[B, C, H, W]`` in its dtype and units. The render reads
pictures after the banks; the function is ``given`` in ``kernels/sources.py`` and
``anoaug/reference/sources.py``.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .. import checks, ops
from .computed import Computed, Given, as_plain, chain, innermost, keys_of
from .scene import Call, Laid, Scene, rows_of, rows_on

__all__ = [
    "Call", "Computed", "Given", "Scene", "as_plain", "chain", "compute", "innermost", "keys_of",
    "rows_on", "untraced",
]  # fmt: skip


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
    # Not when the call is made, which Dynamo does.
    call = dataclasses.replace(call, laid=Laid())
    for number, placed in enumerate(call.recipe.layers):
        source = sources.get(placed.law)
        if source is not None:
            scene = Scene(call, number, source, placed.source.offset, tuple(made))
            colours = _computed(scene) if scene.rows else call.images
            made.append(checks.picture(f"{type(source).__name__}.compute", colours, call.images))
    return made


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
    made = tuple(one if one is call.images else rows_of(one, chosen) for one in scene.made)
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


def untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which Dynamo will not look into: for work of the host.

    ``torch.compiler.disable`` would import all of Dynamo; where it is not loaded, nothing traces.
    """
    dynamo = sys.modules.get("torch._dynamo")
    return function if dynamo is None else dynamo.disable(function)
