"""Several: the machinery of synthesizers that hand each sample to one of their members."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import checks, foregrounds, recipe
from ..batch import AnomalyBatch, Brought, Params, united
from ..control import Orders, refuse_beside_params
from ..rows import put, sent, taken, with_rows
from . import controlled
from .beside import Beside
from .choosing import Choosing
from .compiling import left_out
from .finding import moved, objects, with_places
from .members import layout_of

# What members find in the images, among what calls bring.
_FOUND = "found foreground"

# Values rendered at once on the CPU: what is put together from portions stays in the cache.
_PORTION = 1 << 20


class Several(Choosing):
    """Base of synthesizers that hand each sample to one of their members.

    A row is, bit for bit, what its member alone makes of the sample with this one's seed and p. A
    call copies one table and launches one render for each member that has rows in the batch, over
    those rows (on the CPU in portions that stay in the cache); members with the same parts and
    banks share a launch, whatever their ranges, in calls without further modalities (``extra``).
    Rows are gathered before and put back after, on the device. Which launches there are depends on
    what is chosen, hence ``torch.compile`` leaves the call out of its graph (and refuses
    ``fullgraph=True``), and ``capture`` is refused.

    Members get the tensors of a call that they need. A control has to apply to every member
    (``controls``), and every member that may have rows has to know the modalities.
    """

    # ---- the call --------------------------------------------------------------------------------

    def _compiled(self, images: Tensor, brought: Brought) -> AnomalyBatch:
        return left_out()(self, images, brought)

    def _call(self, images: Tensor, brought: Brought, number: Any = None) -> AnomalyBatch:
        index, epoch, category, foreground, slots, mask, label, extra, control, params = brought
        checks.images(images)
        self._check_content(images)
        names = self._named(category, len(images))
        playing, host = set[int](), None
        if params is not None:
            refuse_beside_params(control)
            params = self._accepted(params, images)
        elif self.training or self.active == "always":
            number = self._numbering(index, epoch, len(images))
            asked = self._asked(control, number)
            choice = self._chosen(number[0], number[1], names, asked.allowed)
            playing = self._drawable()
            planes = {"mask": mask, "foreground": foreground, "slots": slots, "extra": extra}
            images = moved(self, images, number, choice, category, planes)
            params, host = self._drawn_twice(images, number, category, choice, asked)
        else:
            self._examine(control, images)
        if params is not None:
            playing |= set(params.choice.tolist())  # type: ignore[union-attr]  # host: it lives there
        if foreground is None and self.foreground is not None and params is not None:
            foreground = self.foreground(images, index, names)
        given = dict(slots or {}) | ({} if foreground is None else {"foreground": foreground})
        self._check_given(images, given, playing)
        beside = None
        if extra is not None:
            every = playing or set(range(len(self.members)))
            replayed = params if number is None else None
            beside = Beside(self.members, every, extra, images, replayed)
            beside.number = number
        real = None if mask is None else checks.plane("mask", mask, images)
        known = None if label is None else checks.row_vector("label", label, len(images))
        if params is None or not len(images):
            # Members are in eval mode: called without params they change nothing.
            out = self.members[0](images, **self._passed(0, given))
            out = out._replace(params=self._untouched(images) if params is None else params)
        else:
            out = self._rendered(images, params, host, given, index, names, beside, category)
        extras = {}
        if beside is not None:
            extras = beside.extras
            made = beside.modalities if params is not None else None
            out = out._replace(params=out.params._replace(modalities=made))
        drawn, flag, kind = out.mask, out.label, out.kind
        if real is not None or known is not None:
            drawn, flag, kind = united(drawn, flag, kind, real, known, len(self.kinds) - 1)
        clean = images if self.clean == "input" else out.clean
        return AnomalyBatch(out.image, drawn, flag, kind, clean, out.params, extras)

    def _examine(self, control: Any, images: Tensor) -> None:
        """Refuse, in a call that draws nothing, a control that would be refused in another."""
        if control is None:
            return
        rows = torch.arange(len(images), device="cpu")
        number = (rows, rows.new_zeros(2))
        asked = self._asked(control, number)
        for k in self._drawable() or range(len(self.members)):
            asked.of_member(self.members[k], rows, number, images)

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

    def _launches(self, choice: Tensor, images: Tensor, apart: bool) -> list[tuple[int, Tensor]]:
        """Members to launch with their rows; of those that read tables alike, the first.

        Unless they are to be kept apart.
        """
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
                apart and k, own, layout, member.slots, member.label_rule, member.backend, rule,
                foregrounds.hashable(member.finish), *found, *map(id, banks),
                member.control and id(member.control.variation),
            )  # fmt: skip
            groups.setdefault(alike, []).append(k)
        rows = [torch.isin(choice, torch.tensor(ks, device="cpu")) for ks in groups.values()]
        return [(ks[0], r.nonzero()[:, 0]) for ks, r in zip(groups.values(), rows, strict=True)]

    def _rendered(
        self, images: Tensor, params: Params, host: Tensor | None, given: dict[str, Tensor],
        index: Any, names: list[str] | None, beside: Beside | None, category: Any,
    ) -> AnomalyBatch:  # fmt: skip
        """The batch with each row from its member; ``host`` is the table where it was drawn."""
        choice: Any = params.choice
        if "foreground" not in given:
            found = objects(self.members, images, choice, index, names)
            given = given if found is None else {**given, _FOUND: found}
        launches = self._launches(choice, images, beside is not None)
        known = None if beside is None else self._binding.category(category, len(images))
        if len(launches) == 1:
            k = launches[0][0]
            table = self._table_for(k, params.table, host)
            everyone = slice(None)
            more = self._more(beside, known, k, everyone, everyone)
            out = self._launched(k, images, params, table, everyone, given, index, more)
            if beside is not None:
                beside.keep(everyone, out)
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
            more = self._more(beside, known, k, here, rows)
            out = self._launched(k, taken(images, rows), params, table, here, part, own, more)
            if beside is not None:
                beside.keep(rows, out)
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
        given: dict[str, Tensor], index: Any, more: dict[str, Any],
    ) -> AnomalyBatch:  # fmt: skip
        """What member ``k`` makes of these rows."""
        member = self.members[k]
        laws = member.laws(images.shape[1], images.dtype)
        own = Params(
            table[:, : recipe.width_of(laws)].contiguous(),
            recipe.layout_of(laws),
            member._binding.digests,
            tuple(images.shape[2:]),
            modalities=more.pop("modalities", None),
            **controlled.share(params.orders, params.within, member, k, rows),
        )
        number = more.pop("number", None)
        brought = Brought(index=index, params=own, **more, **self._passed(k, given))
        return member._call(images, brought, number)

    def _more(
        self, beside: Beside | None, known: Tensor | None, k: int, here: Any, there: Any
    ) -> dict[str, Any]:
        """Of a call with modalities, what member ``k`` takes beside its rows."""
        if beside is None:
            return {}
        return {**beside.of_rows(k, here, there), "category": self._categories[k][known[here]]}  # type: ignore[index]

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
