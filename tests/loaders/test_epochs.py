"""ResidentLoader: orders that are functions of seed and epoch, shares of ranks, resuming."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anoaug import ResidentDataset
from anoaug.loaders import AnomalyLoader, ResidentLoader, dataloader
from tests.loaders.samples import make_images, make_synth


def numbered(count: int = 10) -> ResidentDataset:
    """Images that show their number."""
    values = torch.arange(count, dtype=torch.uint8)[:, None, None, None]
    return ResidentDataset.from_tensors(values.expand(count, 1, 2, 2))


DATA = {count: numbered(count) for count in range(1, 24)}


def given_by(loader: Any) -> list[list[int]]:
    """The indices of each batch, of which the images are checked."""
    batches = []
    for batch in loader:
        assert torch.equal(batch["image"][:, 0, 0, 0].long(), batch["index"])
        batches.append(batch["index"].tolist())
    return batches


def flat(loader: Any) -> list[int]:
    return [number for batch in given_by(loader) for number in batch]


# ---- order ---------------------------------------------------------------------------------------


def test_the_order_is_the_same_on_every_platform() -> None:
    assert ResidentLoader(DATA[10], seed=0).order(0).tolist() == [8, 4, 6, 3, 9, 0, 2, 7, 5, 1]
    assert ResidentLoader(DATA[10], seed=-7).order(3).tolist() == [3, 9, 6, 4, 1, 7, 0, 2, 5, 8]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 23), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**32 - 1))
def test_every_image_comes_once_an_epoch(count: int, seed: int, epoch: int) -> None:
    loader = ResidentLoader(DATA[count], 4, seed=seed)
    loader.set_epoch(epoch)
    assert sorted(flat(loader)) == list(range(count))


@pytest.mark.slow
def test_orders_are_uniform() -> None:
    """Each image is in each place equally often: chi-squared of 4 x 4 counts over 4000 epochs."""
    loader = ResidentLoader(DATA[4], seed=1)
    counts = torch.zeros(4, 4)
    for epoch in range(4000):
        counts[torch.arange(4), torch.from_numpy(loader.order(epoch))] += 1
    statistic = ((counts - 1000) ** 2 / 1000).sum()
    assert statistic < 27.9  # 9 degrees of freedom, one in a thousand


def test_the_order_depends_on_seed_and_epoch() -> None:
    orders = {
        tuple(ResidentLoader(DATA[23], seed=seed).order(epoch).tolist())
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


def test_no_global_generator_is_read_or_moved() -> None:
    before = torch.get_rng_state()
    first = flat(ResidentLoader(DATA[23]))
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        assert flat(ResidentLoader(DATA[23])) == first


def test_no_seed_obeys_manual_seed() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1234)
        assert flat(ResidentLoader(DATA[23], seed=None)) == flat(
            ResidentLoader(DATA[23], seed=1234)
        )


def test_without_shuffle_the_order_is_that_of_the_names() -> None:
    assert given_by(ResidentLoader(DATA[10], 4, shuffle=False)) == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9],
    ]  # fmt: skip


def test_every_iteration_is_the_next_epoch() -> None:
    loader = ResidentLoader(DATA[10], 4)
    orders = [loader.order(epoch).tolist() for epoch in range(9)]
    assert [flat(loader), flat(loader)] == orders[:2]
    loader.set_epoch(7)
    assert [flat(loader), flat(loader)] == orders[7:9]


def test_iterations_side_by_side_keep_their_epochs() -> None:
    loader = ResidentLoader(DATA[10], 5)
    first, second = zip(*zip(loader, loader, strict=True), strict=True)
    assert flat(first) == loader.order(0).tolist()
    assert flat(second) == loader.order(1).tolist()


# ---- ranks ---------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 23),
    world=st.integers(1, 6),
    batch_size=st.integers(1, 7),
    drop_last=st.booleans(),
    shuffle=st.booleans(),
)
def test_ranks_share_an_epoch(
    count: int, world: int, batch_size: int, drop_last: bool, shuffle: bool
) -> None:
    loaders = [
        ResidentLoader(
            DATA[count], batch_size, drop_last=drop_last, shuffle=shuffle, rank=rank, world=world
        )
        for rank in range(world)
    ]
    shares = [given_by(loader) for loader in loaders]
    assert {len(share) for share in shares} == {len(loaders[0])}
    rounds = [[len(batch) for batch in share] for share in shares]
    assert all(one == rounds[0] for one in rounds)
    order = loaders[0].order(0).tolist()
    together = [
        number
        for parts in zip(*(sum(share, []) for share in shares), strict=True)
        for number in parts
    ]
    if drop_last:
        assert set(rounds[0]) <= {batch_size}
        whole = count - count % (batch_size * world)
        assert together == order[:whole]
    else:
        assert together[:count] == order
        padding = together[count:]
        assert len(padding) < world
        assert padding == (order * world)[: len(padding)]


def test_the_place_is_asked_of_torch_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = ResidentLoader(DATA[10], 2)  # made before the process group is
    expected = flat(ResidentLoader(DATA[10], 2, rank=1, world=3))
    monkeypatch.setattr(torch.distributed, "is_available", lambda: True)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    assert flat(loader) == expected
    assert len(loader) == 2


# ---- resuming ------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 23),
    world=st.integers(1, 3),
    batch_size=st.integers(1, 5),
    drop_last=st.booleans(),
    data=st.data(),
)
def test_a_resumed_epoch_gives_the_rest(
    count: int, world: int, batch_size: int, drop_last: bool, data: st.DataObject
) -> None:
    options: dict[str, Any] = {"drop_last": drop_last, "rank": world - 1, "world": world}
    whole = ResidentLoader(DATA[count], batch_size, **options)
    expected = [given_by(whole), given_by(whole)]
    done = data.draw(st.integers(0, len(whole)))
    first = ResidentLoader(DATA[count], batch_size, **options)
    iterator = iter(first)
    head = [next(iterator)["index"].tolist() for _ in range(done)]
    second = ResidentLoader(DATA[count], batch_size, seed=99, **options)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert head + given_by(second) == expected[0]
    assert given_by(second) == expected[1]


@pytest.mark.parametrize(("world", "batch_size"), [(1, 4), (3, 2), (2, 5)])
def test_other_ranks_may_take_over(world: int, batch_size: int) -> None:
    first = [ResidentLoader(DATA[23], 3, rank=rank, world=2) for rank in range(2)]
    iterators = [iter(loader) for loader in first]
    seen = [n for _ in range(2) for iterator in iterators for n in next(iterator)["index"].tolist()]
    state = first[0].state_dict()
    assert state == first[1].state_dict()
    rest = []
    for rank in range(world):
        loader = ResidentLoader(DATA[23], batch_size, rank=rank, world=world)
        loader.load_state_dict(state)
        rest += flat(loader)
    assert set(seen + rest) == set(range(23))
    assert len(seen + rest) - 23 < world


def test_after_an_epoch_the_state_is_the_next_one() -> None:
    loader = ResidentLoader(DATA[10], 4)
    list(loader)
    assert loader.state_dict() == {
        "epoch": 1, "given": 0, "seed": 0, "shuffle": True, "images": 10,
    }  # fmt: skip


def test_a_pass_broken_off_is_gone_on_with() -> None:
    loader = ResidentLoader(DATA[10], 4)
    for _ in loader:
        break
    other = ResidentLoader(DATA[10], 4)
    other.load_state_dict(loader.state_dict())
    assert flat(other) == loader.order(0).tolist()[4:]


def test_the_resumed_epoch_may_be_set_and_another_one_starts_anew() -> None:
    first = ResidentLoader(DATA[10], 4)
    first.set_epoch(3)
    next(iter(first))
    for epoch, begin in ((3, 4), (4, 0)):
        loader = ResidentLoader(DATA[10], 4)
        loader.load_state_dict(first.state_dict())
        loader.set_epoch(epoch)
        assert flat(loader) == loader.order(epoch).tolist()[begin:]


def test_a_pickled_loader_goes_on() -> None:
    loader = ResidentLoader(DATA[10], 4)
    next(iter(loader))
    twin = pickle.loads(pickle.dumps(loader))
    assert twin.state_dict() == loader.state_dict()


@pytest.mark.parametrize("close", [False, True], ids=["running", "broken off"])
def test_anomalies_go_on_in_the_middle_of_an_epoch(close: bool) -> None:
    data = ResidentDataset.from_tensors(make_images())
    loader = data.batches(4, make_synth())
    uninterrupted = [batch["image"] for _ in range(2) for batch in loader]
    loader = data.batches(4, make_synth())
    assert isinstance(loader, AnomalyLoader)
    iterator = iter(loader)
    head = [next(iterator)["image"] for _ in range(2)]
    if close:
        iterator.close()
    resumed = data.batches(4, make_synth(seed=8), seed=9)
    resumed.load_state_dict(loader.state_dict())
    tail = [batch["image"] for _ in range(2) for batch in resumed]
    assert len(head + tail) == len(uninterrupted)
    assert all(map(torch.equal, head + tail, uninterrupted))


class AtOnce:
    """Stands in for the side stream."""

    def __init__(self, device: torch.device) -> None:
        pass

    def issue(self, contract: Any, batch: Any, synth: Any, epoch: int) -> tuple[Any, None]:
        return contract.apply(batch, synth, epoch), None

    def hand_over(self, out: Any, ready: None) -> None:
        pass


def test_batches_prepared_ahead_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataloader, "_SideStream", AtOnce)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    data = ResidentDataset.from_tensors(make_images())

    def ahead() -> AnomalyLoader:
        return AnomalyLoader(ResidentLoader(data, 3), make_synth(), "cuda", prefetch=2)

    uninterrupted = [batch["image"] for batch in data.batches(3, make_synth())]
    for done in range(1, 5):
        loader = ahead()
        iterator = iter(loader)
        head = [next(iterator)["image"] for _ in range(done)]
        resumed = ahead()
        resumed.load_state_dict(loader.state_dict())
        tail = [batch["image"] for batch in resumed]
        assert len(head + tail) == 4
        assert all(map(torch.equal, head + tail, uninterrupted))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: ResidentLoader(DATA[11]), "a data set of 11 images, got one for a data set of 10"),
        (
            lambda: ResidentLoader(DATA[10], shuffle=False),
            "shuffle=False, got one for shuffle=True",
        ),
    ],
    ids=["images", "shuffle"],
)
def test_the_state_of_another_loader_is_refused(other: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        other().load_state_dict(ResidentLoader(DATA[10]).state_dict())


# ---- bad options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected a whole number >= 1, got 0"),
        ({"batch_size": 2.0}, "batch_size"),
        ({"batch_size": True}, "batch_size"),
        ({"rank": 1}, "rank, world: expected both or neither"),
        ({"rank": 2, "world": 2}, "rank: expected one of 0 to world - 1, got 2 of 2"),
        ({"rank": -1, "world": 2}, "rank"),
        ({"seed": 0.5}, "seed: expected an integer"),
    ],
    ids=str,
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResidentLoader(DATA[10], **options)


def test_a_negative_epoch_is_refused() -> None:
    with pytest.raises(ValueError, match="epoch: expected an integer"):
        DATA[10].batches(epoch=-1)
