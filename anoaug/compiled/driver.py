"""The render and field ops by the compiled loops: tensors to arrays, a layout to a program."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..recipe import MIN_AREA, Layout, Step
from ..reference.masks import level_of
from ..reference.render import Rendered, Wanted
from . import blends, loops, masks, sources
from .arrays import Batch, Columns, Copies, Floats, Longs, Program, Results, Wish

# dtypes the loops read and write themselves; the others pass through float32, exactly. Each pair is
# compiled on its own.
_NATIVE = (torch.uint8, torch.float32)
_NOTHING = np.empty((0, 0), np.float32)


def _number(names: Sequence[str], name: str) -> int:
    if name not in names:
        raise RuntimeError(
            f"backend='compiled': {name!r} has no compiled twin; use backend='auto', which runs "
            "its torch reference"
        )
    return names.index(name)


@functools.lru_cache(maxsize=256)
def program(layout: Layout) -> Program:
    """The arrays of a layout.

    Raises:
        RuntimeError: A part from outside the package has no compiled twin.
    """

    def step(one: Step) -> list[int]:
        return [_number(masks.NAMES, one.name), one.offset, one.option]

    steps = [step(one) for layer in layout.layers for one in layer.mask]
    layers = [
        [
            layer.gate, _number(sources.NAMES, layer.source.name), layer.source.offset,
            layer.source.option, _number(blends.WEIGHTS, layer.weight.name), layer.weight.offset,
            _number(blends.MIXES, layer.mix),
        ]
        for layer in layout.layers
    ]  # fmt: skip
    spans = np.cumsum([0, *(len(layer.mask) for layer in layout.layers)])
    peak = layout.peak
    scales = [peak, 0.5 * peak, 1.0 / peak, 255.0 / peak, peak / 255.0]
    return Program(
        np.array(steps, np.int64), np.array(layers, np.int64), spans.astype(np.int64),
        np.array(scales, np.float32),
    )  # fmt: skip


def render(
    image: Tensor, table: Tensor, slots: Sequence[Tensor], banks: Sequence[Tensor],
    norm: Tensor | None, layout: Layout, wanted: Wanted, channels_last: bool = False,
) -> Rendered:  # fmt: skip
    """Render a batch; arguments and results are those of ``reference.render.render``.

    With ``channels_last`` images and clean images come in that memory format.
    """
    samples, channels, height, width = image.shape
    memory = torch.channels_last if channels_last else torch.contiguous_format
    read = image if image.dtype in _NATIVE else image.to(torch.float32)
    read = read.contiguous(memory_format=memory)
    # A float image may become another float; an integer one keeps its dtype or is normalised.
    dtype = wanted.dtype if wanted.dtype in _NATIVE else torch.float32
    out = torch.empty(image.shape, dtype=dtype, device="cpu", memory_format=memory)
    clean = torch.empty_like(out) if wanted.clean else out.new_empty(0)
    mask = torch.zeros(samples, 1, height, width, dtype=torch.float32, device="cpu")
    label, kind = torch.zeros(2, samples, dtype=torch.int64, device="cpu")
    lines, target = _in_memory(read, channels_last), _in_memory(out, channels_last)
    untouched = _in_memory(clean, channels_last) if wanted.clean else target
    batch, _held = _batch(read, lines, slots, banks, layout, wanted.foreground, channels_last)
    results = Results(target.reshape(-1), mask.numpy(), label.numpy(), kind.numpy())
    scale, bias = (_NOTHING, _NOTHING)
    if norm is not None:
        scale, bias = _per_value(norm, width, channels_last)
    copies = Copies(lines, target, untouched, wanted.clean, scale, bias)
    by = _NOTHING if norm is None else norm.contiguous().numpy()
    wish = Wish(by, wanted.foreground, wanted.changed, wanted.soft)
    arguments = (batch, results, copies, _columns(table), program(layout), wish)
    loop = loops.render_loop()
    share_out(lambda start, stop: loop(*arguments, start, stop), samples)
    return out.to(wanted.dtype), clean.to(wanted.dtype), mask, label, kind


def lay(
    image: Tensor, out: Tensor, table: Tensor, slots: Sequence[Tensor], banks: Sequence[Tensor],
    layout: Layout, foreground: int,
) -> None:  # fmt: skip
    """Write pixels with an anomaly, whatever its area, into ``out``; others are left as they are.

    Args:
        image: ``[B, C, H, W]`` uint8 or float32, contiguous or so in channels_last.
        out: Like ``image``, or the image itself, if no source reads that.
        table: As of :func:`render`, likewise the others.
        slots: Given tensors.
        banks: The op's list.
        layout: Layers.
        foreground: Which slot confines them, or -1.
    """
    samples, channels, height, width = image.shape
    last = not image.is_contiguous()
    lines, target = _in_memory(image, last), _in_memory(out, last)
    batch, _held = _batch(image, lines, slots, banks, layout, foreground, last)
    mask = np.empty((samples, 1, height, width), np.float32)
    label, kind = np.zeros((2, samples), np.int64)
    results = Results(target.reshape(-1), mask, label, kind)
    none = lines[:, :0]  # no row is copied
    copies = Copies(none, none, none, False, _NOTHING, _NOTHING)
    least = table.clone()
    least[:, MIN_AREA] = 0.0
    wish = Wish(_NOTHING, foreground, False, True)
    arguments = (batch, results, copies, _columns(least), program(layout), wish)
    loop = loops.render_loop()
    share_out(lambda start, stop: loop(*arguments, start, stop), samples)


def _batch(
    read: Tensor, lines: npt.NDArray[Any], slots: Sequence[Tensor], banks: Sequence[Tensor],
    layout: Layout, foreground: int, channels_last: bool,
) -> tuple[Batch, list[Tensor]]:  # fmt: skip
    """What the loops read, and the tensors that have to live as long."""
    _, channels, height, width = read.shape
    plane = height * width
    strides = (channels * plane, plane, width, 1)
    if channels_last:
        strides = (channels * plane, 1, width * channels, channels)
    addresses, sizes, held = _bank_addresses(banks, layout)
    shape = (len(read), channels, height, width)
    levels = _levels(slots, read_slots(layout, foreground))
    return Batch(lines.reshape(-1), strides, shape, levels, addresses, sizes), held


def _columns(table: Tensor) -> Columns:
    rows = table.contiguous().numpy()
    return Columns(rows, rows.view(np.int32), rows.view(np.uint8))


def _per_value(norm: Tensor, width: int, channels_last: bool) -> tuple[Floats, Floats]:
    """Scale and bias for every value of a row in the order of memory; see ``_in_memory``."""
    scale, bias = (
        (one.repeat(width)[None] if channels_last else one[:, None].repeat(1, width)).numpy()
        for one in norm.contiguous()
    )
    return scale, bias


def _bank_addresses(banks: Sequence[Tensor], layout: Layout) -> tuple[Longs, Longs, list[Tensor]]:
    """The last two fields of ``Batch``, and the tensors that have to live as long as these."""
    pictures = {x.source.option for x in layout.layers if x.source.name == "given"}
    held, sizes = [], np.zeros((len(banks), 4), np.int64)
    for number, bank in enumerate(banks):
        if number in pictures and bank.dtype != torch.uint8:
            held.append(bank.to(torch.float32).contiguous())
        else:
            held.append(bank.contiguous())
            sizes[number] = bank.shape
    return np.array([one.data_ptr() for one in held], np.int64), sizes, held


def _in_memory(images: Tensor, channels_last: bool) -> npt.NDArray[Any]:
    """Images as rows in the order of memory, ``[B, rows, values]``."""
    batch, channels, height, width = images.shape
    if channels_last:
        return images.permute(0, 2, 3, 1).reshape(batch, height, width * channels).numpy()
    return images.view(batch, channels * height, width).numpy()


def field(
    table: Tensor, banks: Sequence[Tensor], layout: Layout, height: int, width: int
) -> Tensor:
    """Signed level of the first layer's mask; as ``reference.render.field``."""
    out = torch.empty(len(table), 1, height, width, dtype=torch.float32, device="cpu")
    parsed = program(layout)
    addresses, _, _held = _bank_addresses(banks, layout)
    steps = parsed.steps[: parsed.spans[1]]
    arguments = (out.numpy(), _columns(table), _levels((), ()), addresses, steps)
    loop = loops.field_loop()
    share_out(lambda start, stop: loop(*arguments, start, stop), len(table))
    return out


