"""Lightning: a mixin for data modules and a callback, with the real Trainer on the CPU."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import anoaug
from anoaug.loaders.lightning import AnomalyDataMixin, write_anomalies
from tests.ranks import as_launched, free_port, on_ranks

from .samples import Records, make_images, make_synth, pairs

L: Any = pytest.importorskip("lightning.pytorch")

QUIET = {
    "accelerator": "cpu", "logger": False, "enable_progress_bar": False,
    "enable_model_summary": False, "enable_checkpointing": False, "num_sanity_val_steps": 0,
}  # fmt: skip


class Recorder(L.LightningModule):
    """A module that notes what its steps are given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[Any] = []
        self.tested: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.seen.append(batch)
        return self.weight * 1.0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.tested.append(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


class Data(L.LightningDataModule):
    """Normal images."""

    def __init__(self, dataset: Any) -> None:
        super().__init__()
        self.dataset = dataset

    def train_dataloader(self) -> Any:
        return DataLoader(self.dataset, batch_size=4)

    def val_dataloader(self) -> Any:
        return DataLoader(self.dataset, batch_size=4)


class Anomalous(AnomalyDataMixin, Data):
    def __init__(self, dataset: Any) -> None:
        super().__init__(dataset)
        self.synth = make_synth()


def fitted(data: Any, epochs: int = 1, **options: Any) -> Recorder:
    module = Recorder()
    L.Trainer(max_epochs=epochs, **QUIET, **options).fit(module, datamodule=data)
    return module


@pytest.mark.filterwarnings("ignore")
def test_the_mixin_paints_training_batches_alone() -> None:
    module = fitted(Anomalous(pairs()))
    assert [len(batch[0].image) for batch in module.seen] == [4, 4, 2]
    assert all(batch[0].mask.flatten(1).any(1).all() for batch in module.seen)
    assert all(isinstance(batch[0], torch.Tensor) for batch in module.tested)


@pytest.mark.filterwarnings("ignore")
def test_with_an_index_epochs_are_those_of_the_synthesizer() -> None:
    module = fitted(Anomalous(anoaug.IndexedDataset(pairs())), epochs=2)
    masks = torch.cat([batch[0].mask for batch in module.seen])
    expected = [make_synth()(make_images(), index=range(10), epoch=e).mask for e in (0, 1)]
    assert torch.equal(masks, torch.cat(expected))


@pytest.mark.filterwarnings("ignore")
def test_the_callback_writes_into_dicts_and_resumes(tmp_path: Path) -> None:
    data = Data(Records())
    callback = anoaug.loaders.lightning.AnomalyCallback(make_synth(), clean="clean")
    module, trainer = Recorder(), L.Trainer(max_epochs=1, callbacks=[callback], **QUIET)
    trainer.fit(module, datamodule=data)
    batch = module.seen[0]
    assert batch["mask"].flatten(1).any(1).all() and batch["label"].tolist() == [1] * 4
    assert torch.equal(batch["clean"], make_images()[:4])
    assert all("mask" not in batch for batch in module.tested)
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    fresh = anoaug.loaders.lightning.AnomalyCallback(make_synth(seed=99), clean="clean")
    again = L.Trainer(max_epochs=2, callbacks=[fresh], **QUIET)
    again.fit(Recorder(), datamodule=data, ckpt_path=tmp_path / "first.ckpt")
    whole = anoaug.loaders.lightning.AnomalyCallback(make_synth(), clean="clean")
    L.Trainer(max_epochs=2, callbacks=[whole], **QUIET).fit(Recorder(), datamodule=data)
    assert fresh.synth.get_extra_state() == whole.synth.get_extra_state()


def test_objects_with_attributes() -> None:
    batch = types.SimpleNamespace(image=make_images(4), gt_mask=None, gt_label=None)
    write_anomalies(batch, make_synth(), anoaug.loaders.BatchContract(), 0)
    assert batch.gt_mask.flatten(1).any(1).all() and batch.gt_label.tolist() == [1] * 4
    assert not hasattr(batch, "mask")


def test_tuples_are_refused_with_the_mend() -> None:
    with pytest.raises(TypeError, match="AnomalyDataMixin"):
        write_anomalies((make_images(2),), make_synth(), anoaug.loaders.BatchContract(), 0)
    with pytest.raises(TypeError, match="expected a Synthesizer"):
        anoaug.loaders.lightning.AnomalyCallback("draem")


@pytest.mark.filterwarnings("ignore")
def test_a_mixin_without_a_synthesizer_says_so() -> None:
    class Bare(AnomalyDataMixin, Data):
        pass

    with pytest.raises(TypeError, match="set self.synth"):
        fitted(Bare(pairs()))


def seen(folder: Path, indexed: bool, **options: Any) -> Path:
    """Train on eight images; masks and numbers that this rank saw are in a file."""
    data = anoaug.IndexedDataset(pairs(8)) if indexed else pairs(8)
    module, trainer = Recorder(), L.Trainer(max_epochs=1, **QUIET, **options)
    trainer.fit(module, datamodule=Anomalous(data))
    masks = torch.cat([batch[0].mask for batch in module.seen])
    numbers = torch.cat([batch[1] for batch in module.seen])
    path = folder / f"{indexed}{trainer.global_rank}.pt"
    torch.save((masks, numbers), path)
    return path


def trained(rank: int, port: int, folder: str) -> None:
    """A rank of two, as Lightning's own launcher starts it."""
    as_launched(rank, 2, port)
    for indexed in (True, False):
        seen(Path(folder), indexed, devices=2, strategy="ddp")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_ranks_show_what_one_shows(tmp_path: Path) -> None:
    masks, numbers = torch.load(seen(tmp_path, indexed=True))
    whole = masks[numbers.argsort()]
    on_ranks(trained, 2, free_port(), str(tmp_path))
    parts = [torch.load(tmp_path / f"True{rank}.pt") for rank in range(2)]
    masks, numbers = (torch.cat([part[k] for part in parts]) for k in (0, 1))
    assert torch.equal(masks[numbers.argsort()], whole)
    counted = [torch.load(tmp_path / f"False{rank}.pt")[0] for rank in range(2)]
    assert len({tuple(mask.flatten().tolist()) for mask in torch.cat(counted)}) == 8
