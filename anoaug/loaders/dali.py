"""NVIDIA DALI: synthesis on the batches of its iterators, or inside its pipelines.

:class:`SynthIterator` is the way for training: DALI's tensors are taken as they are, without a
copy, and one render follows on the consumer's stream. :func:`synthesize` is the same as an operator
of a pipeline, for those who must; DALI's documentation calls such operators slow.

Building pipelines needs DALI: ``pip install 'anoaug[dali]'``. DALI's own plugin "triton" is about
an inference server and has nothing to do with the kernels here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import checks
from ..banks import imagefolder
from ..synthesizer import Synthesizer
from .contract import Names
from .dataloader import AnomalyLoader

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
    if images.dim() != 4 or layout == "CHW":
        return images
    if layout == "auto":
        first, last = images.shape[1] in _CHANNELS, images.shape[3] in _CHANNELS
        if first == last:
            raise ValueError(
                f"layout: expected images with 1, 3 or 4 channels first or last, got "
                f"{list(images.shape)}; say layout='CHW' or 'HWC'"
            )
        layout = "CHW" if first else "HWC"
    return images.permute(0, 3, 1, 2) if layout == "HWC" else images


# ---- a pipeline, ready made ----------------------------------------------------------------------


def mvtec_pipeline(
    root: str | os.PathLike[str],
    size: int | tuple[int, int] = 256,
    batch_size: int = 32,
    device: str = "cpu",
    *,
    shuffle: bool = True,
    seed: int = 0,
    threads: int = 2,
    device_id: int = 0,
    rank: int = 0,
    world: int = 1,
    checkpoint: bytes | None = None,
) -> Any:
    """A DALI pipeline over the normal images of a folder: decoded, resized, numbered.

    Its outputs are ``image`` (uint8 ``HWC``, as decoded), ``index`` and ``category`` (numbers, on
    the host); its reader is called ``"Reader"``. Layouts and file types are those of
    :class:`anoaug.DonorBank`: MVTec's, a folder per category, or flat; PNG and JPEG. On the GPU,
    JPEG is decoded there, PNG on the CPU and copied.

    Args:
        root: The folder.
        size: Side, or (height, width), in pixels; aspect ratios are ignored.
        batch_size: Images per batch.
        device: ``"cpu"`` or ``"gpu"``.
        shuffle: Draw the images in another order each epoch.
        seed: 64-bit seed of the order.
        threads: CPU threads that decode.
        device_id: Number of the GPU.
        rank: This process's share, likewise ``world``.
        world: Of how many.
        checkpoint: Of such a pipeline: go on where it was.

    Returns:
        The built pipeline, with attributes ``names`` (of the files by index) and ``categories``.

    Raises:
        ImportError: DALI is missing.
        ValueError: The folder is missing or holds no normal image.
    """
    dali = checks.require("nvidia.dali", "dali")
    fn = checks.require("nvidia.dali.fn", "dali")
    types = checks.require("nvidia.dali.types", "dali")
    checks.one_of("device", device, ("cpu", "gpu"))
    folder = Path(root).expanduser()
    found = imagefolder.normal_by_folder(folder, imagefolder.find(root))
    files, categories = sorted(found), sorted(set(found.values()))
    numbers = torch.tensor([categories.index(found[name]) for name in files], dtype=torch.int32)

    @dali.pipeline_def(enable_checkpointing=True)  # type: ignore[untyped-decorator]
    def pipeline() -> Any:
        encoded, index = fn.readers.file(
            file_root=str(folder), files=files, labels=list(range(len(files))),
            random_shuffle=shuffle, initial_fill=len(files), shard_id=rank, num_shards=world,
            pad_last_batch=True, name="Reader",
        )  # fmt: skip
        decoder = "mixed" if device == "gpu" else "cpu"
        image = fn.decoders.image(encoded, device=decoder, output_type=types.RGB)
        image = fn.resize(image, size=list(imagefolder.pair(size)))
        table = types.Constant(numbers.numpy(), device="cpu")
        return image, index, table[index[0]]

    made = pipeline(
        batch_size=batch_size, num_threads=threads, seed=seed, checkpoint=checkpoint,
        device_id=device_id if device == "gpu" else None, exec_dynamic=True,
    )  # fmt: skip
    made.build()
    made.names, made.categories = files, categories
    return made


def mvtec_batches(
    root: str | os.PathLike[str],
    synth: Synthesizer,
    size: int | tuple[int, int] = 256,
    batch_size: int = 32,
    device: str = "cpu",
    **options: Any,
) -> SynthIterator:
    """Batches with anomalies over the normal images of a folder, decoded and resized by DALI.

    Dicts with ``image`` ``(B, 3, H, W)``, ``mask``, ``index``, ``category`` and what else
    :class:`anoaug.loaders.BatchContract` writes. Every ``iter()`` is an epoch over all images, the
    last batch may be smaller; ``state_dict`` and ``load_state_dict`` resume in the middle of one.

    Args:
        root: As in :func:`mvtec_pipeline`, likewise all but ``synth``.
        synth: The synthesizer.
        size: See above.
        batch_size: See above.
        device: See above.
        options: See above.

    Raises:
        ImportError, TypeError, ValueError: As :func:`mvtec_pipeline` and :class:`SynthIterator`.
    """
    plugin = checks.require("nvidia.dali.plugin.pytorch", "dali")

    def iterator(checkpoint: bytes | None = None) -> Any:
        pipeline = mvtec_pipeline(
            root, size, batch_size, device, checkpoint=checkpoint, **options
        )  # fmt: skip
        return plugin.DALIGenericIterator(
            [pipeline], ["image", "index", "category"], reader_name="Reader",
            last_batch_policy=plugin.LastBatchPolicy.PARTIAL, auto_reset=True,
        )  # fmt: skip

    return SynthIterator(iterator(), synth, layout="HWC", rebuild=iterator)


# ---- inside a pipeline ---------------------------------------------------------------------------


class _Inside:
    """A synthesizer as a Python operator: lists of DLPack capsules, one per sample."""

    def __init__(
        self, synth: Synthesizer, layout: str, epoch_size: int | None, position: int
    ) -> None:
        self.synth, self.layout = synth, layout
        self.epoch_size, self.position = epoch_size, position

    def __call__(self, images: list[Any], index: list[Any]) -> tuple[list[Any], ...]:
        """Called in a thread of DALI's, which has neither our gradient mode nor our stream."""
        dlpack: Any = torch.utils.dlpack
        pack, unpack = dlpack.to_dlpack, dlpack.from_dlpack
        pictures = [unpack(one) for one in images]
        sizes = {tuple(one.shape) for one in pictures}
        if len(sizes) > 1:
            raise ValueError(
                f"images: expected one size, got {sorted(sizes)}; put fn.resize before synthesize"
            )
        with torch.no_grad(), _stream_of_dali(pictures[0].device):
            batch = planar(torch.stack(pictures), self.layout)
            # host: an operator on the GPU is given GPU inputs alone, and sampling needs the number
            numbers = torch.stack([unpack(one).reshape(()) for one in index]).cpu().to(torch.int64)
            outs = [
                self.synth(batch[rows], index=numbers[rows], epoch=epoch)
                for rows, epoch in self._epochs(len(batch))
            ]
            made = [torch.cat([out[k] for out in outs]).contiguous() for k in range(3)]
        # Labels as [1] each: DALI's batches have no tensors without axes.
        made[2] = made[2].unsqueeze(1)
        return tuple([pack(row) for row in part] for part in made)

    def _epochs(self, rows: int) -> list[tuple[slice, int]]:
        """Slices of the batch by the epoch they belong to."""
        if self.epoch_size is None:
            return [(slice(0, rows), self.synth.epoch)]
        parts, begin = [], 0
        while begin < rows:
            epoch, place = divmod(self.position, self.epoch_size)
            count = min(rows - begin, self.epoch_size - place)
            parts.append((slice(begin, begin + count), epoch))
            begin, self.position = begin + count, self.position + count
        return parts


