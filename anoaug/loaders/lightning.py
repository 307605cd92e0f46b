"""Lightning: synthesis on batches that are on the device, in training alone.

The mixin needs no package; :class:`AnomalyCallback` needs lightning:
``pip install 'anoaug[lightning]'``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import checks
from ..synthesizer import Synthesizer
from .contract import BatchContract, Names


def _callback() -> Any:
    """Lightning's base of callbacks, under the name it is installed by."""
    if importlib.util.find_spec("lightning") is None and importlib.util.find_spec(
        "pytorch_lightning"
    ):
        return checks.require("pytorch_lightning", "lightning").Callback
    return checks.require("lightning.pytorch", "lightning").Callback


class AnomalyDataMixin:
    """For a LightningDataModule (or LightningModule): training batches get anomalies on the device.

    Sets ``on_after_batch_transfer``, the slot Lightning has for it; whatever the class below does
    there comes first. Validation, test and prediction batches are left alone. A dict comes back as
    a dict, ``(images, *rest)`` as ``(AnomalyBatch, *rest)``, as :class:`BatchContract` says. The
    epoch is the trainer's. With an index in the batch (:class:`anoaug.IndexedDataset`) anomalies
    are a function of (seed, epoch, index), with any number of ranks; without, ranks differ.

    Attributes:
        synth: The synthesizer; set it in ``__init__`` or ``setup``.
        contract: How batches are read; :class:`BatchContract` by default.

    Example:
        In front of the module of yours::

            class Screws(AnomalyDataMixin, MyDataModule):
                synth = anoaug.create("draem", textures="path/to/textures", seed=0)
    """

    synth: Synthesizer
    contract: BatchContract = BatchContract()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """The batch with anomalies, while training."""
        below = getattr(super(), "on_after_batch_transfer", None)
        batch = batch if below is None else below(batch, dataloader_idx)
        trainer = getattr(self, "trainer", None)
        if trainer is None or not trainer.training:
            return batch
        if not isinstance(getattr(self, "synth", None), Synthesizer):
            raise TypeError(
                f"synth: expected a Synthesizer on {type(self).__name__}, got "
                f"{type(getattr(self, 'synth', None)).__name__}; set self.synth = "
                "anoaug.create('draem')"
            )
        contract = self.contract.for_batch(batch, _indexed(trainer))
        contract.structure(batch, self.synth)
        return contract.apply(batch, self.synth, trainer.current_epoch)


def _indexed(trainer: Any) -> bool:
    """Whether the training set numbers its samples."""
    from .dataloader import IndexedDataset

    loader = getattr(trainer, "train_dataloader", None)
    return isinstance(getattr(loader, "dataset", None), IndexedDataset)


def __getattr__(name: str) -> Any:
    if name != "AnomalyCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = made = _made(_callback())
    return made


def _made(base: Any) -> Any:
    """The callback's class, over the base of the installed package."""

    class AnomalyCallback(base):
        """A callback that puts anomalies into training batches, for any LightningModule.

        Comes before ``training_step``, on the device. The batch is changed in place: a dict, or an
        object with attributes such as anomalib's ``Batch``; a tuple cannot be (use
        :class:`AnomalyDataMixin`). Image, mask and label are written, the clean image too where
        ``clean`` names a place. The epoch is the trainer's; seed and counter are in the checkpoint.

        Put it before callbacks that normalise: images have to be in [0, 1].

        Args:
            synth: The synthesizer.
            image, mask, label, index, category, foreground: Keys or attributes, as in
                :class:`BatchContract`.
            clean: Key or attribute for the clean image; None writes none.

        Raises:
            TypeError: Not a synthesizer, or a batch that cannot be changed in place.
        """

        def __init__(
            self,
            synth: Synthesizer,
            *,
            image: str = "image",
            mask: Names = ("mask", "gt_mask"),
            label: Names | None = ("label", "gt_label"),
            index: str | None = "index",
            category: str | None = "category",
            foreground: str | None = "foreground",
            clean: str | None = None,
        ) -> None:
            super().__init__()
            if not isinstance(synth, Synthesizer):
                raise TypeError(
                    f"synth: expected a Synthesizer, got {type(synth).__name__}; "
                    "anoaug.create('draem') makes one"
                )
            self.synth = synth
            self.clean = clean
            self.contract = BatchContract(image, mask, label, index, category, foreground)

        @torch.no_grad()
        def on_train_batch_start(
            self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
        ) -> None:
            """Put anomalies into the batch."""
            write_anomalies(batch, self.synth, self.contract, trainer.current_epoch, self.clean)

        def state_dict(self) -> dict[str, Any]:
            """Seed, epoch and counter of the synthesizer."""
            return dict(self.synth.get_extra_state())

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            """Restore them."""
            self.synth.set_extra_state(state_dict)

    AnomalyCallback.__qualname__ = "AnomalyCallback"
    return AnomalyCallback


def write_anomalies(
    batch: Any, synth: Synthesizer, contract: BatchContract, epoch: int, clean: str | None = None
) -> None:
    """Put anomalies into a batch, in place.

    Args:
        batch: A dict, or an object with attributes.
        synth: The synthesizer.
        contract: Names of keys or attributes.
        epoch: Of the randomness.
        clean: Where the clean image goes.

    Raises:
        TypeError: A tuple, a tensor, or anything else that cannot be changed in place.
    """
    if isinstance(batch, (Tensor, tuple, list)):
        raise TypeError(
            f"batch: expected a dict or an object with attributes, got {type(batch).__name__}, "
            "which a callback cannot change; put anoaug.loaders.lightning.AnomalyDataMixin in "
            "front of your data module"
        )
    keyed = isinstance(batch, MutableMapping)
    if not keyed:  # the names it has, also where they hold nothing yet
        mask, label = (_had(names, batch) for names in (contract.mask, contract.label))
        contract = replace(contract, mask=mask or contract.mask, label=label)
    view = batch if keyed else _attributes(batch, contract)
    contract.structure(view, synth)
    made = contract.apply(view, synth, epoch)
    kept = {contract.image, *_written(contract.mask, view), *_written(contract.label, view)}
    if clean is not None:
        made[clean] = view[contract.image] if made.get("clean") is None else made["clean"]
        kept.add(clean)
    for name in kept:
        if keyed:
            batch[name] = made[name]
        else:
            like, value = getattr(batch, name, None), made[name]
            if isinstance(like, Tensor) and name not in (contract.image, clean):
                value = value.reshape(like.shape).to(like.dtype)
            setattr(batch, name, value)


def _attributes(batch: Any, contract: BatchContract) -> dict[str, Any]:
    """What a batch with attributes has of what the contract reads."""
    names = [contract.image, contract.index, contract.category, contract.foreground]
    for several in (contract.mask, contract.label):
        names += [several] if isinstance(several, str) else list(several or ())
    named = [name for name in names if isinstance(name, str)]
    return {name: getattr(batch, name) for name in named if getattr(batch, name, None) is not None}


def _had(names: Names | None, batch: Any) -> str | None:
    """The one of several names that an object has."""
    known = (names,) if isinstance(names, str) else tuple(names or ())
    return next((name for name in known if hasattr(batch, name)), None)


def _written(names: Names | None, view: Mapping[str, Any]) -> list[str]:
    """The one of several names that is written."""
    known = (names,) if isinstance(names, str) else tuple(names or ())
    return [next((name for name in known if name in view), known[0])] if known else []
