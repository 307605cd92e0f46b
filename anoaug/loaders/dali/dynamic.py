"""DALI's dynamic mode (``nvidia.dali.experimental.dynamic``): batches without a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ... import checks
from ...batch import AnomalyBatch
from ...synthesizer import Synthesizer
from ..contract import Names
from ..mapping import AnomalyMap
from .iterators import LAYOUTS, planar


class DynamicMap(AnomalyMap):
    """A function from batches of dynamic mode to batches of torch with anomalies in them.

    For ``torchdata.nodes.Mapper(node, DynamicMap(synth))`` behind the nodes of
    ``nvidia.dali.experimental.dynamic.pytorch.nodes``, or in a loop over a reader's
    ``next_epoch``. A batch is a dict of DALI's batches, each of one size; it comes back as
    :class:`anoaug.loaders.BatchContract` says, images planar. Its epoch is the synthesizer's: call
    ``set_epoch`` before each. Readers of dynamic mode fill the last batch up with samples of the
    next epoch.

    Args:
        synth: The synthesizer.
        layout: Of images, masks and foregrounds: ``"HWC"``, ``"CHW"``, or ``"auto"``: by where the
            channels are.
        image, mask, label, index, category, foreground: As in :class:`SynthIterator`; index and
            category are best left on the host, as readers give them: from the GPU they are
            fetched, which waits for it.

    Raises:
        ImportError: DALI is missing.
        TypeError: Not a synthesizer, or a batch that is no mapping.
        ValueError: A batch of ragged sizes.

    Example:
        Numbered files, decoded and resized, in a chain of nodes::

            reader = nodes.Reader(
                dynamic.readers.File, batch_size=32, output_names=("image", "index"),
                file_root=root, files=files, labels=list(range(len(files))),
            )
            decoded = nodes.DictMapper(reader, decode_and_resize, key="image")
            loader = torchdata.nodes.Loader(torchdata.nodes.Mapper(decoded, DynamicMap(synth)))
    """

    def __init__(
        self,
        synth: Synthesizer,
        *,
        layout: str = "auto",
        image: str = "image",
        mask: Names = ("mask", "gt_mask"),
        label: Names | None = None,
        index: str | None = "index",
        category: str | None = "category",
        foreground: str | None = "foreground",
    ) -> None:
        super().__init__(
            synth, image=image, mask=mask, label=label, index=index, category=category,
            foreground=foreground,
        )  # fmt: skip
        self.layout = checks.one_of("layout", layout, LAYOUTS)
        self._planes = {image, foreground, *([mask] if isinstance(mask, str) else mask)}
        self._host = {index, category}

    def __call__(self, batch: Any) -> Any:
        """The batch with anomalies."""
        if not isinstance(batch, Mapping):
            raise TypeError(
                f"batch: expected a mapping of DALI's batches, got {type(batch).__name__}; in a "
                "chain of nodes stand before ToTorch"
            )
        return super().__call__({name: self._arranged(name, batch[name]) for name in batch})

    def _arranged(self, name: str, value: Any) -> Any:
        """A batch of DALI's as the contract wants it; anything else as it is."""
        if not hasattr(value, "evaluate"):
            return value
        dense = _torch(value)
        if name in self._planes:
            return planar(dense, self.layout)
        if dense.dim() == 2 and dense.shape[1] == 1:
            dense = dense[:, 0]
        # host: sampling reads them there
        return dense.cpu() if name in self._host else dense


def synthesize_batch(
    images: Any, synth: Synthesizer, *, index: Any = None, epoch: int | None = None
) -> AnomalyBatch:
    """Synthesis on a batch of DALI's dynamic mode.

    Args:
        images: A batch of images of one size, ``HWC`` or ``CHW``.
        synth: The synthesizer.
        index: A batch of the samples' numbers, on the host; needs ``epoch``.
        epoch: Epoch of the randomness.

    Returns:
        An :class:`anoaug.AnomalyBatch` of torch tensors; ``dynamic.as_batch`` takes them back.

    Raises:
        ImportError: DALI is missing.
        ValueError: A batch of ragged sizes.
    """
    # host: sampling reads the numbers there
    numbers = None if index is None else _torch(index).reshape(-1).cpu()
    made: AnomalyBatch = synth(planar(_torch(images)), index=numbers, epoch=epoch)
    return made


def _torch(batch: Any) -> Tensor:
    """A batch of dynamic mode as one tensor."""
    dynamic = checks.require("nvidia.dali.experimental.dynamic", "dali")
    shapes = {tuple(shape) for shape in getattr(batch, "shape", ()) if isinstance(shape, tuple)}
    if len(shapes) > 1:
        raise ValueError(
            f"batch: expected images of one size, got {sorted(shapes)}; put "
            "dynamic.resize(images, size=(256, 256)) or a crop before"
        )
    dense: Tensor = torch.utils.dlpack.from_dlpack(dynamic.as_tensor(batch))
    return dense
