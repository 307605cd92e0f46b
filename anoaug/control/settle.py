"""What a control needs the pixels for: regions, thresholds by quantile, opacities by difference.

Between sampling and render, on the images' device, the table is rewritten; params hold the
rewritten one, and a replay reads it as it is. Constant shapes; nothing waits for the device.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import ops, pictures
from ..binding import Binding
from ..masks import content
from ..parts import reference_function
from ..pictures import Call
from ..recipe import ACTIVE, MIN_AREA, TOLERANCE, Placed, PlacedLayer
from ..reference.masks import level_of
from ..reference.render import grid
from ..rows import sent
from ..wanted import COLUMN
from .orders import Orders
from .scope import OPERATORS, polarities

# How often the opacities are corrected: sums are rounded and clipped, and layers overlap.
_ROUNDS = 3


def pending(binding: Binding, working: bool, orders: Orders | None, within: Tensor | None) -> bool:
    """Whether the pixels decide something before the render, besides computed sources."""
    left = orders is not None and orders.pixels
    return working and (binding.seeking or left or within is not None)


def settled(
    call: Call, binding: Binding, finder: Any, working: bool, changed: bool,
    orders: Orders | None, within: Tensor | None,
) -> tuple[Call, list[Tensor]]:  # fmt: skip
    """The call with everything in its place that the pixels decide, and its pictures.

    Args:
        call: The call as drawn, or a replay; ``host`` is its table on the host.
        binding: What its layers are bound to.
        finder: What finds the objects, or None.
        working: Whether anything is to be drawn.
        changed: Whether masks show what changes, and nothing else.
        orders: What a control asks for; None in a replay.
        within: float64 ``[rows, 5]`` on the host: regions of masks without a box, see
            :class:`Orders`.

    Returns:
        The call, and the op's list of tensors with the pictures of computed sources.
    """
    if orders is not None and binding.seeking:
        matrix = orders.matrix[:, :, COLUMN["y0"] : COLUMN["x1"] + 1]
        call = dataclasses.replace(call, where=sent(matrix.contiguous(), call.images.device))
    if working and binding.seeking:
        known = binding.objects.by(finder, call.tensors, binding.banks)
        call = content.settle(call, binding.made, known)
    if within is not None:
        call = confined(call, sent(within, call.images.device))
    if orders is None or not orders.pixels:
        if orders is not None and orders.seeks:
            table = torch.ops.anoaug.shifted(
                call.images, call.table, list(call.planes), list(call.tensors), call.laws,
                call.foreground, call.backend, orders.matrix,
            )  # fmt: skip
            call = dataclasses.replace(call, table=table)
            if table.device.type == "cpu":
                call = dataclasses.replace(call, host=table)
        return call, computed(call, binding)
    return pictures.untraced(_by_pixels)(call, binding, changed, orders)


def computed(call: Call, binding: Binding) -> list[Tensor]:
    """The op's list with the pictures of computed sources."""
    read = list(call.tensors)
    if binding.computed:
        call = dataclasses.replace(call, host=call.host.cpu())  # host: replays
        read += pictures.compute(call, binding.computed)
    return read


def _by_pixels(
    call: Call, binding: Binding, changed: bool, orders: Orders
) -> tuple[Call, list[Tensor]]:
    call = dataclasses.replace(call, table=_shifted(call, orders.matrix))
    if call.images.device.type == "cpu":
        call = dataclasses.replace(call, host=call.table)
    targets = orders.matrix[:, 0, COLUMN["difference"] : COLUMN["sigma"] + 1]
    if not targets.isnan().all():  # host: orders live there
        targets = sent(targets.contiguous(), call.images.device)
        reach(call, binding, changed, targets, orders.variation)
        if call.images.device.type == "cpu":
            call = dataclasses.replace(call, host=call.table)
    return call, computed(call, binding)


def _shifted(call: Call, matrix: Tensor) -> Tensor:
    """The call's table with thresholds that leave masks as large as is asked for."""
    call = dataclasses.replace(call, table=call.table.clone())
    for number, layer in enumerate(call.recipe.layers):
        if any(step.part.shifts is not None for step in layer.mask):  # type: ignore[attr-defined]
            size, least = (matrix[:, number, COLUMN[name]] for name in ("level", "least"))
            _sized(call, layer, size, least)
    return call.table


def _shifted_op(
    images: Tensor, table: Tensor, planes: list[Tensor], tensors: list[Tensor], laws: str,
    foreground: int, backend: str, matrix: Tensor,
) -> Tensor:  # fmt: skip
    call = Call(images, table, table, planes, tensors, foreground, laws, backend)
    return _shifted(call, matrix)


