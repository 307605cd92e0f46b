"""What a OneOf is made of: members from names and synthesizers, keywords shared out, refusals."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import foregrounds, methods, recipe
from ..methods.inputs import as_donors, as_textures
from ..pictures import chain
from ..sources import BatchDonor
from ..synthesizer import Synthesizer

Member = str | Synthesizer
Members = Mapping[Any, float] | Sequence[tuple[Member, float]]

# What all members have to agree on, since their rows end up in one tensor.
SETTINGS = ("label", "clean", "mean", "std", "dtype", "memory_format")
# What several members may read: made once, so that it lies on the device once.
_BANKS: dict[str, Callable[[Any], Any]] = {"textures": as_textures, "donors": as_donors}


def pairs_of(members: Any) -> list[tuple[Member, float]]:
    """Members with their weights."""
    if not isinstance(members, Iterable) or isinstance(members, (str, bytes)):
        raise TypeError(
            "members: expected a mapping or pairs (member, weight), got "
            f"{members if isinstance(members, str) else type(members).__name__!r}; "
            "for example {'draem': 0.5, 'cutpaste': 0.5}"
        )
    pairs = list(members.items() if isinstance(members, Mapping) else members)
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(
                f"members: expected pairs (member, weight) or a mapping, got {pair!r}; "
                "for example {'draem': 0.5, 'cutpaste': 0.5}"
            )
    if not pairs:
        raise ValueError("members: expected at least one, got none")
    return pairs


def make(members: list[Any], p: float | None, keywords: dict[str, Any]) -> list[Synthesizer]:
    """Synthesizers of members: made of names, with their own p if None; copied of ready ones."""
    for member in members:
        if not isinstance(member, (str, Synthesizer)):
            raise TypeError(
                f"members: expected names of methods or Synthesizers, got {type(member).__name__}; "
                "for example {'draem': 0.5, 'cutpaste': 0.5}"
            )
    known = {
        name: {**methods.common_keywords(), **methods.get(name).defaults()}
        for name in members
        if isinstance(name, str)
    }
    _check_keywords(keywords, known)
    opened(keywords)
    made = []
    for member in members:
        if isinstance(member, str):
            mine = {key: value for key, value in keywords.items() if key in known[member]}
            mine |= {} if p is None else {"p": p}
            made.append(methods.create(member, **mine, seed=0))
        else:
            made.append(copy.deepcopy(member))
    return [resting(member) for member in made]


def opened(keywords: dict[str, Any]) -> None:
    """Make banks of folders and tensors that several members would read, once."""
    for name, door in _BANKS.items():
        if isinstance(keywords.get(name), (str, Path, Tensor)):
            keywords[name] = door(keywords[name])


def resting(member: Synthesizer) -> Synthesizer:
    """The member, of which work is asked by params alone; the batch's content is looked at once."""
    for one in (member, *getattr(member, "members", ())):
        one.eval()
        one.active, one.validate, one._checked = "train", False, True
    return member


def _check_keywords(keywords: dict[str, Any], known: dict[str, dict[str, Any]]) -> None:
    """Refuse keywords that no method given by name knows."""
    if keywords and not known:
        raise TypeError(
            f"members: expected keywords for methods given by name, got {sorted(keywords)} and no "
            "such method; give them to the synthesizers"
        )
    if "weights" in keywords:
        raise TypeError(
            "members: expected weights beside the members, got weights=; write {member: weight}"
        )
    every = {key: value for each in known.values() for key, value in each.items()}
    for key in keywords:
        if key not in every:
            raise TypeError(
                f"members: {key!r} is a keyword of none of {', '.join(known)}; "
                f"{methods._hint(key, every)}"
            )


def check_member(name: str, member: Synthesizer, moves: bool = False) -> None:
    """Refuse what cannot be one of several; ``moves``: one may transform its own rows."""
    if member.views:
        raise ValueError(
            f"members: expected one row per image, got {name} with views, which multiplies them; "
            "make it with views=False"
        )
    if member.normal_transform is not None and not moves:
        raise ValueError(
            f"members: expected none with a normal_transform, got {name}, which would transform "
            "its own rows only; give normal_transform= to the OneOf"
        )
    held = (source for layer in member.layers for source in chain(layer.source))
    if any(isinstance(source, BatchDonor) for source in held):
        raise ValueError(
            f"members: expected sources that need no other row, got {name} with donors from the "
            "batch, of which it would see its own rows only; give it a DonorBank with donors=, or "
            "sources.Donor in place of BatchDonor"
        )


def check_foregrounds(
    names: list[str], members: list[Synthesizer], given: bool, moving: bool
) -> None:
    """Refuse foregrounds of members beside the OneOf's, and by index after a normal_transform."""
    for name, member in zip(names, members, strict=True):
        if member.foreground is not None and given:
            raise ValueError(
                f"foreground: expected one of the OneOf or of its members, got both, the OneOf's "
                f"and that of {name}; leave one out"
            )
        foregrounds.finder(member.foreground, moving)


def check_alike(names: list[str], members: list[Synthesizer]) -> None:
    """Refuse members whose rows would not fit into one tensor, or not mean the same."""
    for setting in SETTINGS:
        first, *others = (getattr(member, setting) for member in members)
        for name, other in zip(names[1:], others, strict=True):
            if other != first:
                raise ValueError(
                    f"{setting}: expected the same in all members, got {first!r} in {names[0]} and "
                    f"{other!r} in {name}; make them alike"
                )


def distinct(names: list[str]) -> list[str]:
    """The names, with ``#1`` at the second of a kind."""
    before = (names[:k].count(name) for k, name in enumerate(names))
    return [f"{name}#{nth}" if nth else name for name, nth in zip(names, before, strict=True)]


def layout_of(members: Sequence[Synthesizer], images: Tensor) -> tuple[str, int]:
    """Kinds and layouts of all members, and the width of a table that holds any's rows."""
    laws = [member.laws(images.shape[1], images.dtype) for member in members]
    kinds = (",".join(member.kinds) for member in members)
    parts = (f"{k}: {recipe.layout_of(each)}" for k, each in zip(kinds, laws, strict=True))
    return "\n".join(["oneof", *parts]), max(recipe.width_of(each) for each in laws)
