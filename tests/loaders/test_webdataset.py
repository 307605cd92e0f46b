"""Shards of WebDataset: the example's loader, on normal images and on what Ray's rows become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import anoaug
from anoaug.loaders import ray as door
from tests.examples.test_loaders import loaded

from .samples import make_images, make_synth

wds: Any = pytest.importorskip("webdataset")

COUNT = 10


@pytest.fixture(scope="module")
def example() -> Any:
    return loaded("with_webdataset")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, example: Any) -> list[str]:
    pillow = pytest.importorskip("PIL.Image")
    root = tmp_path_factory.mktemp("bolt")
    good = root / "train" / "good"
    good.mkdir(parents=True)
    for number, image in enumerate(make_images(COUNT)):
        pillow.fromarray(image.permute(1, 2, 0).numpy()).save(good / f"{number}.png")
    urls: list[str] = example.written(root, tmp_path_factory.mktemp("shards"))
    assert len(urls) == 3
    return urls


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2, 4])
def test_anomalies_go_by_sample_and_epoch_whoever_reads(
    workers: int, shards: list[str], example: Any
) -> None:
    batches = anoaug.AnomalyLoader(example.loader(shards, workers, 4), make_synth())
    for epoch in range(2):
        found = list(batches)
        index = torch.cat([batch["index"] for batch in found])
        clean, mask = (torch.cat([batch[name] for batch in found]) for name in ("clean", "mask"))
        assert sorted(index.tolist()) == list(range(COUNT))
        assert torch.equal(mask, make_synth()(clean, index=index, epoch=epoch).mask)


def test_ranks_share_the_shards(
    shards: list[str], example: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        for batch in example.loader(shards, 0):
            seen += batch["index"].tolist()
    assert sorted(seen) == list(range(COUNT))


def test_what_synthesize_writes_is_read(
    tmp_path: Path, example: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = make_images(6)
    change = door.Synthesize(make_synth(), shards=True)
    rows = change({"image": images.permute(0, 2, 3, 1).numpy(), "index": np.arange(6)})
    with wds.TarWriter(str(tmp_path / "made.tar")) as sink:
        for number in range(6):
            sink.write({name: rows[name][number] for name in rows})
    monkeypatch.setattr(example, "SIZE", images.shape[-1])
    (batch,) = example.loader([str(tmp_path / "made.tar")], 0, 6)
    order = batch["index"].argsort()
    truth = make_synth()(images, index=range(6), epoch=0)
    assert torch.equal(batch["image"][order], truth.image)
    assert torch.equal(batch["mask"][order], truth.mask)
    # As a validation set: in eval mode the real masks come through and nothing is painted.
    out = next(iter(anoaug.AnomalyLoader([batch], make_synth().eval())))
    assert torch.equal(out["mask"], batch["mask"]) and out["label"].all()


def test_keys_that_are_no_numbers(example: Any) -> None:
    keys = ["000000012", "bolt/a", "bolt/b"]
    numbers = [example.number_of(key) for key in keys]
    assert numbers[0] == 12 and len(set(numbers)) == 3
    assert all(0 <= number < 2**46 for number in numbers)
    make_synth()(make_images(3), index=numbers, epoch=0)
