"""ByCategory: for each sample the settings of its own category."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .. import checks, foregrounds, methods
from ..banks import DonorBank
from ..synthesizer import NormalTransform, Synthesizer
from .members import make, opened, resting
from .several import Several

Entry = Synthesizer | str | Mapping[str, Any]


class ByCategory(Several):
    """A Synthesizer over a data set of several products: each sample goes by its own category.

    ``ByCategory("nsa", donors=bank)`` makes of a bottle what ``create("nsa", preset="bottle",
    donors=bank)`` makes of it: that product's sizes, number of patches, blend, labels and
    foreground, and donors of its category. A row is, bit for bit, what its member alone makes of
    the sample with this one's seed, whatever else is in the batch.

    Launches, ``torch.compile`` and ``capture`` are as in :class:`anoaug.OneOf`: rows are parted by
    their member on the host, where categories are known, and put together on the device; members
    that differ in ranges or foregrounds alone share a launch. A ByCategory may be a member of a
    OneOf, and a OneOf one of a ByCategory.

    Args:
        members: The name of a method: its published settings by category
            (``describe(name)["categories"]``), with those of ``table``. Or members by category: a
            ready Synthesizer, of which a copy is taken, or a method's name.
        table: Further categories of the method, or others for the same: keywords of the method, the
            name of a published category (``{"bolt": "screw"}``), or a ready Synthesizer.
        default: Likewise, for samples of other categories or without one; None refuses them.
        p: P(anomalous) per sample in [0, 1]; None takes the members', which have to be alike.
        seed: As in Synthesizer. Members' own are not used.
        name: What pictures call it; the method's name or ``"by category"``.
        active: As in Synthesizer.
        normal_transform: Of all images; or give it to members, each of which transforms its own.
        foreground: As in Synthesizer, for all members; or each its own. One that is given beside a
            method's name takes the place of the published ones.
        validate: Check the content of every batch.
        keywords: Of the method or of every Synthesizer, for all members that are made here; what is
            said in ``table`` comes first.

    Attributes:
        members: The members as Synthesizers; :attr:`Params.choice` counts them.
        names: Their categories, of those that share a member the first.
        categories: Names of the donors' categories, or of the table where there are no donors:
            ``category=`` at the call takes names or positions here.
        default: Name of what the default was given as, or None.

    Raises:
        TypeError: An unknown method or keyword, or another kind of member.
        ValueError: A method without published settings and no table; members that differ in their
            output or their p; donors without categories for members of several.

    Example:
        The fifteen products of MVTec AD in one synthesizer, and a product of one's own::

            bank = anoaug.DonorBank.from_folder("mvtec", size=256)
            synth = anoaug.ByCategory("nsa", {"bolt": {"preset": "screw", "patches": 2}},
                                      donors=bank, default="object", seed=0)
            batch = synth(images, category=["bottle", "carpet", "bolt"])
            data = anoaug.ResidentDataset.from_folder("mvtec", size=256)
            for batch in data.batches(32, synth=synth):  # batches bring their categories
                ...
    """

    _moves = True

    def __init__(
        self,
        members: str | Mapping[str, Entry],
        table: Mapping[str, Entry] | None = None,
        *,
        default: Entry | None = None,
        p: float | None = None,
        seed: int | None = None,
        name: str | None = None,
        active: str = "train",
        normal_transform: NormalTransform | None = None,
        foreground: foregrounds.ForegroundLike | None = None,
        validate: bool = False,
        **keywords: Any,
    ) -> None:
        if p is not None:
            checks.probability("p", p)
        if isinstance(members, str):
            published = methods.get(members).categories
            entries = {**published, **_checked("table", {} if table is None else table)}
            if not entries and default is None:
                raise ValueError(
                    f"members: {members} has no published settings by category; give a table of "
                    "keywords, {category: {keyword: value}}"
                )
            said = {"p": p, "name": name, "foreground": foreground}
            said["normal_transform"] = normal_transform
            keywords |= {key: value for key, value in said.items() if value is not None}
            made = _of_method(members, entries, default, keywords)
            # Members have them: each finds its donors' objects, and moves its own rows.
            foreground = normal_transform = None
        else:
            if table is not None:
                raise TypeError(
                    "table: expected none beside members by category, got one; join them"
                )
            made = _of_members(_checked("members", members), default, p, keywords)
        order = list({id(member): member for member in made.values()}.values())
        numbers = {category: _place(member, order) for category, member in made.items()}
        names = [next(c for c, place in numbers.items() if place == n) for n in range(len(order))]
        odds = sorted({member.p for member in order})
        if p is None and len(odds) > 1:
            raise ValueError(f"p: expected the same in all members, got {odds}; give p= for all")
        # Before super().__init__, which asks for them.
        self._default = numbers.pop("", None)
        self._of = numbers
        super().__init__(
            [one or "default" for one in names], order, p=odds[0] if p is None else p, seed=seed,
            name=name or (members if isinstance(members, str) else "by category"), active=active,
            normal_transform=normal_transform, foreground=foreground, validate=validate,
        )  # fmt: skip
        self.default = default if default is None or isinstance(default, str) else "default"

    @property
    def categories(self) -> tuple[str, ...]:
        """What ``category=`` takes: the donors' categories, or the table's without donors."""
        return self._binding.categories or tuple(sorted(self._of))

    @property
    def table(self) -> dict[str, Synthesizer]:
        """The members by category."""
        firsts = [inside or self.members[first] for first, inside in self._parts]
        return {category: firsts[number] for category, number in self._of.items()}

    @property
    def _by_category(self) -> bool:
        return True

    def _choose(
        self, index: Tensor, state: Tensor, names: list[str] | None = None,
        allowed: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Which of ``self.names`` each sample gets: that of its category."""
        found = [self._number(name) for name in names or [""] * len(index)]
        return torch.tensor(found, dtype=torch.int64, device="cpu")

    def _number(self, name: str) -> int:
        number = self._of.get(name, self._default)
        if number is not None:
            return number
        if not name:
            raise ValueError(
                "category: expected one for each sample with a ByCategory, got none; pass "
                "category= (loaders take it from dict batches, under 'category'), or make it with "
                "default="
            )
        raise ValueError(
            f"category: {name!r} has no settings; {checks.nearest(name, self._of)} or make it with "
            f"default=, or with a table that has {name!r}"
        )

    def extra_repr(self) -> str:
        """Name, p, seed and how many categories."""
        default = f", default {self.default!r}" if self.default else ""
        return f"{self.name!r}, p={self.p}, seed={self.seed}, {len(self._of)} categories{default}"


