"""Ray Data: synthesis on a cluster, of data sets on disk and of any batches of images.

Needs Ray: ``pip install 'anoaug[ray]'``.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .. import checks
from ..generate import Written, worker, written
from ..synthesizer import Synthesizer
from .wrapped import made

Rows = dict[str, Any]


class Synthesize:
    """A callable class for ``Dataset.map_batches``: each actor holds a synthesizer and its banks.

    A batch is a dict of arrays with images of one size, ``(B, H, W, C)`` or ``(B, H, W)`` uint8, as
    ``ray.data.read_images`` gives; it comes back with ``image``, ``mask`` (``(B, H, W)`` uint8, 0
    or 255), ``label`` and ``kind``, other columns stay. Anomalies are a function of (seed, epoch,
    index): the rows need a column with a number each, or every actor would draw the same.

    With ``shards=True`` rows are those of WebDataset, for ``Dataset.write_webdataset(folder,
    encoder=None)``: ``__key__``, ``png``, ``mask.png`` and ``json``, the files already encoded.

    Args:
        synth: A synthesizer, or the name of a method, whose banks each actor then makes.
        image: Column of the images.
        index: Column of the numbers.
        category: Column of the categories, or None.
        epoch: Epoch of the randomness.
        device: Where each actor works: ``"cuda"`` with ``num_gpus=1`` in ``map_batches``.
        shards: Encode rows for WebDataset.
        keywords: Of the method, if a name is given.

    Raises:
        TypeError, ValueError: Not a synthesizer, or batches without images or numbers.

    Example:
        Two actors with a GPU each, tar files out::

            images = ray.data.read_images("normals")  # with a column "index"
            settings = {"synth": "draem", "device": "cuda", "shards": True}
            images.map_batches(
                Synthesize, fn_constructor_kwargs=settings,
                compute=ray.data.ActorPoolStrategy(size=2), num_gpus=1, batch_size=64,
            ).write_webdataset("shards", encoder=None)
    """

    def __init__(
        self,
        synth: Synthesizer | str,
        *,
        image: str = "image",
        index: str = "index",
        category: str | None = None,
        epoch: int = 0,
        device: str = "cpu",
        shards: bool = False,
        **keywords: Any,
    ) -> None:
        # Generation, not training: whoever wants half of the images normal says p=0.5.
        self.synth = made(synth, None, {"p": 1.0, **keywords} if isinstance(synth, str) else {})
        self.synth.train()
        self.image, self.index, self.category = image, index, category
        self.epoch, self.device, self.shards = epoch, torch.device(device), shards

    @torch.no_grad()
    def __call__(self, batch: Mapping[str, Any]) -> Rows:
        """The batch with anomalies."""
        columns = {"image": self.image, "index": self.index, "category": self.category}
        for role, name in columns.items():
            if name is not None and name not in batch:
                raise ValueError(
                    f"{role}: expected a column {name!r}, got {sorted(batch)}; name yours with "
                    f"{role}={', and number rows before map_batches' if role == 'index' else ''}"
                )
        pixels = np.asarray(batch[self.image])
        if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4):
            raise ValueError(
                f"image: expected uint8 (B, H, W, C) of one size, got {pixels.dtype} "
                f"{list(pixels.shape)}; read_images(size=(256, 256)) brings them to one"
            )
        if pixels.ndim == 4 and pixels.shape[1] <= 4 and pixels.shape[3] > 16:
            raise ValueError(
                f"image: expected (B, H, W, C), got {list(pixels.shape)}, which looks like "
                "(B, C, H, W); use np.moveaxis(images, 1, -1)"
            )
        rows = np.asarray(batch[self.index])
        if rows.dtype.kind not in "iu":
            raise TypeError(f"{self.index}: expected whole numbers, got {rows.dtype}")
        planes = torch.from_numpy(np.ascontiguousarray(pixels))
        planes = planes[:, None] if pixels.ndim == 3 else planes.permute(0, 3, 1, 2)
        category = None if self.category is None else list(batch[self.category])
        numbers = torch.as_tensor(rows.astype(np.int64))
        out = self.synth(planes.to(self.device), index=numbers, epoch=self.epoch, category=category)
        image = out.image.permute(0, 2, 3, 1).cpu().numpy()  # host: Ray's rows live there
        mask = ((out.mask[:, 0] > 0).to(torch.uint8) * 255).cpu().numpy()  # host: likewise
        found = {
            **batch,
            self.image: image[..., 0] if pixels.ndim == 3 else image,
            "mask": mask,
            "label": out.label.cpu().numpy(),  # host: likewise
            "kind": np.array([self.synth.kinds[k] for k in out.kind.tolist()], dtype=np.str_),
        }
        return _shard(found, self.image, self.index) if self.shards else found


def _shard(rows: Rows, image: str, index: str) -> Rows:
    """Rows as WebDataset's: files of a sample by extension, under one key."""
    beside = [
        {name: _plain(rows[name][k]) for name in rows if name not in (image, "mask")}
        for k in range(len(rows["label"]))
    ]
    return {
        "__key__": [f"{int(number):09d}" for number in rows[index]],
        "png": [_png(one) for one in rows[image]],
        "mask.png": [_png(one) for one in rows["mask"]],
        "json": [json.dumps(each).encode("utf-8") for each in beside],
    }


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    pillow = checks.require("PIL.Image", "images")
    shown = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    stream = io.BytesIO()
    pillow.fromarray(np.ascontiguousarray(shown)).save(stream, format="PNG")
    return stream.getvalue()


class _Maker:
    """An actor that makes images of a data set from their numbers."""

    def __init__(self, maker: worker.Maker) -> None:
        torch.set_num_threads(1)
        self.maker = maker

    @torch.no_grad()
    def __call__(self, batch: Rows) -> Rows:
        """Files on disk, and the manifest's lines."""
        numbers = [int(number) for number in batch["number"]]
        return {"number": numbers, "line": [self.maker(number) for number in numbers]}


def generate(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    n: int = 100,
    methods: Sequence[str] = ("draem", "cutpaste"),
    *,
    actors: int = 2,
    batch_size: int = 8,
    progress: bool = True,
    **options: Any,
) -> Written:
    """What :func:`anoaug.generate.generate` writes, by actors of Ray: the same bytes.

    Every actor reads ``folder`` and writes to ``out``, which on a cluster have to be shared file
    systems. An interrupted run goes on when called again, by either of the two.

    Args:
        folder: As there, likewise all but the two that follow.
        out: See above.
        n: See above.
        methods: See above.
        actors: Processes of Ray's, one CPU each.
        batch_size: Images that an actor makes before it answers.
        progress: Show a bar on a terminal.
        options: See above.

    Raises:
        ImportError: Ray is missing.
        ValueError, TypeError, OSError: As there.
    """
    data = checks.require("ray.data", "ray")
    for name, value in (("actors", actors), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}: expected a whole number from 1 on, got {value!r}")

    def lines(maker: worker.Maker, missing: Sequence[int]) -> worker.Lines:
        if not missing:
            return
        rows = data.from_items([{"number": number} for number in missing])
        pool = data.ActorPoolStrategy(size=actors)
        made = rows.map_batches(
            _Maker, fn_constructor_args=(maker,), compute=pool, batch_size=batch_size
        )
        for row in made.iter_rows():
            yield int(row["number"]), str(row["line"])

    return written(lines, folder, out, n, methods, progress=progress, **options)
