"""The torch.library table: ``anoaug::sample`` and ``anoaug::render`` with their fake functions.

Opaque to torch.compile on purpose: there is nothing to fuse with one fused kernel, and Inductor
takes half a minute over integer hashing. The reference is the default on every device, the CPU has
a faster driver, CUDA the kernels.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import checks, cpu, parts, recipe
from .reference import render as reference

BACKENDS = ("auto", "triton", "torch", "compiled")

_library = torch.library.Library("anoaug", "DEF")
_library.define(
    "sample(Tensor index, Tensor state, Tensor category, Tensor[] banks, Tensor[] histograms, "
    "Tensor[] categories, str laws, SymInt height, SymInt width, bool pin, Tensor? wanted=None) "
    "-> Tensor"
)
_library.define(
    "render(Tensor image, Tensor table, Tensor[] slots, Tensor[] banks, Tensor? norm, str layout, "
    "int foreground, bool changed, bool soft, bool clean, ScalarType dtype, bool channels_last, "
    "str backend) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_library.define(
    "field(Tensor table, Tensor[] banks, str layout, SymInt height, SymInt width, str backend) "
    "-> Tensor"
)


# ---- which backend -------------------------------------------------------------------------------


# Older compilers take no tuple of functions as a compile-time argument.
TRITON_FLOOR = (3, 4)


@functools.lru_cache(maxsize=1)
def triton_trouble() -> str | None:
    """Why Triton cannot run here, or None if it can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    # Asked of the module: forks install it under other distribution names.
    version = checks.require("triton", "triton").__version__
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < TRITON_FLOOR:
        return f"Triton {version} is older than {TRITON_FLOOR[0]}.{TRITON_FLOOR[1]}"
    return None


@functools.lru_cache(maxsize=1)
def interpreting() -> bool:
    """Whether Triton kernels run in its interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@functools.lru_cache(maxsize=8)
def _say_once(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)


def default_backend() -> str:
    """The backend of ANOAUG_BACKEND, else ``"auto"``.

    Raises:
        ValueError: ANOAUG_BACKEND holds an unknown name.
    """
    name = os.environ.get("ANOAUG_BACKEND", "auto")
    return checks.one_of("ANOAUG_BACKEND", name, BACKENDS)


def resolve_backend(name: str, device: torch.device) -> str:
    """What runs on a device: ``"triton"``, ``"torch"`` or, on the CPU, ``"cpu"`` or ``"compiled"``.

    Raises:
        RuntimeError: A backend was asked for by name and cannot run there.
    """
    if name == "torch":
        return "torch"
    if name == "triton":
        trouble = triton_trouble()
        if trouble is not None:
            raise RuntimeError(
                f"backend='triton' was asked for and {trouble}: "
                "pip install -U 'anoaug[triton]', or take backend='auto'"
            )
        if device.type != "cuda" and not interpreting():
            raise RuntimeError(
                f"backend='triton' was asked for on {device.type}; move images to 'cuda', set "
                "TRITON_INTERPRET=1 for its interpreter, or take backend='auto'"
            )
        return "triton"
    if name == "compiled":
        if device.type != "cpu":
            raise RuntimeError(
                f"backend='compiled' was asked for on {device.type}; it is for the CPU alone: "
                "take backend='auto'"
            )
        return "compiled"
    if device.type == "cpu":
        return "cpu"
    missing = triton_trouble() if device.type == "cuda" else "no kernels for this device"
    if missing is None:
        return "triton"
    _say_once(f"anoaug: {missing}; the torch reference runs on {device.type} (slower, same bits)")
    return "torch"


# ---- sample --------------------------------------------------------------------------------------


def bank_info(bank: Tensor, histograms: Tensor, category: Tensor) -> parts.BankInfo:
    """What laws may know of a bank: its tensor's shape, histograms or outlines, and categories."""
    counts = histograms.numpy() if histograms.dim() == 3 else None
    outlines = histograms.numpy() if histograms.dim() == 2 else None
    images, channels, height, width = bank.shape
    return parts.BankInfo(images, channels, height, width, category.numpy(), counts, outlines)


