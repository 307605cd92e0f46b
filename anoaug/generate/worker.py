"""One image drawn and written, here or in several processes."""

from __future__ import annotations

import base64
import contextlib
import io
import math
import multiprocessing
import os
import signal
import threading
import zlib
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import checks, recipe
from ..batch import AnomalyBatch
from ..synthesizer import Synthesizer
from . import journal, survey
from .plan import Plan, Task
from .survey import Source

# Higher levels take five times as long for 6 % less.
_PNG_LEVEL = 4
_PATIENCE = 20  # draws on one image before the next is tried
_DRAWS = 1000
_WIDE = 16  # columns with more numbers than this are in the table alone


@dataclass(frozen=True)
class Maker:
    """Makes image number k of a data set and says what it made.

    Attributes:
        plan: What the numbers mean.
        folder: Where the normal images are.
        out: The data set.
        synths: A synthesizer per method.
        masks: Folder of foreground masks, or None.
        mask_of: The mask's name by image.
    """

    plan: Plan
    folder: Path
    out: Path
    synths: dict[str, Synthesizer]
    masks: Path | None
    mask_of: dict[str, str]

    def __call__(self, number: int) -> str:
        """Write an image and its mask; returns its line of the manifest."""
        task = self.plan.task(number)
        name, mask_name = self.plan.names(task)
        if task.method == "good":
            source = self.plan.source(task)
            pixels = survey.pixels(self.folder, source, self.plan.settings.rule(source))
            files = {"image": journal.write(self.out, name, self._encoded(pixels[0]))}
            drawn: dict[str, Any] = {}
        else:
            source, batch, epoch, within = self.drawn(task)
            mask = (batch.mask[0] > 0).to(torch.uint8) * 255
            files = {
                "image": journal.write(self.out, name, self._encoded(batch.image[0])),
                "mask": journal.write(self.out, mask_name, encoded(mask, "png")),
            }
            drawn = {
                "foreground_sha256": within,
                "epoch": epoch,
                **described(self.synths[task.method], batch),
            }
            pixels = batch.image
        entry = {
            "number": number,
            "category": task.category,
            "method": task.method if drawn else None,
            "image": name,
            "mask": mask_name or None,
            "source": source.name,
            "source_sha256": source.sha256,
            "size": list(pixels.shape[2:]),
            "channels": pixels.shape[1],
        }
        if drawn:
            entry |= {"seed": self.plan.settings.seed, "index": number, **drawn}
            entry |= {"spec": recipe.SPEC_VERSION}
        return journal.plain({**entry, "sha256": files})

    def drawn(self, task: Task) -> tuple[Source, AnomalyBatch, int, str | None]:
        """The first draw that leaves a trace: the normal image, what became of it, and the epoch.

        Last comes the SHA-256 of the foreground's file, None without one.

        Raises:
            ValueError: None of many does.
        """
        synth, resize = self.synths[task.method], self.plan.settings.resize
        for epoch in range(_DRAWS):
            if epoch % _PATIENCE == 0:
                source = self.plan.source(task, epoch // _PATIENCE)
                images = survey.pixels(self.folder, source, self.plan.settings.rule(source))
                given, within = call_keywords(
                    synth, source, images, self.masks, self.mask_of, resize
                )
            batch = synth(images, index=[task.number], epoch=epoch, **given)
            # A patch of a flat image may land on its like: a mask without an anomaly.
            if int(batch.label[0]) and not torch.equal(batch.image, images):
                return source, batch, epoch, within
        raise ValueError(
            f"{task.method}: {_DRAWS} draws left no anomaly, the last on {source.name}; are the "
            "foregrounds empty, or min_area too large?"
        )

    def _encoded(self, pixels: Tensor) -> bytes:
        return encoded(pixels, self.plan.settings.format)


def call_keywords(
    synth: Synthesizer,
    source: Source,
    images: Tensor,
    masks: Path | None,
    mask_of: dict[str, str],
    resize: str,
) -> tuple[dict[str, Any], str | None]:
    """The keywords of a synthesizer's call on an image: its category and foreground.

    Beside them the SHA-256 of the foreground's file, None without one.
    """
    given: dict[str, Any] = {}
    within = None
    if source.category in synth.categories:
        given["category"] = source.category
    if masks is not None:
        size = (images.shape[2], images.shape[3])
        path = masks / mask_of[source.name]
        given["foreground"], within = survey.foreground(path, size, resize)
    return given, within


def encoded(pixels: Tensor, kind: str) -> bytes:
    """An image file of uint8 ``[C, h, w]`` with C of 1 or 3."""
    pillow = checks.require("PIL.Image", "images")
    shown = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous()
    options = {"compress_level": _PNG_LEVEL} if kind == "png" else {}
    stream = io.BytesIO()
    pillow.fromarray(shown.numpy()).save(stream, format=kind.upper(), **options)
    return stream.getvalue()


# ---- what was drawn, in words --------------------------------------------------------------------


def described(synth: Synthesizer, batch: AnomalyBatch) -> dict[str, Any]:
    """What a batch of one is, for people and for a replay."""
    table, region = batch.params.table.numpy(), batch.params.within
    # host: a line of the journal
    confined = {} if region is None or region.isnan().any() else {"within": region[0].tolist()}
    return {
        "kind": synth.kinds[int(batch.kind[0])],
        "area": round(float((batch.mask > 0).float().mean()), 6),
        "box": batch.boxes()[0].tolist(),
        "parameters": parameters(synth, batch),
        "banks": list(batch.params.banks),
        "table": base64.b64encode(zlib.compress(table.astype("<f4").tobytes(), 9)).decode(),
    } | confined


def table_of(text: str) -> Tensor:
    """The table of :func:`described`, float32 ``[1, P]``."""
    row = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<f4")
    return torch.from_numpy(row.astype(np.float32))[None]


def parameters(synth: Synthesizer, batch: AnomalyBatch) -> dict[str, Any]:
    """The columns of the layers that are there, by name; colour tables are left to the table."""
    drawn = recipe.recipe(synth.laws(batch.image.shape[1], batch.image.dtype))
    table = batch.params.table.numpy()
    values, bits = drawn.describe(table), drawn.describe(table.view(np.int32))
    found: dict[str, Any] = {}
    for place, layer in enumerate(drawn.layers):
        if not values[f"layer{place}.gate"][0] > 0:
            continue
        bank = getattr(synth.layers[layer.law].source, "bank", None)
        for name in (name for name in values if name.startswith(f"layer{place}.")):
            column = name.rsplit(".", 1)[1]
            if column == "gate" or values[name].size > _WIDE:
                continue
            found[name] = _readable(name, values[name][0], bits[name][0])
            # Masks of shapes have images of their own.
            if column == "image" and bank is not None and ".source." in name:
                found[name] = bank.names[int(bits[name][0])]
    return found


def _readable(name: str, value: Any, bits: Any) -> Any:
    if np.ndim(value):
        return [_readable(name, *pair) for pair in zip(value, bits, strict=True)]
    # Columns do not say whether they hold integers. Small ones, read as floats, are subnormal or
    # NaN, which no law draws; keys are any 32 bits.
    number = float(value)
    key = name.rsplit(".", 1)[1].startswith("key")
    if key or math.isnan(number) or 0 < abs(number) < float(np.finfo(np.float32).tiny):
        return int(bits) & 0xFFFFFFFF if key else int(bits)
    if math.isinf(number):
        return str(number)
    return float(str(value))  # the shortest decimal that is this float32


# ---- processes -----------------------------------------------------------------------------------

Lines = Generator[tuple[int, str], None, None]

_maker: Maker | None = None  # of a worker process


def lines(maker: Maker, numbers: Sequence[int], jobs: int) -> Lines:
    """Make images, in this process or several; gives number and line as they are finished.

    Raises:
        Exception: What making one raised; others that were under way are finished first.
        ChildProcessError: A process was killed.
    """
    if jobs == 1 or len(numbers) < 2:
        yield from _here(maker, numbers)
        return
    # Spawned: a fork would copy locks that torch's threads hold.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(numbers)), context, _start, (maker,))
    try:
        left = iter(numbers)
        waiting: dict[Future[str], int] = {}
        while True:
            with _deaf_to_interrupts() if not waiting else contextlib.nullcontext():
                for number in left:
                    waiting[pool.submit(_make, number)] = number
                    if len(waiting) >= 4 * jobs:
                        break
            if not waiting:
                return
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield waiting.pop(future), future.result()
    except BrokenProcessPool as error:
        raise ChildProcessError(
            f"a process was killed, perhaps for want of memory; try fewer jobs: {journal.GO_ON}"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _here(maker: Maker, numbers: Sequence[int]) -> Iterator[tuple[int, str]]:
    # As in a worker process: one image at a time gives several threads too little to do.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for number in numbers:
            yield number, maker(number)
    finally:
        torch.set_num_threads(threads)


def _make(number: int) -> str:
    assert _maker is not None
    return _maker(number)


def _start(maker: Maker) -> None:
    """Prepare a worker process."""
    global _maker
    _maker = maker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and tells
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """While processes start, so that they inherit it: an interrupt would make each show a trace."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
