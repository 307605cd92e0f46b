"""PyTorch's DataLoader: synthesis after it, on the device, or inside its CPU workers."""

from __future__ import annotations

import operator
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, default_collate

from ..synthesizer import Synthesizer
from .contract import BatchContract, IndexedImage, Names, tensors


class IndexedDataset(Dataset[Any]):
    """A map-style dataset whose samples say which they are, for reproducible anomalies.

    A mapping gets the index under ``key``; a tuple (or list) at its end; anything else becomes the
    named tuple ``(image, index)``, which torch's collating keeps. AnomalyLoader and AnomalyCollate
    then make anomalies a function of (seed, epoch, index) alone, whatever the batch size, the order
    or the number of workers, and take the index out of tuples again. It is found as the loader's
    dataset, also inside ``Subset`` (the index is then the full dataset's); wrapped otherwise, say
    ``index=-1``. Several datasets are indexed together: ``IndexedDataset(ConcatDataset(...))``.

    Other attributes are the dataset's own.

    Args:
        dataset: The dataset, with ``__getitem__``.
        key: Name for the index in mappings.

    Raises:
        TypeError: An IterableDataset, whose samples have no index.
    """

    def __init__(self, dataset: Any, key: str = "index") -> None:
        if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
            raise TypeError(
                f"dataset: expected one with __getitem__, got {type(dataset).__name__}; a stream "
                "can add an index of its own to its samples"
            )
        self.dataset = dataset
        self.key = key

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        return self._with_index(self.dataset[index], index)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        fetch = getattr(self.dataset, "__getitems__", None)
        samples = fetch(indices) if callable(fetch) else [self.dataset[i] for i in indices]
        return [self._with_index(x, i) for x, i in zip(samples, indices, strict=True)]

    def __getattr__(self, name: str) -> Any:
        return _passed_on(self, "dataset", name)

    def _with_index(self, sample: Any, index: Any) -> Any:
        if isinstance(index, (list, tuple)):  # batch_size=None: the dataset makes whole batches
            numbers = [self._number(i) for i in index]
            number: Any = torch.tensor(numbers, dtype=torch.int64, device="cpu")
        else:
            number = self._number(index)
        if isinstance(sample, Mapping):
            if self.key in sample:
                raise ValueError(
                    f"key: expected samples without {self.key!r}, got one that has it; choose "
                    "another key=, or leave IndexedDataset out if it is the sample's index"
                )
            return {**sample, self.key: number}
        if isinstance(sample, (tuple, list)):
            return _IndexedSample((*sample, number))
        return IndexedImage(sample, number)

    def _number(self, index: int) -> int:
        number = operator.index(index)
        return number + len(self.dataset) if number < 0 else number


class _IndexedSample(tuple[Any, ...]):
    """A sample with its index last; the class tells AnomalyCollate so."""

    __slots__ = ()


