"""Checkpoints of a model that was swapped into: anomalib's own, both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from torch import nn

from ...features.perturbation import Perturbation
from ...synthesizer import Synthesizer

KEY = "anoaug"
_EXTRA = "_extra_state"


def stateless(module: nn.Module) -> None:
    """Keep a generator's numbers out of ``state_dict``: the original has none.

    A state with them is taken, one without leaves them as they are.
    """
    module.register_state_dict_post_hook(_forget)
    module.register_load_state_dict_pre_hook(_allow)


def _holders(module: nn.Module, prefix: str) -> Iterator[tuple[str, Any]]:
    """What in a module numbers samples, by the name of its state."""
    for name, one in module.named_modules():
        if isinstance(one, (Synthesizer, Perturbation)):
            yield f"{prefix}{name}.{_EXTRA}" if name else f"{prefix}{_EXTRA}", one


def _forget(module: nn.Module, state: MutableMapping[str, Any], prefix: str, _: Any) -> None:
    for name, _one in _holders(module, prefix):
        state.pop(name, None)


def _allow(module: nn.Module, state: MutableMapping[str, Any], prefix: str, *_: Any) -> None:
    for name, one in _holders(module, prefix):
        state.setdefault(name, one.get_extra_state())


class Beside:
    """A Lightning hook that also saves or restores the numbers, under a key of the checkpoint.

    So a run that goes on draws what it would have drawn, and who does not know the key reads the
    checkpoint all the same.

    Args:
        model: The Lightning module.
        restores: Whether it is ``on_load_checkpoint``, else ``on_save_checkpoint``.
    """

    def __init__(self, model: Any, restores: bool) -> None:
        self.model, self.restores = model, restores
        name = "on_load_checkpoint" if restores else "on_save_checkpoint"
        self.before: Callable[[Any], None] = getattr(model, name)

    def __call__(self, checkpoint: MutableMapping[str, Any]) -> None:
        """What the model does, then this."""
        self.before(checkpoint)
        holders = dict(_holders(self.model, ""))
        if not self.restores:
            checkpoint[KEY] = {name: one.get_extra_state() for name, one in holders.items()}
            return
        for name, state in checkpoint.get(KEY, {}).items():
            if name in holders:
                holders[name].set_extra_state(state)


def keep_beside(model: Any) -> None:
    """Put the hooks into a Lightning module, once; nothing where there are none to put."""
    for name, restores in (("on_save_checkpoint", False), ("on_load_checkpoint", True)):
        if hasattr(model, name) and not isinstance(getattr(model, name), Beside):
            setattr(model, name, Beside(model, restores))
