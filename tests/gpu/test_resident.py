"""ResidentDataset on a GPU: the CPU's batches, without synchronising, also where it is too big."""

from __future__ import annotations

import pytest
import torch

from anoaug import Bank, ResidentDataset
from anoaug.loaders import resident
from tests.loaders.samples import make_images, make_synth

pytestmark = pytest.mark.gpu

COUNT = 23
KEYS = ("image", "mask", "label", "kind", "clean")


def held(device: str) -> ResidentDataset:
    images = make_images(COUNT)
    return ResidentDataset(Bank.from_tensors(images), device, masks=images[:, :1] > 250)


@pytest.fixture(params=["resident", "pinned"])
def data(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ResidentDataset:
    if request.param == "pinned":
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1, 1))
        monkeypatch.setattr(resident, "_PIECE", 3 * make_images(1).numel())
        with pytest.warns(UserWarning, match="pinned host memory"):
            return held("cuda")
    return held("cuda")


def test_epochs_are_those_of_the_cpu(data: ResidentDataset) -> None:
    ours, theirs = data.batches(4, make_synth(p=0.5)), held("cpu").batches(4, make_synth(p=0.5))
    for _ in range(2):
        for got, expected in zip(ours, theirs, strict=True):
            assert got["index"].tolist() == expected["index"].tolist()
            for key in KEYS:
                assert got[key].is_cuda
                assert torch.equal(got[key].cpu(), expected[key]), key


def test_batches_are_whole_while_the_consumer_is_busy(data: ResidentDataset) -> None:
    big = torch.rand(4096, 4096, device="cuda")
    found = []
    for batch in data.batches(4, make_synth()):
        big = (big @ big).clamp(0, 1)  # the consumer's stream lags behind the side stream
        found.append(batch["image"].clone())
        del batch
    expected = [batch["image"] for batch in held("cpu").batches(4, make_synth())]
    assert torch.equal(torch.cat(found).cpu(), torch.cat(expected))


def test_an_epoch_does_not_synchronise(data: ResidentDataset) -> None:
    loader = data.batches(4, make_synth())
    list(loader)  # the first batch looks at the labels
    torch.cuda.set_sync_debug_mode("error")
    try:
        list(loader)
    finally:
        torch.cuda.set_sync_debug_mode("default")
