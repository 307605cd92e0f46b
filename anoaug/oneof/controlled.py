"""A control over a OneOf: which members samples get by kind, and what members are asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..control import Control, Orders, as_control, names_of, ordered
from ..recipe import MAX_LAYERS
from ..synthesizer import Synthesizer
from ..wanted import COLUMN

Number = tuple[Tensor, Tensor]


def controls_of(members: Sequence[Synthesizer], targets: Sequence[str]) -> dict[str, str]:
    """Which controls apply to all members, and how; ``kind`` where there is a choice."""
    first, *others = (member.controls for member in members)
    found = {
        name: "; or ".join(dict.fromkeys([text, *(other[name] for other in others)]))
        for name, text in first.items()
        if name != "kind" and all(name in other for other in others)
    }
    if len({member.shapes for member in members}) > 1:
        found.pop("shape", None)
    if len(targets) > 1:
        found["kind"] = f"which member or kind a sample gets: {', '.join(targets)}"
    return found


class Asked:
    """What a call asks of the members.

    Args:
        parts: The members of each name: one, or several that are chosen from in turn.
        names: The names.
        kinds: The kinds without ``"normal"`` and ``"given"``; none where no kind can be chosen.
        given: What the call brings.
        number: Of the samples.
        weights: The names' weights, of those that are drawn.

    Attributes:
        allowed: bool ``[B, names]``: which of them a sample may get; None: any.

    Raises:
        ValueError: A control that some member lacks, or a kind of members without weight.
    """

    def __init__(
        self, parts: Sequence[Sequence[Synthesizer]], names: Sequence[str], kinds: Sequence[str],
        given: Any, number: Number, weights: Sequence[float],
    ) -> None:  # fmt: skip
        self.allowed: Tensor | None = None
        self._parts, self._targets = parts, targets(names, kinds)
        members = [member for part in parts for member in part]
        control = as_control(given)
        rows = len(number[0])
        if control is not None:
            known = controls_of(members, self._targets)
            for name in control.given:
                if name not in known:
                    raise ValueError(
                        f"control: {name} does not apply to every member, {', '.join(names)}; "
                        f"those that do: {', '.join(known)}"
                    )
            if control.kind is not None:
                kind = names_of("kind", control.kind, self._targets, number, 1)[:, 0]
                self._kind, control = kind, dataclasses.replace(control, kind=None)
                self._allow(names, kind, weights)
            for number_, part in enumerate(parts):
                for member in part if not weights or weights[number_] > 0 else ():
                    member._scope.check(control.over(member.control), rows)
        self._control = control

    def _allow(self, names: Sequence[str], kind: Tensor, weights: Sequence[float]) -> None:
        """Which members have the kind that each sample is to get."""
        table = torch.tensor(
            [
                [target == name or any(target in member.kinds for member in part)
                 for name, part in zip(names, self._parts, strict=True)]
                for target in self._targets
            ],
            device="cpu",
        )  # fmt: skip
        free = kind.isnan()
        chosen = table[(kind.nan_to_num(nan=1.0) - 1).to(torch.int64)] | free[:, None]
        playing = chosen & (torch.tensor(list(weights), device="cpu") > 0)
        lost = (~playing.any(1)).nonzero()[:, 0]  # host: all of it lives there
        if len(lost):
            which = self._targets[int(kind[lost[0]]) - 1]
            raise ValueError(
                f"kind: expected one of members with a weight above 0, got {which!r}; raise it"
            )
        self.allowed = playing

    def of_member(
        self, member: Synthesizer, rows: Tensor, number: Number, images: Tensor
    ) -> Orders | None:
        """The orders of a member for some rows, int64 on the host; ``number`` is of these."""
        control = self._control
        if control is not None:
            control = control.take(rows)
        if self.allowed is not None and len(member.kinds) > 3:
            wanted = [self._targets[int(n) - 1] if n == n else "" for n in self._kind[rows]]
            ids = [member.kinds.index(one) if one in member.kinds[1:-1] else -1 for one in wanted]
            control = dataclasses.replace(control or Control(), kind=np.asarray(ids, np.int64))
        return ordered(member._scope, control, number, images)


def targets(names: Sequence[str], kinds: Sequence[str]) -> tuple[str, ...]:
    """What ``Control(kind=)`` may name: kinds, then members called else; without kinds, nothing."""
    return tuple(dict.fromkeys([*kinds, *names])) if kinds else ()


def joined(
    parts: Sequence[tuple[int, Tensor, Orders | None]], rows: int, members: int
) -> Orders | None:
    """The orders of a batch from those of its members' rows; None where there are none.

    Args:
        parts: Member, its rows (int64 on the host) and their orders.
        rows: Samples in the batch.
        members: Members of the OneOf.
    """
    some = [part for part in parts if part[2] is not None]
    if not some:
        return None
    like: dict[str, Any] = {"dtype": torch.float64, "device": "cpu"}
    matrix = torch.full((rows, MAX_LAYERS, len(COLUMN)), float("nan"), **like)
    within = torch.full((rows, 5), float("nan"), **like)
    variation: list[Any] = [None] * members
    pixels, seeks, confined = False, False, False
    for k, place, orders in some:
        matrix[place] = orders.matrix  # type: ignore[union-attr]
        variation[k] = orders.variation  # type: ignore[union-attr]
        pixels |= orders.pixels  # type: ignore[union-attr]
        seeks |= orders.seeks  # type: ignore[union-attr]
        if orders.within is not None:  # type: ignore[union-attr]
            within[place], confined = orders.within, True  # type: ignore[union-attr]
    return Orders(matrix, within if confined else None, tuple(variation), pixels, seeks)


def share(
    orders: Orders | None, within: Tensor | None, member: Synthesizer, k: int, rows: Any
) -> dict[str, Any]:
    """The fields ``orders`` and ``within`` of the params of some rows, which member ``k`` makes."""
    if orders is not None:
        orders = orders.take(rows)._replace(variation=orders.variation[k], within=None)
    within = within[rows] if within is not None and member._scope.confines else None
    return {"orders": orders, "within": within}
