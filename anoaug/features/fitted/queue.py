"""The latest features of every class, in a ring."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import checks
from .. import layouts
from . import ranks
from .base import Fitted, named


class FeatureQueue(Fitted):
    """The latest L features of each class, oldest overwritten first.

    Under a process group every rank holds the features of all: ``update`` then needs equally many
    on each.

    Args:
        length: L; VOS and NPOS have 1000.
        categories: Number of classes; with more than one every call needs ``category``.
        per: What a class is: the image's ``"category"``, or the ``"position"``, whose number is
            then that of the classes (and ``categories`` stays 1).
        layout: See :class:`Fitted`, likewise ``prefix`` and ``share``.
        prefix: Tokens before the first position, which are left out.
        share: Whether ranks share what they see.

    Attributes:
        rows: float32 ``[K, L, C]``; empty while unfitted.
        pushed: int64 ``[K]``: features so far.
    """

    anchor = "rows"

    rows: Tensor
    pushed: Tensor

    def __init__(
        self,
        length: int = 1000,
        categories: int = 1,
        *,
        per: str = "category",
        layout: str | None = None,
        prefix: int = 0,
        share: bool = True,
    ) -> None:
        super().__init__(layout=layout, prefix=prefix, share=share)
        self.length = checks.whole("length", length, 1)
        self.categories = checks.whole("categories", categories, 1)
        self.per = checks.one_of("per", per, ("category", "position"))
        if per == "position" and categories != 1:
            raise ValueError(f"categories: expected 1 with per='position', got {categories}")
        self.register_buffer("rows", torch.zeros(0, length, 0))
        self.register_buffer("pushed", torch.zeros(0, dtype=torch.int64))
        self._alone = False

    def extra_repr(self) -> str:
        """Length and classes."""
        return f"{self.length} per {self.per}, {list(self.rows.shape)}"

    def reset(self) -> None:
        """Forget everything."""
        self.rows = self.rows.new_zeros(0, self.length, 0)
        self.pushed = self.pushed.new_zeros(0)

    @property
    def ready(self) -> Tensor:
        """Bool ``[K]`` on the queue's device: classes that have L features."""
        self._must_be_fitted()
        return self.pushed >= self.length

    @property
    def filled(self) -> Tensor:
        """Bool ``[K, L]``: places that hold a feature."""
        self._must_be_fitted()
        place = torch.arange(self.length, device=self.rows.device)
        return place < self.pushed[:, None]

    def classes(self, grid: layouts.Grid, category: Any, device: torch.device) -> Tensor:
        """The class of every position, int64 ``[G, P]`` on a device.

        Args:
            grid: Of the features that ask.
            category: int64 ``[G]`` on the host, where there are several.
            device: Where the features are.

        Raises:
            RuntimeError: Nothing is in the queue.
            ValueError: Other features than those in the queue, or categories that do not fit.
        """
        self._must_be_fitted()
        known = grid.positions if self.per == "position" else self.categories
        expected = (self.rows.shape[0], self.rows.shape[2])
        self._must_match("classes and channels", expected, (known, grid.channels))
        return self._classes(grid, named(category, grid.groups, self.categories), device)

    def _classes(self, grid: layouts.Grid, names: Tensor | None, device: torch.device) -> Tensor:
        of = torch.zeros(grid.groups, grid.positions, dtype=torch.int64, device=device)
        if self.per == "position":
            return of + torch.arange(grid.positions, device=device)
        if names is None:
            return of
        return of + names.to(device, non_blocking=True)[:, None]

    @torch.no_grad()
    def update(
        self,
        features: Tensor,
        mask: Tensor | None = None,
        *,
        category: Any = None,
        layout: str | None = None,
        groups: int | None = None,
    ) -> None:
        """Push one batch's features, in their order.

        Args:
            features: In any layout; rows ``(N, C)`` with N categories are N images.
            mask: On the features' grid: which positions to push; None: all.
            category: int64 ``[B]`` on the host, where there are several.
            layout: Another layout than the module's, without prefix.
            groups: Of rows: how many images they are of; by default as many as categories, or
                one with ``per="position"``.
        """
        if groups is None and features.dim() == 2 and category is not None:
            groups = len(category)
        values, grid = self._view(features, layout, groups)
        names = named(category, grid.groups, self.categories)
        classes = grid.positions if self.per == "position" else self.categories
        if not self.is_fitted:
            shape = (classes, self.length, grid.channels)
            self._set("rows", values.new_zeros(shape, dtype=torch.float32))
            zeros = torch.zeros(classes, dtype=torch.int64, device=values.device)
            self._set("pushed", zeros)
        expected = (self.rows.shape[0], self.rows.shape[2])
        self._must_match("classes and channels", expected, (classes, grid.channels))
        of = self._classes(grid, names, values.device)
        if mask is not None:
            of = torch.where(grid.flat("mask", mask, features), of, classes)
        share = self.share and not self._alone
        rows = ranks.gathered(values.to(torch.float32).flatten(0, 1), share).flatten(0, 1)
        self._push(rows, ranks.gathered(of.flatten(), share).flatten())

    def _push(self, rows: Tensor, of: Tensor) -> None:
        """Push rows ``[N, C]`` of classes ``[N]``; a class beyond the last is left out.

        Every place is written with what ends up there, how often so ever, so that the order of
        writes does not matter; rows that are left out repeat the first write.
        """
        if not len(rows):
            return
        classes = len(self.pushed)
        order = torch.argsort(of, stable=True)
        chosen = of[order]
        counts = torch.zeros(classes + 1, dtype=torch.int64, device=rows.device)
        counts = counts.index_add_(0, chosen, torch.ones_like(chosen))
        start = torch.searchsorted(chosen, chosen)
        turn = torch.arange(len(chosen), device=rows.device) - start
        last = start + turn + (counts[chosen] - 1 - turn) // self.length * self.length
        inside = chosen < classes
        pushed = torch.cat((self.pushed, self.pushed.new_zeros(1)))
        target = chosen * self.length + (pushed[chosen] + turn) % self.length
        target = torch.where(inside, target, torch.where(inside[0], target[0], 0))
        source = order[torch.where(inside, last, last[0])]
        flat = self.rows.view(classes * self.length, -1)
        flat[target] = torch.where(inside[0], rows[source], flat[target])
        self.pushed += counts[:classes]

    def _absorb(self, features: Tensor, images: int, category: Any) -> None:
        # Ranks may have unequal batches: each fills a queue of its own until the end.
        self._alone = True
        try:
            self.update(features, category=category, groups=images)
        finally:
            self._alone = False

    def _finish(self) -> None:
        if not self.share or ranks.world() == 1:
            return
        length = self.length
        # From the oldest to the latest of every rank, taken in turns.
        shift = self.pushed % length * (self.pushed >= length)
        place = (torch.arange(length, device=self.rows.device) + shift[:, None]) % length
        own = self.rows.gather(1, place[..., None].expand_as(self.rows))
        rows = ranks.gathered(own).transpose(0, 1).transpose(1, 2).flatten(1, 2)
        held = ranks.gathered(self.filled).permute(1, 2, 0).flatten(1, 2)
        classes = torch.arange(len(self.pushed), device=rows.device)[:, None]
        of = torch.where(held, classes, len(self.pushed)).flatten()
        self._set("rows", torch.zeros_like(self.rows))
        self._set("pushed", torch.zeros_like(self.pushed))
        self._push(rows.flatten(0, 1), of)
