"""Which forward pass a call of a hooked layer belongs to, also when it runs again in backward.

Randomness belongs to the forward pass, not to the call: activation checkpointing calls layers a
second time within ``backward``, where the same noise is due. Autograd numbers its nodes in the
order of the forward passes, so that the node at work says which pass is computed again.
"""

from __future__ import annotations

import copy
import itertools
import weakref
from collections import deque
from typing import Any

import torch
from torch import Tensor

from .context import Context, Inputs

# Forward passes that may wait for their backward pass.
KEPT = 8

_known: weakref.WeakValueDictionary[int, Steps] = weakref.WeakValueDictionary()
_numbers = itertools.count()


class Step:
    """A forward pass.

    Attributes:
        start: No autograd node of it has a lower number.
        inputs: What the user said of it.
        numbers: What its samples are called, by layer and how many.
        closed: Whether the model has returned.
    """

    def __init__(self, start: int, inputs: Inputs) -> None:
        self.start, self.inputs, self.closed = start, inputs, False
        self.numbers: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
        self.ran: set[str] = set()


class Steps:
    """The last forward passes of a model.

    Custom operators call it by ``slot``, so that compiled code asks when it runs, not when it was
    traced.

    Args:
        context: Where inputs come from.
        perturbs: The perturbation of every layer.
        missing: ``"raise"`` where an active layer did not run in a pass, or ``"ignore"``.
        copies: ``"as original"``, or ``"disabled"`` for deep copies.

    Attributes:
        slot: Its number in this process.
        token: int64 ``[1]`` that compiled code hands from operator to operator, which keeps their
            order; never written to, because backward may need it.
        enabled: The switch of the whole attachment.
    """

    def __init__(
        self, context: Context, perturbs: dict[str, Any], missing: str, copies: str
    ) -> None:
        self.context, self.perturbs, self.missing = context, perturbs, missing
        self.copies = copies
        self.enabled = True
        self.token = torch.zeros(1, dtype=torch.int64, device="cpu")
        self._start()

    def _start(self) -> None:
        self.slot = next(_numbers)
        self.running = False
        self.ended = _node_number()
        self.kept: deque[Step] = deque(maxlen=KEPT)
        _known[self.slot] = self

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to the process."""
        state = self.__dict__.copy()
        for name in ("slot", "running", "ended", "kept"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def __deepcopy__(self, memo: dict[int, Any]) -> Steps:
        twin = object.__new__(Steps)
        memo[id(self)] = twin
        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        if self.copies == "disabled":
            twin.enabled = False
        return twin

    def working(self, layer: str) -> bool:
        """Whether a layer perturbs."""
        return self.enabled and bool(self.perturbs[layer].working)

    def begin(self) -> None:
        """The model is called."""
        if not in_backward():
            self._open()
            self.running = True

    def end(self) -> None:
        """The model returns.

        Raises:
            RuntimeError: A layer that perturbs was not called.
        """
        if in_backward() or not self.running:
            return
        self.running = False
        step = self.kept[-1]
        step.closed = True
        self.ended = _node_number()
        absent = [one for one in self.perturbs if self.working(one) and one not in step.ran]
        if absent and self.missing == "raise":
            raise RuntimeError(
                f"features.attach: expected {', '.join(absent)} to be called in every pass of the "
                "model, got one without: hooks that are added after torch.compile's first call "
                "and those of layers whose weights alone are used, never run; attach before "
                "compiling, to another layer, or pass missing='ignore' if layers may be skipped"
            )

    def of_call(self, layer: str) -> Step:
        """The step that a call of a layer belongs to.

        Raises:
            RuntimeError: A pass that is computed again is too old.
        """
        if in_backward():
            return self._again()
        last = self.kept[-1] if self.kept else None
        # Without a call of the model itself (forward_features) a layer's second call is a new pass.
        if not self.running and (
            last is None or last.closed or self.context.fresh or layer in last.ran
        ):
            self._open()
        step = self.kept[-1]
        step.ran.add(layer)
        return step

    def number(self, step: Step, layer: str, rows: int) -> tuple[Tensor, Tensor]:
        """Sample indices int64 ``[rows]`` and (seed, epoch) of a step; see ``Numbering``."""
        known = step.numbers.get((layer, rows))
        if known is None:
            if in_backward():
                raise RuntimeError(
                    "the pass that is computed again in backward had no such call of it: the "
                    "perturbation was off, or the batch another; switch it after backward()"
                )
            told = step.inputs
            known = self.perturbs[layer].number(told.index, told.epoch, rows)
            step.numbers[layer, rows] = known
        return known

    def _open(self) -> None:
        self.context.forget()
        told = self.context.take(any(self.working(one) for one in self.perturbs))
        # The node of a checkpoint around the whole model is older than the call of the model.
        closed = not self.kept or self.kept[-1].closed
        self.kept.append(Step(self.ended if closed else _node_number(), told))

    def _again(self) -> Step:
        node = torch._C._current_autograd_node()
        place = -1 if node is None else node._sequence_nr()
        for step in reversed(self.kept):
            if step.start <= place:
                return step
        raise RuntimeError(
            f"expected backward() within {KEPT} forward passes, got an older one, whose noise is "
            "forgotten; call it earlier, or without checkpointing"
        )


def _node_number() -> int:
    """What autograd's next node is called."""
    return int(torch._C._autograd._get_sequence_nr())


def in_backward() -> bool:
    """Whether autograd is at work: a forward call within it repeats an earlier one."""
    return bool(torch._C._current_graph_task_id() != -1)


_library = torch.library.Library("anoaug", "FRAGMENT")
_library.define("features_begin(Tensor token, int slot) -> Tensor")
_library.define("features_end(Tensor token, int slot) -> Tensor")
_library.define(
    "features_number(Tensor token, int slot, str layer, SymInt rows) -> (Tensor, Tensor, Tensor)"
)


def _begin(token: Tensor, slot: int) -> Tensor:
    _known[slot].begin()
    return token + 1


def _end(token: Tensor, slot: int) -> Tensor:
    _known[slot].end()
    return token.clone()


def _number(token: Tensor, slot: int, layer: str, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    steps = _known[slot]
    index, state = steps.number(steps.of_call(layer), layer, rows)
    return index.clone(), state.clone(), token.clone()


def _token_fake(token: Tensor, slot: int) -> Tensor:
    return torch.empty_like(token)


def _number_fake(token: Tensor, slot: int, layer: str, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    return token.new_empty((rows,)), token.new_empty((2,)), torch.empty_like(token)


for _name, _real, _fake in (
    ("features_begin", _begin, _token_fake),
    ("features_end", _end, _token_fake),
    ("features_number", _number, _number_fake),
):
    _library.impl(_name, _real, "CompositeExplicitAutograd")
    torch.library.register_fake(f"anoaug::{_name}", _fake)
