"""AnomalyLoader and IndexedDataset."""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
import pickle
import weakref

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    Subset,
)

from anoaug.loaders import AnomalyLoader, IndexedDataset, dataloader
from tests.loaders.samples import (
    COUNT,
    SIZE,
    Records,
    Stream,
    by_number,
    make_images,
    make_synth,
    masks_of,
    pairs,
)

# ---- epochs and indices --------------------------------------------------------------------------


def test_every_iteration_is_the_next_epoch():
    images = make_images()
    loader = AnomalyLoader(DataLoader(IndexedDataset(pairs()), batch_size=4), make_synth())
    for epoch in range(3):
        direct = make_synth()(images, index=torch.arange(COUNT), epoch=epoch)
        assert torch.equal(by_number(loader)[:, 3:], direct.mask)


def test_set_epoch_fixes_the_next_epoch_only():
    loader = AnomalyLoader(DataLoader(IndexedDataset(pairs()), batch_size=4), make_synth())
    first, second = by_number(loader), by_number(loader)
    loader.set_epoch(0)
    assert torch.equal(by_number(loader), first)
    assert torch.equal(by_number(loader), second)


def test_iterations_side_by_side_keep_their_epochs():
    loader = AnomalyLoader(DataLoader(IndexedDataset(pairs()), batch_size=4), make_synth())
    alone = [by_number(loader), by_number(loader)]
    loader.set_epoch(0)
    together = list(zip(loader, loader, strict=True))
    assert torch.equal(by_number(a for a, _ in together), alone[0])
    assert torch.equal(by_number(b for _, b in together), alone[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 3},
        {"batch_size": COUNT, "shuffle": True},
        {"batch_size": 4, "shuffle": True, "num_workers": 2},
    ],
    ids=["batches of 3", "shuffled", "two workers"],
)
def test_anomalies_depend_on_seed_epoch_and_index_alone(options):
    def run(options):
        loader = AnomalyLoader(DataLoader(IndexedDataset(pairs()), **options), make_synth())
        loader.set_epoch(2)
        return by_number(loader)

    assert torch.equal(run(options), run({"batch_size": 1}))


def test_without_an_index_no_anomaly_comes_twice():
    loader = AnomalyLoader(DataLoader(make_images(), batch_size=4), make_synth())
    drawn = torch.cat([masks_of(loader), masks_of(loader)])
    assert len(drawn.flatten(1).unique(dim=0)) == 2 * COUNT


@pytest.mark.parametrize("where", ["sampler", "batch_sampler", "batch_sampler.sampler"])
def test_set_epoch_reaches_samplers(where):
    data = pairs()
    sampler = DistributedSampler(data, num_replicas=1, rank=0)
    batches = BatchSampler(sampler, 4, drop_last=False)
    if where == "sampler":
        wrapped = DataLoader(data, batch_size=4, sampler=sampler)
    else:
        wrapped = DataLoader(data, batch_sampler=batches)
    if where == "batch_sampler":
        batches.set_epoch = sampler.set_epoch
        batches.sampler = range(COUNT)
    AnomalyLoader(wrapped, make_synth()).set_epoch(7)
    assert sampler.epoch == 7


def test_set_epoch_goes_to_a_wrapped_loader_that_takes_it():
    inner = AnomalyLoader(DataLoader(pairs()), make_synth())
    AnomalyLoader(inner, make_synth()).set_epoch(4)
    assert inner.synth.epoch == 4


# ---- IndexedDataset ------------------------------------------------------------------------------


def test_indexed_mapping_has_its_index():
    data = IndexedDataset(Records(), key="row")
    assert data[3]["row"] == 3 and data[3]["name"] == "3.png"
    assert data[-1]["row"] == COUNT - 1


def test_indexed_tuple_ends_in_its_index():
    assert IndexedDataset(pairs())[4][1:] == (torch.tensor(4), 4)


def test_indexed_single_becomes_a_pair():
    image, index = IndexedDataset(list(make_images()))[5]
    assert torch.equal(image, make_images()[5]) and index == 5


def test_indexed_fetches_whole_batches_where_the_dataset_can():
    class Fetching(Records):
        def __getitems__(self, indices):
            return [{"image": self.images[i], "together": len(indices)} for i in indices]

    samples = IndexedDataset(Fetching()).__getitems__([4, 2])
    assert [(s["index"], s["together"]) for s in samples] == [(4, 2), (2, 2)]


