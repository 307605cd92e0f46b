"""What a loader's batch and a synthesizer expect of each other, written once for every loader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..batch import AnomalyBatch
from ..masks import Given
from ..synthesizer import Synthesizer

Names = str | tuple[str, ...]

KIND, CLEAN, PARAMS, EXTRAS = "kind", "clean", "anomaly_params", "anomaly_extras"


@dataclass(frozen=True)
class BatchContract:
    """How a batch becomes the synthesizer's arguments, and its answer a batch again.

    A **mapping** gives a new dict. Read where present: ``mask``, ``label`` (defects that are really
    there, united with the synthetic ones), ``index``, ``category``, ``foreground``, and a tensor
    under the name of each ``masks.Given`` of the recipe. Written: ``image``, ``mask``, ``label``,
    ``"kind"``, ``"clean"`` (not with ``clean=None``), ``"anomaly_params"`` and, where the
    synthesizer has extras, ``"anomaly_extras"``. Other keys are kept.

    A **tuple or list** ``(images, *rest)`` gives the tuple ``(AnomalyBatch, *rest)``, a **tensor**
    gives an ``AnomalyBatch``.

    Tensors are moved to the device, inside nested containers too, except index and category:
    sampling reads them on the host. With ``views=True`` the rest keeps its own number of rows.

    Args:
        image: Key of the images ``(B, C, H, W)``.
        mask: Key of the masks ``(B, 1, H, W)`` or ``(B, H, W)``; of several the one the batch has.
            The mask is written there, to the first if there was none.
        label: Key of the labels ``[B]``, above 0 for a defect; likewise. Name another key if your
            labels are classes.
        index: Key of the sample indices ``[B]``, or their position in a tuple, which is taken out of
            the rest; None ignores them.
        category: Key of the categories; None ignores them.
        foreground: Key of the foregrounds ``(B, 1, H, W)``; None ignores them.
    """

    image: str = "image"
    mask: Names = ("mask", "gt_mask")
    label: Names = ("label", "gt_label")
    index: str | int | None = "index"
    category: str | None = "category"
    foreground: str | None = "foreground"

    def for_batch(self, batch: Any, indexed: bool) -> BatchContract:
        """This contract, for a batch that may come from an IndexedDataset."""
        last = indexed and isinstance(batch, (tuple, list)) and isinstance(self.index, str)
        return replace(self, index=-1) if last else self

    def indexed(self, batch: Any) -> bool:
        """Whether the batch brings sample indices."""
        return isinstance(self.index, int) or (
            isinstance(batch, Mapping) and self.index is not None and self.index in batch
        )

    def structure(self, batch: Any, synth: Synthesizer) -> tuple[Any, ...]:
        """What must not change between batches: the container, its length or the keys read.

        Raises:
            TypeError: Not a batch this contract knows.
            ValueError: No image, two masks or labels, or a key the output needs is taken.
        """
        if isinstance(batch, AnomalyBatch):
            raise TypeError(
                "batch: expected normal images, got an AnomalyBatch: it has been synthesised "
                "already; use AnomalyCollate or AnomalyLoader, not both"
            )
        if isinstance(batch, Mapping):
            return "mapping", *self._keys(batch, synth)
        if isinstance(self.index, int):
            length = len(batch) if isinstance(batch, (tuple, list)) else 0
            if not -length < self.index < length or self.index == 0:
                raise ValueError(
                    f"index: expected a position in the batch behind the images, got {self.index} "
                    f"for {_described(batch)}; a key's name suits mappings"
                )
        if isinstance(batch, Tensor):
            return ("tensor",)
        if isinstance(batch, (tuple, list)) and batch:
            return "tuple", len(batch)
        raise TypeError(
            f"batch: expected a mapping, (images, ...) or a tensor, got {_described(batch)}; "
            "convert it in the loader's collate_fn"
        )

    def _keys(self, batch: Mapping[str, Any], synth: Synthesizer) -> Iterator[str]:
        """The keys read, checked."""
        if self.image not in batch:
            raise ValueError(
                f"image: expected the key {self.image!r} in the batch, got {sorted(batch)}; "
                "name yours with image="
            )
        if isinstance(self.index, int):
            raise ValueError(
                f"index: expected a key's name for a mapping, got the position {self.index}"
            )
        for role, names in (("mask", _tuple(self.mask)), ("label", _tuple(self.label))):
            found = [name for name in names if name in batch]
            if len(found) > 1:
                raise ValueError(
                    f"{role}: expected one of {found} in the batch, got both; "
                    f"choose with {role}={found[0]!r}"
                )
            yield from found
        taken = sorted({KIND, CLEAN, PARAMS, EXTRAS} & set(batch))
        if taken:
            raise ValueError(
                f"batch: expected no keys {taken}, the output has them; rename them in the dataset, "
                "and use AnomalyCollate or AnomalyLoader, not both"
            )
        single = (self.index, self.category, self.foreground, *synth.slots)
        yield from (name for name in dict.fromkeys(single) if name in batch)

    @torch.no_grad()
    def apply(
        self, batch: Any, synth: Synthesizer, epoch: int | None, device: torch.device | None = None
    ) -> Any:
        """A batch with anomalies, in the structure it came in.

        Args:
            batch: A mapping, ``(images, *rest)`` or images; not modified.
            synth: The synthesizer.
            epoch: Epoch of the randomness; None leaves it to the synthesizer.
            device: Where tensors go first; None leaves them where they are.
        """
        if isinstance(batch, Tensor):
            return synth(moved(batch, device), epoch=epoch)
        if isinstance(batch, Mapping):
            return self._mapping(batch, synth, epoch, device)
        images, *rest = batch
        index = None
        if isinstance(self.index, int):
            index = rest.pop(self.index - (self.index > 0))
        out = synth(moved(images, device), index=index, epoch=epoch)
        return out, *moved(rest, device)

    def _mapping(
        self,
        batch: Mapping[str, Any],
        synth: Synthesizer,
        epoch: int | None,
        device: torch.device | None,
    ) -> dict[str, Any]:
        host = (self.index, self.category)
        out = {key: x if key in host else moved(x, device) for key, x in batch.items()}
        mask, label = _present(self.mask, batch), _present(self.label, batch)
        made = synth(
            out[self.image],
            index=out.get(self.index),  # type: ignore[arg-type]
            epoch=epoch,
            category=out.get(self.category),  # type: ignore[arg-type]
            foreground=out.get(self.foreground),  # type: ignore[arg-type]
            slots={x: out[x] for x in synth.slots if x in out and x not in ("foreground", mask)},
            mask=out.get(mask),
            label=out.get(label),
        )
        out |= {self.image: made.image, mask: made.mask, label: made.label, KIND: made.kind}
        out |= {CLEAN: made.clean} if made.clean is not None else {}
        out |= {EXTRAS: made.extras} if made.extras else {}
        return out | {PARAMS: made.params}


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested containers."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (Mapping, tuple, list)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from tensors(part)


def moved(value: Any, device: torch.device | None) -> Any:
    """Nested containers with their tensors on a device; to CUDA through pinned memory."""
    if device is None:
        return value
    if isinstance(value, Tensor):
        # A pageable copy would make the host wait.
        dense = value.layout == torch.strided and value.device.type == "cpu"
        if device.type == "cuda" and dense and not value.is_pinned():
            value = value.pin_memory()
        return value.to(device, non_blocking=device.type == "cuda")
    if isinstance(value, Mapping):
        return {key: moved(part, device) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        parts = [moved(part, device) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def _described(batch: Any) -> str:
    length = f" of length {len(batch)}" if isinstance(batch, (tuple, list)) else ""
    return type(batch).__name__ + length


def _tuple(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _present(names: Names, batch: Mapping[str, Any]) -> str:
    """The name the batch has, else the first."""
    known = _tuple(names)
    return next((name for name in known if name in batch), known[0])
