"""OneOf: a method for each sample of a batch, drawn by weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import checks, foregrounds, recipe
from ..batch import AnomalyBatch, Params
from ..binding import Layer
from ..masks import Everywhere
from ..rng import Draws
from ..sources import Constant
from ..synthesizer import NormalTransform, Synthesizer, _sent
from .members import (
    SETTINGS,
    Members,
    check_alike,
    check_foregrounds,
    check_member,
    distinct,
    make,
    pairs_of,
)
from .rows import put, taken, with_places, with_rows

# Values rendered at once on the CPU: what is put together from portions stays in the cache.
_PORTION = 1 << 20


class OneOf(Synthesizer):
    """A Synthesizer that draws for each sample which of its members makes the anomaly.

    A row is, bit for bit, what its member alone makes of the sample with the OneOf's seed and p:
    ``OneOf({"draem": 1})`` is ``create("draem")``. The choice goes by (seed, epoch, sample index)
    like all else, with a stream for each member's name: changing a weight, to 0 too, moves samples
    to or from that member alone, adding a member moves samples to it alone, and every other sample
    keeps its pixels.

    A call copies one table and launches one render for each member that has rows in the batch, over
    those rows (on the CPU in portions that stay in the cache); members with the same parts and
    banks share a launch, whatever their ranges. Rows are gathered before and put back after, on the
    device. Which launches there are depends on what is drawn, hence ``torch.compile`` leaves the
    call out of its graph (and refuses ``fullgraph=True``), and ``capture`` is refused.

    Args:
        members: Weights >= 0 by member, as a mapping or as pairs ``(member, weight)``: only their
            ratios matter. A member is a method's name or a ready Synthesizer, of which a copy is
            taken; its own ``p`` and ``seed`` are not used. One whose weight is 0 is kept for later.
        p: P(anomalous) per sample in [0, 1], whichever member is drawn; a member's ``min_area`` and
            empty masks make fewer.
        seed: As in Synthesizer.
        name: What pictures call it; kinds have their members' names.
        active: As in Synthesizer, likewise the next two.
        normal_transform: Of all images, before the choice.
        foreground: As in Synthesizer, for all members; or give it to members, each its own.
        validate: Check the content of every batch.
        keywords: For the members given by name, each for those that know it: of the method
            (``textures=``, ``opacity=``) or of every Synthesizer (``mean=``, ``backend=``).

    Attributes:
        members: The members as Synthesizers; :attr:`Params.choice` counts them.
        names: Their names: a method's or ``Synthesizer.name``, with ``#1`` at the second of a name.
        kinds: ``"normal"``, the members' kinds, ``"given"``.

    Raises:
        TypeError: An unknown method or keyword (the message names the nearest), or another kind of
            member.
        ValueError: Weights that are no odds, or a member that cannot be one of several: with views,
            with a ``normal_transform`` of its own, with donors from the batch (it would see its own
            rows only), with another output than the others, or with a ``foreground`` beside the
            OneOf's.

    Example:
        Half of the anomalies are DRAEM's, the others CutPaste's two::

            synth = anoaug.OneOf(
                {"draem": 0.5, "cutpaste": 0.3, "cutpaste_scar": 0.2}, textures=bank, p=0.5, seed=0
            )
            batch = synth(images)
            batch.kind  # 0 normal, else an index into synth.kinds
    """

    def __init__(
        self,
        members: Members,
        *,
        p: float = 0.5,
        seed: int | None = None,
        name: str = "one of",
        active: str = "train",
        normal_transform: NormalTransform | None = None,
        foreground: foregrounds.ForegroundLike | None = None,
        validate: bool = False,
        **keywords: Any,
    ) -> None:
        pairs = pairs_of(members)
        if any(isinstance(member, OneOf) for member, _ in pairs):
            raise TypeError("members: expected no OneOf among them; give its members themselves")
        made = make([member for member, _ in pairs], checks.probability("p", p), keywords)
        names = distinct([member.name for member in made])
        for one, member in zip(names, made, strict=True):
            check_member(one, member)
        check_alike(names, made)
        check_foregrounds(names, made, foreground is not None, normal_transform is not None)
        # A layer that is never drawn: what it brings is the handling of settings, seed and state.
        super().__init__(
            Layer(Everywhere(), Constant()), p=p, seed=seed, name=name, active=active,
            normal_transform=normal_transform, foreground=foreground, validate=validate,
            backend=made[0].backend,
            **{setting: getattr(made[0], setting) for setting in SETTINGS},
        )  # fmt: skip
        # A tuple, so that they are no submodules: seed, epoch and mode are this module's.
        self.members = tuple(made)
        self.names = tuple(names)
        self.layers = tuple(layer for member in made for layer in member.layers)
        kinds = dict.fromkeys(kind for member in made for kind in member.kinds[1:-1])
        self.kinds = ("normal", *kinds, "given")
        self._bind()
        self._lookups: dict[torch.device, Tensor] = {}
        self.weights = [weight for _, weight in pairs]
        self.p = p

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

    # ---- odds ------------------------------------------------------------------------------------

    @property
    def p(self) -> float:
        """P(anomalous) per sample; may be set at any time."""
        return self._p

    @p.setter
    def p(self, value: float) -> None:
        self._p = checks.probability("p", value)
        for member in self.members:
            member.p = self._p

    @property
    def weights(self) -> tuple[float, ...]:
        """Odds of the members, in the order of ``names``; may be set at any time.

        A mapping by name sets them too; it has to name all.
        """
        return self._weights

    @weights.setter
    def weights(self, value: Sequence[float] | Mapping[str, float]) -> None:
        if isinstance(value, Mapping):
            for name in value:
                checks.one_of("weights", name, self.names)
            if len(value) != len(self.names):
                missing = [name for name in self.names if name not in value]
                raise ValueError(f"weights: expected one for each member, got none for {missing}")
            value = [value[name] for name in self.names]
        self._weights = checks.odds("weights", value, len(self.names))

    def _choose(self, index: Tensor, state: Tensor) -> Tensor:
        """Which member each of the numbered samples gets, int64 ``[B]``.

        An exponential race: the first of independent times with the weights as rates. Only a
        member's own time changes with its weight. Their logarithms are compared, for any weights.
        """
        rates = [(name, w) for name, w in zip(self.names, self._weights, strict=True) if w > 0]
        streams = {f"oneof.{name}": 1 for name, _ in rates}
        seed, epoch = state.tolist()  # host: state and index live there
        draws = Draws(seed, epoch, index.numpy(), streams)
        u = np.stack([draws.uniform(stream, 1)[0] for stream in streams])
        with np.errstate(divide="ignore"):  # a time of 0 comes first
            times = np.log(-np.log1p(-u)) - np.log([[w] for _, w in rates])
        places = np.asarray([self.names.index(name) for name, _ in rates], np.int64)
        return torch.from_numpy(places[np.argmin(times, axis=0)])

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
        params: Params | None = None,
    ) -> AnomalyBatch:
        """Synthesise anomalies on a batch; see :meth:`anoaug.Synthesizer.forward`.

        A member of positive weight that needs a tensor needs it in every call, whether it is drawn
        or not; others never see it. Further modalities (``extra``) are refused.
        """
        if extra:
            raise ValueError(
                f"extra: expected none with a OneOf, got {sorted(extra)}; call a Synthesizer, with "
                "choose='one' for several kinds of anomaly"
            )
        call = {
            "index": index, "epoch": epoch, "category": category, "foreground": foreground,
            "slots": slots, "mask": mask, "label": label, "params": params,
        }  # fmt: skip
        if torch.compiler.is_compiling():
            return _left_out()(self, images, call)
        return self._call(images, **call)

    def _call(
        self, images: Tensor, index: Any, epoch: int | None, category: Any,
        foreground: Tensor | None, slots: dict[str, Tensor] | None, mask: Tensor | None,
        label: Tensor | None, params: Params | None,
    ) -> AnomalyBatch:  # fmt: skip
        checks.images(images)
        self._check_content(images)
        playing: set[int] = set()
        host = None
        if params is not None:
            params = self._accepted(params, images)
            playing = set(params.choice.tolist())  # type: ignore[union-attr]
        elif self.training or self.active == "always":
            playing = {k for k, weight in enumerate(self._weights) if weight > 0}
            number = self._numbering(index, epoch, len(images))
            if self.normal_transform is not None:
                self._refuse_left_behind(mask=mask, foreground=foreground, slots=slots)
                images = self._transformed(images, number)
            params, host = self._drawn_twice(images, number, category)
        if foreground is None and self.foreground is not None and params is not None:
            foreground = self.foreground(images, index)
        given = dict(slots or {}) | ({} if foreground is None else {"foreground": foreground})
        self._check_given(images, given, playing)
        real = None if mask is None else checks.plane("mask", mask, images)
        known = None if label is None else checks.row_vector("label", label, len(images))
        if params is None or not len(images):
            # Members are in eval mode: called without params they change nothing.
            out = self.members[0](images, **self._passed(0, given))
            out = out._replace(params=self._untouched(images) if params is None else params)
        else:
            out = self._rendered(images, params, host, given, index)
        drawn, flag, kind = out.mask, out.label, out.kind
        if real is not None or known is not None:
            drawn, flag, kind = self._united(drawn, flag, kind, real, known)
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
        wanted = [name for name in self.members[k].slots if name != "foreground"]
        slots = {name: given[name] for name in wanted if name in given}
        return {"foreground": given.get("foreground"), "slots": slots}

    # ---- params ----------------------------------------------------------------------------------

    def _drawn(self, images: Tensor, number: tuple[Tensor, Tensor], category: Any) -> Params:
        return self._drawn_twice(images, number, category)[0]

    def _drawn_twice(
        self, images: Tensor, number: tuple[Tensor, Tensor], category: Any
    ) -> tuple[Params, Tensor]:
        """Params, and their table on the host."""
        index, state = number
        choice = self._choose(index, state)
        categories = self._binding.category(category, len(images))
        layout, width = self._layout(images)
        like: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
        table = torch.zeros((len(images), width), **like, pin_memory=images.is_cuda)
        for k in choice.unique().tolist():  # host: so far all is there
            rows = (choice == k).nonzero()[:, 0]  # host: the choice lives there
            numbers = self._categories[k][categories[rows]]
            drawn = self.members[k]._draw(images, (index[rows], state), numbers, host=True)
            table[rows, : drawn.shape[1]] = drawn
        placed = table.to(images.device, non_blocking=images.is_cuda)
        size = tuple(images.shape[2:])
        return Params(placed, layout, self._binding.digests, size, choice), table

    def _draw(
        self, like: Tensor, number: tuple[Tensor, Tensor], category: Any, host: bool = False
    ) -> Tensor:
        params, table = self._drawn_twice(like, number, category)
        return table if host else params.table

    def _untouched(self, images: Tensor) -> Params:
        """Params of a batch that stays as it is."""
        layout, width = self._layout(images)
        table = images.new_zeros((len(images), width), dtype=torch.float32)
        choice = torch.zeros(len(images), dtype=torch.int64, device="cpu")
        return Params(table, layout, self._binding.digests, tuple(images.shape[2:]), choice)

    def _layout(self, images: Tensor) -> tuple[str, int]:
        """Kinds and layouts of all members, and the width of a table that holds any's rows."""
        laws = [member.laws(images.shape[1], images.dtype) for member in self.members]
        kinds = (",".join(member.kinds) for member in self.members)
        parts = (f"{k}: {recipe.layout_of(each)}" for k, each in zip(kinds, laws, strict=True))
        return "\n".join(["oneof", *parts]), max(recipe.width_of(each) for each in laws)

    def _accepted(self, params: Params, images: Tensor) -> Params:
        """``params`` on the images' device, if they are of these members."""
        size = tuple(images.shape[2:])
        table = self._binding.replayed(params, *self._layout(images), len(images), size)
        if params.choice is None:
            raise ValueError("params: expected the choice of members with them, got none; keep it")
        choice = checks.host_rows("params.choice", params.choice, len(images))
        if len(choice) and not 0 <= int(choice.min()) <= int(choice.max()) < len(self.members):
            raise ValueError(
                f"params: expected a choice below {len(self.members)}, got {int(choice.min())} to "
                f"{int(choice.max())}; do not change it"
            )
        return params._replace(table=_sent(table, images.device), choice=choice)

    # ---- the launches ----------------------------------------------------------------------------

    def _launches(self, choice: Tensor, images: Tensor) -> list[tuple[int, Tensor]]:
        """Members to launch with their rows; of those that read tables alike, the first."""
        groups: dict[Any, list[int]] = {}
        for k in choice.unique().tolist():  # host: choice lives there
            member = self.members[k]
            banks, _ = member._binding.tensors(images.device, images.shape[1])
            layout = recipe.layout_of(member.laws(images.shape[1], images.dtype))
            own = k if member.computed else -1
            finders = [member.foreground, *member._binding.finders.values()]
            found = [finder and id(finder.find) for finder in finders]
            alike = (
                own, layout, member.slots, member.label_rule, id(member.finish), member.backend,
                *found, *map(id, banks),
            )  # fmt: skip
            groups.setdefault(alike, []).append(k)
        rows = [torch.isin(choice, torch.tensor(ks, device="cpu")) for ks in groups.values()]
        return [(ks[0], r.nonzero()[:, 0]) for ks, r in zip(groups.values(), rows, strict=True)]

    def _rendered(
        self, images: Tensor, params: Params, host: Tensor | None, given: dict[str, Tensor],
        index: Any,
    ) -> AnomalyBatch:  # fmt: skip
        """The batch with each row from its member; ``host`` is the table where it was drawn."""
        choice: Any = params.choice
        launches = self._launches(choice, images)
        if len(launches) == 1:
            k = launches[0][0]
            out = self._launched(k, images, self._table_for(k, params.table, host), given, index)
            params = with_places(self.members[k], params, slice(None), out)
            kind = self._kinds_of(out.kind, _sent(choice, images.device))
            return out._replace(kind=kind, params=params)
        if images.device.type == "cpu":
            size = max(1, _PORTION // (images[0, 0].numel() * (images.shape[1] + 1)))
            launches = [(k, part) for k, rows in launches for part in rows.split(size)]
        order = torch.cat([rows for _, rows in launches])
        numbers = None if index is None else checks.host_rows("index", index, len(images))
        there, chosen = _sent(torch.stack([order, choice]), images.device)
        whole: list[Any] = []
        sizes = [len(rows) for _, rows in launches]
        for (k, here), rows in zip(launches, there.split(sizes), strict=True):
            own = None if numbers is None else numbers[here]
            # Not slices of one gathered batch: kernels are compiled for aligned tensors.
            wanted = {"foreground", *self.members[k].slots}.intersection(given)
            part = {name: taken(given[name], rows) for name in wanted}
            table = self._table_for(k, params.table, host)
            table = taken(table, rows if table is params.table else here)
            out = self._launched(k, taken(images, rows), table, part, own)
            params = with_places(self.members[k], params, rows, out)
            fields: Any = out[: 5 if self.clean == "output" else 4]
            whole = whole or [with_rows(field, len(images)) for field in fields]
            for to, field in zip(whole, fields, strict=True):
                put(to, rows, field)
        image, mask, label, kind, *clean = whole
        kind = self._kinds_of(kind, chosen)
        return AnomalyBatch(image, mask, label, kind, clean[0] if clean else None, params, {})

    def _table_for(self, k: int, table: Tensor, host: Tensor | None) -> Tensor:
        """The table where member ``k`` reads it: computed sources do so on the host."""
        return host if host is not None and self.members[k].computed else table

    def _launched(
        self, k: int, images: Tensor, table: Tensor, given: dict[str, Tensor], index: Any
    ) -> AnomalyBatch:
        """What member ``k`` makes of these rows."""
        member = self.members[k]
        laws = member.laws(images.shape[1], images.dtype)
        params = Params(
            table[:, : recipe.width_of(laws)].contiguous(),
            recipe.layout_of(laws),
            member._binding.digests,
            tuple(images.shape[2:]),
        )
        return member(images, index=index, params=params, **self._passed(k, given))

    def _kinds_of(self, kind: Tensor, choice: Tensor) -> Tensor:
        """Kinds as the chosen members number them in our numbers."""
        lookup = self._lookups.get(kind.device)
        if lookup is None:
            wide = max(len(member.kinds) for member in self.members)
            rows = [[self.kinds.index(name) for name in member.kinds] for member in self.members]
            table = torch.tensor([row + [0] * (wide - len(row)) for row in rows], device="cpu")
            lookup = self._lookups[kind.device] = _sent(table, kind.device)
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


# ---- torch.compile -------------------------------------------------------------------------------


# Filled on first use: Dynamo would trace through functools.lru_cache, and says so.
_LEFT_OUT: list[Callable[..., AnomalyBatch]] = []


def _left_out() -> Callable[..., AnomalyBatch]:
    """The call as torch.compile has to take it: outside its graph, which breaks here.

    How many rows each member gets is known when they are drawn.
    """

    def call(synth: OneOf, images: Tensor, arguments: dict[str, Any]) -> AnomalyBatch:
        return synth._call(images, **arguments)

    if not _LEFT_OUT:
        # Not a decorator: that would import all of Dynamo, and Triton, with anoaug.
        _LEFT_OUT.append(torch.compiler.disable(call))
    return _LEFT_OUT[0]