def _sample(
    index: Tensor,
    state: Tensor,
    category: Tensor,
    banks: Sequence[Tensor],
    histograms: Sequence[Tensor],
    categories: Sequence[Tensor],
    laws: str,
    height: int,
    width: int,
    pin: bool,
    wanted: Tensor | None = None,
) -> Tensor:
    parsed = recipe.recipe(laws)
    size = (len(index) * parsed.laws.rows, parsed.width)
    table = torch.zeros(size, dtype=torch.float32, device="cpu", pin_memory=pin)
    infos = [bank_info(*each) for each in zip(banks[::2], histograms, categories, strict=True)]
    seed, epoch = state.tolist()  # host: index and state live there
    parsed.sample(
        seed, epoch, index.numpy(), category.numpy(), (height, width), infos, table.numpy(),
        None if wanted is None else wanted.numpy(),
    )  # fmt: skip
    return table


def _sample_fake(
    index: Tensor,
    state: Tensor,
    category: Tensor,
    banks: Sequence[Tensor],
    histograms: Sequence[Tensor],
    categories: Sequence[Tensor],
    laws: str,
    height: int,
    width: int,
    pin: bool,
    wanted: Tensor | None = None,
) -> Tensor:
    parsed = recipe.recipe(laws)
    return index.new_empty((index.shape[0] * parsed.laws.rows, parsed.width), dtype=torch.float32)


# ---- render --------------------------------------------------------------------------------------


def _render(
    image: Tensor,
    table: Tensor,
    slots: Sequence[Tensor],
    banks: Sequence[Tensor],
    norm: Tensor | None,
    layout: str,
    foreground: int,
    changed: bool,
    soft: bool,
    clean: bool,
    dtype: torch.dtype,
    channels_last: bool,
    backend: str,
) -> reference.Rendered:
    wanted = reference.Wanted(foreground, changed, soft, clean, dtype)
    chosen = resolve_backend(backend, image.device)
    if chosen == "triton":
        return _render_triton(image, table, slots, banks, norm, layout, wanted, channels_last)
    if chosen == "compiled":
        driver = _compiled()
        return driver.render(
            image, table, slots, banks, norm, recipe.layout(layout), wanted, channels_last
        )
    run = cpu.render if chosen == "cpu" else reference.render
    out = run(image, table, slots, banks, norm, recipe.layout(layout), wanted)
    if not channels_last:
        return out
    last = torch.channels_last
    planes = out[1].contiguous(memory_format=last) if clean else out[1]
    return (out[0].contiguous(memory_format=last), planes, *out[2:])


def _compiled() -> Any:
    """The compiled backend, which needs Numba."""
    checks.require("numba", "compiled")
    return importlib.import_module("anoaug.compiled.driver")


def _render_triton(
    image: Tensor,
    table: Tensor,
    slots: Sequence[Tensor],
    banks: Sequence[Tensor],
    norm: Tensor | None,
    layout: str,
    wanted: reference.Wanted,
    channels_last: bool,
) -> reference.Rendered:
    from .kernels import render as kernels

    # Strides are assumed, not passed: a strided or expanded table would be read beyond its end.
    image, table = natively_laid_out(image), table.contiguous()
    batch, _, height, width = image.shape
    memory = torch.channels_last if channels_last else torch.contiguous_format
    out = torch.empty(image.shape, dtype=wanted.dtype, device=image.device, memory_format=memory)
    untouched = torch.empty_like(out) if wanted.clean else None
    mask = torch.empty(batch, 1, height, width, dtype=torch.float32, device=image.device)
    label = torch.zeros(batch, dtype=torch.int64, device=image.device)
    kind = torch.empty_like(label)
    constants = kernel_constants(layout, wanted.foreground, wanted.changed, wanted.soft)
    tile = INTERPRETED_TILE if interpreting() else kernels.TILE_PIXELS
    if image.numel():
        with current(image.device):
            kernels.launch(
                image, out, untouched, mask, label, kind, table, norm, tuple(slots), tuple(banks),
                constants, tile,
            )  # fmt: skip
    empty = torch.empty(0, dtype=wanted.dtype, device=image.device)
    return out, empty if untouched is None else untouched, mask, label, kind