# One op for torch.compile, which cannot follow which rows are asked for.
_library = torch.library.Library("anoaug", "FRAGMENT")
_library.define(
    "shifted(Tensor images, Tensor table, Tensor[] planes, Tensor[] tensors, str laws, "
    "int foreground, str backend, Tensor matrix) -> Tensor"
)
_library.impl("shifted", torch.no_grad()(_shifted_op), "CompositeExplicitAutograd")
torch.library.register_fake(
    "anoaug::shifted", lambda images, table, *others: torch.empty_like(table)
)


# ---- regions -------------------------------------------------------------------------------------


def confined(call: Call, within: Tensor) -> Call:
    """The call with all layers confined to regions, and to the foreground that confines them."""
    size = (call.images.shape[2], call.images.shape[3])
    inside = content.boxed(within[:, :4], size)
    cy, cx = (
        ((within[:, k] + within[:, k + 2]) * (0.5 * size[k]) - 0.5)[:, None, None] for k in (0, 1)
    )
    y = torch.arange(size[0], device=within.device)[:, None]
    x = torch.arange(size[1], device=within.device)
    radius = within[:, 4, None, None]
    disc = (y - cy).square() + (x - cx).square() <= radius.square()
    inside = torch.where(radius > 0, disc, inside)
    if call.foreground >= 0:
        inside = inside & (level_of(call.planes[call.foreground])[:, 0] > 0)
    planes = [*call.planes, inside[:, None].to(torch.uint8)]
    return dataclasses.replace(call, planes=planes, foreground=len(call.planes))


# ---- size by threshold ---------------------------------------------------------------------------


def _sized(call: Call, layer: PlacedLayer, size: Tensor, least: Tensor) -> None:
    """Shift thresholds in the table so that masks have a size, or cover the least of their place.

    Both are float64 ``[rows]`` on the host; NaN where not asked for.
    """
    asked = ~(size.isnan() & least.isnan())
    device, pixels = call.images.device, call.images.shape[2] * call.images.shape[3]
    if device.type == "cpu":
        table = call.table
        asked &= (table[:, ACTIVE] > 0) & (table[:, layer.gate] > 0)
    rows = asked.nonzero()[:, 0]  # host: orders live there
    if not len(rows):
        return
    there = pictures.rows_on(rows.tolist(), device)  # host: likewise
    count = torch.round(size[rows].nan_to_num(nan=1.0) * pixels).clamp(1, pixels).to(torch.int64)
    count, share = (sent(value, device) for value in (count, least[rows]))
    level = levels(call, layer, there)
    free = ~share.isnan()
    room = (level > -torch.inf).sum(1)
    enough = torch.ceil(share.nan_to_num(nan=0.0) * room).clamp(min=1).to(torch.int64)
    shift = shifts(level, torch.where(free, enough, count), free)
    there_already = free & ((level > 0).sum(1) >= enough)
    shift = torch.where(there_already, 0.0, shift)
    signs = polarities([step.part for step in layer.mask])  # type: ignore[misc]
    for step, sign in zip(layer.mask, signs, strict=True):
        part: Any = step.part
        if part.shifts is not None:
            names = list(part.columns(call.recipe.laws.channels))
            column = step.offset + names.index(part.shifts[0])
            moved = call.table[there, column] + (sign * part.shifts[1]) * shift
            call.table[there, column] = moved


def levels(call: Call, layer: PlacedLayer, rows: Tensor) -> Tensor:
    """Levels of a layer's mask, float32 ``[b, H * W]``: what a common shift would move; else inf.

    What no threshold moves is inf inside and -inf outside, and so is what confines the layer.
    """
    height, width = call.images.shape[2:]
    table = call.table[rows]
    planes = [plane[rows] for plane in call.planes]
    b, pix, y, x = grid(len(rows), height, width, table.device)
    stack: tuple[Tensor, ...] = ()
    for step in layer.mask:
        part: Any = step.part
        if isinstance(part, OPERATORS) or hasattr(part, "slot"):
            run = reference_function("masks", part.function)
            stack = run(
                stack, table, y, x, b, pix, planes, call.tensors, step.offset, part.option()
            )
        else:
            stack = (_field(call, layer, step, table), *stack)
        if not isinstance(part, OPERATORS) and part.shifts is None:
            first = torch.where(stack[0] > 0, torch.inf, -torch.inf)
            stack = (first, *stack[1:])
    level = stack[0].expand(len(rows), height * width)
    if call.foreground >= 0:
        inside = level_of(planes[call.foreground].flatten(1)) > 0
        level = torch.where(inside, level, -torch.inf)
    return level


