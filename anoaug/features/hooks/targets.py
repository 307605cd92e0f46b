"""Which modules of a model are meant, and which of them a hook could never reach."""

from __future__ import annotations

import difflib
import fnmatch
import gc
import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """The user's own model inside ``torch.compile`` and DistributedDataParallel.

    Raises:
        TypeError: No module, or one whose hooks are shared between threads.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"attach: expected a module, got {type(model).__name__}")
    if isinstance(model, nn.DataParallel):
        raise TypeError(
            "attach: expected one model per process, got DataParallel, whose replicas would share "
            "one context; use DistributedDataParallel"
        )
    if isinstance(model, nn.parallel.DistributedDataParallel):
        return unwrapped(model.module)
    if "torch._dynamo" in sys.modules and isinstance(model, _optimized()):
        return unwrapped(_original(model))
    return model


def resolve(model: nn.Module, target: Any) -> dict[str, nn.Module]:
    """Modules by name, in the order of the model.

    Args:
        model: The model.
        target: A dotted name, a pattern in which ``*``, ``?`` and ``[...]`` stay within a part
            between dots, a module of the model, or several of these.

    Raises:
        TypeError: Something else.
        ValueError: Nothing is called so; the message names the nearest.
    """
    known = dict(model.named_modules())
    if isinstance(target, (str, nn.Module)):
        wanted = _names(known, target)
    elif isinstance(target, Iterable):
        wanted = {name for one in target for name in _names(known, one)}
    else:
        raise TypeError(
            f"attach: expected a layer's name, pattern or module, got {type(target).__name__}"
        )
    return {name: module for name, module in known.items() if name in wanted}


def _names(known: dict[str, nn.Module], target: Any) -> set[str]:
    if isinstance(target, nn.Module):
        found = {name for name, module in known.items() if module is target}
        if not found:
            raise ValueError(
                f"attach: expected a module of the model, got another {type(target).__name__}; "
                "is it a part of a copy?"
            )
        return found
    if not isinstance(target, str):
        raise TypeError(
            f"attach: expected a layer's name, pattern or module, got {type(target).__name__}"
        )
    parts = target.split(".")
    found = {n for n in known if n == target or n and _matches(n.split("."), parts)}
    if not found:
        close = difflib.get_close_matches(target, known, n=3, cutoff=0.5)
        children = [name for name in known if name and "." not in name]
        hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(children)}"
        raise ValueError(f"attach: no layer is called {target!r}; {hint}")
    return found


def _matches(name: list[str], pattern: list[str]) -> bool:
    if len(name) != len(pattern):
        return False
    return all(fnmatch.fnmatchcase(*pair) for pair in zip(name, pattern, strict=True))


def refuse_unreachable(model: nn.Module, name: str) -> None:
    """Refuse a module that its parents do not call as a module.

    Raises:
        ValueError: A container of an FX graph, or a part of a scripted module.
    """
    parts = name.split(".") if name else []
    parent: Any = model
    for depth in range(len(parts)):
        inner = ".".join(parts[depth:])
        if isinstance(parent, torch.fx.GraphModule):
            called = _called(parent)
            if inner not in called:
                inside = [one for one in called if one.startswith(f"{inner}.")]
                mend = f"attach to {'.'.join((*parts[:depth], inside[-1]))!r}" if inside else ""
                raise ValueError(
                    f"attach: expected a leaf of the FX graph, got {name!r}, which the graph has "
                    f"taken apart, so that its hooks never run; {mend or 'attach to a leaf'}, or "
                    "perturb what the extractor returns"
                )
            return
        if isinstance(parent, torch.jit.ScriptModule):
            raise ValueError(
                f"attach: expected a Python module, got {name!r} of a scripted one, whose parts "
                "do not call hooks; attach before torch.jit.script, or perturb the output"
            )
        parent = getattr(parent, parts[depth])


def _called(graph: torch.fx.GraphModule) -> list[str]:
    """What every graph of the module calls; torchvision's extractor has one for each mode."""
    graphs = [getattr(graph, mode, None) for mode in ("train_graph", "eval_graph")]
    lists = [
        [str(node.target) for node in one.nodes if node.op == "call_module"]
        for one in graphs
        if isinstance(one, torch.fx.Graph)
    ] or [[str(node.target) for node in graph.graph.nodes if node.op == "call_module"]]
    return [name for name in lists[0] if all(name in other for other in lists)]


def refuse_compiled(model: nn.Module, names: Iterable[str]) -> None:
    """Refuse hooks on what ``torch.compile`` has already compiled: it would ignore them.

    Sees compiled modules that hold the layer, not compiled functions that call it; a pass whose
    hooks did not run says so itself.

    Raises:
        RuntimeError: See there.
    """
    if "torch._dynamo" not in sys.modules:
        return
    import torch._dynamo

    if not getattr(torch._dynamo.config, "skip_nnmodule_hook_guards", True):
        return
    known = dict(model.named_modules())
    owners = _compiled_modules(known.values())
    for name in names:
        for owner in owners:
            if any(inner is known[name] for inner in owner.modules()) and _has_code(owner):
                raise RuntimeError(
                    f"attach: expected to come before the first call of torch.compile's module, "
                    f"got {name!r} in a compiled {type(owner).__name__}, whose code ignores hooks "
                    "that are added later; attach first and switch with handle.disable(), or "
                    "call torch._dynamo.reset()"
                )


def _optimized() -> type[nn.Module]:
    import torch._dynamo.eval_frame

    return torch._dynamo.eval_frame.OptimizedModule


def _original(wrapper: nn.Module) -> nn.Module:
    """What ``torch.compile`` wraps."""
    inner: Any = wrapper._orig_mod
    return inner


def _compiled_modules(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """Modules that ``torch.compile`` wraps, or that compile their own call, of these or above."""
    below = {id(module) for module in modules}
    kind = _optimized()
    found: list[nn.Module] = []
    for one in gc.get_objects():  # nothing else knows the wrapper of a module
        if not issubclass(type(one), nn.Module):
            continue
        inner = _original(one) if type(one) is kind else one
        if type(one) is not kind and getattr(one, "_compiled_call_impl", None) is None:
            continue
        if id(inner) in below or any(id(part) in below for part in inner.modules()):
            found.append(inner)
    return found


def _has_code(module: nn.Module) -> bool:
    """Whether Dynamo keeps compiled code of a module's class, most likely of this module."""
    entries = getattr(torch._C._dynamo.eval_frame, "_debug_get_cache_entry_list", None)
    if entries is None:
        return True
    codes = (
        getattr(function, "__code__", None)
        for function in (type(module).forward, nn.Module._call_impl)
    )
    return any(code is not None and entries(code) for code in codes)