def test_indexed_dataset_that_makes_batches_gets_index_tensors():
    class Whole(Dataset):
        def __len__(self):
            return COUNT

        def __getitem__(self, rows):
            return make_images()[rows], torch.tensor(rows)

    batches = BatchSampler(range(COUNT), 4, drop_last=False)
    whole = DataLoader(IndexedDataset(Whole()), batch_size=None, sampler=batches)
    usual = DataLoader(IndexedDataset(pairs()), batch_size=3)
    got, expected = (by_number(AnomalyLoader(each, make_synth())) for each in (whole, usual))
    assert torch.equal(got, expected)


def test_indexed_is_found_inside_a_subset_with_its_own_index():
    subset = Subset(IndexedDataset(pairs()), [7, 2])
    ((batch, numbers),) = AnomalyLoader(DataLoader(subset, batch_size=2), make_synth())
    direct = make_synth()(make_images()[[7, 2]], index=torch.tensor([7, 2]), epoch=0)
    assert numbers.tolist() == [7, 2]
    assert torch.equal(batch.mask, direct.mask)


def test_indexed_passes_attributes_on():
    data = IndexedDataset(Records())
    assert data.classes == ["good"] and len(data) == COUNT
    with pytest.raises(AttributeError, match="colour"):
        _ = data.colour


def test_indexed_refuses_a_stream():
    with pytest.raises(TypeError, match="got Stream"):
        IndexedDataset(Stream())


def test_indexed_refuses_a_sample_that_has_the_key():
    with pytest.raises(ValueError, match="without 'name'"):
        IndexedDataset(Records(), key="name")[0]


# ---- the wrapped loader shows through ------------------------------------------------------------


def test_length_and_attributes_are_the_wrapped_loaders():
    wrapped = DataLoader(Records(), batch_size=4)
    loader = AnomalyLoader(wrapped, make_synth())
    assert len(loader) == 3
    assert loader.dataset is wrapped.dataset and loader.batch_size == 4
    with pytest.raises(AttributeError, match="colour"):
        _ = loader.colour


def test_unsized_loader_has_no_length_and_works():
    loader = AnomalyLoader(DataLoader(Stream(), batch_size=4), make_synth())
    with pytest.raises(TypeError, match="len"):
        len(loader)
    assert [len(batch.mask) for batch in loader] == [4, 2]


def test_empty_loader_is_empty():
    assert list(AnomalyLoader([], make_synth())) == []


def test_eval_passes_batches_through():
    loader = AnomalyLoader(DataLoader(make_images(), batch_size=COUNT), make_synth().eval())
    (batch,) = loader
    assert torch.equal(batch.image, make_images())
    assert not batch.mask.any() and not batch.label.any()


@pytest.mark.slow
def test_early_break_leaves_no_worker_and_the_next_iteration_is_whole():
    running = set(multiprocessing.active_children())
    loader = AnomalyLoader(DataLoader(pairs(), batch_size=2, num_workers=2), make_synth())
    for _ in loader:
        break
    assert set(multiprocessing.active_children()) <= running
    assert sorted(int(n) for _, numbers in loader for n in numbers) == list(range(COUNT))


def test_worker_error_comes_through_unchanged():
    loader = AnomalyLoader(DataLoader(Records(broken=5), num_workers=1), make_synth())
    caught = ""
    try:
        list(loader)
    except OSError as error:
        caught = f"{type(error).__name__}: {error}"
        # torch's reraise makes a cycle of it, and collecting the workers late takes seconds.
        error.__traceback__ = None
    assert caught.startswith("OSError: Caught OSError in DataLoader worker process 0")
    assert "sample 5 is broken" in caught


@pytest.mark.parametrize(
    "second",
    [
        {"image": make_images(2), "mask": torch.zeros(2, 1, SIZE, SIZE)},
        (make_images(2),),
        make_images(2),
    ],
    ids=["another key", "tuple", "tensor"],
)
def test_changed_structure_is_refused(second):
    loader = AnomalyLoader([{"image": make_images(2)}, second], make_synth())
    with pytest.raises(ValueError, match="like the first batch"):
        list(loader)


