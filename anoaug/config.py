"""Synthesizers as plain data, for YAML, JSON, Hydra and LightningCLI, and back again.

A config is a dict: ``{"method": "draem", "textures": "path", "p": 0.5}`` for a published method, or
``{"_target_": "anoaug.Synthesizer", "_args_": [...], ...}``, in Hydra's notation, for any object of
anoaug; values may be configs again. Nothing outside of anoaug is ever called.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import checks

TARGET, ARGUMENTS, METHOD = "_target_", "_args_", "method"
_PACKAGE = __name__.partition(".")[0]


# ---- objects to data -----------------------------------------------------------------------------


def to_plain(value: Any, where: str = "config") -> Any:
    """A value as JSON and YAML have it: objects as dicts that say how to make them.

    Args:
        value: Numbers, strings, containers, dtypes, paths, banks that were read from a folder or
            drawn, parts, synthesizers, and whatever else of anoaug is a dataclass.
        where: What to call it in an error.

    Raises:
        TypeError: Something that plain data cannot say: tensors, modules, functions, banks made of
            tensors.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()  # host: NumPy's
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        pairs = list(value.items())
        if all(isinstance(key, str) for key, _ in pairs):
            return {key: to_plain(one, f"{where}.{key}") for key, one in pairs}
        return [[to_plain(key, where), to_plain(one, where)] for key, one in pairs]
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return [to_plain(one, f"{where}[{k}]") for k, one in enumerate(value)]
    if hasattr(value, "to_config"):
        return value.to_config()
    origin = getattr(value, "origin", None)
    if origin is not None:
        name, keywords = origin
        made = {key: to_plain(one, f"{where}.{key}") for key, one in keywords.items()}
        return {TARGET: f"{path_of(type(value))}.{name}", **made}
    ours = type(value).__module__.partition(".")[0] == _PACKAGE
    if ours and dataclasses.is_dataclass(value):
        return {TARGET: path_of(type(value)), **_fields(value, where)}
    raise TypeError(f"{where}: expected what plain data can say, got {_described(value)}")


def _fields(value: Any, where: str) -> dict[str, Any]:
    """The fields of a dataclass that are not as by default."""
    found = {}
    for field in dataclasses.fields(value):
        one = getattr(value, field.name)
        default = field.default
        if field.init and not (type(one) is type(default) and one == default):
            found[field.name] = to_plain(one, f"{where}.{field.name}")
    return found


def path_of(cls: type) -> str:
    """Where a class is imported from, the shortest way."""
    parts = cls.__module__.split(".")
    while len(parts) > 1:
        above = importlib.import_module(".".join(parts[:-1]))
        if getattr(above, cls.__qualname__, None) is not cls:
            break
        parts.pop()
    return ".".join([*parts, cls.__qualname__])


def _described(value: Any) -> str:
    kind = type(value).__name__
    if hasattr(value, "from_folder"):
        return f"a {kind} made of tensors; make it with {kind}.from_folder, whose path can be said"
    return f"{kind}; make the synthesizer in Python, or leave it out and set it afterwards"


