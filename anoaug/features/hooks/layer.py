"""The hook of one layer, and the two of the whole model."""

from __future__ import annotations

import copy
import sys
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .. import layouts
from ..batch import FeatureBatch
from ..perturbation import Perturbation
from .context import Inputs, Output
from .gridding import divided, on_grid, picture_size
from .steps import Steps, in_backward


class Hook:
    """A picklable hook that knows its number, or a later hook of a new process took its place."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.number = -1

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        RemovableHandle.next_id = max(RemovableHandle.next_id, self.number + 1)


class BeginHook(Hook):
    """Before the model: a step begins."""

    def __call__(self, module: nn.Module, args: Any) -> None:
        """Begin a step."""
        if exporting():
            return
        if torch.compiler.is_compiling():
            self.steps.token = torch.ops.anoaug.features_begin(self.steps.token, self.steps.slot)
        else:
            self.steps.begin()


class EndHook(Hook):
    """After the model: the step ends."""

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """End the step."""
        if exporting():
            return
        if torch.compiler.is_compiling():
            self.steps.token = torch.ops.anoaug.features_end(self.steps.token, self.steps.slot)
        else:
            self.steps.end()


class Settings(NamedTuple):
    """How a layer is perturbed.

    Attributes:
        element: Which of several outputs, or None.
        rule: How masks come to the layer's grid.
        size: Height and width of the grid of tokens or rows, or None.
        grow: Whether the batch may become larger.
        salt: What makes the layer's randomness its own, or empty.
        tokens: Positions and prefix tokens of the model's sequences, where it says so.
    """

    element: int | str | None
    rule: str
    size: tuple[int, int] | None
    grow: bool
    salt: str
    tokens: tuple[int, int] | None


class LayerHook(Hook):
    """After a layer: its output is perturbed.

    Args:
        name: Of the layer.
        steps: Of the model.
        perturb: What happens there; no submodule of the model, whose mode is not its own.
        output: Where the result goes.
        settings: How.
    """

    def __init__(
        self, name: str, steps: Steps, perturb: Perturbation, output: Output, settings: Settings
    ) -> None:
        super().__init__(steps)
        self.name, self.perturb, self.output, self.settings = name, perturb, output, settings

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        """The output with anomalies."""
        if not self.steps.enabled:
            return None
        if torch.compiler.is_compiling():
            return self._visit(output)
        try:
            return self._visit(output, sharded(module))
        except (TypeError, ValueError, RuntimeError) as error:
            if type(error) not in (TypeError, ValueError, RuntimeError):  # out of memory, say
                raise
            raise type(error)(f"layer {self.name!r}: {error}") from error

    def _visit(self, output: Any, unit: bool = False) -> Any:
        working = self.perturb.working
        if traced(output):
            if not working:
                return None
            raise RuntimeError(
                "expected a model that runs, got one that is traced or exported, which would "
                "bake the perturbation in; call handle.disable() or remove() before, and attach "
                "to leaves of the result"
            )
        features = chosen(output, self.settings.element)
        if torch.compiler.is_compiling():
            made = self._perturbed(features, self.steps.context.inputs, working)
        else:
            if working and self.perturb.training and features.is_inference():
                raise RuntimeError(
                    "expected features outside inference_mode, got some that can't enter autograd "
                    "and so train nothing; use torch.no_grad() for a frozen backbone"
                )
            again = in_backward()
            if again and not working:
                return None
            step = self.steps.of_call(self.name)
            made = self._perturbed(features, step.inputs, working, step)
            if again:
                return replaced(output, self.settings.element, made.features)
        if not working:
            # The layer's own output, which an activation in place may overwrite.
            kept = features.clone()
            self.output.made = made._replace(features=kept, clean=kept)
            return None
        self.output.made = made
        if made.features.shape[0] != features.shape[0] and not self.settings.grow:
            raise ValueError(
                f"expected as many rows as the layer's {features.shape[0]}, got "
                f"{made.features.shape[0]} of {type(self.perturb).__name__}, for which later "
                "layers may not be made; call it on the layer's output, or pass grow=True"
            )
        view = unit and made.features._is_view()
        out = made.features.clone() if view else made.features
        return replaced(output, self.settings.element, out)

    def _perturbed(
        self, features: Tensor, told: Inputs, working: bool, step: Any = None
    ) -> FeatureBatch:
        """What the perturbation makes of features; ``step`` is None in code that is compiled."""
        perturb, steps = self.perturb, self.steps
        self._refuse_prefix(features)
        many = (told.index, told.mask, told.where)
        groups = next((len(one) for one in many if one is not None), None)
        grid = layouts.grid(features, perturb.layout, groups=groups, prefix=perturb.prefix)
        if grid.size is None:
            size = self.settings.size
            picture = picture_size(told.mask) or picture_size(told.where)
            if size is None and picture is not None:
                size = divided(grid.positions, picture)
            grid = layouts.grid(
                features, perturb.layout, groups=groups, size=size, prefix=perturb.prefix
            )
        number = None
        if working and step is None:
            first, second, steps.token = torch.ops.anoaug.features_number(
                steps.token, steps.slot, self.name, grid.groups
            )
            number = first, second
        elif working:
            number = steps.number(step, self.name, grid.groups)
        rule, label = self.settings.rule, told.label
        if label is not None and grid.layout == "rows" and len(label) == grid.groups:
            label = label.repeat_interleave(grid.positions)
        mask = None if told.mask is None else on_grid("mask", told.mask, grid, rule)
        where = None if told.where is None else on_grid("where", told.where, grid, rule)
        given = {name: told.given[name] for name in perturb.takes if name in told.given}
        return perturb(
            features, mask, label, where=where, category=told.category, size=grid.size,
            number=number, layer=self.settings.salt, **given,
        )  # fmt: skip

    def _refuse_prefix(self, features: Tensor) -> None:
        """A transformer that counts its prefix tokens knows better."""
        if self.settings.tokens is None or self.perturb.layout not in (None, "tokens"):
            return
        positions, prefix = self.settings.tokens
        if (
            features.dim() == 3
            and features.shape[1] == positions + prefix
            and self.perturb.prefix != prefix
        ):
            raise ValueError(
                f"expected prefix={prefix}, as the model says of its {positions} + {prefix} "
                f"tokens, got {self.perturb.prefix}; create the perturbation with prefix={prefix}"
            )


def sharded(module: nn.Module) -> bool:
    """Whether FSDP shards this very module: its hook on the output is lost if that is a view."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(module, getattr(fsdp, "FSDPModule", ()))


