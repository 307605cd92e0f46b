"""One batch at a time: synthesis as a function of a batch, for loaders that are built of stages."""

from __future__ import annotations

from typing import Any

import torch

from ..synthesizer import Synthesizer
from .contract import BatchContract, Names
from .dataloader import _synthesizer, present_device


class AnomalyMap:
    """A function from batches to batches with anomalies, as :class:`BatchContract` says.

    For ``torchdata.nodes.Mapper(node, AnomalyMap(synth))``, ``webdataset``'s ``.map(...)`` after
    ``.batched(n)``, ``datasets.map``, or any generator of yours. Its epoch is the synthesizer's:
    call ``set_epoch`` before each. With an index in the batch anomalies are a function of (seed,
    epoch, index), so that a resumed loader gives the same; without, the counter numbers the
    samples, and belongs into the checkpoint: ``state_dict`` has it.

    Args:
        synth: The synthesizer.
        device: Where to; None leaves tensors where they are.
        image, mask, label, index, category, foreground: As in :class:`BatchContract`.

    Raises:
        TypeError: Not a synthesizer, or a batch is of no known structure.
        ValueError: A CUDA device that is not there.
    """

    def __init__(
        self,
        synth: Synthesizer,
        device: torch.device | str | None = None,
        *,
        image: str = "image",
        mask: Names = ("mask", "gt_mask"),
        label: Names | None = ("label", "gt_label"),
        index: str | int | None = "index",
        category: str | None = "category",
        foreground: str | None = "foreground",
    ) -> None:
        self.synth = _synthesizer(synth)
        self.device = None if device is None else present_device(device)
        self.contract = BatchContract(image, mask, label, index, category, foreground)

    def __call__(self, batch: Any) -> Any:
        """The batch with anomalies."""
        contract = self.contract.for_batch(batch, False)
        contract.structure(batch, self.synth)
        return contract.apply(batch, self.synth, None, self.device)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; in [0, 2**32)."""
        self.synth.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Seed, epoch and counter."""
        return dict(self.synth.get_extra_state())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.synth.set_extra_state(state)
