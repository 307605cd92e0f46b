"""A pipeline of DALI's, ready made: a folder's normal images decoded, resized, numbered."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ... import checks
from ...banks import imagefolder
from ...synthesizer import Synthesizer
from .iterators import SynthIterator


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
