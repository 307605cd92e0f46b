"""What a loader's batch and a synthesizer expect of each other, written once for every loader."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..batch import AnomalyBatch
from ..masks import Given
from ..synthesizer import Synthesizer

Names = str | tuple[str, ...]

KIND, CLEAN, PARAMS, EXTRAS = "kind", "clean", "anomaly_params", "anomaly_extras"


class IndexedImage(NamedTuple):
    """A bare image, or a batch of them, and its index; torch collates named tuples to their kind.

    Attributes:
        image: ``(C, H, W)``, or ``(B, C, H, W)`` in a batch.
        index: The sample's number, or int64 ``[B]``.
    """

    image: Any
    index: Any


@dataclass(frozen=True)
class BatchContract:
    """How a batch becomes the synthesizer's arguments, and its answer a batch again.

    A **mapping** gives a new dict. Read where present: ``mask`` and ``label`` (real defects, united
    with the synthetic ones), ``index``, ``category``, ``foreground``, and what the recipe's
    ``masks.Given`` parts name. Written: ``image``, ``mask``, ``label``, ``"kind"``, ``"clean"``
    (not with ``clean=None``), ``"anomaly_params"`` and, if the synthesizer has extras,
    ``"anomaly_extras"``. Other keys are kept.

    A **tuple or list** ``(images, *rest)`` gives the tuple ``(AnomalyBatch, *rest)``; a **tensor**
    (with its index an :class:`IndexedImage`) gives an ``AnomalyBatch``.

    Tensors are moved to the device, inside nested containers too, except index and category:
    sampling reads them on the host. With ``views`` the rest keeps its own number of rows;
    ``"anomaly_extras"`` or ``extras`` says by ``"source_row"`` which of them a row shows.

    Args:
        image: Key of the images ``(B, C, H, W)``.
        mask: Key of the masks ``(B, 1, H, W)`` or ``(B, H, W)``; of several, the one the batch
            has. The mask is written there, or to the first where there was none.
        label: Key of the labels ``[B]``, above 0 for a defect; likewise. If your labels are
            classes, give a key they do not have; with None labels are neither read nor written.
        index: Key of the sample indices ``[B]``, or in a tuple their position, from where they are
            taken out; None ignores them.
        category: Key of the categories; None ignores them.
        foreground: Key of the foregrounds ``(B, 1, H, W)``; None ignores them.
        extra: Keys of further modalities ``(B, any C, H, W)``, such as ``"depth"``, which are given
            back with the same anomalies; each has to be there. None leaves such keys as they are.
    """

    image: str = "image"
    mask: Names = ("mask", "gt_mask")
    label: Names | None = ("label", "gt_label")
    index: str | int | None = "index"
    category: str | None = "category"
    foreground: str | None = "foreground"
    extra: Names | None = None

    def for_batch(self, batch: Any, indexed: bool) -> BatchContract:
        """This contract for a batch that may come from an IndexedDataset (index last in tuples)."""
        indexed = indexed or isinstance(batch, IndexedImage)
        last = indexed and isinstance(batch, (tuple, list)) and isinstance(self.index, str)
        return replace(self, index=-1) if last else self

    def warn_of_classes(self, batch: Any) -> None:
        """Warn if the labels that are read look like classes. Reads them: not for every batch."""
        name = _present(self.label, batch) if isinstance(batch, Mapping) else None
        labels = batch.get(name) if name is not None else None
        if not isinstance(labels, Tensor) or labels.dtype.is_floating_point or labels.is_complex():
            return
        if labels.numel() and int(labels.max()) > 1:
            warnings.warn(
                f"label: expected 0 and 1 under {name!r}, got {int(labels.max())}; every label "
                "above 0 counts as a real defect: if yours are classes, give a key the batch does "
                "not have (label='anomaly_label') or label=None",
                stacklevel=4,
            )

    def structure(self, batch: Any, synth: Synthesizer) -> tuple[Any, ...]:
        """What may not change between batches: the container and its length or the keys read.

        Raises:
            TypeError: Not a batch this contract knows.
            ValueError: No image or index where one should be, two masks or labels, or a key that
                the output needs is taken.
        """
        if isinstance(batch, AnomalyBatch):
            raise TypeError(
                "batch: expected normal images, got an AnomalyBatch, synthesised already; use "
                "AnomalyCollate or AnomalyLoader, not both"
            )
        if isinstance(batch, Mapping):
            return "mapping", *self._keys_read(batch, synth)
        if self.extra:
            raise ValueError(
                f"extra: expected batches that are mappings with {', '.join(_tuple(self.extra))}, "
                f"got {_described(batch)}; return dicts from the dataset"
            )
        if isinstance(self.index, int):
            length = len(batch) if isinstance(batch, (tuple, list)) else 0
            if self.index == 0 or not -length < self.index < length:
                raise ValueError(
                    f"index: expected a position behind the images, got {self.index} for "
                    f"{_described(batch)}; leave it out if the batch has no index"
                )
        if isinstance(batch, IndexedImage):
            return ("indexed tensor",)
        if isinstance(batch, Tensor):
            return ("tensor",)
        if isinstance(batch, (tuple, list)) and batch:
            return "tuple", len(batch)
        raise TypeError(
            f"batch: expected a mapping, (images, ...) or a tensor, got {_described(batch)}; "
            "convert it in the loader's collate_fn"
        )

    def _keys_read(self, batch: Mapping[str, Any], synth: Synthesizer) -> Iterator[str]:
        if self.image not in batch:
            raise ValueError(
                f"image: expected the key {self.image!r} in the batch, got {list(batch)}; "
                "name yours with image="
            )
        if isinstance(self.index, int):
            raise ValueError(
                f"index: expected a key for batches that are mappings, got position {self.index}"
            )
        taken = [key for key in (KIND, CLEAN, PARAMS, EXTRAS) if key in batch]
        if taken:
            raise ValueError(
                f"batch: expected no {', '.join(taken)} in it, which the output brings; rename in "
                "the dataset, and use AnomalyCollate or AnomalyLoader, not both"
            )
        for name in _tuple(self.extra):
            if name not in batch:
                raise ValueError(
                    f"extra: expected the key {name!r} in the batch, got {list(batch)}; name those "
                    "that are there"
                )
            yield name
        for role, names in (("mask", self.mask), ("label", self.label)):
            found = [name for name in _tuple(names) if name in batch]
            if len(found) > 1:
                raise ValueError(
                    f"{role}: expected one of {', '.join(found)} in the batch, got all; choose "
                    f"with {role}={found[0]!r}"
                )
            yield from found
        single = (self.index, self.category, self.foreground, *_given(synth))
        yield from (name for name in single if isinstance(name, str) and name in batch)

    @torch.no_grad()
    def apply(
        self, batch: Any, synth: Synthesizer, epoch: int | None, device: torch.device | None = None
    ) -> Any:
        """A batch with anomalies in the structure it came in.

        Args:
            batch: A batch that ``structure`` accepts; not modified.
            synth: The synthesizer.
            epoch: Epoch of the randomness; None takes the synthesizer's.
            device: Where tensors are moved first; None leaves them where they are.
        """
        if isinstance(batch, Mapping):
            return self._apply_mapping(batch, synth, epoch, device)
        if isinstance(batch, Tensor):
            return synth(moved(batch, device), epoch=epoch)
        if isinstance(batch, IndexedImage):
            index = None if self.index is None else batch.index
            return synth(moved(batch.image, device), index=index, epoch=epoch)
        images, *rest = batch
        index = None
        if isinstance(self.index, int):
            index = rest.pop(self.index if self.index < 0 else self.index - 1)
        return synth(moved(images, device), index=index, epoch=epoch), *moved(rest, device)

    def _apply_mapping(
        self,
        batch: Mapping[str, Any],
        synth: Synthesizer,
        epoch: int | None,
        device: torch.device | None,
    ) -> dict[str, Any]:
        host = (self.index, self.category)
        out = {key: part if key in host else moved(part, device) for key, part in batch.items()}
        mask, label = _present(self.mask, batch), _present(self.label, batch)
        given = {name: out[name] for name in _given(synth) if name in out}
        made = synth(
            out[self.image],
            index=_optional(out, self.index),
            epoch=epoch,
            category=_optional(out, self.category),
            foreground=_optional(out, self.foreground),
            slots=given or None,
            mask=None if mask in given else _optional(out, mask),
            label=_optional(out, label),
            extra={name: out[name] for name in _tuple(self.extra)} or None,
        )
        out |= {self.image: made.image, KIND: made.kind, PARAMS: made.params}
        out |= {key: part for key, part in ((mask, made.mask), (label, made.label)) if key}
        if made.clean is not None:
            out[CLEAN] = made.clean
        beside = {name: made.extras.get(name, out[name]) for name in _tuple(self.extra)}
        others = {name: value for name, value in made.extras.items() if name not in beside}
        out |= beside
        if others:
            out[EXTRAS] = others
        return out


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested mappings, tuples and lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors(list(value.values()))
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors(part)


def moved(value: Any, device: torch.device | None) -> Any:
    """Nested containers with their tensors on a device; to CUDA without making the host wait."""
    if device is None:
        return value
    if isinstance(value, Tensor):
        cuda = device.type == "cuda"
        # A copy from pageable memory would make the host wait.
        if cuda and value.device.type == "cpu" and value.layout == torch.strided:
            value = value.pin_memory()
        return value.to(device, non_blocking=cuda)
    if isinstance(value, Mapping):
        return {key: moved(part, device) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        parts = [moved(part, device) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def _given(synth: Synthesizer) -> list[str]:
    """Names of the tensors that a recipe's masks want at each call."""
    steps = (step for layer in synth.layers for step in layer.mask.steps())
    names = [step.name for step in steps if isinstance(step, Given)]
    return [name for name in dict.fromkeys(names) if name != "foreground"]


def _optional(batch: Mapping[str, Any], key: str | int | None) -> Any:
    return batch.get(key) if isinstance(key, str) else None


def _tuple(names: Names | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())


def _present(names: Names | None, batch: Mapping[str, Any]) -> str | None:
    """The name the batch has, else the first, if there is any."""
    known = _tuple(names)
    return next((name for name in known if name in batch), known[0] if known else None)


def _described(batch: Any) -> str:
    length = f" of length {len(batch)}" if isinstance(batch, (tuple, list)) else ""
    return type(batch).__name__ + length