def _field(call: Call, layer: PlacedLayer, step: Placed, table: Tensor) -> Tensor:
    """The level of one step by the call's backend, float32 ``[b, H * W]``."""
    number = call.recipe.layers.index(layer)
    layout = json.loads(call.recipe.layout)
    alone = layout["layers"][number] | {
        "mask": [[step.part.function, step.offset, step.part.option()]]
    }
    height, width = call.images.shape[2:]
    text = json.dumps(layout | {"layers": [alone]})
    field: Tensor = ops.field(table, list(call.tensors), text, height, width, call.backend)
    return field.flatten(1)


def shifts(level: Tensor, count: Tensor, at_least: Tensor | None = None) -> Tensor:
    """What to add to levels so that so many pixels are above 0: their quantile, float32 ``[b]``.

    Pixels at inf are inside whatever is added, those at -inf never. Of equal levels all are inside
    or none: what comes nearer.

    Args:
        level: float32 ``[b, N]``.
        count: int64 ``[b]`` on the host, 1 to N, or on the levels' device.
        at_least: bool ``[b]`` there: where equal levels are inside though fewer came nearer.
    """
    total = level.shape[1]
    finite = level.isfinite()
    # Beyond all others, so that numbers between two of them are finite.
    low = torch.where(finite, level, torch.inf).amin(1, keepdim=True) - 1.0
    high = torch.where(finite, level, -torch.inf).amax(1, keepdim=True) + 1.0
    some = finite.any(1)
    level = torch.minimum(torch.maximum(level, low), high)
    if level.device.type == "cpu":
        rows = zip(level.numpy(), (total - count).tolist(), strict=True)  # host: the CPU's way
        last = torch.from_numpy(np.array([np.partition(row, at)[at] for row, at in rows]))[:, None]
    else:
        at = sent(total - count, level.device)[:, None]
        last = level.sort(1).values.gather(1, at)
    count = sent(count, level.device)
    within, beyond = (level >= last).sum(1), (level > last).sum(1)
    below = torch.where(level < last, level, -torch.inf).amax(1)
    above = torch.where(level > last, level, torch.inf).amin(1)
    last = last[:, 0]
    below = torch.where(below.isfinite(), below, last - 1.0)
    above = torch.where(above.isfinite(), above, last + 1.0)
    nearer = (within - count).abs() <= (count - beyond).abs()
    other = torch.where(nearer if at_least is None else nearer | at_least, below, above)
    return torch.where(some, -(last + 0.5 * (other - last)), 0.0)


# ---- strength by difference ----------------------------------------------------------------------


def reach(call: Call, binding: Binding, changed: bool, targets: Tensor, variation: Any) -> None:
    """Scale opacities in the table until images differ by so much inside their masks.

    Args:
        call: The call, with opacities of 1 where a difference is asked for.
        binding: Its binding.
        changed: Whether only pixels count that change by more than the tolerance at whole weight.
        targets: float64 ``[rows, 2]`` on the images' device: a mean difference in [0, 1], and one
            in units of ``variation``; NaN where none is asked for.
        variation: An :class:`anoaug.prepare.Variation`, or None.
    """
    images, table = call.images, call.table
    read = computed(call, binding)
    std = None if variation is None else variation.over(images)
    columns = [_opacity(call, layer) for layer in call.recipe.layers]
    asked = ~targets.isnan().all(1)
    inside: Tensor | None = None
    for _ in range(_ROUNDS):
        plain = table.clone()
        plain[:, MIN_AREA] = 0.0
        made, _, weight, *_ = ops.render(
            images, plain, list(call.planes), read, None, call.recipe.layout, call.foreground,
            False, True, False, images.dtype, False, call.backend,
        )  # fmt: skip
        apart = (made.to(torch.float32) - images.to(torch.float32)).abs()
        if inside is None:
            inside = weight > 0
            if changed:
                least = table[:, TOLERANCE, None, None, None]
                inside = inside & (apart.amax(1, keepdim=True) > least)
        pixels = inside.flatten(1).sum(1).clamp(min=1)
        moved = apart.mean(1, keepdim=True)
        moved = torch.where(inside, moved, 0.0).flatten(1).sum(1, dtype=torch.float64)
        found = moved / (pixels * call.recipe.laws.peak)
        target = targets[:, 0]
        if std is not None:
            usual = torch.where(inside, std, 0.0).flatten(1).sum(1, dtype=torch.float64) / pixels
            target = torch.where(targets[:, 1].isnan(), target, targets[:, 1] * usual)
        factor = torch.where(asked & (found > 0), target / found.clamp(min=1e-9), 1.0)
        for column in columns:
            table[:, column] = (table[:, column] * factor.to(torch.float32)).clamp(0.0, 1.0)


def _opacity(call: Call, layer: PlacedLayer) -> int:
    """The column of a layer's opacity."""
    names = list(layer.blend.part.columns(call.recipe.laws.channels))
    return layer.blend.offset + names.index("opacity")