def exporting() -> bool:
    """Whether torch.export looks at the model; before torch 2.7 nobody can say."""
    ask: Any = getattr(torch.compiler, "is_exporting", None)
    return ask is not None and bool(ask())


def traced(output: Any) -> bool:
    """Whether a program is being made of the model, rather than run or compiled."""
    return exporting() or torch.jit._trace.is_tracing() or isinstance(output, torch.fx.Proxy)


def chosen(output: Any, element: int | str | None) -> Tensor:
    """The features among a layer's outputs.

    Raises:
        TypeError: Several outputs and no choice, or one that is no tensor.
        ValueError: A choice that is not there.
    """
    if element is None:
        if isinstance(output, Tensor):
            return output
        inside: Any = "nothing of use"
        if isinstance(output, dict):
            inside = f"entries {', '.join(map(repr, output))}"
        elif isinstance(output, (tuple, list)):
            inside = f"{len(output)} elements"
        raise TypeError(
            f"expected a tensor, got {type(output).__name__} with {inside}; "
            "pass element= its key or number"
        )
    try:
        found = output[element]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"element: expected a key or number of what the layer returns, a "
            f"{type(output).__name__}, got {element!r}"
        ) from error
    if isinstance(output, Tensor) or not isinstance(found, Tensor):
        what = "the layer returns one" if isinstance(output, Tensor) else type(found).__name__
        raise TypeError(f"element: expected {element!r} to name a tensor among several, got {what}")
    return found


def replaced(output: Any, element: int | str | None, features: Tensor) -> Any:
    """The outputs with other features; containers are not modified."""
    if element is None:
        return features
    if isinstance(output, tuple):
        values = list(output)
        values[element] = features  # type: ignore[index]
        kind: Any = type(output)
        return kind(*values) if hasattr(kind, "_fields") else kind(values)
    twin = copy.copy(output)
    twin[element] = features
    return twin