def _checked(name: str, table: Any) -> Mapping[str, Any]:
    if not isinstance(table, Mapping) or not all(isinstance(key, str) and key for key in table):
        raise TypeError(
            f"{name}: expected a mapping by name of category, got {table!r}; for example "
            "ByCategory('nsa', {'bolt': 'screw'}, donors=bank)"
        )
    return table


def _of_method(
    method: str, entries: Mapping[str, Any], default: Any, keywords: dict[str, Any]
) -> dict[str, Synthesizer]:
    """Members of one method by category, and the default under ""."""
    opened(keywords)
    shared = [value for value in keywords.values() if isinstance(value, DonorBank)]
    if len(entries) > 1 and any(not bank.categories for bank in shared):
        raise ValueError(
            "donors: expected a bank with categories for members of several, got one without, "
            "which would mix products; DonorBank.from_folder takes them from the folders, "
            "from_tensors from categories="
        )
    published = methods.get(method).categories
    made: dict[int, Synthesizer] = {}

    def member(category: str, entry: Any) -> Synthesizer:
        what = f"table[{category!r}]" if category else "default"
        if isinstance(entry, str):
            entry = published[checks.one_of(what, entry, sorted(published))]
        if id(entry) in made:
            return made[id(entry)]
        if isinstance(entry, Synthesizer):
            made[id(entry)] = make([entry], None, {})[0]
        elif isinstance(entry, Mapping):
            # What the call says comes before what is published, and a table before both.
            first = any(entry is one for one in published.values())
            own = {**entry, **keywords} if first else {**keywords, **entry}
            made[id(entry)] = resting(methods.create(method, **{**own, "seed": 0}))
        else:
            raise TypeError(
                f"{what}: expected keywords of {method}, the name of one of its published "
                f"categories or a Synthesizer, got {entry!r}"
            )
        return made[id(entry)]

    found = {category: member(category, entry) for category, entry in entries.items()}
    if default is not None:
        found[""] = member("", entries.get(default, default) if _is_name(default) else default)
    return found


def _of_members(
    entries: Mapping[str, Any], default: Any, p: float | None, keywords: dict[str, Any]
) -> dict[str, Synthesizer]:
    """Members by category, made of names and ready ones, and the default under ""."""
    if default is not None:
        entries = {**entries, "": entries.get(default, default) if _is_name(default) else default}
    if not entries:
        raise ValueError("members: expected at least one, got none")
    for category, entry in entries.items():
        if isinstance(entry, Mapping):
            raise TypeError(
                f"members[{category!r}]: expected a Synthesizer or a method's name, got keywords; "
                "name their method first: ByCategory('nsa', {category: keywords})"
            )
    keys = {
        category: entry if _is_name(entry) else id(entry) for category, entry in entries.items()
    }
    different = {keys[category]: entry for category, entry in entries.items()}
    made = dict(zip(different, make(list(different.values()), p, keywords), strict=True))
    return {category: made[key] for category, key in keys.items()}


def _place(member: Synthesizer, order: list[Synthesizer]) -> int:
    return next(n for n, one in enumerate(order) if one is member)


def _is_name(entry: Any) -> bool:
    return isinstance(entry, str)
