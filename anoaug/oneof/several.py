"""Several: the machinery of synthesizers that hand each sample to one of their members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import checks, foregrounds, recipe
from ..batch import AnomalyBatch, Params, united
from ..binding import Layer, named
from ..control import Control, Orders, refuse_beside_params
from ..masks import Everywhere
from ..rows import put, sent, taken, with_rows
from ..sources import Constant
from ..synthesizer import NormalTransform, Synthesizer
from . import controlled
from .compiling import left_out
from .finding import moved, objects, with_places
from .members import SETTINGS, check_alike, check_foregrounds, check_member, layout_of

# What members find in the images, among what calls bring.
_FOUND = "found foreground"

# Values rendered at once on the CPU: what is put together from portions stays in the cache.
_PORTION = 1 << 20


class Several(Synthesizer):
    """Base of synthesizers that hand each sample to one of their members.

    A row is, bit for bit, what its member alone makes of the sample with this one's seed and p. A
    call copies one table and launches one render for each member that has rows in the batch, over
    those rows (on the CPU in portions that stay in the cache); members with the same parts and
    banks share a launch, whatever their ranges. Rows are gathered before and put back after, on the
    device. Which launches there are depends on what is chosen, hence ``torch.compile`` leaves the
    call out of its graph (and refuses ``fullgraph=True``), and ``capture`` is refused.

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
        parts: list[tuple[int, Several | None]] = []
        every: list[str] = []
        for one, member in zip(names, members, strict=True):
            inside = member if isinstance(member, Several) else None
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
        self.members = tuple(flat)
        self.names = tuple(names)
        self._parts = tuple(parts)
        self.layers = tuple(layer for member in flat for layer in member.layers)
        kinds = dict.fromkeys(kind for member in flat for kind in member.kinds[1:-1])
        self.kinds = ("normal", *kinds, "given")
        self._bind()
        self._lookups: dict[torch.device, Tensor] = {}
        self.p = p

    # Whether members may transform their own normal images.
    _moves = False

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

    # ---- the call --------------------------------------------------------------------------------

    def forward(
        self,
        images: Tensor,
        *,
        index: Tensor | Sequence[int] | None = None,
        epoch: int | None = None,
        category: Any = None,
        foreground: Tensor | None = None,
        slots: dict[str, Tensor] | None = None,
        mask: Tensor | None = None,
        label: Tensor | None = None,
        extra: Mapping[str, Tensor] | None = None,
        control: Control | Mapping[str, Any] | None = None,
        params: Params | None = None,
    ) -> AnomalyBatch:
        """Synthesise anomalies on a batch; see :meth:`anoaug.Synthesizer.forward`.

        Members get the tensors that they need. Further modalities (``extra``) are refused. A
        control has to apply to every member (``controls``).
        """
        if extra:
            raise ValueError(
                f"extra: expected none with a {type(self).__name__}, got {sorted(extra)}; call a "
                "Synthesizer, with choose='one' for several kinds of anomaly"
            )
        call = {
            "index": index, "epoch": epoch, "category": category, "foreground": foreground,
            "slots": slots, "mask": mask, "label": label, "control": control, "params": params,
        }  # fmt: skip
        if torch.compiler.is_compiling():
            return left_out()(self, images, call)
        return self._call(images, **call)

    def _call(
        self, images: Tensor, index: Any, epoch: int | None, category: Any,
        foreground: Tensor | None, slots: dict[str, Tensor] | None, mask: Tensor | None,
        label: Tensor | None, control: Any, params: Params | None,
    ) -> AnomalyBatch:  # fmt: skip
        checks.images(images)
        self._check_content(images)
        names = self._named(category, len(images))
        playing: set[int] = set()
        host = None
        if params is not None:
            refuse_beside_params(control)
            params = self._accepted(params, images)
        elif self.training or self.active == "always":
            number = self._numbering(index, epoch, len(images))
            asked = self._asked(control, number)
            choice = self._chosen(*number, names, asked.allowed)
            playing = self._drawable()
            planes = {"mask": mask, "foreground": foreground, "slots": slots}
            images = moved(self, images, number, choice, category, planes)
            params, host = self._drawn_twice(images, number, category, choice, asked)
        if params is not None:
            playing |= set(params.choice.tolist())  # type: ignore[union-attr]  # host: it lives there
        if foreground is None and self.foreground is not None and params is not None:
            foreground = self.foreground(images, index, names)
        given = dict(slots or {}) | ({} if foreground is None else {"foreground": foreground})
        self._check_given(images, given, playing)
        real = None if mask is None else checks.plane("mask", mask, images)
        known = None if label is None else checks.row_vector("label", label, len(images))
        if params is None or not len(images):
            # Members are in eval mode: called without params they change nothing.
            out = self.members[0](images, **self._passed(0, given))
            out = out._replace(params=self._untouched(images) if params is None else params)
        else:
            out = self._rendered(images, params, host, given, index, names)
        drawn, flag, kind = out.mask, out.label, out.kind
        if real is not None or known is not None:
            drawn, flag, kind = united(drawn, flag, kind, real, known, len(self.kinds) - 1)
        clean = images if self.clean == "input" else out.clean
        return AnomalyBatch(out.image, drawn, flag, kind, clean, out.params, {})

    def _check_given(self, images: Tensor, given: dict[str, Tensor], playing: set[int]) -> None:
        """Refuse what no member knows, and the lack of what one may need."""
        unknown = sorted(set(given) - {*self.slots, "foreground"})
        if unknown:
            raise ValueError(
                f"slots: expected only {list(self.slots)}, got {unknown} too; leave them out"
            )
        for k in playing:
            passed = self._passed(k, given)
            size = (len(images), 1, *images.shape[2:])
            found = torch.empty((), device=images.device).expand(size)  # what it finds itself
            if passed["foreground"] is None and self.members[k].foreground is not None:
                passed["foreground"] = found
            passed["slots"] = {**dict.fromkeys(self.members[k]._binding.finders, found),
                               **passed["slots"]}  # fmt: skip
            self.members[k]._binding.planes(images, passed["foreground"], passed["slots"])
            self.members[k]._binding.given_pictures(images, passed["slots"])

    def _passed(self, k: int, given: dict[str, Tensor]) -> dict[str, Any]:
        """Of what was given, the keywords of member ``k``'s call: foreground and its slots."""
        member = self.members[k]
        wanted = [name for name in member.slots if name != "foreground"]
        slots = {name: given[name] for name in wanted if name in given}
        inside = given.get("foreground")
        if inside is None and member.foreground is not None:
            inside = given.get(_FOUND)
        return {"foreground": inside, "slots": slots}

    # ---- params ----------------------------------------------------------------------------------

    def _drawn(self, images: Tensor, number: tuple[Tensor, Tensor], category: Any) -> Params:
        choice = self._chosen(*number, self._named(category, len(images)))
        asked = self._asked(None, number)
        return self._drawn_twice(images, number, category, choice, asked)[0]

    def _drawn_twice(
        self, images: Tensor, number: tuple[Tensor, Tensor], category: Any, choice: Tensor,
        asked: controlled.Asked,
    ) -> tuple[Params, Tensor]:  # fmt: skip
        """Params, and their table on the host."""
        index, state = number
        categories = self._binding.category(category, len(images))
        layout, width = layout_of(self.members, images)
        like: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
        table = torch.zeros((len(images), width), **like, pin_memory=images.is_cuda)
        parts = []
        # Of no rows all members say what is asked of them.
        present = choice.unique() if len(choice) else torch.arange(len(self.members), device="cpu")
        for k in present.tolist():  # host: so far all is there
            rows = (choice == k).nonzero()[:, 0]  # host: the choice lives there
            numbers, those = self._categories[k][categories[rows]], (index[rows], state)
            orders = asked.of_member(self.members[k], rows, those, images)
            drawn = self.members[k]._draw(images, those, numbers, host=True, orders=orders)
            table[rows, : drawn.shape[1]] = drawn
            parts.append((k, rows, orders))
        whole = controlled.joined(parts, len(images), len(self.members))
        placed = table.to(images.device, non_blocking=images.is_cuda)
        size = tuple(images.shape[2:])
        within, digests = whole and whole.within, self._binding.digests
        return Params(placed, layout, digests, size, choice, None, within, whole), table

    def _draw(
        self, like: Tensor, number: tuple[Tensor, Tensor], category: Any, host: bool = False,
        orders: Orders | None = None,
    ) -> Tensor:  # fmt: skip
        choice = self._chosen(*number, self._named(category, len(like)))
        asked = self._asked(None, number)
        params, table = self._drawn_twice(like, number, category, choice, asked)
        return table if host else params.table

    def _untouched(self, images: Tensor) -> Params:
        """Params of a batch that stays as it is."""
        layout, width = layout_of(self.members, images)
        table = images.new_zeros((len(images), width), dtype=torch.float32)
        choice = torch.zeros(len(images), dtype=torch.int64, device="cpu")
        return Params(table, layout, self._binding.digests, tuple(images.shape[2:]), choice)

    def _accepted(self, params: Params, images: Tensor) -> Params:
        """``params`` on the images' device, if they are of these members."""
        size = tuple(images.shape[2:])
        table = self._binding.replayed(params, *layout_of(self.members, images), len(images), size)
        if params.choice is None:
            raise ValueError("params: expected the choice of members with them, got none; keep it")
        choice = checks.host_rows("params.choice", params.choice, len(images))
        if len(choice) and not 0 <= int(choice.min()) <= int(choice.max()) < len(self.members):
            raise ValueError(
                f"params: expected a choice below {len(self.members)}, got {int(choice.min())} to "
                f"{int(choice.max())}; do not change it"
            )
        return params._replace(table=sent(table, images.device), choice=choice)

    # ---- the launches ----------------------------------------------------------------------------

    def _launches(self, choice: Tensor, images: Tensor) -> list[tuple[int, Tensor]]:
        """Members to launch with their rows; of those that read tables alike, the first."""
        groups: dict[Any, list[int]] = {}
        for k in choice.unique().tolist():  # host: choice lives there
            member = self.members[k]
            banks, _ = member._binding.tensors(images.device, images.shape[1])
            layout = recipe.layout_of(member.laws(images.shape[1], images.dtype))
            own = (member._text, member._binding.digests) if member.computed else None
            # What others find in the images has been found; a seeker's looks at donors too.
            finder = member.foreground
            rule = finder and (not member._binding.seeking or finder.rule)
            found = [id(labels.find) for labels in member._binding.finders.values()]
            alike = (
                own, layout, member.slots, member.label_rule, member.backend, rule,
                foregrounds.hashable(member.finish), *found, *map(id, banks),
                member.control and id(member.control.variation),
            )  # fmt: skip
            groups.setdefault(alike, []).append(k)
        rows = [torch.isin(choice, torch.tensor(ks, device="cpu")) for ks in groups.values()]
        return [(ks[0], r.nonzero()[:, 0]) for ks, r in zip(groups.values(), rows, strict=True)]

    def _rendered(
        self, images: Tensor, params: Params, host: Tensor | None, given: dict[str, Tensor],
        index: Any, names: list[str] | None,
    ) -> AnomalyBatch:  # fmt: skip
        """The batch with each row from its member; ``host`` is the table where it was drawn."""
        choice: Any = params.choice
        if "foreground" not in given:
            found = objects(self.members, images, choice, index, names)
            given = given if found is None else {**given, _FOUND: found}
        launches = self._launches(choice, images)
        if len(launches) == 1:
            k = launches[0][0]
            table = self._table_for(k, params.table, host)
            out = self._launched(k, images, params, table, slice(None), given, index)
            params = with_places(self.members[k], params, slice(None), out)
            kind = self._kinds_of(out.kind, sent(choice, images.device))
            return out._replace(kind=kind, params=params._replace(orders=None))
        if images.device.type == "cpu":
            size = max(1, _PORTION // (images[0, 0].numel() * (images.shape[1] + 1)))
            launches = [(k, part) for k, rows in launches for part in rows.split(size)]
        order = torch.cat([rows for _, rows in launches])
        numbers = None if index is None else checks.host_rows("index", index, len(images))
        there, chosen = sent(torch.stack([order, choice]), images.device)
        whole: list[Any] = []
        sizes = [len(rows) for _, rows in launches]
        for (k, here), rows in zip(launches, there.split(sizes), strict=True):
            own = None if numbers is None else numbers[here]
            # Not slices of one gathered batch: kernels are compiled for aligned tensors.
            wanted = {"foreground", _FOUND, *self.members[k].slots}.intersection(given)
            part = {name: taken(given[name], rows) for name in wanted}
            table = self._table_for(k, params.table, host)
            table = taken(table, rows if table is params.table else here)
            out = self._launched(k, taken(images, rows), params, table, here, part, own)
            params = with_places(self.members[k], params, rows, out)
            fields: Any = out[: 5 if self.clean == "output" else 4]
            whole = whole or [with_rows(field, len(images)) for field in fields]
            for to, field in zip(whole, fields, strict=True):
                put(to, rows, field)
        image, mask, label, kind, *clean = whole
        kind, params = self._kinds_of(kind, chosen), params._replace(orders=None)
        return AnomalyBatch(image, mask, label, kind, clean[0] if clean else None, params, {})

    def _table_for(self, k: int, table: Tensor, host: Tensor | None) -> Tensor:
        """The table where member ``k`` reads it: computed sources do so on the host."""
        return host if host is not None and self.members[k].computed else table

    def _launched(
        self, k: int, images: Tensor, params: Params, table: Tensor, rows: Any,
        given: dict[str, Tensor], index: Any,
    ) -> AnomalyBatch:  # fmt: skip
        """What member ``k`` makes of these rows."""
        member = self.members[k]
        laws = member.laws(images.shape[1], images.dtype)
        own = Params(
            table[:, : recipe.width_of(laws)].contiguous(),
            recipe.layout_of(laws),
            member._binding.digests,
            tuple(images.shape[2:]),
            **controlled.share(params.orders, params.within, member, k, rows),
        )
        return member(images, index=index, params=own, **self._passed(k, given))

    def _kinds_of(self, kind: Tensor, choice: Tensor) -> Tensor:
        """Kinds as the chosen members number them in our numbers."""
        lookup = self._lookups.get(kind.device)
        if lookup is None:
            wide = max(len(member.kinds) for member in self.members)
            rows = [[self.kinds.index(name) for name in member.kinds] for member in self.members]
            table = torch.tensor([row + [0] * (wide - len(row)) for row in rows], device="cpu")
            lookup = self._lookups[kind.device] = sent(table, kind.device)
        return lookup[choice, kind]

    @property
    def computed(self) -> bool:
        """Whether a member's source is computed between sampling and render."""
        return any(member.computed for member in self.members)

    # ---- what a OneOf has not --------------------------------------------------------------------

    def laws(self, channels: int, dtype: torch.dtype = torch.uint8) -> str:
        """Refused: laws are the members'.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "laws: expected a synthesizer with one recipe, got a OneOf; ask one of its members, "
            "which Params.choice names for each row"
        )

    def capture(
        self,
        images: Tensor,
        foreground: Tensor | None = None,
        slots: dict[str, Tensor] | None = None,
    ) -> Any:
        """Refused: a graph replays the same launches over the same rows.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "capture: expected a synthesizer with one recipe, got a OneOf, whose launches depend "
            "on what is drawn; call it itself, or capture a Synthesizer with choose='one'"
        )

    def extra_repr(self) -> str:
        """Name, p, seed and weights."""
        odds = ", ".join(f"{n}: {w:g}" for n, w in zip(self.names, self._weights, strict=True))
        return f"{self.name!r}, p={self.p}, seed={self.seed}, {{{odds}}}"

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_lookups": {}}
