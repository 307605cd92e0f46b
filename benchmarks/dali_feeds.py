"""Image files through NVIDIA DALI: three ways to anomalies in its batches.

``iterator`` wraps DALI's iterator (SynthIterator), ``inside`` has the synthesizer as an operator of
the pipeline, ``dynamic`` calls DALI's operators one by one (dynamic mode, captured, so that it
prefetches as a pipeline does). All decode and resize alike, and give whole batches alone.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from anoaug.checks import require
from anoaug.loaders import dali

THREADS = 2  # of DALI's that decode
KINDS = ("iterator", "inside", "dynamic")


def there() -> bool:
    """Whether DALI is installed, which there is for Linux alone."""
    try:
        return importlib.util.find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:  # the namespace above it
        return False


def feed(
    kind: str, paths: list[Path], size: int, batch: int, synth: Any, device: torch.device
) -> Iterable[Any]:
    """The batches of an epoch, each time it is iterated: dicts with ``image`` and ``mask``.

    Args:
        kind: One of ``KINDS``.
        paths: Image files of one folder.
        size: Side of the images in pixels.
        batch: Images per batch.
        synth: The synthesizer.
        device: Where DALI works and batches are.

    Raises:
        ValueError: No such kind.
    """
    if kind == "iterator":
        pipeline = dali.mvtec_pipeline(
            paths[0].parent, size, batch, _named(device), threads=THREADS,
            device_id=device.index or 0,
        )  # fmt: skip
        names = ["image", "index", "category"]
        return dali.SynthIterator(_iterator(pipeline, names), synth, layout="HWC")
    if kind == "inside":
        return _Inside(paths, size, batch, synth, device)
    if kind == "dynamic":
        return _Dynamic(paths, size, batch, synth, device)
    raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")


def decoding(paths: list[Path], size: int, batch: int, device: torch.device) -> Iterator[Any]:
    """Batches decoded and resized, without end and without synthesis."""
    pipeline = dali.mvtec_pipeline(
        paths[0].parent, size, batch, _named(device), threads=THREADS, device_id=device.index or 0
    )
    iterator = _iterator(pipeline, ["image", "index", "category"])
    while True:
        yield from iterator


def _named(device: torch.device) -> str:
    return "gpu" if device.type == "cuda" else "cpu"


def _iterator(pipeline: Any, names: list[str]) -> Any:
    plugin = require("nvidia.dali.plugin.pytorch", "dali")
    return plugin.DALIGenericIterator(
        [pipeline], names, reader_name="Reader", last_batch_policy=plugin.LastBatchPolicy.DROP,
        auto_reset=True,
    )  # fmt: skip


def _source(paths: list[Path]) -> dict[str, Any]:
    """What a reader of numbered files takes."""
    return {
        "file_root": str(paths[0].parent), "files": [path.name for path in paths],
        "labels": list(range(len(paths))), "random_shuffle": True, "initial_fill": len(paths),
    }  # fmt: skip


class _Inside:
    """A pipeline that decodes, resizes and synthesises."""

    def __init__(
        self, paths: list[Path], size: int, batch: int, synth: Any, device: torch.device
    ) -> None:
        pipelines = require("nvidia.dali", "dali")
        fn = require("nvidia.dali.fn", "dali")
        gpu = device.type == "cuda"
        padded = -(-len(paths) // batch) * batch

        @pipelines.pipeline_def
        def pipeline() -> Any:
            encoded, index = fn.readers.file(**_source(paths), pad_last_batch=True, name="Reader")
            image = fn.decoders.image(encoded, device="mixed" if gpu else "cpu")
            image = fn.resize(image, size=[size, size])
            number = index.gpu() if gpu else index
            return dali.synthesize(
                image, number, synth, layout="HWC", epoch_size=padded, device=_named(device)
            )

        made = pipeline(
            batch_size=batch, num_threads=THREADS, seed=0, exec_dynamic=True,
            device_id=(device.index or 0) if gpu else None,
        )  # fmt: skip
        made.build()
        self.iterator = _iterator(made, ["image", "mask", "label"])

    def __iter__(self) -> Iterator[Any]:
        return (outputs[0] for outputs in self.iterator)


class _Dynamic:
    """Operators called one by one; DALI records them in the first pass and looks ahead later."""

    def __init__(
        self, paths: list[Path], size: int, batch: int, synth: Any, device: torch.device
    ) -> None:
        self.dynamic = require("nvidia.dali.experimental.dynamic", "dali")
        self.dynamic.set_num_threads(THREADS)
        self.size, self.device, self.batches = size, device, len(paths) // batch
        self.change = dali.DynamicMap(synth, layout="HWC")
        self.reader = self.dynamic.readers.File(**_source(paths), max_batch_size=batch)
        self.batch, self.epoch = batch, 0

    def __iter__(self) -> Iterator[Any]:
        self.change.set_epoch(self.epoch)
        self.epoch += 1
        passing = self.reader.next_epoch(batch_size=self.batch, capture=True)
        for number, (encoded, index) in enumerate(passing):
            image = self.dynamic.decoders.image(encoded, device=_named(self.device))
            image = self.dynamic.resize(image, size=[self.size, self.size])
            if number < self.batches:  # the last one is filled up with images of the next epoch
                yield self.change({"image": image, "index": index})
