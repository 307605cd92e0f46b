"""What a synthesizer returns: AnomalyBatch, and the Params that replay it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .rows import sent


class Params(NamedTuple):
    """A sampled batch: everything a replay needs besides images and banks.

    Attributes:
        table: float32 ``[B, P]`` on the images' device, integers bit-cast.
        layout: How to read the table; a synthesizer with another layout refuses it.
        banks: Names of the contents of banks and augmentations; a synthesizer with others refuses.
        size: Height and width of the images.
        choice: Of a OneOf, int64 ``[B]`` on the host: which member made each row; else None.
        modalities: Params of the call's further modalities by name; None where it had none.
        within: float64 ``[B, 5]`` on the host: regions that a control's location confines rows to,
            see :class:`anoaug.control.Orders`; None where there are none.
        orders: What a control still asks of params that no call has seen; None in a batch's.

    What a call was given besides (foreground, slots, mask, label, extra) has to be given again.
    """

    table: Tensor
    layout: str
    banks: tuple[str, ...] = ()
    size: tuple[int, ...] = ()
    choice: Tensor | None = None
    modalities: dict[str, Params] | None = None
    within: Tensor | None = None
    orders: Any = None

    def take(self, rows: Any) -> Params:
        """The params of some rows: indices, a slice, a boolean mask, or one number, for one row."""
        rows = [rows] if isinstance(rows, int) else rows
        choice = self.choice
        if choice is not None:
            choice = choice[rows.to(choice.device) if isinstance(rows, Tensor) else rows]
        beside = self.modalities and {n: p.take(rows) for n, p in self.modalities.items()}
        within, orders = self.within, self.orders and self.orders.take(rows)
        if within is not None:
            within = within[rows.to(within.device) if isinstance(rows, Tensor) else rows]
        return self._replace(
            table=self.table[rows], choice=choice, modalities=beside, within=within, orders=orders
        )

    def to(self, device: str | torch.device) -> Params:
        """The params on a device; ``choice`` and ``within`` stay on the host, where laws are."""
        beside = self.modalities and {n: p.to(device) for n, p in self.modalities.items()}
        return self._replace(table=self.table.to(device), modalities=beside)

    def __repr__(self) -> str:
        rows, columns = self.table.shape
        return f"Params({rows} rows of {columns} columns on {self.table.device}, size {self.size})"


class Brought(NamedTuple):
    """What a call brings beside the images; see :meth:`anoaug.Synthesizer.forward`."""

    index: Any = None
    epoch: int | None = None
    category: Any = None
    foreground: Tensor | None = None
    slots: dict[str, Tensor] | None = None
    mask: Tensor | None = None
    label: Tensor | None = None
    extra: Mapping[str, Tensor] | None = None
    control: Any = None
    params: Params | None = None


class AnomalyBatch(NamedTuple):
    """A batch with anomalies, on the device of the images.

    Attributes:
        image: ``[B, C, H, W]`` in the synthesizer's output dtype and normalisation.
        mask: float32 ``[B, 1, H, W]``, {0, 1}, or the weight in [0, 1] with ``label="soft"``.
        label: int64 ``[B]``: 1 where the mask counts.
        kind: int64 ``[B]``: 0 for normal, else an index into the synthesizer's ``kinds``.
        clean: The image without anomaly: as given (``clean="input"``), as ``image`` is
            (``clean="output"``), or None.
        params: What replays this batch.
        extras: Further tensors by name, such as ``source_row`` and the call's modalities.
    """

    image: Tensor
    mask: Tensor
    label: Tensor
    kind: Tensor
    clean: Tensor | None
    params: Params
    extras: dict[str, Tensor]

    def __repr__(self) -> str:
        here = self.label.device.type == "cpu"
        label = self.label.tolist() if here else "on the device"  # host: only where it is there
        return (
            f"AnomalyBatch(image {list(self.image.shape)} {self.image.dtype} on "
            f"{self.image.device}, label {label}, extras {sorted(self.extras)})"
        )

    def boxes(self) -> Tensor:
        """Bounding box of each mask, int64 ``[B, 4]``: x0, y0, x1, y1 in pixels, ends excluded.

        All zero where the mask is empty. Does not synchronise.
        """
        inside = self.mask[:, 0] > 0
        ends = []
        for axis in (1, 2):
            # Rows are hit where any column is, and the other way round.
            hit = inside.any(3 - axis)
            place = torch.arange(hit.shape[1], device=hit.device)
            first = torch.where(hit, place, hit.shape[1]).amin(1)
            last = torch.where(hit, place + 1, 0).amax(1)
            ends.append((torch.where(last > 0, first, 0), last))
        (y0, y1), (x0, x1) = ends
        return torch.stack([x0, y0, x1, y1], dim=1)


# So that torch.load(weights_only=True), its default, reads saved params and batches.
torch.serialization.add_safe_globals([Params, AnomalyBatch])


def united(
    drawn: Tensor, flag: Tensor, kind: Tensor, real: Tensor | None, known: Tensor | None, given: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Mask, label and kind of synthetic and real defects together.

    Args:
        drawn: The synthetic mask, likewise the next two.
        flag: See above.
        kind: See above.
        real: Mask of real defects ``[B, 1, H, W]``, or None.
        known: Their labels ``[B]``, or None.
        given: The kind of a real defect without a synthetic one.
    """
    defect = torch.zeros_like(flag, dtype=torch.bool)
    if real is not None:
        inside = real > 0 if real.dtype == torch.uint8 else real > 0.5
        drawn = torch.maximum(drawn, inside.to(drawn.dtype))
        defect = inside.flatten(1).any(1)
    if known is not None:
        defect = defect | (sent(known, flag.device) > 0)
    kinds = torch.where(defect & (flag == 0), given, kind)
    return drawn, torch.where(defect, 1, flag), kinds