def current(device: torch.device) -> AbstractContextManager[Any]:
    """Make a device the current one: Triton launches there, whatever the tensors' device is."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


# The interpreter pays about 15 ms per program, whatever its size.
INTERPRETED_TILE = 16384


def natively_laid_out(image: Tensor) -> Tensor:
    """The image if a kernel can read it in place (planar or interleaved), else one copy."""
    if image.is_contiguous() or image.is_contiguous(memory_format=torch.channels_last):
        return image
    return image.contiguous()


@functools.lru_cache(maxsize=256)
def kernel_constants(layout: str, foreground: int, changed: bool, soft: bool) -> dict[str, Any]:
    """The compile-time arguments of the render kernel for a layout."""
    from .kernels import render as kernels

    parsed = recipe.layout(layout)
    steps = [step for layer in parsed.layers for step in layer.mask]
    spans = np.cumsum([0, *(len(layer.mask) for layer in parsed.layers)])
    masks = tuple(parts.kernel_function("masks", step.name) for step in steps)
    sources = tuple(parts.kernel_function("sources", x.source.name) for x in parsed.layers)
    weights = tuple(parts.kernel_function("blends", x.weight.name) for x in parsed.layers)
    mixes = tuple(parts.kernel_function("blends", x.mix) for x in parsed.layers)
    return {
        "MASKS": masks,
        "MASK_OFFS": tuple(step.offset for step in steps),
        "MASK_OPTS": tuple(step.option for step in steps),
        "SPANS": tuple(int(n) for n in spans),
        "GATES": tuple(layer.gate for layer in parsed.layers),
        "SOURCES": sources,
        "SOURCE_OFFS": tuple(layer.source.offset for layer in parsed.layers),
        "SOURCE_OPTS": tuple(layer.source.option for layer in parsed.layers),
        "WEIGHTS": weights,
        "WEIGHT_OFFS": tuple(layer.weight.offset for layer in parsed.layers),
        "MIXES": mixes,
        "FOREGROUND": foreground,
        "CHANGED": changed,
        "SOFT": soft,
        "PEAK": parsed.peak,
        "DIGEST": kernels.digest(masks + sources + weights + mixes),
    }


def _render_fake(
    image: Tensor,
    table: Tensor,
    slots: Sequence[Tensor],
    banks: Sequence[Tensor],
    norm: Tensor | None,
    layout: str,
    foreground: int,
    changed: bool,
    soft: bool,
    clean: bool,
    dtype: torch.dtype,
    channels_last: bool,
    backend: str,
) -> reference.Rendered:
    batch, _, height, width = image.shape
    memory = torch.channels_last if channels_last else torch.contiguous_format
    out = torch.empty(image.shape, dtype=dtype, device=image.device, memory_format=memory)
    return (
        out,
        torch.empty_like(out) if clean else image.new_empty(0, dtype=dtype),
        image.new_empty((batch, 1, height, width), dtype=torch.float32),
        image.new_empty(batch, dtype=torch.int64),
        image.new_empty(batch, dtype=torch.int64),
    )


# ---- field ---------------------------------------------------------------------------------------


def _field(
    table: Tensor, banks: Sequence[Tensor], layout: str, height: int, width: int, backend: str
) -> Tensor:
    parsed = recipe.layout(layout)
    chosen = resolve_backend(backend, table.device)
    if chosen == "triton":
        from .kernels import render as kernels

        size = (len(table), 1, height, width)
        out = torch.empty(size, dtype=torch.float32, device=table.device)
        if len(table):
            tile = INTERPRETED_TILE if interpreting() else kernels.TILE_PIXELS
            constants = kernel_constants(layout, -1, False, False)
            with current(table.device):
                kernels.launch_field(out, table.contiguous(), tuple(banks), constants, tile)
        return out
    if chosen == "compiled":
        return _compiled().field(table, banks, parsed, height, width)
    run = cpu.field if chosen == "cpu" else reference.field
    return run(table, banks, parsed, height, width)


def _field_fake(
    table: Tensor, banks: Sequence[Tensor], layout: str, height: int, width: int, backend: str
) -> Tensor:
    return table.new_empty((table.shape[0], 1, height, width), dtype=torch.float32)


_library.impl("sample", _sample, "CompositeExplicitAutograd")
_library.impl("render", _render, "CompositeExplicitAutograd")
_library.impl("field", _field, "CompositeExplicitAutograd")
torch.library.register_fake("anoaug::field", _field_fake)
torch.library.register_fake("anoaug::sample", _sample_fake)
torch.library.register_fake("anoaug::render", _render_fake)

sample = torch.ops.anoaug.sample.default
render = torch.ops.anoaug.render.default
field = torch.ops.anoaug.field.default
