"""Perturbation: a module that turns features of normal images anomalous."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import checks
from ..numbering import Numbering
from ..ops import BACKENDS, default_backend
from . import layouts, randomness
from .batch import FeatureBatch
from .layouts import Grid
from .strength import Tuned

# What a call passes beyond forward's own arguments, and a result's further tensors, by name.
Given = Mapping[str, Any]
Extras = dict[str, Tensor]


class Site(NamedTuple):
    """What a perturbation may look at.

    Attributes:
        features: ``[G, P, C]`` float32 (float64 if they came so), groups of positions; as they
            came where the method ``widens`` not.
        where: bool ``[G, P]``, the positions that may be perturbed, or None for all.
        mask: bool ``[G, P]``, the real defects, or None.
        grid: How the features lie.
        number: Sample indices and (seed, epoch), for :meth:`rng`.
        category: int64 ``[G]`` on the host, or None.
        noise: Standard normal noise ``[G, P, C]`` to use instead of drawn one, or None.
        given: What else the call passed, by the names of :attr:`Perturbation.takes`.
        dtype: That the result is rounded to.
        layer: Name of a layer among several, which makes its randomness its own; else empty.
        label: int64 ``[G]``, labels of real defects, or None.
    """

    features: Tensor
    where: Tensor | None
    mask: Tensor | None
    grid: Grid
    number: tuple[Tensor, Tensor]
    category: Tensor | None
    noise: Tensor | None
    given: Given = {}
    dtype: torch.dtype = torch.float32
    layer: str = ""
    label: Tensor | None = None

    def rng(self, stream: str) -> Tensor:
        """Keys int64 ``[G, 2]`` of a stream, on the features' device."""
        name = f"features.{stream}@{self.layer}" if self.layer else f"features.{stream}"
        return randomness.sample_keys(self.number, name, self.features.device)


class Perturbed(NamedTuple):
    """What a perturbation made.

    Attributes:
        features: ``[G', P, C]``; G' is G, or 2 G where the batch is duplicated.
        mask: bool ``[G', P]``, the perturbed positions.
        extras: Further tensors by name.
        label: int64 ``[G']`` where mask and label are united with the real ones already.
    """

    features: Tensor
    mask: Tensor
    extras: Extras = {}
    label: Tensor | None = None