def test_keys_that_are_not_read_may_change():
    batches = [{"image": make_images(2)}, {"image": make_images(2), "note": "x"}]
    assert [out.get("note") for out in AnomalyLoader(batches, make_synth())] == [None, "x"]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_go_on_alike_and_apart(duplicate):
    loader = AnomalyLoader(DataLoader(IndexedDataset(pairs()), batch_size=4), make_synth())
    by_number(loader)
    twin = duplicate(loader)
    ours = by_number(loader)
    assert torch.equal(by_number(twin), ours)
    assert not torch.equal(by_number(twin), ours)


@pytest.mark.parametrize(
    ("loader", "synth", "prefetch", "error", "message"),
    [
        (3, make_synth(), 1, TypeError, "loader: expected an iterable"),
        ([], torch.nn.Identity(), 1, TypeError, "synth: expected an anoaug.Synthesizer"),
        ([], make_synth(), -1, ValueError, "prefetch: expected a whole number"),
    ],
    ids=["loader", "synth", "prefetch"],
)
def test_bad_arguments(loader, synth, prefetch, error, message):
    with pytest.raises(error, match=message):
        AnomalyLoader(loader, synth, prefetch=prefetch)


# ---- state ---------------------------------------------------------------------------------------


class Positioned:
    """A loader of image batches that remembers how far it came."""

    def __init__(self, count=4):
        self.batches, self.done, self.start = make_images(2 * count).split(2), 0, 0

    def __iter__(self):
        self.done, self.start = self.start, 0
        while self.done < len(self.batches):
            self.done += 1
            yield self.batches[self.done - 1]
        self.done = 0

    def state_dict(self):
        return {"done": self.done}

    def load_state_dict(self, state):
        self.start = state["done"]


def resumed(state, wrapped):
    loader = AnomalyLoader(wrapped, make_synth(seed=99))
    loader.load_state_dict(state)
    return loader


def test_state_after_an_epoch_goes_on_with_the_next():
    loader = AnomalyLoader(DataLoader(make_images(), batch_size=4), make_synth())
    masks_of(loader)
    other = resumed(loader.state_dict(), DataLoader(make_images(), batch_size=4))
    assert torch.equal(masks_of(other), masks_of(loader))
    assert other.synth.epoch == 1


def test_state_inside_an_epoch_starts_it_anew_where_the_loader_keeps_no_position():
    wrapped = DataLoader(IndexedDataset(pairs()), batch_size=4)
    loader = AnomalyLoader(wrapped, make_synth())
    first = by_number(loader)
    loader.set_epoch(0)
    iterator = iter(loader)
    next(iterator)
    assert torch.equal(by_number(resumed(loader.state_dict(), wrapped)), first)


def test_state_after_an_early_break_goes_on_with_the_next_epoch():
    loader = AnomalyLoader(DataLoader(make_images(), batch_size=4), make_synth())
    for _ in loader:
        break
    assert loader.state_dict()["epoch"] == 1


@pytest.mark.parametrize("breaking", [False, True], ids=["inside", "after a break"])
def test_state_goes_on_at_the_position_of_a_loader_that_keeps_one(breaking):
    uninterrupted = masks_of(AnomalyLoader(Positioned(), make_synth()))
    loader = AnomalyLoader(Positioned(), make_synth())
    iterator = iter(loader)
    head = [next(iterator), next(iterator)]
    if breaking:
        iterator.close()
    other = resumed(loader.state_dict(), Positioned())
    assert torch.equal(torch.cat([masks_of(head), masks_of(other)]), uninterrupted)
    assert other.synth.epoch == 0


@pytest.mark.parametrize("saved", [Positioned, list], ids=["with", "without"])
def test_state_of_another_kind_of_loader_is_refused(saved):
    wrapped = list if saved is Positioned else Positioned
    state = AnomalyLoader(saved(), make_synth()).state_dict()
    with pytest.raises(ValueError, match="a loader's position"):
        resumed(state, wrapped())


# ---- running ahead -------------------------------------------------------------------------------


class FakeStream:
    """Stands in for the side stream: works at once and notes what happens when."""

    log: list[str] = []

    def __init__(self, device):
        self.count = 0

    def issue(self, contract, batch, synth, epoch):
        self.count += 1
        self.log.append(f"issue {self.count}")
        return contract.apply(batch, synth, epoch), self.count

    def hand_over(self, out, ready):
        self.log.append(f"hand over {ready}")


