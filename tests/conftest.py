"""Fixtures of the whole suite: where real data lie, poisoned memory, the kernels' interpreter."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]

# Read when a kernel is decorated, so it has to be set before anoaug is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def _let_torchvision_in() -> None:
    """Declare two operators that torchvision's CUDA build, PyPI's, misses beside a CPU torch."""
    if importlib.util.find_spec("torchvision") is None or torch.version.cuda is not None:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, Tensor idxs, float iou_threshold) -> Tensor")
    _KEPT.append(library)


_KEPT: list[torch.library.Library] = []  # a library's operators go with it
_let_torchvision_in()


# A test whose parameters name the compiled backend: Numba takes seconds for each signature, once.
COMPILED = re.compile(r"[\[-]compiled[\]-]")
# Files of half a minute and more.
LONG = re.compile(
    "tests/(compiled|examples|kernels|features/hooks)/|tests/benchmarks/test_run|tests/control/test_re"
    "|tests/features/methods/test_(compiling|every)|tests/test_(cpu|finish)|tests/loaders/test_lightning"
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """``-n``: one worker for a file, and for all that Numba compiles, so that nothing is twice."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith("tests/compiled/") or COMPILED.search(nodeid):
                return "tests/compiled"
            return super()._split_scope(nodeid)

    config.option.loadscopereorder = False  # in the order of collection: see below
    return Together(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Compiled backends are slow; GPU tests are skipped where no CUDA device is."""
    for item in items:
        if COMPILED.search(item.nodeid):
            item.add_marker(pytest.mark.slow)
    if hasattr(config, "workerinput"):
        # What takes longest first: none of it is left for one worker at the end.
        items.sort(key=lambda item: not (COMPILED.search(item.nodeid) or LONG.match(item.nodeid)))
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small images on few cores: threads only get in each other's way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _beside(name: str, variable: str) -> Path:
    folder = Path(os.environ.get(variable, ROOT.parent / "shared" / name))
    if not folder.is_dir():
        pytest.skip(f"no {name} at {folder}: set {variable}")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real images with defects, textures and weights."""
    return _beside("data", "ANOAUG_DATA")


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Perlin fields with the random numbers they were made of."""
    return _beside("golden", "ANOAUG_GOLDEN")


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill what anoaug takes from ``torch.empty*`` with NaN or 0xA5: unwritten output shows."""

    def poison(make):
        def made(*args, **kwargs):
            tensor = make(*args, **kwargs)
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if not caller.startswith("anoaug"):
                return tensor
            if tensor.dtype.is_floating_point:
                return tensor.fill_(float("nan"))
            # Bytes, because torch cannot fill every unsigned dtype.
            tensor.view(torch.uint8).fill_(0xA5) if tensor.dim() else tensor.fill_(-1)
            return tensor

        return made

    for name in ("empty", "empty_like"):
        monkeypatch.setattr(torch, name, poison(getattr(torch, name)))


@pytest.fixture
def images() -> torch.Tensor:
    """A small odd-sized uint8 RGB batch, ``[4, 3, 63, 50]``."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, 3, 63, 50), dtype=torch.uint8, generator=generator)
