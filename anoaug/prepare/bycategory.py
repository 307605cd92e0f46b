"""A foreground for each image by its category, in one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from .. import checks, config
from ..rows import put, sent, taken
from .byindex import ByIndex
from .foreground import RULES, Foreground
from .presets import PRESETS

# A rule, the name of one that needs no setting, or a callable from images to masks.
Rule = Callable[[Tensor], Tensor] | str


class ByCategory:
    """Where the objects are, each image judged by the rule of its own category.

    A batch is parted by rule, and each rule is called once, on its images. The parting is done on
    the host, where the categories are: nothing waits for the device. What an image's mask is does
    not depend on the rest of the batch.

    As a synthesizer's ``foreground=`` it is called with the call's ``category=`` (again in a
    replay), and with that of each image of a bank that has categories.

    Args:
        table: ``"memseg"``, ``"nsa"`` or ``"realnet"``: what that code has for the categories of
            all its data sets, see :func:`preset`. Or rules by category: a :class:`Foreground`, the
            name of a rule that needs no setting (``"otsu"``, ``"all"``, ...) or any callable from
            images to masks ``(B, 1, H, W)`` of bool, uint8 or float (above 0.5).
        default: Likewise, for samples of other categories or without one; None refuses them.

    Attributes:
        table: The rules by category.
        default: The default rule, or None.
        categories: Names in the table, sorted.

    Raises:
        TypeError, ValueError: No such code, or something else than rules.

    Example:
        ::

            where = anoaug.prepare.ByCategory("realnet")
            synth = anoaug.create("realnet", textures=bank, foreground=where)
            batch = synth(images, category=["bottle", "screw", "pcb1", "bottle"])
            table = {"bolt": "otsu", "cloth": "all"}
            synth = anoaug.create("memseg", foreground=anoaug.prepare.ByCategory(table))
    """

    by_category: ClassVar[bool] = True

    def __init__(self, table: str | Mapping[str, Rule], default: Rule | None = None) -> None:
        said = config.kept({"table": table, "default": default})
        if isinstance(table, str):
            datasets = PRESETS[checks.one_of("table", table, sorted(PRESETS))]
            table = {name: rule for each in datasets.values() for name, rule in each.items()}
        if not isinstance(table, Mapping) or not all(isinstance(name, str) for name in table):
            raise TypeError(
                f"table: expected one of {sorted(PRESETS)} or rules by name of category, got "
                f"{table!r}"
            )
        if not table and default is None:
            raise ValueError("table: expected at least one category, got none; give a default=")
        self.table = {name: _rule(f"table[{name!r}]", rule) for name, rule in table.items()}
        self.default = None if default is None else _rule("default", default)
        self._said = said

    def to_config(self) -> dict[str, Any]:
        """It as plain data.

        Raises:
            TypeError: A rule is a function.
        """
        said = {name: value for name, value in self._said.items() if value is not None}
        return config.call_of((type(self), (), said), {})

    @property
    def categories(self) -> tuple[str, ...]:
        """Names in the table, sorted."""
        return tuple(sorted(self.table))

    @torch.no_grad()
    def __call__(self, images: Tensor, category: str | Sequence[str] | None) -> Tensor:
        """Masks of a batch.

        Args:
            images: ``(B, C, H, W)`` uint8, uint16 or float in [0, 1].
            category: Names ``[B]``, "" where unknown; or one for all, or None.

        Returns:
            uint8 ``(B, 1, H, W)``, 0 or 1.

        Raises:
            ValueError: A category that has no rule, or another number of them than images.
        """
        checks.images(images)
        names = [category or ""] * len(images) if isinstance(category, str | None) else category
        if len(names) != len(images):
            raise ValueError(f"category: expected one per image, {len(images)}, got {len(names)}")
        groups: dict[int, tuple[Any, list[int]]] = {}
        known: list[Any] = []
        for row, name in enumerate(names):
            rule = self._of(name)
            if rule not in known:
                known.append(rule)
            groups.setdefault(known.index(rule), (rule, []))[1].append(row)
        if len(groups) == 1:
            return _masks(groups[0][0], images)
        size = (len(images), 1, *images.shape[2:])
        found = torch.zeros(size, dtype=torch.uint8, device=images.device)
        for rule, rows in groups.values():
            there = sent(torch.tensor(rows, dtype=torch.int64, device="cpu"), images.device)
            put(found, there, _masks(rule, taken(images, there)))
        return found

    def _of(self, name: str) -> Any:
        rule = self.table.get(name, self.default)
        if rule is not None:
            return rule
        if not name:
            raise ValueError(
                "category: expected one for each image with a foreground by category, got none; "
                "pass category= (loaders take it from dict batches), or make it with default="
            )
        raise ValueError(
            f"category: {name!r} has no foreground; {checks.nearest(name, self.table)} or make it "
            "with default="
        )

    def __repr__(self) -> str:
        told = ", ".join(f"{name!r}: {rule!r}" for name, rule in self.table.items())
        default = "" if self.default is None else f", default={self.default!r}"
        return f"ByCategory({{{told}}}{default})"


def _rule(name: str, rule: Any) -> Any:
    if isinstance(rule, str):
        return Foreground(checks.one_of(name, rule, RULES))
    if isinstance(rule, ByIndex | ByCategory):
        raise TypeError(
            f"{name}: expected what looks at images alone, got a {type(rule).__name__}; "
            "Cached(ByCategory(table), count) keeps masks of several categories by index"
        )
    if not callable(rule) or isinstance(rule, type):
        raise TypeError(
            f"{name}: expected a Foreground, the name of a rule or a callable on images, got "
            f"{rule!r}"
        )
    return rule


def _masks(rule: Any, images: Tensor) -> Tensor:
    found = checks.plane("foreground", rule(images), images)
    return (found > (0.5 if found.dtype.is_floating_point else 0)).to(torch.uint8)
