"""Choosing: members bound together, and which of them each sample gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import checks, foregrounds
from ..binding import Layer, named
from ..masks import Everywhere
from ..sources import Constant
from ..synthesizer import NormalTransform, Synthesizer
from . import controlled
from .members import SETTINGS, check_alike, check_foregrounds, check_member


class Choosing(Synthesizer):
    """Base of :class:`anoaug.oneof.several.Several`: its members, bound, and the choice.

    A subclass has a method ``_choose``.

    Args:
        names: What the members are called.
        members: Ready ones, from :func:`anoaug.oneof.members.make`. One that has members itself
            chooses among them for the samples it gets.
        p: As in Synthesizer, likewise the others.

    Attributes:
        members: The members as Synthesizers, those of members one after another;
            :attr:`Params.choice` counts them.
        names: The names.
        kinds: ``"normal"``, the members' kinds, ``"given"``.
    """

    def __init__(
        self, names: Sequence[str], members: Sequence[Synthesizer], *, p: float, seed: int | None,
        name: str, active: str, normal_transform: NormalTransform | None,
        foreground: foregrounds.ForegroundLike | None, validate: bool,
    ) -> None:  # fmt: skip
        flat: list[Synthesizer] = []
        parts: list[tuple[int, Choosing | None]] = []
        every: list[str] = []
        for one, member in zip(names, members, strict=True):
            inside = member if isinstance(member, Choosing) else None
            parts.append((len(flat), inside))
            flat += [member] if inside is None else inside._within()
            every += [one] * (len(flat) - len(every))
        for one, member in zip(every, flat, strict=True):
            check_member(one, member, self._moves)
        check_alike(every, flat)
        check_foregrounds(every, flat, foreground is not None, normal_transform is not None)
        # A layer that is never drawn: what it brings is the handling of settings, seed and state.
        super().__init__(
            Layer(Everywhere(), Constant()), p=p, seed=seed, name=name, active=active,
            normal_transform=normal_transform, foreground=foreground, validate=validate,
            backend=flat[0].backend,
            **{setting: getattr(flat[0], setting) for setting in SETTINGS},
        )  # fmt: skip
        # A tuple, so that they are no submodules: seed, epoch and mode are this module's.
        self._made = False
        self.members = tuple(flat)
        self.names = tuple(names)
        self._parts = tuple(parts)
        self.layers = tuple(layer for member in flat for layer in member.layers)
        kinds = dict.fromkeys(kind for member in flat for kind in member.kinds[1:-1])
        self.kinds = ("normal", *kinds, "given")
        self._bind()
        self._lookups: dict[torch.device, Tensor] = {}
        self.p = p
        self._made = True

    # Whether members may transform their own normal images.
    _moves = False
    # What members were made with, of which each keeps its own.
    _fixed = Synthesizer._fixed | {
        *SETTINGS, "backend", "finish", "label_rule", "members", "min_area", "names", "tolerance",
    }  # fmt: skip

    def _bind(self) -> None:
        """What calls may bring, of all members together, and each member's share in it."""
        every = [member._binding for member in self.members]
        ours = self._binding
        ours.slots = tuple(dict.fromkeys(name for m in self.members for name in m.slots))
        ours.digests = tuple(name for each in every for name in each.digests)
        ours.categories = tuple(sorted({name for each in every for name in each.categories}))
        # Of our categories as numbers into each member's, -1 where it has none.
        numbers = [{name: n for n, name in enumerate(each.categories)} for each in every]
        rows = [[known.get(name, -1) for name in ours.categories] for known in numbers]
        # The last place answers for our own -1.
        self._categories = [torch.tensor([*row, -1], device="cpu") for row in rows]
        # Donors' objects by the same rule are found once for all.
        for each in every:
            each.objects = every[0].objects

    def warmup(
        self,
        shape: Sequence[int],
        dtype: torch.dtype = torch.uint8,
        device: str | torch.device = "cpu",
    ) -> None:
        """As of a Synthesizer, for every member."""
        for member in self.members:
            member.warmup(shape, dtype, device)

    def _within(self) -> list[Synthesizer]:
        """The members, as those of another: what they had in common is their own."""
        if self.normal_transform is not None:
            raise ValueError(
                f"members: expected none with a normal_transform, got {self.name}; give "
                "normal_transform= to what it is a member of"
            )
        for member in self.members:
            member.foreground = member.foreground or self.foreground
        return list(self.members)

    @property
    def p(self) -> float:
        """P(anomalous) per sample; may be set at any time."""
        return self._p

    @p.setter
    def p(self, value: float) -> None:
        self._p = checks.probability("p", value)
        for member in self.members:
            member.p = self._p

    # ---- the choice ------------------------------------------------------------------------------

    def _choose(
        self, index: Tensor, state: Tensor, names: list[str] | None = None,
        allowed: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Which of ``self.names`` each sample gets, int64 ``[B]`` on the host.

        Args:
            index: Sample indices, int64 ``[B]``.
            state: Seed and epoch, int64 ``[2]``.
            names: The samples' categories, "" where unknown; None where the call brought none.
            allowed: bool ``[B, names]``: which of them each sample may get; None: any.
        """
        raise NotImplementedError(f"{type(self).__name__}: expected a method _choose, got none")

    def _chosen(
        self, index: Tensor, state: Tensor, names: list[str] | None, allowed: Tensor | None = None
    ) -> Tensor:
        """Which of ``self.members`` each sample gets: chosen here, then by members that choose."""
        part = self._choose(index, state, names, allowed)
        choice = torch.tensor([first for first, _ in self._parts], device="cpu")[part]
        for number, (first, inside) in enumerate(self._parts):
            rows = (part == number).nonzero()[:, 0]  # host: the choice lives there
            if inside is not None and len(rows):
                theirs = names and [names[row] for row in rows.tolist()]  # host: likewise
                choice[rows] = first + inside._chosen(index[rows], state, theirs)
        return choice

    # Odds by which samples get members, where kinds may choose among them.
    _odds_of_names: tuple[float, ...] = ()

    def _asked(self, control: Any, number: tuple[Tensor, Tensor]) -> controlled.Asked:
        """What a call asks of the members."""
        firsts = [first for first, _ in self._parts] + [len(self.members)]
        parts = [self.members[a:b] for a, b in zip(firsts, firsts[1:], strict=False)]
        kinds = self.kinds[1:-1] if self._odds_of_names else ()
        return controlled.Asked(parts, self.names, kinds, control, number, self._odds_of_names)

    @property
    def controls(self) -> dict[str, str]:
        """Which fields of a :class:`anoaug.Control` apply to all members, and how."""
        kinds = self.kinds[1:-1] if self._odds_of_names else ()
        return controlled.controls_of(self.members, controlled.targets(self.names, kinds))

    @property
    def shapes(self) -> tuple[str, ...]:
        """Names of the kinds of shape, where all members have the same."""
        return self.members[0].shapes if "shape" in self.controls else ()

    def _drawable(self) -> set[int]:
        """Members that need what calls bring, whether they get rows or not."""
        return set()

    @property
    def _by_category(self) -> bool:
        """Whether the samples' categories are asked for."""
        finders = [self.foreground, *(member.foreground for member in self.members)]
        inside = any(part is not None and part._by_category for _, part in self._parts)
        return inside or any(one is not None and one.by_category for one in finders)

    def _named(self, category: Any, rows: int) -> list[str] | None:
        """Names of the samples' categories, where they are asked for."""
        return named(category, rows, self.categories) if self._by_category else None
