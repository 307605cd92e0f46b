"""What users get wrong with loaders: refused, warned of once, or made to work."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from anoaug import AnomalyBatch, AnomalyCollate, AnomalyLoader, IndexedDataset
from tests.loaders.samples import COUNT, Records, make_images, make_synth, pairs

# ---- a device that is not there ------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cuda", "cuda:7", torch.device("cuda")])
def test_cuda_without_cuda_is_refused_at_once(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match=f"got '{device}' where torch finds 0 .* use device=None"):
        AnomalyLoader([], make_synth(), device=device)


def test_a_device_beyond_the_last_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert AnomalyLoader([], make_synth(), "cuda:1").device == torch.device("cuda:1")
    with pytest.raises(ValueError, match="got 'cuda:2' where torch finds 2"):
        AnomalyLoader([], make_synth(), "cuda:2")


# ---- bare tensors with an index ------------------------------------------------------------------


def directly(numbers):
    return make_synth()(make_images()[list(numbers)], index=torch.tensor(numbers), epoch=0)


@pytest.mark.slow
@pytest.mark.parametrize("index", ["index", -1])
@pytest.mark.parametrize("workers", [0, 1])
def test_indexed_bare_tensors_give_plain_batches(index, workers):
    data = IndexedDataset(list(make_images()))
    wrapped = DataLoader(data, batch_size=COUNT, num_workers=workers)
    (batch,) = AnomalyLoader(wrapped, make_synth(), index=index)
    assert isinstance(batch, AnomalyBatch)
    assert torch.equal(batch.image, directly(range(COUNT)).image)


def test_indexed_bare_tensors_keep_their_index_in_a_subset():
    subset = Subset(IndexedDataset(list(make_images())), [7, 2])
    (batch,) = AnomalyLoader(DataLoader(subset, batch_size=2), make_synth())
    assert torch.equal(batch.mask, directly([7, 2]).mask)


def test_indexed_batches_of_a_dataset_that_makes_them_are_plain():
    class Whole(Dataset):
        def __getitem__(self, rows):
            return make_images()[rows]

    loader = DataLoader(IndexedDataset(Whole()), batch_size=None, sampler=[[3, 4], [9, 0]])
    for batch, rows in zip(AnomalyLoader(loader, make_synth()), [[3, 4], [9, 0]], strict=True):
        assert torch.equal(batch.mask, directly(rows).mask)


def test_an_index_that_is_ignored_leaves_plain_batches():
    loader = DataLoader(IndexedDataset(list(make_images())), batch_size=COUNT)
    (batch,) = AnomalyLoader(loader, make_synth(), index=None)
    assert torch.equal(batch.mask, make_synth()(make_images(), epoch=0).mask)


def test_tuples_of_one_image_stay_tuples():
    loader = DataLoader(IndexedDataset(TensorDataset(make_images())), batch_size=COUNT)
    ((batch,),) = AnomalyLoader(loader, make_synth())
    assert torch.equal(batch.mask, directly(range(COUNT)).mask)


def own_collate(samples):
    images, numbers = zip(*samples, strict=True)
    return [torch.stack(images), torch.tensor(numbers)]


@pytest.mark.parametrize("collate", [None, own_collate])
def test_collate_gives_plain_batches_for_indexed_bare_tensors(collate):
    synth = make_synth()
    synth.set_epoch(0)
    data = IndexedDataset(list(make_images()))
    (batch,) = DataLoader(data, COUNT, collate_fn=AnomalyCollate(synth, collate))
    assert isinstance(batch, AnomalyBatch)
    assert torch.equal(batch.mask, directly(range(COUNT)).mask)


# ---- labels that are classes ---------------------------------------------------------------------


def labelled(*labels):
    return {"image": make_images(len(labels)), "label": torch.tensor(labels)}


def test_labels_that_look_like_classes_are_warned_of_once():
    loader = AnomalyLoader([labelled(0, 7), labelled(0, 9)], make_synth())
    with pytest.warns(UserWarning, match="above 0 counts as a real defect.*label=None") as caught:
        list(loader)
        list(loader)
    assert len(caught) == 1
    assert "under 'label', got 7" in str(caught[0].message)


def test_collate_warns_of_classes_once():
    collate = AnomalyCollate(make_synth(), lambda samples: labelled(0, 7))
    with pytest.warns(UserWarning, match="above 0 counts as a real defect") as caught:
        collate([])
        collate([])
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("batch", "options"),
    [
        (labelled(0, 1), {}),
        (labelled(0.0, 7.0)["image"], {}),
        (labelled(0, 7), {"label": None}),
        (labelled(0, 7), {"label": "anomaly_label"}),
        ((make_images(2), torch.tensor([0, 7])), {}),
    ],
    ids=["0 and 1", "tensor", "None", "another key", "tuple"],
)
def test_labels_that_are_not_read_or_fit_are_not_warned_of(batch, options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(AnomalyLoader([batch], make_synth(), **options))


def test_label_none_keeps_the_classes_and_makes_nothing_of_them():
    (out,) = AnomalyLoader([labelled(0, 7)], make_synth(p=0.0), label=None)
    assert out["label"].tolist() == [0, 7]
    assert out["kind"].tolist() == [0, 0] and not out["mask"].any()


# ---- an IndexedDataset inside something ----------------------------------------------------------


class Wrapping(Dataset):
    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, number):
        return self.dataset[number]


@pytest.mark.parametrize("samples", [pairs, Records], ids=["tuples", "mappings"])
def test_joined_indexed_datasets_are_warned_of_once(samples):
    joined = ConcatDataset([IndexedDataset(samples()), IndexedDataset(samples())])
    loader = AnomalyLoader(DataLoader(Subset(joined, [0, COUNT])), make_synth())
    with pytest.warns(UserWarning, match=r"use IndexedDataset\(ConcatDataset\(") as caught:
        list(loader)
        list(loader)
    assert len(caught) == 1


def test_an_index_that_is_taken_for_a_target_is_warned_of():
    loader = AnomalyLoader(DataLoader(Wrapping(IndexedDataset(pairs()))), make_synth())
    with pytest.warns(UserWarning, match=r"IndexedDataset\(Wrapping\(...\)\), or say index=-1"):
        list(loader)


@pytest.mark.parametrize(
    ("dataset", "options"),
    [
        (IndexedDataset(ConcatDataset([pairs(), pairs()])), {}),
        (Wrapping(IndexedDataset(pairs())), {"index": -1}),
        (Wrapping(IndexedDataset(Records())), {}),
        (Wrapping(IndexedDataset(list(make_images()))), {}),
        (Wrapping(pairs()), {}),
    ],
    ids=["outermost", "said", "mappings", "bare", "none"],
)
def test_an_index_that_is_used_is_not_warned_of(dataset, options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(AnomalyLoader(DataLoader(dataset, batch_size=4), make_synth(), **options))