def kept(value: Any) -> Any:
    """A value whose containers are ours, so that what was said stays if the caller's change."""
    if type(value) is dict:
        return {key: kept(one) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(kept(one) for one in value)
    return value


def call_of(said: tuple[Any, tuple[Any, ...], Mapping[str, Any]], now: Any) -> dict[str, Any]:
    """The config of a call: of what (a class or a function's path), with what, what changed."""
    called, arguments, keywords = said
    target = called if isinstance(called, str) else path_of(called)
    made: dict[str, Any] = {TARGET: target}
    if arguments:
        made[ARGUMENTS] = to_plain(list(arguments), target)
    return made | {key: to_plain(one, key) for key, one in {**keywords, **now}.items()}


# ---- data to objects -----------------------------------------------------------------------------


def from_config(config: Mapping[str, Any] | str | os.PathLike[str]) -> Any:
    """Make a synthesizer, or any other object of anoaug, from plain data.

    ``from_config(synth.to_config())`` makes the same anomalies as ``synth``, to the bit.

    Args:
        config: A dict, an OmegaConf node, or the path of a ``.json``, ``.yaml`` or ``.yml`` file:
            ``{"method": name, **keywords}`` as for :func:`anoaug.create`, or with ``_target_`` any
            class or function of anoaug, as Hydra writes it. Lists become tuples.

    Returns:
        What the config describes.

    Raises:
        TypeError: No dict, or keywords that do not fit.
        ValueError: Neither ``method`` nor ``_target_`` or both, a target that is not anoaug's, or a
            file of another kind.
        OSError: No such file.
        ImportError: A YAML file, and no PyYAML.

    Example:
        From a file that says ``{method: draem, textures: path/to/textures, p: 0.5}``::

            synth = anoaug.from_config("synth.yaml")
    """
    if isinstance(config, (str, os.PathLike)):
        config = _read(Path(config))
    if not isinstance(config, Mapping):
        raise TypeError(
            f"config: expected a dict or a path, got {type(config).__name__}; "
            "{'method': 'draem', 'p': 0.5} is one"
        )
    if METHOD in config and TARGET in config:
        raise ValueError(
            f"config: expected 'method' or '_target_', got both, {config[METHOD]!r} and "
            f"{config[TARGET]!r}; leave one out"
        )
    if METHOD not in config and TARGET not in config:
        raise ValueError(
            f"config: expected 'method' or '_target_' in it, got {sorted(map(str, config))}; "
            "{'method': 'draem', 'p': 0.5} is one"
        )
    return _made(config)


def _read(path: Path) -> Any:
    kind = path.suffix.lower()
    if kind not in (".json", ".yaml", ".yml"):
        raise ValueError(f"config: expected a .json, .yaml or .yml file, got {str(path)!r}")
    text = path.expanduser().read_text(encoding="utf-8")
    if kind == ".json":
        return json.loads(text)
    return checks.require("yaml", "yaml").safe_load(text)


def _made(value: Any) -> Any:
    """Plain data as what it describes."""
    if isinstance(value, (list, tuple)) or type(value).__name__ == "ListConfig":
        return tuple(_made(one) for one in value)
    if not isinstance(value, Mapping) and type(value).__name__ != "DictConfig":
        return value
    fields = {str(key): _made(value[key]) for key in value}
    if METHOD in fields and TARGET not in fields:
        return _target(f"{_PACKAGE}.create")(fields.pop(METHOD), **fields)
    if TARGET not in fields:
        return fields
    target = _target(fields.pop(TARGET))
    return target(*fields.pop(ARGUMENTS, ()), **fields)


def _target(path: Any) -> Any:
    """A class or function of anoaug's by its path."""
    parts = path.split(".") if isinstance(path, str) else [""]
    if parts[0] != _PACKAGE or len(parts) < 2 or any(part.startswith("_") for part in parts):
        raise ValueError(
            f"_target_: expected something of {_PACKAGE}, such as '{_PACKAGE}.create', got {path!r}"
        )
    found: Any = importlib.import_module(_PACKAGE)
    for depth, part in enumerate(parts[1:], 1):
        above = found
        found = getattr(above, part, None)
        if found is None and inspect.ismodule(above):
            try:
                found = importlib.import_module(".".join(parts[: depth + 1]))
            except ModuleNotFoundError:
                found = None
        if found is None:
            known = [name for name in dir(above) if not name.startswith("_")]
            hint = checks.nearest(part, known)
            raise ValueError(f"_target_: {'.'.join(parts[:depth])} has no {part!r}; {hint}")
    module = getattr(found, "__module__", "") or getattr(type(found), "__module__", "")
    ours = module.partition(".")[0] == _PACKAGE and module != checks.__name__  # imports by name
    if not callable(found) or not ours:
        raise ValueError(f"_target_: expected a class or function of {_PACKAGE}, got {path!r}")
    return found
