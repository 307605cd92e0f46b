"""Whole epochs, from image files to finished batches on the device: who gets through how many?

Four ways to feed a training loop with DRAEM's anomalies: a Dataset that decodes and synthesises
image by image, as DRAEM's own does (``numpy``); a Dataset that only decodes, with AnomalyLoader
around its DataLoader (``anoaug-loader``); NVIDIA DALI (``anoaug-dali``, see ``dali_feeds.py``); and
ResidentDataset (``anoaug-resident``). A number at the end of a name is that of DataLoader workers.
What an epoch consists of is timed by itself, in one process: decoding, synthesis, and the copy
(collating or gathering a batch, and its way to the device).
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

import anoaug
from anoaug.checks import require
from anoaug.loaders.contract import moved
from benchmarks import dali_feeds, data, providers, record, timing
from benchmarks.cases import Case
from benchmarks.data import Bytes, Inputs
from benchmarks.peers.draem_numpy import DraemNumpy
from benchmarks.timing import Timing, Work

_LEAST_IMAGES = 100  # in one run; a shorter epoch is repeated
_GENERATED = 4  # batches of images written where there are none
PARTS = ("decode", "synthesis", "copy")
_DALI = {
    "anoaug-dali": "iterator", "anoaug-dali-inside": "inside", "anoaug-dali-dynamic": "dynamic",
}  # fmt: skip


@dataclass(frozen=True)
class Files:
    """What an epoch starts from.

    Args:
        folder: Image files, all of them normal.
        inputs: The textures, decoded and resized.
        about: Where they come from, for the record.
    """

    folder: Path
    inputs: Inputs
    about: str


@contextmanager
def files(size: int, batch: int) -> Iterator[Files]:
    """The shared images, or generated ones in a temporary folder."""
    inputs = data.inputs(size, count=1)
    root = data.data_root()
    if root is not None:
        about = "files of bsd_pitting/train/good; textures_cc0, decoded and resized beforehand"
        yield Files(root / "bsd_pitting" / "train" / "good", inputs, about)
        return
    image = require("PIL.Image", "images")
    with tempfile.TemporaryDirectory() as place:
        for number, pixels in enumerate(data.generated(_GENERATED * batch, size, seed=0)):
            image.fromarray(pixels).save(Path(place) / f"{number:03}.jpg", quality=95)
        yield Files(Path(place), inputs, "files of generated colours and grain")


def decode(path: Path, size: int) -> Bytes:
    """A file as (size, size, 3) uint8 RGB, by OpenCV, as DRAEM's Dataset does it."""
    pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.resize(pixels, (size, size)))


class Decoding(Dataset[torch.Tensor]):
    """A Dataset that decodes: uint8 (3, size, size)."""

    def __init__(self, paths: list[Path], size: int) -> None:
        self.paths = paths
        self.size = size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(decode(self.paths[index], self.size)).permute(2, 0, 1)


class Synthesising(Decoding):
    """A Dataset that decodes and synthesises: image and mask, float32, and the label."""

    def __init__(self, paths: list[Path], size: int, pipeline: DraemNumpy) -> None:
        super().__init__(paths, size)
        self.pipeline = pipeline

    def __getitem__(self, index: int) -> Any:
        return self.pipeline(decode(self.paths[index], self.size))


def settle_worker(number: int) -> None:
    """Give a worker random numbers of its own."""
    del number
    info: Any = get_worker_info()
    pipeline = getattr(info.dataset, "pipeline", None)
    if pipeline is not None:
        pipeline.rng = np.random.default_rng(info.seed)


def loading(dataset: Dataset[Any], batch: int, workers: int, device: torch.device) -> Any:
    """A DataLoader of whole batches, whose workers live on from epoch to epoch."""
    # OpenCV's pool does not survive a fork: a worker would wait for threads that are not there.
    cv2.setNumThreads(1)
    return DataLoader(
        dataset,
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=settle_worker,
        pin_memory=device.type == "cuda",
    )


