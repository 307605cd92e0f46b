"""Centres of normal features: one for every position, or the most alike of all positions'."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import checks
from ..functional.nearest import nearest
from . import ranks
from .base import Fitted, named

UPDATES = ("mean", "ema", "once")
MATCHES = ("position", "cosine")


class PositionalCentres(Fitted):
    """The mean feature at every position of normal images, per category if asked for.

    GLASS (ECCV 2024) takes the mean and fits anew each epoch; PBAS (TCSVT 2025) an EMA whose means
    are matched to the most similar centre (``update="ema", match="cosine"``), fitted once with the
    untrained adaptor; CRAS (2025) a mean per category (``update="once", categories=K``).

    Args:
        update: ``"mean"`` of all images since the last reset; ``"ema"``: each batch's means with
            weight 1 - momentum, after the first batch's have become the centres; ``"once"``: the
            mean of the first fit (or first update), later ones change nothing.
        match: Which centre is a feature's: that of its ``"position"``, or the one of any position
            with the largest ``"cosine"``. With an EMA the means are matched likewise, all to the
            centres before the batch, and several that meet one centre count one after another.
        momentum: Of the EMA.
        categories: K; with more than one every call needs ``category``.
        weighting: ``"sample"``, or ``"batch"``: the mean of batch means of GLASS's own code, where
            a short last batch weighs as much as others.
        layout: See :class:`Fitted`, likewise ``prefix`` and ``share``.
        prefix: Tokens before the first position, which are left out.
        share: Whether ranks share what they see.

    Attributes:
        centres: float32 ``[K, P, C]``; empty while unfitted.
        seen: int64 ``[K]``: images, or batches, so far.
    """

    anchor = "centres"

    centres: Tensor
    seen: Tensor

    def __init__(
        self,
        update: str = "mean",
        match: str = "position",
        *,
        momentum: float = 0.9,
        categories: int = 1,
        weighting: str = "sample",
        layout: str | None = None,
        prefix: int = 0,
        share: bool = True,
    ) -> None:
        super().__init__(layout=layout, prefix=prefix, share=share)
        self.rule = checks.one_of("update", update, UPDATES)
        self.match = checks.one_of("match", match, MATCHES)
        self.momentum = checks.probability("momentum", momentum)
        self.weighting = checks.one_of("weighting", weighting, ("sample", "batch"))
        self.categories = checks.whole("categories", categories, 1)
        self.register_buffer("centres", torch.zeros(categories, 0, 0))
        self.register_buffer("seen", torch.zeros(categories, dtype=torch.int64))

    def extra_repr(self) -> str:
        """Rule, match and shape."""
        return f"{self.rule}, {self.match}, {list(self.centres.shape)}"

    # ---- learning --------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget everything."""
        self.centres = self.centres.new_zeros(self.categories, 0, 0)
        self.seen = torch.zeros_like(self.seen)

    def fit(self, *args: Any, **keywords: Any) -> Any:
        """See :meth:`Fitted.fit`; with ``update="once"`` a fitted module stays as it is."""
        if self.rule == "once" and self.is_fitted:
            return self
        self._closed = False
        try:
            return super().fit(*args, **keywords)
        finally:
            self._closed = True

    # Whether an update of a fitted "once" is refused; open only within its fit.
    _closed = True

    def _absorb(self, features: Tensor, images: int, category: Any) -> None:
        self.update(features, category=category, groups=images)

    def _finish(self) -> None:
        missing = (self.seen == 0).nonzero().flatten().tolist()  # host: once a fit
        if missing:
            raise ValueError(
                f"category: expected images of all {self.categories} categories, got none of "
                f"{missing}; number them from 0 without gaps"
            )

    @torch.no_grad()
    def update(
        self,
        features: Tensor,
        *,
        category: Any = None,
        layout: str | None = None,
        groups: int | None = None,
    ) -> None:
        """Take one batch in; under a process group all ranks' batches together.

        Args:
            features: In any layout, ``h x w`` or P positions like those before.
            category: int64 ``[B]`` on the host, where there are several.
            layout: Another layout than the module's, without prefix.
            groups: Of rows: how many images they are of; needed until the first are known.

        Raises:
            ValueError: Another grid than before, or rows of no one knows how many images.
        """
        if self.rule == "once" and self.is_fitted and self._closed:
            return
        if groups is None and features.dim() == 2:
            if not self.is_fitted:
                raise ValueError(
                    f"groups: expected the number of images that {len(features)} rows are of, got "
                    "none; positions of several images would count as those of one"
                )
            groups = len(features) // self.centres.shape[1]
        values, grid = self._view(features, layout, groups)
        names = named(category, grid.groups, self.categories)
        if not self.is_fitted:
            shape = (self.categories, grid.positions, grid.channels)
            self._set("centres", values.new_zeros(shape, dtype=torch.float32))
            self._set("seen", self.seen.to(values.device))
        self._must_match(
            "positions and channels", self.centres.shape[1:], (grid.positions, grid.channels)
        )
        sums, counts = self._sums(values, names)
        sums = ranks.summed(sums, self.share)
        counts = ranks.summed(counts, self.share)
        many = counts.clamp(min=1)[:, None, None]
        start = (self.seen == 0)[:, None, None]
        seen = self.seen + counts
        if self.rule != "ema":
            share = counts / seen.clamp(min=1)
            new = self.centres + (sums / many - self.centres) * share[:, None, None]
        elif self.match == "position":
            weight = torch.where(start, 1.0, 1.0 - self.momentum)
            new = self.centres + (sums / many - self.centres) * weight
        else:
            means = sums / many
            moved = [
                _matched(*pair, self.momentum) for pair in zip(self.centres, means, strict=True)
            ]
            new = torch.where(start, means, torch.stack(moved))
        self._set("centres", torch.where((counts > 0)[:, None, None], new, self.centres))
        self._set("seen", seen)

    def _sums(self, values: Tensor, names: Tensor | None) -> tuple[Tensor, Tensor]:
        """Sums ``[K, P, C]`` and counts ``[K]`` of this rank's images."""
        sums, counts = [], []
        for k in range(self.categories):
            some = values
            if names is not None:
                mine = (names == k).nonzero().flatten()  # on the host, as categories are
                some = values[mine.to(values.device, non_blocking=True)]
            total = some.sum(0, dtype=torch.float32)
            if self.weighting == "batch":
                total = total / max(len(some), 1)
            sums.append(total)
            counts.append(min(len(some), 1) if self.weighting == "batch" else len(some))
        known = torch.tensor(counts, device="cpu")
        return torch.stack(sums), known.to(values.device, non_blocking=True)

    # ---- use -------------------------------------------------------------------------------------

    def lookup(
        self, features: Tensor, *, category: Any = None, layout: str | None = None
    ) -> Tensor:
        """The centre of every feature, float32 ``[G, P, C]``; a constant for autograd.

        Args:
            features: In any layout; of rows as many as make whole images.
            category: int64 ``[B]`` on the host, where there are several.
            layout: Another layout than the module's, without prefix.

        Raises:
            RuntimeError: Not fitted.
            ValueError: Another grid or number of channels than it was fitted for.
        """
        values, names = self._known(features, category, layout)
        return self._centres_of(values, names)

    def nearest(
        self, features: Tensor, *, category: Any = None, layout: str | None = None
    ) -> tuple[Tensor, Tensor]:
        """The centre most alike: int64 places and cosine similarities, ``[G, P]`` each.

        Features of any number of positions may ask; the arguments are those of :meth:`lookup`.
        """
        values, names = self._known(features, category, layout, anywhere=True)
        return nearest(values, self._of(names), "cosine")

    def distances(
        self, features: Tensor, *, category: Any = None, layout: str | None = None
    ) -> Tensor:
        """Distance of every feature to its centre, ``[G, P]``; the gradient goes to the features.

        The arguments are those of :meth:`lookup`. At a distance of 0 the gradient is 0.
        """
        values, names = self._known(features, category, layout)
        return torch.linalg.vector_norm(values - self._centres_of(values, names), dim=2)

    def _centres_of(self, values: Tensor, names: Tensor | None) -> Tensor:
        own = self._of(names).to(values.dtype)
        if self.match == "position":
            return own.expand(len(values), -1, -1)
        place, _ = nearest(values, own, "cosine")
        if own.dim() == 2:
            return own[place]
        return own.gather(1, place[..., None].expand(-1, -1, own.shape[2]))

    def _of(self, names: Tensor | None) -> Tensor:
        """Centres ``[P, C]``, or ``[G, P, C]`` of each image's category."""
        if names is None:
            return self.centres[0]
        return self.centres[names.to(self.centres.device, non_blocking=True)]

    def _known(
        self, features: Tensor, category: Any, layout: str | None, anywhere: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        self._must_be_fitted()
        positions, channels = self.centres.shape[1:]
        groups = None
        if features.dim() == 2 and len(features) % positions == 0:
            groups = len(features) // positions
        values, grid = self._view(features, layout, groups)
        anywhere = anywhere or self.match == "cosine"
        expected = (channels,) if anywhere else (positions, channels)
        got = (grid.channels,) if anywhere else (grid.positions, grid.channels)
        self._must_match("channels" if anywhere else "positions and channels", expected, got)
        return values, named(category, grid.groups, self.categories)


def _matched(centres: Tensor, means: Tensor, momentum: float) -> Tensor:
    """Centres ``[P, C]`` after each mean was folded into the one most alike, one by one."""
    place, _ = nearest(means, centres, "cosine")
    order = torch.argsort(place, stable=True)
    chosen = place[order]
    # How many means meet the same centre later: each of them has shrunk this one.
    later = torch.searchsorted(chosen, chosen, right=True) - 1
    later = later - torch.arange(len(chosen), device=chosen.device)
    weight = (1.0 - momentum) * torch.pow(momentum, later)
    hits = torch.zeros_like(place).index_add(0, place, torch.ones_like(place))
    kept = centres * torch.pow(momentum, hits)[:, None]
    return kept.index_add(0, chosen, means[order] * weight[:, None])
