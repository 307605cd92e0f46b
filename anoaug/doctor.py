"""What is installed, which backend will run, and a self-test: the facts a bug report needs.

:func:`report` gathers plain data (``anoaug doctor --json``), :func:`text` sets it for reading.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import platform
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import __version__, ops
from .banks import TextureBank, cachefile
from .batch import AnomalyBatch
from .methods import create, get
from .synthesizer import Synthesizer

# Import names by extra of setup.py; an extra is there when all its modules are.
EXTRAS = {
    "images": ("PIL", "tqdm"),
    "demo": ("PIL", "tqdm", "skimage"),
    "triton": ("triton",),
    "compiled": ("numba",),
}
# Packages that anoaug works with but never installs.
NEIGHBOURS = ("torchvision", "kornia", "nvidia.dali", "lightning", "anomalib")

BACKEND_NAMES = {
    "triton": "Triton kernels",
    "cpu": "CPU driver",
    "torch": "torch reference",
    "compiled": "compiled loops",
}

_SELF_TEST = ("draem", "cutpaste")
_COMPARED = ("image", "mask", "label", "kind")


def report() -> dict[str, Any]:
    """Everything ``anoaug doctor`` tells, as plain data.

    Returns:
        ``versions`` by package (None where absent), ``cuda`` (the CUDA version torch was built
        with, its devices), ``backends`` (per device: what runs and why), ``extras`` (installed or
        the command that installs them), ``cache`` (folder, files, bytes), ``self_test`` (name,
        passed, detail) and ``ok``.
    """
    backends = [backend(device) for device in _devices()]
    tests = list(self_test())
    return {
        "versions": versions(),
        "cuda": {"version": torch.version.cuda, "devices": _cuda_devices()},
        "backends": backends,
        "extras": {name: _extra(name, modules) for name, modules in EXTRAS.items()},
        "cache": _cache(cachefile.directory()),
        "self_test": tests,
        "ok": all(test["passed"] for test in tests)
        and all(found["backend"] is not None for found in backends if not found["absent"]),
    }


def text(facts: dict[str, Any]) -> str:
    """A report set for reading."""
    lines: list[str] = []

    def section(name: str, rows: list[tuple[str, str]]) -> None:
        wide = max(len(key) for key, _ in rows)
        lines.extend([name, *(f"  {key:<{wide}}  {value}" for key, value in rows), ""])

    found = facts["versions"]
    section("versions", [(name, version) for name, version in found.items() if version])
    devices = facts["cuda"]["devices"]
    if devices:
        rows = [(d["device"], f"{d['name']}, sm_{d['capability']}, {d['memory_gib']} GiB")
                for d in devices]  # fmt: skip
        section(f"CUDA {facts['cuda']['version']}", rows)
    shown = []
    for each in facts["backends"]:
        name = BACKEND_NAMES.get(each["backend"], "none")
        if each["absent"]:
            shown.append((each["device"], f"not here: {each['absent']}; would be {name}"))
        else:
            shown.append((each["device"], f"{name}: {each['why']}"))
    section("backends", shown)
    section(
        "extras",
        [
            (name, "installed" if extra["installed"] else extra["install"])
            for name, extra in facts["extras"].items()
        ],
    )
    cache = facts["cache"]
    size = f"{cache['bytes'] / 2**20:.1f} MiB in {cache['files']} files"
    section("cache", [("folder", cache["folder"]), ("size", size)])
    tests = [
        (test["name"], "pass" if test["passed"] else f"FAIL: {test['detail']}")
        for test in facts["self_test"]
    ]
    section("self-test", tests)
    lines.append("PASS" if facts["ok"] else "FAIL")
    return "\n".join(lines)


# ---- what is installed ---------------------------------------------------------------------------


def versions() -> dict[str, str | None]:
    """Version by package, None where it is absent; optional packages are not imported."""
    optional = dict.fromkeys(["triton", "numba", "PIL", "tqdm", "skimage", *NEIGHBOURS])
    return {
        "anoaug": __version__,
        "python": f"{platform.python_version()} on {platform.platform(terse=True)}",
        "torch": torch.__version__,
        "numpy": _version("numpy"),
        **{module: _version(module) for module in optional},
    }


def _version(module: str) -> str | None:
    """Version of the distribution that brings a module; several may, under other names."""
    if not _importable(module):
        return None
    for name in (*_distributions().get(module.split(".")[0], ()), module):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown version"


@functools.lru_cache(maxsize=1)
def _distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent of a dotted name is missing
        return False


def _extra(name: str, modules: tuple[str, ...]) -> dict[str, Any]:
    missing = [module for module in modules if not _importable(module)]
    return {
        "installed": not missing,
        "missing": missing,
        "install": f"pip install 'anoaug[{name}]'",
    }


def _cache(folder: Path) -> dict[str, Any]:
    files = [path for path in folder.glob("*") if path.is_file()] if folder.is_dir() else []
    return {
        "folder": str(folder),
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
    }


# ---- which backend -------------------------------------------------------------------------------


def backend(device: torch.device, name: str | None = None) -> dict[str, Any]:
    """What runs on a device, and why.

    Args:
        device: The device, which need not be there.
        name: A backend's name; ANOAUG_BACKEND or ``"auto"`` when None.

    Returns:
        ``device``, ``backend`` (a key of ``BACKEND_NAMES``, or None where nothing can
        run), ``why``, and ``absent``: why the device is not there, or None.
    """
    try:
        asked = ops.default_backend() if name is None else name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it would say once is what `why` says
            chosen = ops.resolve_backend(asked, device)
        why = _why(chosen, device)
        if asked != "auto":
            why = f"{'ANOAUG_BACKEND' if name is None else 'backend'} is {asked!r}"
    except (ImportError, RuntimeError, ValueError) as error:
        chosen, why = None, str(error)
    return {"device": str(device), "backend": chosen, "why": why, "absent": _absent(device)}


def _why(chosen: str, device: torch.device) -> str:
    if chosen == "cpu":
        return "the CPU's own way, same bits as the reference"
    if chosen == "triton":
        return f"Triton {_version('triton')} is installed"
    trouble = ops.triton_trouble() if device.type == "cuda" else None
    return f"{trouble or f'there are no kernels for {device.type}'}; slower, same bits"


def _absent(device: torch.device) -> str | None:
    if device.type != "cuda" or torch.cuda.is_available():
        return None
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    return "torch sees no CUDA device"


def _devices() -> list[torch.device]:
    """CPU and CUDA always, another accelerator where there is one."""
    names = ["cpu", "cuda"]
    if torch.backends.mps.is_available():
        names.append("mps")
    if torch.xpu.is_available():
        names.append("xpu")
    return [torch.device(name) for name in names]


def _cuda_devices() -> list[dict[str, Any]]:
    found = []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(number)
        found.append(
            {
                "device": f"cuda:{number}",
                "name": facts.name,
                "capability": f"{facts.major}{facts.minor}",
                "memory_gib": round(facts.total_memory / 2**30, 1),
            }
        )
    return found


# ---- self-test -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trial:
    """One method on one small batch."""

    name: str
    images: Tensor

    @property
    def index(self) -> Tensor:
        return torch.arange(3, 3 + len(self.images), device="cpu")

    def synth(self, backend: str) -> Synthesizer:
        keywords: dict[str, Any] = {}
        if "textures" in get(self.name).needs:
            keywords["textures"] = TextureBank.procedural(4, 64, seed=0)
        return create(self.name, p=1.0, seed=2024, backend=backend, **keywords)

    def run(self, backend: str, device: str = "cpu") -> AnomalyBatch:
        return self.synth(backend)(self.images.to(device), index=self.index, epoch=1)

    def against_reference(self, backend: str, device: str) -> tuple[AnomalyBatch, AnomalyBatch]:
        return self.run("torch"), self.run(backend, device)

    def replayed(self) -> tuple[AnomalyBatch, AnomalyBatch]:
        synth = self.synth("auto")
        first = synth(self.images, index=self.index, epoch=1)
        return first, synth(self.images, params=first.params)

    def elsewhere(self) -> tuple[AnomalyBatch, AnomalyBatch]:
        order = torch.arange(len(self.images) - 1, 0, -2, device="cpu")
        other = self.synth("auto")(self.images[order], index=self.index[order], epoch=1)
        first = self.run("auto")
        rows = {name: getattr(first, name)[order] for name in _COMPARED}
        return first._replace(**rows), other


def self_test() -> Iterator[dict[str, Any]]:
    """Check on a small batch that the backends here agree bit for bit.

    Yields:
        ``name``, ``passed`` and ``detail`` (what differs, or the error) of each check.
    """
    images = TextureBank.procedural(5, (48, 80), seed=1).data
    for name in _SELF_TEST:
        trial = _Trial(name, images)
        compare = functools.partial(functools.partial, trial.against_reference)
        yield _checked(f"{name}: CPU driver equals reference", compare("auto", "cpu"))
        if ops.default_backend() == "compiled":
            yield _checked(f"{name}: compiled loops equal reference", compare("compiled", "cpu"))
        yield _checked(f"{name}: replay repeats the batch", trial.replayed)
        yield _checked(f"{name}: same sample in another batch", trial.elsewhere)
        if ops.interpreting() and ops.triton_trouble() is None:
            yield _checked(f"{name}: interpreted kernels equal reference", compare("triton", "cpu"))
        if torch.cuda.is_available():
            yield _checked(f"{name}: CUDA equals reference", compare("auto", "cuda"))


def _checked(name: str, pair: Callable[[], tuple[AnomalyBatch, AnomalyBatch]]) -> dict[str, Any]:
    try:
        expected, got = pair()
        detail = difference(expected, got)
    except Exception as error:  # a self-test reports whatever goes wrong, then goes on
        detail = f"{type(error).__name__}: {error}"
    return {"name": name, "passed": not detail, "detail": detail}


def difference(expected: AnomalyBatch, got: AnomalyBatch) -> str:
    """How two batches differ in image, mask, label or kind; empty when they are equal."""
    if not bool(expected.label.any()):
        return "no sample is anomalous: the check would prove nothing"
    for name in _COMPARED:
        one, other = getattr(expected, name).cpu(), getattr(got, name).cpu()  # host: a self-test
        if one.shape != other.shape or one.dtype != other.dtype:
            return f"{name} is {one.dtype} {list(one.shape)} and {other.dtype} {list(other.shape)}"
        if not torch.equal(one, other):
            return f"{int((one != other).sum())} of {one.numel()} values of {name} differ"
    return ""
