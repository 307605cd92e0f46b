"""WebDataset: shards of images, read by workers and ranks, each sample with a number of its own.

python examples/loaders/with_webdataset.py FOLDER
"""

from __future__ import annotations

import hashlib
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset as wds
from PIL import Image
from torch.utils.data import DataLoader

import anoaug

SIZE = 128


def written(folder: Path, shards: Path, per_shard: int = 4) -> list[str]:
    """Pack a product's normal images into tar files; yours are there already."""
    with wds.ShardWriter(f"file:{shards}/normal-%03d.tar", maxcount=per_shard, verbose=0) as sink:
        for number, path in enumerate(sorted((folder / "train" / "good").iterdir())):
            suffix = path.suffix[1:].lower()
            sink.write({"__key__": f"{number:09d}", suffix: path.read_bytes()})
    return sorted(str(path) for path in shards.glob("*.tar"))


def number_of(key: str) -> int:
    """The sample's number: its key, or of any other text 46 bits of a hash."""
    if key.isdigit():
        return int(key)
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") >> 18


def decoded(sample: dict[str, Any]) -> dict[str, Any]:
    """A sample of the shards: image and number, and its mask if it has one (``mask.png``)."""

    def pixels(data: bytes, mode: str) -> torch.Tensor:
        image = Image.open(io.BytesIO(data)).convert(mode).resize((SIZE, SIZE), Image.NEAREST)
        return torch.from_numpy(np.array(image))

    encoded = next(sample[name] for name in ("png", "jpg", "jpeg") if name in sample)
    image = pixels(encoded, "RGB").permute(2, 0, 1)
    found = {"image": image, "index": number_of(sample["__key__"])}
    if "mask.png" in sample:
        found["mask"] = (pixels(sample["mask.png"], "L") > 127).float()[None]
    return found


def loader(urls: list[str], workers: int = 2, batch_size: int = 4) -> DataLoader[Any]:
    """Batches of the shards; ranks and workers share these among them."""
    samples = wds.WebDataset(
        urls, nodesplitter=wds.split_by_node, workersplitter=wds.split_by_worker,
        shardshuffle=len(urls), empty_check=False,
    )  # fmt: skip
    return DataLoader(samples.shuffle(100).map(decoded), batch_size, num_workers=workers)


def main(folder: Path, workers: int = 2, epochs: int = 2) -> int:
    """Loop over some epochs; returns how many anomalies were seen."""
    synth = anoaug.create("draem", p=0.5, seed=0)
    seen = 0
    with tempfile.TemporaryDirectory() as place:
        # Anomalies are a function of (seed, epoch, number): whoever reads a shard, and when.
        batches = anoaug.AnomalyLoader(loader(written(folder, Path(place)), workers), synth)
        for epoch in range(epochs):
            seen += sum(int(batch["label"].sum()) for batch in batches)
            print(f"epoch {epoch}: {seen} anomalies so far")
    return seen


if __name__ == "__main__":
    main(Path(sys.argv[1]))