class AnomalyCollate:
    """A ``collate_fn`` that synthesises inside CPU DataLoader workers.

    ``DataLoader(dataset, num_workers=8, collate_fn=AnomalyCollate(synth))`` collates and then
    treats the batch as :class:`BatchContract` says. Each worker gets a copy of the synthesizer,
    fork or spawn; without an index every worker and every epoch draws anew.

    With an index (:class:`IndexedDataset`) anomalies are those AnomalyLoader gives. Then call
    ``set_epoch(epoch)``, here or on the synthesizer, before each epoch: seed and epoch are in
    shared memory, so it reaches workers that run already (``persistent_workers=True``), which
    ``train()`` and ``eval()`` do not.

    Args:
        synth: The synthesizer, its banks on the CPU.
        collate: Makes a batch of a list of samples; ``torch.utils.data.default_collate`` by
            default.
        image, mask, label, index, category, foreground, extra: As in :class:`BatchContract`.

    Raises:
        TypeError: Not a synthesizer, or batches of no known structure.
        ValueError: An index comes and no epoch was set.
    """

    def __init__(
        self,
        synth: Synthesizer,
        collate: Callable[[list[Any]], Any] | None = None,
        *,
        image: str = "image",
        mask: Names = ("mask", "gt_mask"),
        label: Names | None = ("label", "gt_label"),
        index: str | int | None = "index",
        category: str | None = "category",
        foreground: str | None = "foreground",
        extra: Names | None = None,
    ) -> None:
        self.synth = _synthesizer(synth)
        self.collate = default_collate if collate is None else collate
        self.contract = BatchContract(image, mask, label, index, category, foreground, extra)
        self._looked = False
        self.synth.share_memory()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, in all workers too."""
        self.synth.set_epoch(epoch)

    def __call__(self, samples: list[Any]) -> Any:
        """The samples as a batch with anomalies."""
        batch = self.collate(samples)
        first = samples[0] if len(samples) > 0 else None
        if isinstance(first, IndexedImage) and isinstance(batch, (tuple, list)) and len(batch) == 2:
            batch = IndexedImage(*batch)  # a collate function of one's own may make a list of it
        contract = self.contract.for_batch(batch, isinstance(first, _IndexedSample))
        contract.structure(batch, self.synth)
        if not self._looked:
            contract.warn_of_classes(batch)
            self._looked = True
        return contract.apply(batch, self.synth, epoch=None)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.synth.share_memory()  # no longer shared in a deepcopy


class AnomalyLoader:
    """A loader of normal batches as a loader of batches with anomalies, on the device.

    Wraps any iterable of batches and treats each as :class:`BatchContract` says: dict in, dict
    out; ``(images, *rest)`` in, ``(AnomalyBatch, *rest)`` out. The first batch of an iteration
    decides the structure. Length, errors and other attributes (``dataset``, ``sampler``,
    ``batch_size``) are the wrapped loader's.

    **Device.** Batches go to ``device``, through pinned memory if it is CUDA. There the copy and
    the synthesis of the next ``prefetch`` batches run on a side stream beside the training step;
    elsewhere, and with ``device=None`` (batches stay where they are), it is one at a time.

    **Epoch.** Every ``iter()`` is an epoch, counted from 0, whatever the synthesizer's own says;
    ``set_epoch`` fixes the next one. With an index in the batch (:class:`IndexedDataset`) anomalies
    are a function of (seed, epoch, index); else the synthesizer numbers the samples by itself. For
    a validation set that stays the same, index it and call ``set_epoch(0)`` before each use.

    Args:
        loader: A DataLoader or any other iterable of batches.
        synth: The synthesizer; in eval mode batches pass through with empty masks.
        device: Where to; None leaves tensors where they are.
        image, mask, label, index, category, foreground, extra: As in :class:`BatchContract`.
        prefetch: Batches prepared ahead on CUDA; 0 turns the side stream off.

    Raises:
        TypeError: Not an iterable or not a synthesizer, or a batch is of no known structure.
        ValueError: A CUDA device that is not there, or a batch is of another structure than the
            first.

    Example:
        With a dataset of ``(image, target)``::

            loader = DataLoader(IndexedDataset(dataset), batch_size=32, shuffle=True)
            for batch, target in AnomalyLoader(loader, synth, device="cuda"):
                loss = criterion(model(batch.image), batch.mask)
    """

    def __init__(
        self,
        loader: Iterable[Any],
        synth: Synthesizer,
        device: torch.device | str | None = None,
        *,
        image: str = "image",
        mask: Names = ("mask", "gt_mask"),
        label: Names | None = ("label", "gt_label"),
        index: str | int | None = "index",
        category: str | None = "category",
        foreground: str | None = "foreground",
        extra: Names | None = None,
        prefetch: int = 1,
    ) -> None:
        if not hasattr(loader, "__iter__") and not hasattr(loader, "__getitem__"):
            raise TypeError(
                f"loader: expected an iterable of batches such as torch.utils.data.DataLoader, "
                f"got {type(loader).__name__}"
            )
        if not isinstance(prefetch, int) or prefetch < 0:
            raise ValueError(f"prefetch: expected a whole number >= 0, got {prefetch!r}")
        self.loader = loader
        self.synth = _synthesizer(synth)
        self.device = None if device is None else present_device(device)
        self.contract = BatchContract(image, mask, label, index, category, foreground, extra)
        self.prefetch = prefetch
        self._looked = False
        self._next_epoch = 0
        self._pass: _Pass | None = None
        self._side: _SideStream | None = None

    # ---- iteration -------------------------------------------------------------------------------

    def set_epoch(self, epoch: int) -> None:
        """Fix the epoch of the next iteration, here and in the samplers that have ``set_epoch``."""
        self.synth.set_epoch(epoch)
        self._next_epoch = int(epoch)
        for part in self._samplers():
            part.set_epoch(epoch)

    def _samplers(self) -> list[Any]:
        """The wrapped loader if it takes epochs, else those of its samplers that do."""
        if hasattr(self.loader, "set_epoch"):
            return [self.loader]
        batches = getattr(self.loader, "batch_sampler", None)
        parts = (getattr(self.loader, "sampler", None), batches, getattr(batches, "sampler", None))
        return list({id(part): part for part in parts if hasattr(part, "set_epoch")}.values())

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        epoch = self._next_epoch
        self.synth.set_epoch(epoch)
        batches = iter(self.loader)
        self._next_epoch = epoch + 1
        self._pass = _Pass(epoch)
        return self._run(batches, self._pass)

    def _run(self, batches: Iterator[Any], state: _Pass) -> Iterator[Any]:
        device = self.device
        try:
            if self.prefetch and device is not None and device.type == "cuda":
                # One stream for all epochs: the allocator keeps memory apart by stream.
                self._side = self._side or _SideStream(device)
                yield from self._run_ahead(batches, state, self._side)
            else:
                for contract, batch in self._checked(batches):
                    yield contract.apply(batch, self.synth, state.epoch, device)
            state.exhausted, state.snapshot = True, None
        finally:
            state.closed = True

    def _run_ahead(self, batches: Iterator[Any], state: _Pass, side: _SideStream) -> Iterator[Any]:
        """``prefetch`` batches are under way on the side stream while one is used."""

        def issued() -> Iterator[tuple[Any, Any, dict[str, Any]]]:
            for contract, batch in self._checked(batches):
                out, ready = side.issue(contract, batch, self.synth, state.epoch)
                yield out, ready, self._parts_state()

        for out, ready, snapshot in _ahead(issued(), self.prefetch):
            side.hand_over(out, ready)
            state.snapshot = snapshot
            yield out

    def _checked(self, batches: Iterator[Any]) -> Iterator[tuple[BatchContract, Any]]:
        """Batches of one structure, and how to treat them."""
        dataset = getattr(self.loader, "dataset", None)
        while isinstance(dataset, Subset):
            dataset = dataset.dataset
        first = None
        for batch in batches:
            contract = self.contract.for_batch(batch, isinstance(dataset, IndexedDataset))
            structure = contract.structure(batch, self.synth)
            first = structure if first is None else first
            if not self._looked:
                contract.warn_of_classes(batch)
                _warn_of_wrapped_index(getattr(self.loader, "dataset", None), contract, batch)
                self._looked = True
            if structure != first:
                raise ValueError(
                    f"batch: expected {first} like the first batch of this iteration, got "
                    f"{structure}; make the dataset return one structure"
                )
            yield contract, batch

    # ---- state -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Epoch, synthesizer and, where it has one, the wrapped loader's own state.

        With a loader that remembers its position (torchdata's StatefulDataLoader) an iteration
        goes on after the last batch handed out. With any other, one under way starts anew.
        """
        state = self._pass
        stateful = hasattr(self.loader, "state_dict")
        over = state is None or state.exhausted or (state.closed and not stateful)
        parts = self._parts_state() if state is None or not state.snapshot else state.snapshot
        return {"epoch": self._next_epoch if state is None or over else state.epoch, **parts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` gave; the next ``iter()`` goes on from there.

        Raises:
            ValueError: The state has the position of a loader and the wrapped one takes none, or
                the other way round.
        """
        stateful = hasattr(self.loader, "load_state_dict")
        if stateful != ("loader" in state):
            kinds = ("without", "with")
            raise ValueError(
                f"state_dict: expected one {kinds[stateful]} a loader's position for "
                f"{type(self.loader).__name__}, got one {kinds[not stateful]}; wrap the same kind "
                "of loader as when it was saved"
            )
        self.synth.load_state_dict(state["synth"])
        if stateful:
            self.loader.load_state_dict(state["loader"])  # type: ignore[attr-defined]
        self._next_epoch, self._pass = int(state["epoch"]), None

    def _parts_state(self) -> dict[str, Any]:
        parts = {"synth": self.synth.state_dict()}
        if hasattr(self.loader, "state_dict"):
            parts["loader"] = self.loader.state_dict()
        return parts

    def __getstate__(self) -> dict[str, Any]:
        # An iteration and a stream stay with their loader.
        return {**self.__dict__, "_pass": None, "_side": None}

    def __getattr__(self, name: str) -> Any:
        return _passed_on(self, "loader", name)


@dataclass
class _Pass:
    """An iteration: how far it came, and the state of the parts at the last batch handed out."""

    epoch: int
    exhausted: bool = False
    closed: bool = False
    snapshot: dict[str, Any] | None = None


class _SideStream:
    """A CUDA stream on which batches are copied and synthesised beside the consumer's."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self.device = self.stream.device

    def issue(
        self, contract: BatchContract, batch: Any, synth: Synthesizer, epoch: int
    ) -> tuple[Any, torch.cuda.Event]:
        """Queue a batch's work; the event says when it is done."""
        # What the consumer's stream has queued so far may be what made the batch or the banks.
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        self._used_on(self.stream, batch)
        with torch.cuda.stream(self.stream):
            out = contract.apply(batch, synth, epoch, self.device)
            return out, self.stream.record_event()

    def hand_over(self, out: Any, ready: torch.cuda.Event) -> None:
        """Make the consumer's stream wait for a batch, and its memory for the consumer."""
        consumer = torch.cuda.current_stream(self.device)
        consumer.wait_event(ready)
        self._used_on(consumer, out)

    def _used_on(self, stream: torch.cuda.Stream, value: Any) -> None:
        for tensor in tensors(value):
            if tensor.device == self.device:
                tensor.record_stream(stream)


def _ahead(items: Iterator[Any], count: int) -> Iterator[Any]:
    """The items, ``count`` taken before they are asked for; an error waits for its turn."""
    queue: deque[Any] = deque()
    failure: Exception | None = None
    more = True
    while more or queue:
        while more and len(queue) <= count:
            try:
                queue.append(next(items))
            except StopIteration:
                more = False
            except Exception as error:
                failure, more = error, False
        if queue:
            yield queue.popleft()
    if failure is not None:
        try:
            raise failure
        finally:
            del failure  # its traceback holds this frame: a cycle would keep workers alive


def _warn_of_wrapped_index(dataset: Any, contract: BatchContract, batch: Any) -> None:
    """Warn if an IndexedDataset lies where its numbers repeat or are not looked for."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    joined = isinstance(dataset, ConcatDataset)
    parts = dataset.datasets if joined else [getattr(dataset, "dataset", None)]
    if isinstance(dataset, IndexedDataset) or contract.index is None:
        return
    listed = isinstance(batch, (tuple, list)) and not isinstance(batch, IndexedImage)
    unseen = listed and isinstance(contract.index, str)
    if any(isinstance(part, IndexedDataset) for part in parts) and (joined or unseen):
        kind = type(dataset).__name__
        what = "the numbers of its parts repeat" if joined else "the index is taken for a target"
        mend = "" if joined else ", or say index=-1"
        warnings.warn(
            f"dataset: expected IndexedDataset around {kind}, got it inside, where {what} and "
            f"anomalies are not a function of the sample; use IndexedDataset({kind}(...)){mend}",
            stacklevel=4,
        )


def present_device(value: torch.device | str) -> torch.device:
    """The device.

    Raises:
        ValueError: A CUDA device that is not there.
    """
    device = torch.device(value)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device: expected one that is here, got {str(device)!r} where torch finds "
            f"{torch.cuda.device_count()} CUDA devices; use device=None or 'cpu', or look what is "
            "missing with anoaug doctor"
        )
    return device


def _synthesizer(value: Any) -> Synthesizer:
    if not isinstance(value, Synthesizer):
        raise TypeError(
            f"synth: expected an anoaug.Synthesizer, got {type(value).__name__}; "
            "anoaug.create('cutpaste') makes one"
        )
    return value


def _passed_on(owner: Any, part: str, name: str) -> Any:
    """An attribute of the wrapped part; copy and pickle ask before there is one."""
    if part in owner.__dict__ and not name.startswith("__"):
        return getattr(owner.__dict__[part], name)
    raise AttributeError(f"{type(owner).__name__!r} object has no attribute {name!r}")