def settled(device: torch.device) -> None:
    """Wait for the device, whose work a CPU clock would not see."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Contest:
    """The contestants of a case over the same files.

    Args:
        case: The case.
        found: Files and textures.
        size: Side of the images in pixels.
        batch: Images per batch.
        device: Where finished batches have to be.

    Raises:
        ValueError: Fewer files than a batch has images.
    """

    def __init__(
        self, case: Case, found: Files, size: int, batch: int, device: torch.device
    ) -> None:
        self.size, self.batch, self.device = size, batch, device
        self.paths = data.files(found.folder)
        if len(self.paths) < batch:
            raise ValueError(
                f"--batch: expected at most {len(self.paths)} images, of which {found.folder} "
                f"holds no more, got {batch}"
            )
        self.pipeline = DraemNumpy(found.inputs.textures, seed=0, p=case.p)
        self.synth = providers.synthesizer(case, "auto", found.inputs, device)
        # DALI decodes to interleaved pixels; all contestants end in planar ones.
        self.planar = providers.synthesizer(
            case, "auto", found.inputs, device, memory_format="contiguous"
        )
        begin = time.perf_counter()
        # Uncached, so that the one decoding there is can be timed and nothing is left behind.
        self.resident = anoaug.ResidentDataset.from_folder(
            found.folder, size, device, cache=False, progress=False
        )
        settled(device)
        self.decode_once = time.perf_counter() - begin

    def loader(self, provider: str) -> Iterable[Any]:
        """The batches of an epoch, each time it is iterated.

        Raises:
            ValueError: No such provider.
        """
        kind, _, number = provider.partition("-workers-")
        workers = int(number or 0)
        if kind in _DALI:
            return dali_feeds.feed(
                _DALI[kind], self.paths, self.size, self.batch, self.planar, self.device
            )
        if kind == "anoaug-resident":
            return self.resident.batches(self.batch, self.synth, drop_last=True)
        if kind == "anoaug-loader":
            decoding = anoaug.IndexedDataset(Decoding(self.paths, self.size))
            plain = loading(decoding, self.batch, workers, self.device)
            return anoaug.AnomalyLoader(plain, self.synth, self.device)
        if kind == "numpy":
            synthesising = Synthesising(self.paths, self.size, self.pipeline)
            return loading(synthesising, self.batch, workers, self.device)
        raise ValueError(f"provider: expected one of this suite's, got {provider!r}")

    def epochs(self, provider: str) -> tuple[Work, int]:
        """One run, of as many epochs as it takes to see enough images, and its batches."""
        loader = self.loader(provider)
        per_epoch = len(self.paths) // self.batch
        repeats = -(-_LEAST_IMAGES // (per_epoch * self.batch))

        def run() -> None:
            seen = 0
            for _ in range(repeats):
                for batch in loader:
                    seen += 1
                    if provider.startswith("numpy"):
                        moved(batch, self.device)
            settled(self.device)
            if seen != repeats * per_epoch:
                raise RuntimeError(
                    f"{provider}: expected {repeats * per_epoch} batches, got {seen}"
                )

        return run, repeats * per_epoch

    def parts(self) -> dict[str, Work]:
        """What an epoch consists of, by batches (DALI: by epochs): ``"<who> <part>"``."""
        size, batch, device = self.size, self.batch, self.device
        whole = range(0, len(self.paths) - batch + 1, batch)
        paths = [self.paths[start : start + batch] for start in whole]
        pixels = [[decode(path, size) for path in part] for part in paths]
        images = [[torch.from_numpy(one).permute(2, 0, 1) for one in part] for part in pixels]
        finished = [self.pipeline(image) for image in pixels[0]]
        rows = torch.from_numpy(anoaug.loaders.ResidentLoader(self.resident).order(0))[:batch]
        placed = [moved(default_collate(part), device) for part in images]
        epoch = itertools.count()

        def over(function: Callable[[Any], object], items: list[Any]) -> Work:
            turn = itertools.cycle(items)

            def run() -> None:
                function(next(turn))
                settled(device)

            return run

        decoded = {}
        if dali_feeds.there():
            flow = dali_feeds.decoding(self.paths, size, batch, device)
            # A whole epoch: DALI has the next batches ready before they are asked for.
            decoded["dali decode"] = over(lambda part: [next(flow) for _ in part], [paths])
        return decoded | {
            "file decode": over(lambda part: [decode(path, size) for path in part], paths),
            "numpy synthesis": over(lambda part: [self.pipeline(one) for one in part], pixels),
            "numpy copy": over(lambda part: moved(default_collate(part), device), [finished]),
            "anoaug synthesis": over(
                lambda x: self.synth(x, index=rows, epoch=next(epoch)), placed
            ),
            "loader copy": over(lambda part: moved(default_collate(part), device), images),
            "resident copy": over(self.resident.take, [rows]),
        }


def _of(provider: str) -> tuple[str | None, str, str | None]:
    """Which parts a provider's epoch consists of, in the order of ``PARTS``."""
    if provider.startswith("numpy"):
        return "file decode", "numpy synthesis", "numpy copy"
    if provider in _DALI:
        return "dali decode", "anoaug synthesis", None
    if provider == "anoaug-resident":
        return None, "anoaug synthesis", "resident copy"
    return "file decode", "anoaug synthesis", "loader copy"


def run_case(
    case: Case, options: argparse.Namespace, size: int, batch: int
) -> tuple[list[dict[str, Any]], str]:
    """Time the providers of one case; returns their lines and where the images come from."""
    device = torch.device(options.device)
    names = [n for n in case.providers if not options.providers or n in options.providers]
    if not dali_feeds.there():
        print("loader: DALI is not installed and left out: pip install 'anoaug[dali]'")
        names = [name for name in names if name not in _DALI]
    with files(size, batch) as found:
        contest = Contest(case, found, size, batch, device)
        epochs = {name: contest.epochs(name) for name in names}
        runs = {name: work for name, (work, _) in epochs.items()}
        timings = timing.compare_cpu(runs | contest.parts(), seconds=options.seconds)
    per_batch = {
        # The CPU time of workers, which are processes of their own, is not in this one's.
        name: Timing(
            [seconds / batches for seconds in timings[name].wall],
            [] if "-workers-" in name else [s / batches for s in timings[name].cpu],
        )
        for name, (_, batches) in epochs.items()
    }
    lines = []
    for name, measured in per_batch.items():
        parameters: dict[str, Any] = {
            "size": size,
            "batch": batch,
            "dtype": f"files -> {case.out}",
            "work": case.work,
            "method": case.method,
            "p": case.p,
            "epoch_images": len(contest.paths) // batch * batch,
            "note": case.note,
        }
        for part, source in zip(PARTS, _of(name), strict=True):
            share = len(contest.paths) // batch if source == "dali decode" else 1
            parameters[f"{part}_s"] = 0.0 if source is None else timings[source].median / share
        if name == "anoaug-resident":
            parameters["decode_once_s"] = contest.decode_once
        base = per_batch.get(case.baseline)
        lines.append(
            record.timing_entry(
                case.name,
                name,
                options.device,
                parameters,
                measured,
                baseline=(case.baseline, base) if base else None,
            )
        )
    return lines, found.about
