"""Perturbations inside a model: attached to layers, switched, removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ... import checks
from ..masks import RULES
from ..perturbation import Perturbation
from . import targets
from .context import Context, Output
from .layer import BeginHook, EndHook, Hook, LayerHook, Settings
from .steps import Steps


class Handle:
    """The hooks of one :func:`attach`; as a context manager it removes them at the end.

    Attributes:
        context: What goes into the layers and comes out, see :class:`Context`.
        perturbs: The perturbation of each layer by name, in the model's order.
    """

    def __init__(self, model: nn.Module, steps: Steps) -> None:
        self._model, self._steps = model, steps

    @property
    def context(self) -> Context:
        """Masks, labels and indices in; masks, labels and clean features out."""
        return self._steps.context

    @property
    def perturbs(self) -> dict[str, Perturbation]:
        """The perturbation of each layer by name, in the model's order."""
        return dict(self._steps.perturbs)

    @property
    def enabled(self) -> bool:
        """Whether the hooks do anything; each perturbation's own mode counts besides."""
        return self._steps.enabled

    def enable(self) -> None:
        """Undo :meth:`disable`."""
        self._steps.enabled = True

    def disable(self) -> None:
        """Leave the model alone until :meth:`enable`; compiled code obeys."""
        self._steps.enabled = False

    def remove(self) -> None:
        """Take the hooks out of the model; what the context holds stays readable."""
        for module in self._model.modules():
            for hooks in (module._forward_hooks, module._forward_pre_hooks):
                for number, hook in list(hooks.items()):
                    if isinstance(hook, Hook) and hook.steps is self._steps:
                        del hooks[number]

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        layers = ", ".join(f"{n!r}: {type(p).__name__}" for n, p in self.perturbs.items())
        return f"Handle({layers}{'' if self.enabled else ', disabled'})"


def attach(
    model: nn.Module,
    target: Any,
    perturb: Perturbation | None = None,
    *,
    element: int | str | None = None,
    size: tuple[int, int] | None = None,
    rule: str | None = None,
    grow: bool = False,
    missing: str = "raise",
    copies: str = "as original",
    prepend: bool = True,
) -> Handle:
    """Perturb what layers of a model return, in every forward pass.

    Whether the hooks perturb is the perturbation's own mode, ``perturb.train()`` and ``.eval()``,
    not the model's: a frozen backbone in eval mode is perturbed too. It is no submodule: move it to
    the device, save its state and hand its parameters to the optimiser yourself.

    One forward pass draws once. What checkpointing computes again in backward gets the same noise,
    if backward runs before the hooks are removed or switched. A layer that a pass calls several
    times gets the same noise each time. One layer gets what a call of ``perturb`` with the same
    index and epoch gives; of several whose perturbations would draw alike, being one or of one
    method and seed, each draws from a stream of its own name.
    Layers without an index are numbered one after the other.

    Args:
        model: Any module; inside ``torch.compile`` and DistributedDataParallel the user's own.
            Attach before the first call of a compiled one.
        target: A layer by dotted name, by pattern (``"blocks.*"``; a star stays within a part
            between dots) or as module, several of these, or a dict from these to perturbations.
        perturb: A perturbation of :mod:`anoaug.features`, unless ``target`` is a dict.
        element: Key or number of the features where layers return several things.
        size: Height and width of the grid, for tokens and rows; found from an image-sized mask
            by its proportions if None.
        rule: How image-sized masks come to a layer's grid, a name of ``features.masks.Rule``; the
            perturbation's own ``mask_rule`` if None.
        grow: Allow perturbations that return two rows for each, which later layers must expect.
        missing: ``"raise"`` if a perturbed layer is not called in a forward pass, or ``"ignore"``.
        copies: ``"as original"``, or ``"disabled"``: deep copies of the model, such as an
            averaged teacher, start switched off; :func:`attached` finds their handle.
        prepend: Run before hooks that are there, so that those that collect features see anomalies.

    Returns:
        A :class:`Handle`.

    Raises:
        TypeError: A model, target or perturbation that is none.
        ValueError: No layer of that name (the message names the nearest), one that an FX graph or
            a scripted module never calls, or one that was already given.
        RuntimeError: The model was compiled and called before.

    Example:
        Noise after the third stage of a frozen backbone::

            perturb = anoaug.features.create("simplenet", radius=2.0, seed=0)
            with anoaug.features.attach(backbone, "layer3", perturb) as handle:
                handle.context.set(mask=masks, index=batch["index"], epoch=epoch)
                score = head(backbone(images))
                loss = criterion(score, handle.context.mask)
    """
    model = targets.unwrapped(model)
    checks.one_of("missing", missing, ("raise", "ignore"))
    checks.one_of("copies", copies, ("as original", "disabled"))
    if rule is not None:
        checks.one_of("rule", rule, RULES)
    pairs = _pairs(model, target, perturb)
    targets.refuse_compiled(model, pairs)
    context = Context(sorted({name for one in pairs.values() for name in one.takes}))
    steps = Steps(context, pairs, missing, copies)
    earlier = [one for handle in attached(model) for one in handle.perturbs.values()]
    laws = [_draws(one) for one in (*pairs.values(), *earlier)]
    known = dict(model.named_modules())
    begin, end = BeginHook(steps), EndHook(steps)
    begin.number = model.register_forward_pre_hook(begin, prepend=True).id
    for name, one in pairs.items():
        context.outputs[name] = Output()
        salt = name if laws.count(_draws(one)) > 1 else ""
        settings = Settings(element, rule or one.mask_rule, size, grow, salt, _tokens(model))
        layer = LayerHook(name, steps, one, context.outputs[name], settings)
        layer.number = known[name].register_forward_hook(layer, prepend=prepend).id
    end.number = model.register_forward_hook(end).id
    return Handle(model, steps)