@pytest.fixture
def fake_stream(monkeypatch):
    monkeypatch.setattr(dataloader, "_SideStream", FakeStream)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(FakeStream, "log", [])
    return FakeStream


def test_the_next_batch_is_issued_before_this_one_is_used(fake_stream):
    loader = AnomalyLoader(list(make_images(6).split(2)), make_synth(), "cuda")
    for number, _ in enumerate(loader, start=1):
        fake_stream.log.append(f"use {number}")
    assert fake_stream.log == [
        "issue 1", "issue 2", "hand over 1", "use 1",
        "issue 3", "hand over 2", "use 2",
        "hand over 3", "use 3",
    ]  # fmt: skip


def test_running_ahead_changes_no_anomaly(fake_stream):
    ahead = AnomalyLoader(list(make_images(8).split(2)), make_synth(), "cuda", prefetch=3)
    assert torch.equal(masks_of(ahead), masks_of(AnomalyLoader(ahead.loader, make_synth())))


def test_running_ahead_saves_the_state_of_the_batch_in_use(fake_stream):
    uninterrupted = masks_of(AnomalyLoader(Positioned(), make_synth()))
    loader = AnomalyLoader(Positioned(), make_synth(), "cuda")
    iterator = iter(loader)
    head = [next(iterator)]
    other = resumed(loader.state_dict(), Positioned())
    assert torch.equal(torch.cat([masks_of(head), masks_of(other)]), uninterrupted)


@pytest.mark.parametrize("device", [None, "cuda"], ids=["one by one", "ahead"])
def test_an_error_frees_the_iterator_at_once(fake_stream, device):
    class Failing:
        def __iter__(self):
            return self

        def __next__(self):
            raise OSError("the disk is gone")

    iterator = Failing()
    alive = weakref.ref(iterator)
    loader = AnomalyLoader(iterator, make_synth(), device)
    del iterator
    with contextlib.suppress(OSError):
        list(loader)
    del loader
    assert alive() is None


def test_an_error_waits_until_the_batches_before_it_are_used(fake_stream):
    def failing():
        yield from make_images(4).split(2)
        raise OSError("the disk is gone")

    used = []
    with pytest.raises(OSError, match="the disk is gone"):
        for batch in AnomalyLoader(failing(), make_synth(), "cuda"):
            used.append(len(batch.mask))
    assert used == [2, 2]


# ---- on a GPU ------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_cuda_gives_the_bits_of_the_cpu(prefetch):
    data = IndexedDataset(pairs(40))
    ours = AnomalyLoader(DataLoader(data, batch_size=4), make_synth(), "cuda", prefetch=prefetch)
    theirs = AnomalyLoader(DataLoader(data, batch_size=4), make_synth())
    got = by_number(ours)
    assert got.is_cuda
    assert torch.equal(got.cpu(), by_number(theirs))


@pytest.mark.gpu
def test_cuda_batches_are_whole_while_the_consumer_is_busy():
    big = torch.rand(4096, 4096, device="cuda")
    wrapped = DataLoader(IndexedDataset(pairs(64)), batch_size=4)
    expected = by_number(AnomalyLoader(wrapped, make_synth()))
    found = []
    for batch, _ in AnomalyLoader(wrapped, make_synth(), "cuda"):
        big = (big @ big).clamp(0, 1)  # the consumer's stream lags behind the side stream
        found.append(torch.cat([batch.image.float(), batch.mask], dim=1).clone())
        del batch
    assert torch.equal(torch.cat(found).cpu(), expected)


@pytest.mark.gpu
def test_cuda_iteration_does_not_synchronise():
    batches = [
        {"image": x.pin_memory(), "index": torch.arange(4)} for x in make_images(24).split(4)
    ]
    loader = AnomalyLoader(batches, make_synth(), "cuda")
    list(loader)  # the first call looks at the content
    torch.cuda.set_sync_debug_mode("error")
    try:
        list(loader)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_cuda_index_on_the_device_is_refused():
    batch = {"image": make_images(), "index": torch.arange(COUNT, device="cuda")}
    with pytest.raises(ValueError, match="expected a CPU tensor"):
        list(AnomalyLoader([batch], make_synth(), "cuda"))
