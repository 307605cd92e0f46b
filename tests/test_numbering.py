"""Which sample a row is: seeds, epochs, indices given, and the counter that stands in for them."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import anoaug
from anoaug.numbering import COUNTER_DOMAIN, Numbering


def place(monkeypatch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    """Make this process one of several ranks."""
    monkeypatch.setattr(torch.distributed, "is_available", lambda: True)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: world)


class Worker:
    """What torch tells a DataLoader worker of itself."""

    def __init__(self, number: int, workers: int, base: int = 1000) -> None:
        self.id, self.num_workers, self.seed = number, workers, base + number


def employ(monkeypatch: pytest.MonkeyPatch, worker: Worker) -> None:
    monkeypatch.setattr(torch.utils.data, "get_worker_info", lambda: worker)


def counted(numbering: Numbering, rows: int) -> list[int]:
    return numbering(None, None, rows)[0].tolist()


# ---- seeds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 7, -1, 2**40 + 3, 2**63 - 1, -(2**63)])
def test_a_seed_keeps_its_64_bits(seed: int) -> None:
    assert Numbering(seed).seed == seed


def test_an_unsigned_seed_is_the_signed_one_with_the_same_bits() -> None:
    assert Numbering(2**64 - 1).seed == -1


def test_no_seed_obeys_manual_seed() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1234)
        first, second = Numbering(None), Numbering(None)
        torch.manual_seed(99)
        other = Numbering(None)
    assert (first.seed, second.seed, other.seed) == (1234, 1234, 99)


def test_no_seed_is_taken_once() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1234)
        numbering = Numbering(None)
        torch.manual_seed(99)
        assert numbering.seed == 1234


def test_no_seed_leaves_the_generator_where_it_is() -> None:
    before = torch.get_rng_state()
    Numbering(None)(None, None, 4)
    assert torch.equal(torch.get_rng_state(), before)


# ---- the counter ---------------------------------------------------------------------------------


def test_the_counter_goes_on_from_call_to_call() -> None:
    numbering = Numbering(0)
    drawn = counted(numbering, 3) + counted(numbering, 0) + counted(numbering, 2)
    assert drawn == [COUNTER_DOMAIN + k for k in range(5)]


def test_the_counter_stays_within_what_randomness_can_hold() -> None:
    drawn = counted(Numbering(0), 5)
    assert min(drawn) >= 0 and max(drawn) < 2**48


@settings(max_examples=50, deadline=None)
@given(
    runs=st.lists(
        st.tuples(st.integers(1, 5), st.lists(st.integers(0, 7), max_size=4)),
        min_size=1,
        max_size=4,
    )
)
def test_no_number_is_given_twice_when_the_world_changes(runs: list[Any]) -> None:
    given_out: list[int] = []
    state = Numbering(0).get_state()
    with pytest.MonkeyPatch.context() as monkeypatch:
        for world, batches in runs:
            for rank in range(world):
                place(monkeypatch, rank, world)
                numbering = Numbering(0)
                numbering.set_state(state)
                for rows in batches:
                    given_out += counted(numbering, rows)
            # Every rank would save the same.
            state = numbering.get_state()
    assert len(set(given_out)) == len(given_out)


def test_ranks_with_batches_of_other_sizes_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    given_out: list[int] = []
    for rank, batches in enumerate([(4, 4, 1), (4, 3, 8), (2, 2, 2)]):
        place(monkeypatch, rank, 3)
        numbering = Numbering(0)
        for rows in batches:
            given_out += counted(numbering, rows)
    assert len(set(given_out)) == len(given_out)


def test_ranks_that_load_states_of_their_own_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    states = []
    for rank, rows in enumerate((3, 2)):
        place(monkeypatch, rank, 3)
        numbering = Numbering(0)
        counted(numbering, rows)
        states.append(numbering.get_state())
    given_out: list[int] = []
    for rank, state in enumerate(states):
        place(monkeypatch, rank, 2)
        numbering = Numbering(0)
        numbering.set_state(state)
        given_out += counted(numbering, 6)
    assert len(set(given_out)) == 12


def test_ranks_together_number_without_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    given_out: list[int] = []
    for rank in range(3):
        place(monkeypatch, rank, 3)
        numbering = Numbering(0)
        given_out += counted(numbering, 4) + counted(numbering, 4)
    assert sorted(given_out) == [COUNTER_DOMAIN + k for k in range(24)]


def test_workers_of_all_ranks_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    given_out: list[int] = []
    for rank in range(2):
        for number in range(3):
            place(monkeypatch, rank, 2)
            employ(monkeypatch, Worker(number, 3))
            given_out += counted(Numbering(0), 5)
    assert len(set(given_out)) == len(given_out) == 30


def test_workers_draw_anew_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []
    for base in (1000, 2000):
        per_worker = set()
        for number in range(3):
            employ(monkeypatch, Worker(number, 3, base))
            per_worker.add(int(Numbering(5)(None, None, 2)[1][0]))
        assert len(per_worker) == 1, "workers of an epoch share a seed and differ by index"
        seeds += per_worker
    assert seeds[0] != seeds[1]


def test_a_worker_s_seed_still_hangs_on_the_synthesizer_s(monkeypatch: pytest.MonkeyPatch) -> None:
    employ(monkeypatch, Worker(0, 1))
    assert Numbering(5)(None, None, 2)[1][0] != Numbering(6)(None, None, 2)[1][0]


def test_an_index_in_a_worker_keeps_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    employ(monkeypatch, Worker(0, 1))
    index, state = Numbering(5)([8, 9], 3, 2)
    assert (index.tolist(), state.tolist()) == ([8, 9], [5, 3])


def test_an_index_does_not_move_the_counter() -> None:
    numbering = Numbering(0)
    numbering([1, 2], 0, 2)
    assert counted(numbering, 1) == [COUNTER_DOMAIN]


# ---- state ---------------------------------------------------------------------------------------


def test_state_makes_a_run_go_on_where_it_was() -> None:
    first, second = Numbering(-9), Numbering(0)
    counted(first, 5)
    first.set_epoch(3)
    second.set_state(first.get_state())
    ours, theirs = (numbering(None, None, 4) for numbering in (first, second))
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


def test_state_brings_the_lasting_epoch_back() -> None:
    first, second = Numbering(0), Numbering(0)
    first.set_epoch(3)
    second.set_state(first.get_state())
    assert second([7], None, 1)[1].tolist() == first([7], None, 1)[1].tolist()


def test_state_without_an_epoch_still_asks_for_one() -> None:
    numbering = Numbering(0)
    numbering.set_state(Numbering(0).get_state())
    with pytest.raises(ValueError, match="expected an epoch"):
        numbering([7], None, 1)


def test_a_copy_goes_its_own_way() -> None:
    first = Numbering(0)
    first.set_epoch(2)
    twin = first.copy()
    counted(first, 5)
    first.set_epoch(4)
    assert counted(twin, 1) == [COUNTER_DOMAIN]
    assert twin([0], None, 1)[1].tolist() == [0, 2]


def _report(numbering: Numbering, ready: Any, pipe: Any) -> None:
    pipe.send("running")
    ready.wait(30)
    try:
        pipe.send(numbering([3], None, 1)[1].tolist())
    except ValueError as error:
        pipe.send(str(error))


@pytest.mark.parametrize("before", [None, 1], ids=["first-epoch", "later-epoch"])
def test_an_epoch_reaches_a_process_that_runs_already(before: int | None) -> None:
    numbering = Numbering(11)
    if before is not None:
        numbering.set_epoch(before)
    numbering.share()
    context = multiprocessing.get_context("fork")
    ready, (ours, theirs) = context.Event(), context.Pipe()
    child = context.Process(target=_report, args=(numbering, ready, theirs), daemon=True)
    child.start()
    assert ours.recv() == "running"
    numbering.set_epoch(6)
    ready.set()
    assert ours.recv() == [11, 6]
    child.join(30)


# ---- what is refused -----------------------------------------------------------------------------


def test_an_index_without_an_epoch_is_refused() -> None:
    with pytest.raises(ValueError, match="index: expected an epoch with it"):
        Numbering(0)([0, 1], None, 2)


def test_an_index_with_a_lasting_epoch_is_taken() -> None:
    numbering = Numbering(4)
    numbering.set_epoch(0)
    index, state = numbering([5, 6], None, 2)
    assert (index.tolist(), state.tolist()) == ([5, 6], [4, 0])


def test_an_epoch_of_the_call_does_not_last() -> None:
    numbering = Numbering(4)
    numbering.set_epoch(1)
    assert numbering([5], 2**32 - 1, 1)[1].tolist() == [4, 2**32 - 1]
    assert numbering([5], None, 1)[1].tolist() == [4, 1]


def test_an_index_on_a_device_is_refused() -> None:
    device = "cuda" if torch.cuda.is_available() else "meta"
    with pytest.raises(ValueError, match=f"index: expected a CPU tensor, got one on {device}"):
        Numbering(0)(torch.zeros(2, dtype=torch.int64, device=device), 0, 2)


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ([0, -1], ValueError, "expected sample indices in"),
        ([0, 2**48], ValueError, "expected sample indices in"),
        ([0, 1, 2], ValueError, "one number per sample"),
        ([[0, 1]], ValueError, "one number per sample"),
        (torch.tensor([0.0, 1.0]), TypeError, "expected integers"),
    ],
)
def test_a_bad_index_is_refused(index: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Numbering(0)(index, 0, 2)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8, torch.int16])
def test_an_index_of_any_integers_is_taken(dtype: torch.dtype) -> None:
    index, _ = Numbering(0)(torch.tensor([3, 4], dtype=dtype), 0, 2)
    assert index.dtype == torch.int64 and index.tolist() == [3, 4]


@pytest.mark.parametrize("index", [[], torch.empty(0, dtype=torch.int64)], ids=["list", "tensor"])
def test_an_empty_index_numbers_an_empty_batch(index: Any) -> None:
    assert Numbering(0)(index, 0, 0)[0].shape == (0,)


@pytest.mark.parametrize("epoch", [-1, 2**32])
def test_an_epoch_out_of_range_is_refused(epoch: int) -> None:
    with pytest.raises(ValueError, match="epoch: expected an integer in"):
        Numbering(0)([0], epoch, 1)
    with pytest.raises(ValueError, match="epoch: expected an integer in"):
        Numbering(0).set_epoch(epoch)


def test_a_fractional_epoch_is_refused() -> None:
    with pytest.raises((TypeError, ValueError), match="epoch: expected an integer"):
        Numbering(0).set_epoch(1.5)  # type: ignore[arg-type]


# ---- refused calls -------------------------------------------------------------------------------

REFUSED: dict[str, dict[str, Any]] = {
    "control": {"control": {"shape": "crack"}},
    "length": {"control": {"size": torch.full((3,), 0.1)}},
    "category": {"category": ["nut", "bolt"]},
    "foreground": {"foreground": torch.ones(2, 1, 5, 5, dtype=torch.uint8)},
    "mask": {"mask": torch.ones(2, 1, 5, 5, dtype=torch.uint8)},
    "label": {"label": torch.ones(3, dtype=torch.int64)},
    "slots": {"slots": {"what": torch.ones(2, 1, 24, 24)}},
    "extra": {"extra": {"depth": torch.ones(2, 1, 5, 5)}},
}


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("what", REFUSED)
def test_a_refused_call_numbers_nothing(what: str, several: bool) -> None:
    """What comes after it is what would have come without it."""
    images = torch.full((2, 3, 24, 24), 9, dtype=torch.uint8)
    donors = anoaug.DonorBank.from_tensors(images + 90, categories=["nut", "nut"])
    keywords: dict[str, Any] = {"donors": donors, "seed": 3, "p": 1.0}
    made = anoaug.OneOf({"fpi": 1}, **keywords) if several else anoaug.create("fpi", **keywords)
    before = made.get_extra_state()
    with pytest.raises((TypeError, ValueError)):
        made(images, **REFUSED[what])
    assert made.get_extra_state() == before
    made(images)
    assert made.get_extra_state()["counter"] == before["counter"] + 2
    with pytest.raises(ValueError):
        made.sample(images, category="bolt")
    assert made.get_extra_state()["counter"] == before["counter"] + 2


@pytest.mark.parametrize("several", [False, True])
def test_a_wrong_control_is_refused_in_eval_mode_too(several: bool) -> None:
    images = torch.full((2, 3, 24, 24), 9, dtype=torch.uint8)
    keywords: dict[str, Any] = {"seed": 3, "p": 1.0}
    names = ("cutpaste", "cutpaste_union")
    made = anoaug.OneOf(dict.fromkeys(names, 1), **keywords) if several else anoaug.create(
        names[1], **keywords)  # fmt: skip
    made.eval()
    for control, message in (
        ({"shape": "crack"}, "shape does not apply"),
        ({"kind": "cutpast"}, "'cutpast' is unknown"),
        ({"size": torch.full((3,), 0.1)}, "expected one value per sample, 2, got 3"),
        ({"location": torch.ones(2, 1, 5, 5)}, "expected a map of"),
        ({"siz": 0.1}, "siz"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            made(images, control=control)
    out = made(images, control={"size": 0.1})
    assert torch.equal(out.image, images) and not out.label.any()
    assert made.get_extra_state()["counter"] == 0
