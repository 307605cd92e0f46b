"""Where the objects are in a batch whose rows have members of their own; what moves those rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import checks
from ..batch import AnomalyBatch, Params
from ..normals import transformed
from ..rows import put, sent, taken
from ..synthesizer import Synthesizer


def objects(
    members: Sequence[Synthesizer], images: Tensor, choice: Tensor, index: Any,
    names: list[str] | None,
) -> Tensor | None:  # fmt: skip
    """Foregrounds that members find in their rows, in one plane; None where none looks.

    Args:
        members: The members.
        images: ``(B, C, H, W)``.
        choice: Which member each row has, int64 ``[B]`` on the host.
        index: Sample indices, or None.
        names: Names of the samples' categories, or None.
    """
    groups: dict[Any, list[int]] = {}
    for k in choice.unique().tolist():  # host: the choice lives there
        objects = members[k].foreground
        if objects is not None:
            groups.setdefault(objects.rule, []).append(k)
    if not groups:
        return None
    numbers = None if index is None else checks.host_rows("index", index, len(images))
    size = (len(images), 1, *images.shape[2:])
    plane = torch.ones(size, dtype=torch.uint8, device=images.device)
    for ks in groups.values():
        find: Any = members[ks[0]].foreground
        rows = torch.isin(choice, torch.tensor(ks, device="cpu")).nonzero()[:, 0]  # host: too
        if len(rows) == len(images):
            return find(images, index, names)  # type: ignore[no-any-return]
        there = sent(rows, images.device)
        own = names and [names[row] for row in rows.tolist()]  # host: likewise
        part = find(taken(images, there), None if numbers is None else numbers[rows], own)
        put(plane, there, part)
    return plane


def with_places(member: Any, params: Params, rows: Any, out: AnomalyBatch) -> Params:
    """The params with some rows as a member left them, whose pixels decided on something."""
    orders = params.orders
    if not (member._binding.seeking or (orders is not None and (orders.pixels or orders.seeks))):
        return params
    table, found = params.table.clone(), out.params.table
    table[rows, : found.shape[1]] = found.to(table.device)
    return params._replace(table=table)


def moved(
    one: Any, images: Tensor, number: tuple[Tensor, Tensor], choice: Tensor, category: Any,
    planes: dict[str, Any],
) -> Tensor:  # fmt: skip
    """The images after ``normal_transform``, and after those of members where they have one."""
    if one.normal_transform is not None:
        checks.left_behind(**planes)
        images = transformed(one, images, number, category)
    index, state = number
    made = images
    for k in choice.unique().tolist():  # host: the choice lives there
        member = one.members[k]
        if member.normal_transform is None:
            continue
        checks.left_behind(**planes)
        rows = (choice == k).nonzero()[:, 0]  # host: likewise
        there = sent(rows, images.device)
        own = taken(images, there)
        # As with our seed, from which a worker's may differ.
        theirs = one._categories[k][one._binding.category(category, len(images))[rows]]
        numbered = (index[rows], state)
        turned = transformed(member, own, numbered, theirs, one._numbering.state[0])
        if turned.shape != own.shape or turned.dtype != own.dtype:
            raise ValueError(
                f"normal_transform: expected {list(own.shape)} {own.dtype} of it, got "
                f"{list(turned.shape)} {turned.dtype} from that of {member.name}; rows of a "
                "batch are alike"
            )
        made = made.clone() if made is images else made
        put(made, there, turned)
    return made