class Perturbation(nn.Module):
    """Base of feature perturbations: layouts, randomness, dtype, labels; subclasses give the law.

    Two of one method and seed draw alike: where you call one for each of several layers, give each
    a seed, or each call its ``layer``; hooks do so by themselves.

    A pure function of (seed, epoch, sample index), as a Synthesizer is: pass ``index`` and
    ``epoch``, or let the internal counter number the samples. Computes in float32 with
    autocast off and rounds once to the features' dtype. Gradients flow to
    the features as the method has them.

    Args:
        seed: 64-bit seed; None takes ``torch.initial_seed()`` once.
        active: ``"train"`` (identity in eval mode) or ``"always"``.
        layout: Of the features, ``"nchw"``, ``"nhwc"``, ``"tokens"`` or ``"rows"``; by their
            rank if None.
        prefix: Tokens before the first position, which stay as they are.
        backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``, of methods that have
            kernels; ANOAUG_BACKEND by default.
    """

    # The name of the randomness; a method's own by default.
    stream = "perturbation"
    # What a call may pass beyond forward's own arguments, for ``site.given``.
    takes: tuple[str, ...] = ()
    # Whether ``perturb`` wants float32; without it ops read and write the dtype of storage.
    widens = True
    # How a mask of the images comes to the features' grid, see ``features.masks.resize``.
    mask_rule = "maxpool"
    # Set where the paper's own strength is kept: features far from the paper's are warned of.
    tuned: Tuned | None = None

    def __init__(
        self,
        *,
        seed: int | None = None,
        active: str = "train",
        layout: str | None = None,
        prefix: int = 0,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        self.active = checks.one_of("active", active, ("train", "always"))
        self.layout = layout
        if layout is not None:
            checks.one_of("layout", layout, tuple(layouts.LAYOUTS))
        self.prefix = checks.whole("prefix", prefix, 0)
        self.backend = checks.one_of("backend", backend or default_backend(), BACKENDS)
        self._looked = False
        self._numbering = Numbering(seed)

    def perturb(self, site: Site) -> Perturbed:
        """The law of the method; called under autocast off."""
        raise NotImplementedError(f"{type(self).__name__}.perturb")

    def idle(self, features: Tensor, grid: Grid, given: Given) -> Extras:
        """The extras of a call that hands features through: as if nothing had been done to them.

        Names, dtypes and shapes are those of :meth:`perturb`, so that what reads them need not ask
        for the mode.

        Args:
            features: As they came.
            grid: How they lie.
            given: What else the call passed.
        """
        return {}

    @property
    def working(self) -> bool:
        """Whether a call perturbs, or hands features through."""
        return self.training or self.active == "always"

    def forward(
        self,
        features: Tensor,
        mask: Tensor | None = None,
        label: Tensor | None = None,
        *,
        where: Tensor | None = None,
        index: Tensor | Sequence[int] | None = None,
        epoch: int | None = None,
        category: Tensor | Sequence[int] | None = None,
        size: tuple[int, int] | None = None,
        noise: Tensor | None = None,
        number: tuple[Tensor, Tensor] | None = None,
        layer: str = "",
        **given: Any,
    ) -> FeatureBatch:
        """Perturb features.

        Args:
            features: ``(B, C, h, w)``, ``(B, h, w, C)``, ``(B, P, C)`` or ``(N, C)``; not modified.
            mask: Real defects on the features' grid, united with the synthetic ones.
            label: int64 ``(B,)`` (of rows ``(N,)``) labels of real defects, united likewise.
            where: Positions that may be perturbed, on the features' grid.
            index: Sample indices ``[B]`` on the host; needs an epoch. Of rows: of the samples they
                are divided among.
            epoch: Epoch in [0, 2**32).
            category: int64 ``[B]`` on the host, for methods that were fitted per category.
            size: Height and width of the grid, for tokens and rows.
            noise: Standard normal noise like the features instead of drawn one, for tests; of
                methods that duplicate for both copies.
            number: What :meth:`number` gave, instead of index and epoch.
            layer: Makes the randomness another's: a name, where several layers share indices.
            given: What the method takes beyond these, see its class.

        Returns:
            A :class:`FeatureBatch`.

        Raises:
            TypeError, ValueError: Bad input; the message says what was expected and the mend.
        """
        for name in given:
            if name not in self.takes:
                raise TypeError(
                    f"{type(self).__name__}: takes no {name}=; {checks.nearest(name, self.takes)}"
                )
        groups = len(number[0]) if number is not None else None if index is None else len(index)
        grid = layouts.grid(
            features, self.layout, groups=groups, size=size, prefix=self.prefix
        )  # fmt: skip
        real = None if mask is None else grid.flat("mask", mask, features)
        allowed = None if where is None else grid.flat("where", where, features)
        rows = grid.groups * (grid.positions if grid.layout == "rows" else 1)
        known = None if label is None else checks.row_vector("label", label, rows)
        if not self.working:
            none = features.new_zeros((grid.groups, grid.positions), dtype=torch.bool)
            extras = self.idle(features, grid, given)
            return self._batch(features, features, none, real, known, extras, grid)
        named = None if category is None else checks.host_rows("category", category, grid.groups)
        if number is None:
            number = self.number(index, epoch, grid.groups)
        with torch.autocast(features.device.type, enabled=False):
            seen = grid.view(features)
            self._look(seen)
            wide = seen.to(torch.promote_types(seen.dtype, torch.float32)) if self.widens else seen
            drawn = None
            if noise is not None:
                twice = isinstance(noise, Tensor) and len(noise) == 2 * len(features)
                drawn = grid.view(layouts.alike("noise", noise, features, 2 if twice else 1))
            drawn = drawn if drawn is None or not self.widens else drawn.to(wide.dtype)
            made = self.perturb(
                Site(
                    wide,
                    allowed,
                    real,
                    grid,
                    number,
                    named,
                    drawn,
                    given,
                    features.dtype,
                    layer,
                    known,
                )  # fmt: skip
            )
            moved = grid.restore(made.features, features)
        if made.label is not None:
            return FeatureBatch(moved, grid.shaped(made.mask), made.label, features, made.extras)
        return self._batch(moved, features, made.mask, real, known, made.extras, grid)

    def _look(self, seen: Tensor) -> None:
        """At the first call compare the features' scale with the paper's, where that is kept."""
        if self.tuned is None or self._looked or not seen.numel():
            return
        if torch.compiler.is_compiling():
            return
        if seen.is_cuda and torch.cuda.is_current_stream_capturing():
            return
        self._looked = True
        self.tuned.warn_if_far(self.stream, seen)

    def number(
        self, index: Tensor | Sequence[int] | None, epoch: int | None, rows: int
    ) -> tuple[Tensor, Tensor]:
        """Sample indices int64 ``[rows]`` and (seed, epoch) of a call; without an index it counts.

        Raises:
            ValueError: An index without an epoch, on CUDA, out of range or of the wrong length.
        """
        return self._numbering(index, epoch, rows)

    def _batch(
        self, moved: Tensor, features: Tensor, inside: Tensor, real: Tensor | None,
        known: Tensor | None, extras: Extras, grid: Grid,
    ) -> FeatureBatch:  # fmt: skip
        """Synthetic and real anomalies together."""
        times = len(inside) // max(grid.groups, 1) or 1
        if real is not None:
            inside = inside | real.repeat(times, 1)
        labels = grid.labels(inside)
        if known is not None:
            labels = torch.where(known.to(labels.device).repeat(times) > 0, 1, labels)
        return FeatureBatch(moved, grid.shaped(inside), labels, features, extras)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, as DistributedSampler does; in [0, 2**32)."""
        self._numbering.set_epoch(epoch)

    def get_extra_state(self) -> dict[str, int]:
        """Seed, epoch and counter, for ``state_dict``."""
        return self._numbering.get_state()

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Restore seed, epoch and counter from ``state_dict``."""
        self._numbering.set_state(state)


def everywhere(site: Site) -> Any:
    """Bool ``[G, P]``: the positions that may be perturbed."""
    if site.where is not None:
        return site.where
    return site.features.new_ones(site.features.shape[:2], dtype=torch.bool)