def attached(model: nn.Module) -> list[Handle]:
    """Handles of all perturbations that hang in a model: also in a copy, or one read from a file.

    Args:
        model: A module, or one inside ``torch.compile``, DistributedDataParallel or AveragedModel.
    """
    model = targets.unwrapped(model)
    found: dict[int, Steps] = {}
    for module in model.modules():
        for hook in module._forward_hooks.values():
            if isinstance(hook, LayerHook):
                found.setdefault(id(hook.steps), hook.steps)
    return [Handle(model, steps) for steps in found.values()]


def _pairs(model: nn.Module, target: Any, perturb: Any) -> dict[str, Perturbation]:
    """The perturbation of every layer by name, in the model's order."""
    if isinstance(target, Mapping) and perturb is not None:
        raise TypeError("attach: expected perturbations in the dict alone, got another; drop it")
    choices = target.items() if isinstance(target, Mapping) else [(target, perturb)]
    wanted: dict[str, Perturbation] = {}
    for one, value in choices:
        if not isinstance(value, Perturbation):
            raise TypeError(
                f"attach: expected a perturbation of anoaug.features, got {type(value).__name__}; "
                "features.create makes one, and a law of your own is a subclass of Perturbation"
            )
        for name in targets.resolve(model, one):
            if name in wanted:
                raise ValueError(f"attach: expected one perturbation a layer, got two for {name!r}")
            targets.refuse_unreachable(model, name)
            wanted[name] = value
    if not wanted:
        raise ValueError("attach: expected at least one layer, got none")
    return {name: wanted[name] for name, _ in model.named_modules() if name in wanted}


def _draws(perturb: Perturbation) -> tuple[str, int]:
    """What two perturbations have in common that would draw the same for one index."""
    return perturb.stream, perturb._numbering.seed


def _tokens(model: nn.Module) -> tuple[int, int] | None:
    """Positions and prefix tokens of a transformer that says so, as timm's do."""
    positions = getattr(getattr(model, "patch_embed", None), "num_patches", None)
    prefix = getattr(model, "num_prefix_tokens", None)
    if isinstance(positions, int) and isinstance(prefix, int):
        return positions, prefix
    return None
