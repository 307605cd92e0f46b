"""Without its library an adapter says in one sentence what to install."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest

# What is asked for, its library, which is the extra's name.
NEEDED = [
    ("kornia.RandomAnomaly", "kornia"),
    ("torchvision.AnomalyTransform", "torchvision"),
    ("lightning.AnomalyCallback", "lightning"),
]


def without(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a library be missing, whatever of it was imported before."""
    for name in list(sys.modules):
        if name == library or name.startswith(f"{library}."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)


def told(error: BaseException, extra: str) -> bool:
    """Whether it is one line that names the command."""
    said = str(error)
    return f"pip install 'anoaug[{extra}]'" in said and "\n" not in said


@pytest.mark.parametrize("what, library", NEEDED)
def test_a_class_over_one_of_the_library_s(
    what: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(library, monkeypatch)
    without("pytorch_lightning", monkeypatch)
    module, name = what.split(".")
    monkeypatch.delitem(sys.modules, f"anoaug.loaders.{module}", raising=False)
    with pytest.raises(ImportError) as refused:
        getattr(importlib.import_module(f"anoaug.loaders.{module}"), name)
    assert told(refused.value, library), refused.value


def dali() -> Any:
    from anoaug.loaders import dali as door

    return door.mvtec_pipeline("anywhere")


def ray() -> Any:
    from anoaug.loaders import ray as door

    return door.generate("anywhere", "elsewhere")


@pytest.mark.parametrize("call, library, extra", [(dali, "nvidia", "dali"), (ray, "ray", "ray")])
def test_one_that_needs_it_when_it_is_called(
    call: Any, library: str, extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    without(library, monkeypatch)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImportError) as refused:
        call()
    assert told(refused.value, extra), refused.value
