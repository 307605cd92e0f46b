"""Images held decoded, as uint8, on the device they are used on: epochs without workers or files.

Reading folders is the business of ``banks.imagefolder`` and :mod:`anoaug.banks`, the order of
an epoch that of :mod:`anoaug.loaders.epochs`, synthesis that of AnomalyLoader.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .. import checks
from ..banks import Bank, DonorBank, imagefolder
from ..synthesizer import Synthesizer
from .contract import moved
from .dataloader import AnomalyLoader, present_device
from .epochs import ResidentLoader

if TYPE_CHECKING:
    from typing_extensions import Self

SPLITS = ("train", "test")

_SHARE = 0.5  # of a device's free memory that images may take: a network has to fit beside them
# Torch's pinned allocator rounds a large block up to a power of two: pieces just below one.
_PIECE = 1 << 27


class ResidentDataset(Dataset[dict[str, Any]]):
    """Images of one size, decoded once and held as uint8 where they are used.

    An epoch then needs no worker, no file and, on CUDA, no copy of images from the host::

        data = anoaug.ResidentDataset.from_folder("mvtec/bottle", size=256, device="cuda")
        batches = data.batches(32, synth=synth)
        for epoch in range(100):
            for batch in batches:  # another order and other anomalies in each epoch
                loss = criterion(network(batch["image"]), batch["mask"])

    A batch is a dict, ready for ``synth(batch["image"], index=batch["index"], epoch=epoch,
    category=batch.get("category"))``:

    * ``"image"``: uint8 ``(B, C, H, W)`` on ``device``, a copy: what is done to it in place is
      not done to the data set;
    * ``"index"``: int64 ``[B]`` on the host, where sampling reads it;
    * ``"name"``: file names relative to the folder, a list;
    * ``"category"``: names, a list, if there are categories;
    * ``"mask"`` (uint8 ``(B, 1, H, W)``, 0 or 1) and ``"label"`` (int64 ``[B]``), both on
      ``device``, of a test split.

    It is also a map-style data set, one such sample at an integer, for a DataLoader, which
    AnomalyLoader then takes as it is: the index is in the samples. Workers of a DataLoader are
    processes, so leave the images on the CPU for them, where they share one map of the cache file.

    **Where the images are.** On the CPU they are a map of the cache file and cost no memory of the
    process. On CUDA they are copied once, if they fit into half of the memory that is free then;
    else they are put into pinned host memory, a warning says so, and each batch is copied as it is
    asked for, without making the host wait.

    Args:
        bank: The images; ``data.bank`` serves as ``donors=`` too, without a second copy.
        device: Where they are to be; None leaves them where the bank is.
        masks: ``[N, 1, H, W]`` beside the bank's images, above 0 where there is a real defect.
        label: One 0 or 1 per image, 1 for a defect; None takes the images whose mask is not empty.

    Attributes:
        bank: The images, ``names``, ``categories`` and each image's ``category``.
        device: Where batches are.
        masks: As given, on the device if the images are there, or None.
        label: int64 ``[N]`` on the host, or None.

    Raises:
        TypeError: ``bank`` is none, or the labels are not integers.
        ValueError: A CUDA device that is not there, or masks or labels that do not fit the images.
    """

    def __init__(
        self,
        bank: Bank,
        device: torch.device | str | None = None,
        *,
        masks: Tensor | None = None,
        label: Tensor | Sequence[int] | None = None,
    ) -> None:
        if not isinstance(bank, Bank):
            raise TypeError(
                f"bank: expected an anoaug.Bank, got {type(bank).__name__}; "
                "use ResidentDataset.from_folder or .from_tensors"
            )
        if masks is not None:
            masks = (checks.plane("masks", masks, bank.data) > 0).to(torch.uint8)
            label = masks.flatten(1).amax(1) if label is None else label
        device = bank.device if device is None else present_device(device)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        self.device = device
        self.label = None if label is None else checks.row_vector("label", label, len(bank)).cpu()
        self._label = None if self.label is None else moved(self.label, device)
        self._pinned: dict[str, _PinnedRows] = {}
        if _fits(bank, masks, device):
            self.bank = bank.to(device)
            self.masks = None if masks is None else masks.to(device)
        else:
            self.bank, self.masks = bank, masks
            self._pinned["image"] = _PinnedRows(bank.data, device)
            if masks is not None:
                self._pinned["mask"] = _PinnedRows(masks, device)

    @classmethod
    def from_folder(
        cls,
        path: str | os.PathLike[str],
        size: int | tuple[int, int] = 256,
        device: torch.device | str | None = None,
        *,
        split: str = "train",
        channels: int = 3,
        resize: str = "stretch",
        cache: bool = True,
        progress: bool = True,
        workers: int | None = None,
    ) -> Self:
        """The images of a folder, sorted by name, decoded once on threads and kept in a cache file.

        ``split="train"`` takes normal images only, in the layouts of :class:`anoaug.DonorBank`:
        MVTec (``<category>/train/good/*``; the folder is one category or the root of many),
        ImageFolder (``<category>/*``) or flat. Test images and masks are never taken, folders named
        like defects are refused.

        ``split="test"`` takes ``<category>/test/*`` of an MVTec layout with the masks
        ``ground_truth/<defect>/<name>_mask.*`` (or ``<name>.*``). They are resized as the images
        are; a pixel is one of the defect where at least half of it is (values above 127).

        What the files may be: sizes, formats and channel counts may differ, all become uint8 of one
        size; 16 bits keep the high byte; palettes are looked up; CMYK becomes RGB; transparency is
        dropped; EXIF turns are applied; grey becomes three equal channels. Files that cannot be
        read, and floating point images, are named in one warning and left out
        (:mod:`anoaug.banks.imagefolder` has the details).

        Args:
            path: The folder. Names that begin with a dot are passed over.
            size: Side, or (height, width), in pixels.
            device: Where the images are to be; None is the CPU.
            split: ``"train"`` or ``"test"``.
            channels: 3 (RGB) or 1 (luma).
            resize: ``"stretch"`` ignores the aspect ratio; ``"crop"`` brings the shorter side to
                size and takes the centre.
            cache: False decodes into memory every time. The file is in ``ANOAUG_CACHE``, else
                ``$XDG_CACHE_HOME/anoaug``, else ``~/.cache/anoaug``.
            progress: Show a bar on a terminal while decoding.
            workers: Threads that decode; all processors when None.

        Raises:
            ValueError: The folder is missing or holds no image of the split, an argument is wrong,
                or an image with a defect has no mask.
            OSError: The cache folder cannot be written.
        """
        kind = {"train": DonorBank, "test": _TestBank}[checks.one_of("split", split, SPLITS)]
        options: dict[str, Any] = {"resize": resize, "workers": workers}
        bank = kind.from_folder(path, size, channels, cache, progress, **options)
        if split == "train":
            return cls(bank, device)
        found = imagefolder.masked_by_folder(Path(path).expanduser(), imagefolder.find(path))
        files = [found[name][1] for name in bank.names]
        rule = imagefolder.Rule(bank.size, 1, resize)
        masks = _truth(path, files, rule, cache, progress, workers)
        return cls(bank, device, masks=masks, label=[int(file is not None) for file in files])

    @classmethod
    def from_tensors(
        cls,
        images: Tensor,
        category: Sequence[str] | Sequence[int] | None = None,
        *,
        names: Sequence[str] | None = None,
        device: torch.device | str | None = None,
    ) -> Self:
        """A copy of normal images that are decoded already.

        Args:
            images: ``[N, C, H, W]``, N >= 1, uint8, or float within [0, 1], rounded to uint8.
            category: One per image: its category's name, or its index; None for no categories.
            names: One per image; ``"0"``, ``"1"``, ... when None.
            device: Where they are to be; None leaves them where they are.

        Raises:
            TypeError, ValueError: As :meth:`anoaug.Bank.from_tensors`.
        """
        return cls(DonorBank.from_tensors(images, names, category), device)

    def batches(
        self,
        batch_size: int = 32,
        synth: Synthesizer | None = None,
        *,
        shuffle: bool = True,
        seed: int | None = 0,
        epoch: int = 0,
        drop_last: bool = False,
        rank: int | None = None,
        world: int | None = None,
    ) -> ResidentLoader | AnomalyLoader:
        """A loader of this data set's batches, with anomalies in them if there is a synthesizer.

        Args:
            batch_size: Images per batch and rank.
            synth: Batches go through it as :class:`AnomalyLoader` says: ``"image"`` is then its
                output, and ``"mask"``, ``"label"``, ``"kind"``, ``"clean"`` and
                ``"anomaly_params"`` are there. In eval mode images pass through. Through a data
                set with labels, as a test split is, they do so in any mode: normalised as in
                training, with their real masks and labels. The synthesizer is left as it is: the
                loader has its own, which shares the banks.
            shuffle: Another order in each epoch; False keeps the order of the names.
            seed: Of the order, 64 bits; None takes ``torch.initial_seed()``.
            epoch: The epoch of the first iteration; each further one is the next.
            drop_last: Give whole batches only.
            rank: This process's place among ``world``; None asks ``torch.distributed``.
            world: Number of ranks.

        Returns:
            A :class:`ResidentLoader`, or an :class:`AnomalyLoader` around it: either can be
            iterated again and again and has ``len()``, ``set_epoch``, ``state_dict`` and
            ``load_state_dict``.
        """
        plain = ResidentLoader(
            self,
            batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            rank=rank,
            world=world,
        )
        if synth is None:
            plain.set_epoch(epoch)
            return plain
        if self.label is not None and isinstance(synth, Synthesizer):
            synth = _passing(synth)
        loader = AnomalyLoader(plain, synth, self.device if self.device.type != "cpu" else None)
        loader.set_epoch(epoch)
        return loader

    def __len__(self) -> int:
        return len(self.bank)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if isinstance(index, slice):
            raise TypeError(
                f"index: expected an integer, got {index!r}; data.take(torch.arange(0, 2)) gives "
                "a batch, torch.utils.data.Subset(data, range(0, 2)) a smaller data set"
            )
        number = range(len(self))[index]  # negative ones count from the end, as in a list
        one = self.take(torch.tensor([number], dtype=torch.int64, device="cpu"))
        return {key: value[0] for key, value in one.items()} | {"index": number}

    def __repr__(self) -> str:
        facts = repr(self.bank).partition("(")[2].rstrip(")")
        where = f", pinned for {self.device}" if self._pinned else ""
        defects = "" if self.label is None else f", {int(self.label.sum())} with defects"
        return f"{type(self).__name__}({facts}{where}{defects})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.bank, self.device, self.masks, self.label)

    def take(self, rows: Tensor, placed: Tensor | None = None) -> dict[str, Any]:
        """The batch of some images.

        Args:
            rows: Their indices, int64 ``[B]`` on the host, in [0, N).
            placed: The same on ``device``, where they are there already.

        Raises:
            ValueError: An index is out of range.
        """
        numbers = rows.tolist()  # host: the order is made there
        if numbers and not 0 <= min(numbers) <= max(numbers) < len(self):
            raise ValueError(
                f"rows: expected indices in [0, {len(self)}), got {min(numbers)} to {max(numbers)}"
            )
        if placed is None:
            placed = moved(rows, self.device)
        parts = {"image": self.bank.data} | ({} if self.masks is None else {"mask": self.masks})
        batch: dict[str, Any] = {
            # Never a view: what a caller does to a batch in place would stay in the data set.
            key: self._pinned[key].take(numbers) if self._pinned else part.index_select(0, placed)
            for key, part in parts.items()
        }
        if self._label is not None:
            batch["label"] = self._label.index_select(0, placed)
        batch |= {"index": rows, "name": [self.bank.names[number] for number in numbers]}
        if self.bank.categories:
            known = self.bank.category[rows.numpy()].tolist()  # host: rows live there
            batch["category"] = [self.bank.categories[number] for number in known]
        return batch


class _PinnedRows:
    """Images in pinned host memory; a batch is copied row by row, past the host's caches."""

    def __init__(self, data: Tensor, device: torch.device) -> None:
        self._device = device
        self._height = max(1, _PIECE // data[0].numel())  # rows in a piece
        self._pieces = [piece.pin_memory() for piece in data.split(self._height)]

    def take(self, rows: list[int]) -> Tensor:
        """The rows on the device; the host does not wait."""
        shape = (len(rows), *self._pieces[0].shape[1:])
        out = torch.empty(shape, dtype=torch.uint8, device=self._device)
        for target, row in zip(out, rows, strict=True):
            piece, at = divmod(row, self._height)
            target.copy_(self._pieces[piece][at], non_blocking=True)
        return out


class _TestBank(Bank):
    """The test images of an MVTec layout, with and without defects."""

    @classmethod
    def _layout(cls, folder: Path, names: Sequence[str]) -> dict[str, str]:
        found = imagefolder.masked_by_folder(folder, names)
        return {name: category for name, (category, _) in found.items()}


@torch.inference_mode(False)
def _truth(
    path: str | os.PathLike[str],
    files: Sequence[str | None],
    rule: imagefolder.Rule,
    cache: bool,
    progress: bool,
    workers: int | None,
) -> Tensor:
    """Masks uint8 ``[N, 1, h, w]``, 0 or 1; all zero where there is no file."""
    masks = torch.zeros((len(files), 1, *rule.size), dtype=torch.uint8, device="cpu")
    named = sorted({file for file in files if file is not None})
    if not named:
        return masks
    loaded = imagefolder.load(path, named, rule, cache, progress, workers)
    lost = sorted(set(named) - set(loaded.names))
    if lost:
        raise ValueError(f"split: expected masks that can be read, got {lost[0]}; mend the file")
    if int(loaded.data.max()) <= 127:
        raise ValueError(
            f"split: expected masks of 0 and 255, got at most {int(loaded.data.max())} after "
            "resizing; multiply masks of 0 and 1 by 255, or choose a larger size"
        )
    places = {name: place for place, name in enumerate(loaded.names)}
    for mask, file in zip(masks, files, strict=True):
        if file is not None:
            mask.copy_(loaded.data[places[file]] > 127)
    return masks


def _fits(bank: Bank, masks: Tensor | None, device: torch.device) -> bool:
    """Whether the images may lie on the device; warns if they may not."""
    if device.type != "cuda" or bank.device == device:
        return True
    need = bank.data.numel() + (0 if masks is None else masks.numel())
    free = torch.cuda.mem_get_info(device)[0]
    if need <= _SHARE * free:
        return True
    warnings.warn(
        f"the images take {need / 2**30:.1f} GiB, more than half of the {free / 2**30:.1f} GiB "
        f"that are free on {device}: they stay in pinned host memory and are copied batch by "
        "batch; choose a smaller size, or device='cpu' to leave them in the cache file",
        stacklevel=4,
    )
    return False


def _passing(synth: Synthesizer) -> Synthesizer:
    """A twin that lets images through: mode, seed and epoch are its own, banks are shared."""
    twin = copy.copy(synth)
    # Not eval(): that would reach into modules which the two have in common.
    twin.training, twin.active = False, "train"
    twin._numbering = synth._numbering.copy()
    return twin


def _restored(
    kind: type[ResidentDataset],
    bank: Bank,
    device: torch.device,
    masks: Tensor | None,
    label: Tensor | None,
) -> ResidentDataset:
    """The other end of pickling."""
    return kind(bank, device, masks=masks, label=label)
