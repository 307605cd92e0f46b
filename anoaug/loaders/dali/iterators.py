"""Batches of DALI's iterators, with anomalies in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from ... import checks
from ...synthesizer import Synthesizer
from ..contract import Names
from ..dataloader import AnomalyLoader

# What an image may have for channels; anything else in their place is a side.
_CHANNELS = (1, 3, 4)
LAYOUTS = ("auto", "CHW", "HWC")


class SynthIterator(AnomalyLoader):
    """The batches of a DALI iterator with anomalies in them.

    Wraps a ``DALIGenericIterator`` (or ``DALIClassificationIterator``) over one pipeline; each
    batch is the iterator's dict with anomalies, as :class:`anoaug.loaders.BatchContract` says.
    Images may be ``HWC``, straight from the decoder: the kernel reads them as they lie, and
    writes planar ones if the synthesizer has ``memory_format="contiguous"``. They have to be of
    one size.

    Every ``iter()`` is an epoch, counted from 0. For anomalies that are a function of (seed, epoch,
    index) let the reader number its files, ``fn.readers.file(files=files, labels=list(range(N)))``,
    and put the number out as ``index``, on the host. :func:`mvtec_batches` does all this.

    Args:
        iterator: The iterator, over one pipeline; ``auto_reset=True`` makes a next epoch possible.
        synth: The synthesizer.
        layout: Of images and masks: ``"HWC"``, ``"CHW"``, or ``"auto"``: by where the channels are.
        image, mask, label, index, category, foreground: Names among the iterator's, as in
            :class:`anoaug.loaders.BatchContract`. A label above 0 counts as a real defect: DALI's
            readers put classes there, hence None here.
        rebuild: Makes the iterator anew from a checkpoint of its pipeline, for
            ``load_state_dict``; the pipeline needs ``enable_checkpointing=True``.

    Raises:
        TypeError: Not an iterator of DALI's, or not a synthesizer.
        ValueError: Several pipelines, batches of ragged sizes, or an index on the GPU.
    """

    def __init__(
        self,
        iterator: Any,
        synth: Synthesizer,
        *,
        layout: str = "auto",
        image: str = "image",
        mask: Names = ("mask", "gt_mask"),
        label: Names | None = None,
        index: str | None = "index",
        category: str | None = "category",
        foreground: str | None = "foreground",
        rebuild: Callable[[bytes], Any] | None = None,
    ) -> None:
        checks.one_of("layout", layout, LAYOUTS)
        planes = [image, *([mask] if isinstance(mask, str) else mask), foreground]
        vectors = [index, category, *([label] if isinstance(label, str) else label or ())]
        kind = _Batches if rebuild is None else _ResumableBatches
        batches = kind(iterator, layout, planes, vectors, rebuild)
        super().__init__(
            batches, synth, image=image, mask=mask, label=label, index=index, category=category,
            foreground=foreground, prefetch=0,
        )  # fmt: skip


class _Batches:
    """DALI's batches as the contract wants them: one dict each, planar axes, flat vectors."""

    def __init__(
        self, iterator: Any, layout: str, planes: Sequence[Any], vectors: Sequence[Any],
        rebuild: Callable[[bytes], Any] | None,
    ) -> None:  # fmt: skip
        if not hasattr(iterator, "__next__") or not hasattr(iterator, "reset"):
            raise TypeError(
                f"iterator: expected one of nvidia.dali.plugin.pytorch, got "
                f"{type(iterator).__name__}; DALIGenericIterator([pipeline], ['image', 'index'])"
            )
        self.iterator, self.layout = iterator, layout
        self.planes, self.vectors, self.rebuild = planes, vectors, rebuild

    def __len__(self) -> int:
        return len(self.iterator)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        batches = iter(self.iterator)
        while True:
            try:
                outputs = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if "IsDenseTensor" not in str(error):
                    raise
                raise ValueError(
                    "batch: expected images of one size, got a DALI batch of ragged sizes; put "
                    "fn.resize(images, size=(256, 256)) or a crop into the pipeline"
                ) from error
            yield self._arranged(outputs)

    def _arranged(self, outputs: Any) -> dict[str, Any]:
        if not isinstance(outputs, (list, tuple)) or len(outputs) != 1:
            raise ValueError(
                f"iterator: expected one over one pipeline, got {len(outputs)} batches at once; "
                "make an iterator for each pipeline"
            )
        batch = dict(outputs[0])
        for name in self.planes:
            if isinstance(batch.get(name), Tensor):
                batch[name] = planar(batch[name], self.layout)
        for name in self.vectors:
            value = batch.get(name)
            if isinstance(value, Tensor) and value.dim() == 2 and value.shape[1] == 1:
                batch[name] = value[:, 0]
        return batch

    def __getattr__(self, name: str) -> Any:
        if "iterator" in self.__dict__ and not name.startswith("__"):
            return getattr(self.__dict__["iterator"], name)
        raise AttributeError(name)


class _ResumableBatches(_Batches):
    """Batches whose pipeline can be made anew from a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """The checkpoint of the pipeline, behind the last batch handed out."""
        return {"checkpoint": self.iterator.checkpoints()[0]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the pipeline anew; its next batch is the one that was to come."""
        assert self.rebuild is not None
        self.iterator = self.rebuild(state["checkpoint"])


def planar(images: Tensor, layout: str = "auto") -> Tensor:
    """``[B, H, W, C]`` as a view ``[B, C, H, W]``; planar ones, and those without channels, as is.

    Args:
        images: ``[B, H, W, C]``, ``[B, C, H, W]`` or ``[B, H, W]``.
        layout: ``"HWC"``, ``"CHW"``, or ``"auto"``: by which axis is as short as channels are.

    Raises:
        ValueError: With ``"auto"``, both or neither of the axes could be the channels.
    """
    if images.dim() != 4:
        return images
    return images.permute(0, 3, 1, 2) if interleaved(images.shape, layout) else images


def interleaved(shape: Sequence[int], layout: str) -> bool:
    """Whether a batch of four axes has its channels last; see :func:`planar`."""
    if layout != "auto":
        return layout == "HWC"
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if first == last:
        raise ValueError(
            f"layout: expected images with 1, 3 or 4 channels first or last, got {list(shape)}; "
            "say layout='CHW' or 'HWC'"
        )
    return last
