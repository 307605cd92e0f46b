"""What travels with a batch into the perturbed layers of a model, and out of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from ... import checks
from ..batch import FeatureBatch


@dataclass(frozen=True)
class Inputs:
    """What a user said of a batch; the fields are the arguments of :meth:`Context.set`."""

    mask: Tensor | None = None
    label: Tensor | None = None
    where: Tensor | None = None
    index: Tensor | Sequence[int] | None = None
    epoch: int | None = None
    category: Tensor | Sequence[int] | None = None
    given: dict[str, Any] = field(default_factory=dict)


NOTHING = Inputs()


class Output:
    """Where a layer puts what it made.

    Attributes:
        made: Of the last pass, or None. A plain attribute, because ``torch.compile`` would guard
            the keys of a dict.
    """

    def __init__(self) -> None:
        self.made: FeatureBatch | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy starts empty: results hang on an autograd graph, which can't be copied."""
        return {"made": None}


class Context:
    """A step's masks, labels and indices for the hooked layers, and what these made of them.

    Serves one forward pass of the model: set it before, read it after. What was read keeps its
    autograd graph alive until the next pass, or :meth:`clear`.

    """

    def __init__(self, takes: Sequence[str] = ()) -> None:
        self.outputs: dict[str, Output] = {}
        # What the perturbations take beyond what all do.
        self.takes = tuple(takes)
        self.inputs = NOTHING
        # Whether inputs wait for their forward pass, and whether every pass is to have its own.
        self.fresh = self.expected = False

    def set(
        self,
        *,
        mask: Tensor | None = None,
        label: Tensor | None = None,
        where: Tensor | None = None,
        index: Tensor | Sequence[int] | None = None,
        epoch: int | None = None,
        category: Tensor | Sequence[int] | None = None,
        **given: Any,
    ) -> None:
        """Say what the next forward pass is about; from then on every pass needs its own.

        Args:
            mask: Real defects ``(B, 1, H, W)`` at the images' resolution, or any mask on a layer's
                own grid; united with the synthetic ones.
            label: int64 ``(B,)`` labels of real defects, united likewise.
            where: Positions that may be perturbed, as ``mask``.
            index: Sample indices ``[B]`` on the host; needs an epoch.
            epoch: Epoch in [0, 2**32).
            category: int64 ``[B]`` on the host, for methods that were fitted per category.
            given: What methods take beyond these, see their classes; each gets what it takes.

        Raises:
            TypeError: Masks or labels that are no tensors; a name that no perturbation takes.
        """
        for name in given:
            if name not in self.takes:
                known = (*(one.name for one in fields(Inputs) if one.name != "given"), *self.takes)
                raise TypeError(
                    f"context.set: no attached perturbation takes {name}=; "
                    f"{checks.nearest(name, known)}"
                )
        for name, value in (("mask", mask), ("label", label), ("where", where)):
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(f"context.{name}: expected a tensor, got {type(value).__name__}")
        self.inputs = Inputs(mask, label, where, index, epoch, category, given)
        self.fresh = self.expected = True

    def clear(self) -> None:
        """Forget inputs and results; passes without :meth:`set` are numbered by the counter."""
        self.forget()
        self.inputs = NOTHING
        self.fresh = self.expected = False

    def forget(self) -> None:
        """Forget results alone."""
        for output in self.outputs.values():
            output.made = None

    def take(self, needed: bool) -> Inputs:
        """The inputs of a forward pass that begins.

        Args:
            needed: Whether a layer perturbs in it.

        Raises:
            RuntimeError: The last ones were for the pass before.
        """
        if not self.fresh:
            if self.expected and needed:
                raise RuntimeError(
                    "context: expected set(...) before every forward pass, got a second pass "
                    "after one; it would repeat the last batch's masks and indices: call set() "
                    "again, or clear() to do without"
                )
            self.inputs = NOTHING
        self.fresh = False
        return self.inputs

    @property
    def batch(self) -> dict[str, FeatureBatch]:
        """The :class:`FeatureBatch` of every layer that ran in the last pass, by name.

        Its ``features`` are what the layer returned: activations in place overwrite them.
        """
        return {n: one.made for n, one in self.outputs.items() if one.made is not None}

    @property
    def mask(self) -> Tensor:
        """The mask of the only layer, real and synthetic anomalies; see :class:`FeatureBatch`."""
        return self._only("mask").mask

    @property
    def clean(self) -> Tensor:
        """The only layer's features without perturbation."""
        return self._only("clean").clean

    @property
    def label(self) -> Tensor:
        """int64 ``(B,)``: 1 where any layer has an anomaly."""
        labels = [made.label for made in self._made().values()]
        if len({len(one) for one in labels}) > 1:
            raise ValueError(
                f"context.label: expected layers with as many labels, got "
                f"{[len(one) for one in labels]}; read context.batch[name].label"
            )
        return torch.stack(labels).amax(0)

    def _made(self) -> dict[str, FeatureBatch]:
        made = self.batch
        if not made:
            raise RuntimeError(
                "context: expected a forward pass before reading it, got none whose hooked layers "
                "ran; was the model compiled, or traced, before attach()?"
            )
        return made

    def _only(self, what: str) -> FeatureBatch:
        made = self._made()
        if len(made) > 1:
            raise ValueError(
                f"context.{what}: expected one layer, got {', '.join(made)}; "
                f"read context.batch[name].{what}"
            )
        return next(iter(made.values()))

    def __getstate__(self) -> dict[str, Any]:
        """A copy starts without inputs."""
        return {**self.__dict__, "inputs": NOTHING, "fresh": False, "expected": False}