def read_slots(layout: Layout, foreground: int) -> list[int]:
    """Numbers of the given tensors that the loops read; what sought its place has read the rest."""
    steps = [step for layer in layout.layers for step in layer.mask]
    read = {step.option for step in steps if step.name in masks.READ_SLOTS}
    return sorted(read if foreground < 0 else read | {foreground})


def _levels(slots: Sequence[Tensor], read: Sequence[int]) -> Floats:
    """The given tensors as levels, ``[S, B, H, W]``; those not to be read are left unset."""
    if not read:
        return np.empty((0, 0, 0, 0), np.float32)
    batch, _, height, width = slots[0].shape
    levels = np.empty((len(slots), batch, height, width), np.float32)
    for number in read:
        levels[number] = level_of(slots[number])[:, 0].numpy()
    return levels


# ---- threads -------------------------------------------------------------------------------------

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def share_out(work: Callable[[int, int], Any], samples: int) -> None:
    """Run ``work(start, stop)`` over the samples on as many threads as torch may use here."""
    threads = min(torch.get_num_threads(), samples)
    if threads <= 1:
        work(0, samples)
        return
    # A pool does not outlive a fork.
    pool = _pools.get((os.getpid(), threads))
    if pool is None:
        pool = _pools[os.getpid(), threads] = ThreadPoolExecutor(threads, "anoaug")
    bounds = np.linspace(0, samples, threads + 1).astype(int)
    jobs = [pool.submit(work, int(a), int(b)) for a, b in zip(bounds, bounds[1:], strict=False)]
    for job in jobs:
        job.result()