def _stream_of_dali(device: torch.device) -> Any:
    """DALI's own stream as the current one, so that nothing has to be waited for."""
    if device.type != "cuda":
        return nullcontext()
    plugin = checks.require("nvidia.dali.python_function_plugin", "dali")
    return torch.cuda.stream(torch.cuda.ExternalStream(plugin.current_dali_stream(), device))


def synthesize(
    images: Any,
    index: Any,
    synth: Synthesizer,
    *,
    layout: str = "auto",
    epoch_size: int | None = None,
    position: int = 0,
    device: str = "cpu",
) -> tuple[Any, Any, Any]:
    """A synthesizer as an operator inside a DALI pipeline.

    Slower than :class:`SynthIterator`: DALI hands Python operators one tensor per sample, holds a
    lock around them, and copies what they return. A pipeline with one cannot be serialised.

    Args:
        images: DALI's images of one size, uint8 or float in [0, 1], ``HWC`` or ``CHW``.
        index: The samples' numbers, such as a reader's labels; on the GPU, ``index.gpu()``.
        synth: The synthesizer.
        layout: See :class:`SynthIterator`.
        epoch_size: Samples of an epoch of the reader, so that epochs are counted here, where
            batches are made ahead of time; with ``pad_last_batch=True`` rounded up to whole
            batches. None takes the synthesizer's epoch, as it stands then.
        position: Samples that a restored pipeline has given already: DALI's checkpoints do not
            know what a Python operator counted.
        device: Of the operator: ``"cpu"`` or ``"gpu"``, like ``images``.

    Returns:
        Image (``CHW``), mask (``CHW``, float32) and label (int64 ``[1]``), nodes of the pipeline.

    Raises:
        ImportError: DALI is missing.
        TypeError: Not a synthesizer.
    """
    fn = checks.require("nvidia.dali.fn", "dali")
    if not isinstance(synth, Synthesizer):
        raise TypeError(f"synth: expected an anoaug.Synthesizer, got {type(synth).__name__}")
    call = _Inside(synth, checks.one_of("layout", layout, LAYOUTS), epoch_size, position)
    made: tuple[Any, Any, Any] = fn.dl_tensor_python_function(
        images, index, function=call, num_outputs=3, batch_processing=True,
        output_layouts=["CHW", "CHW", ""], device=device, synchronize_stream=False,
    )  # fmt: skip
    return made


def synthesize_batch(
    images: Any, synth: Synthesizer, *, index: Any = None, epoch: int | None = None
) -> Any:
    """Synthesis on a batch of DALI's dynamic mode (``nvidia.dali.experimental.dynamic``).

    Args:
        images: A batch of images of one size, ``HWC`` or ``CHW``.
        synth: The synthesizer.
        index: A batch of the samples' numbers, on the host; needs ``epoch``.
        epoch: Epoch of the randomness.

    Returns:
        An :class:`anoaug.AnomalyBatch` of torch tensors; ``dynamic.as_batch`` takes them back.
    """
    pictures = planar(torch.utils.dlpack.from_dlpack(_dense(images)))
    numbers = (
        None if index is None else torch.utils.dlpack.from_dlpack(_dense(index)).reshape(-1).cpu()
    )
    return synth(pictures, index=numbers, epoch=epoch)


def _dense(batch: Any) -> Any:
    """A batch of dynamic mode as one tensor."""
    dynamic = checks.require("nvidia.dali.experimental.dynamic", "dali")
    return dynamic.as_tensor(batch)
