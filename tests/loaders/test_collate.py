"""AnomalyCollate: synthesis inside DataLoader workers."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch.utils.data import DataLoader

from anoaug import AnomalyBatch
from anoaug.loaders import AnomalyCollate, AnomalyLoader, IndexedDataset
from tests.loaders.samples import (
    COUNT,
    Records,
    by_number,
    make_images,
    make_synth,
    masks_of,
    pairs,
)


def test_collate_makes_what_the_loader_makes_of_mappings():
    data = IndexedDataset(Records())
    collate = AnomalyCollate(make_synth())
    collate.set_epoch(0)
    ours = list(DataLoader(data, batch_size=4, collate_fn=collate))
    theirs = list(AnomalyLoader(DataLoader(data, batch_size=4), make_synth()))
    assert [set(out) for out in ours] == [set(out) for out in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine["image"], other["image"])
        assert torch.equal(mine["mask"], other["mask"])
        assert mine["name"] == other["name"]


@pytest.mark.slow
@pytest.mark.parametrize("persistent", [False, True], ids=["new workers", "persistent"])
def test_without_an_index_workers_and_epochs_share_no_anomaly(persistent):
    loader = DataLoader(
        pairs(8), batch_size=2, num_workers=2, persistent_workers=persistent,
        collate_fn=AnomalyCollate(make_synth()),
    )  # fmt: skip
    drawn = torch.cat([masks_of(loader), masks_of(loader)])
    assert len(drawn.flatten(1).unique(dim=0)) == 16


@pytest.mark.slow
@pytest.mark.parametrize("persistent", [False, True], ids=["new workers", "persistent"])
def test_with_an_index_workers_give_the_bits_of_the_loader(persistent):
    data = IndexedDataset(pairs())
    synth = make_synth()
    collate = AnomalyCollate(synth)
    loader = DataLoader(
        data, batch_size=3, num_workers=2, persistent_workers=persistent, collate_fn=collate
    )
    expected = AnomalyLoader(DataLoader(data, batch_size=COUNT), make_synth())
    for epoch, setter in enumerate([collate, synth]):
        setter.set_epoch(epoch)
        assert torch.equal(by_number(loader), by_number(expected))


@pytest.mark.slow
def test_spawned_workers_follow_the_epoch():
    data = IndexedDataset(pairs(4))
    collate = AnomalyCollate(make_synth())
    loader = DataLoader(
        data, batch_size=2, num_workers=1, persistent_workers=True, collate_fn=collate,
        multiprocessing_context="spawn",
    )  # fmt: skip
    expected = AnomalyLoader(DataLoader(data, batch_size=4), make_synth())
    for epoch in range(2):
        collate.set_epoch(epoch)
        assert torch.equal(by_number(loader), by_number(expected))


def test_collate_takes_another_collate():
    collate = AnomalyCollate(make_synth(), lambda samples: torch.stack([x for x, _ in samples]))
    (out,) = DataLoader(pairs(), batch_size=COUNT, collate_fn=collate)
    assert isinstance(out, AnomalyBatch)
    assert torch.equal(out.mask, make_synth()(make_images()).mask)


def test_collate_refuses_an_index_without_an_epoch():
    loader = DataLoader(IndexedDataset(pairs()), collate_fn=AnomalyCollate(make_synth()))
    with pytest.raises(ValueError, match="expected an epoch"):
        next(iter(loader))


def test_collate_and_loader_together_are_refused():
    wrapped = DataLoader(make_images(), batch_size=4, collate_fn=AnomalyCollate(make_synth()))
    with pytest.raises(TypeError, match="not both"):
        list(AnomalyLoader(wrapped, make_synth()))


@pytest.mark.slow
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copied_collate_has_an_epoch_of_its_own_that_reaches_workers(duplicate):
    collate = AnomalyCollate(make_synth())
    collate.set_epoch(1)
    twin = duplicate(collate)
    twin.set_epoch(5)
    assert (collate.synth.epoch, twin.synth.epoch) == (1, 5)
    loader = DataLoader(
        IndexedDataset(pairs(2)), batch_size=2, num_workers=1, persistent_workers=True,
        collate_fn=twin,
    )  # fmt: skip
    by_number(loader)
    twin.set_epoch(6)
    direct = make_synth()(make_images(2), index=torch.arange(2), epoch=6)
    assert torch.equal(by_number(loader)[:, 3:], direct.mask)
