"""Statistics of timings, fairness of the interleaving, threads."""

from __future__ import annotations

import time

import pytest
import torch

from benchmarks import timing
from benchmarks.timing import Timing


def test_statistics_of_known_times() -> None:
    times = Timing([5.0, 1.0, 2.0, 4.0, 3.0], cpu=[1.0, 3.0, 2.0])
    assert (times.median, times.iqr, times.min, times.cpu_median) == (3.0, 2.0, 1.0, 2.0)


def test_an_outlier_moves_neither_median_nor_quartiles() -> None:
    assert Timing([1.0, 2.0, 3.0, 4.0, 1e6]).median == 3.0
    assert Timing([1.0, 2.0, 3.0, 4.0, 1e6]).iqr == 2.0


@pytest.mark.parametrize("times", [[], [1.0, float("nan")]], ids=["none", "nan"])
def test_no_statistic_without_times(times: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one finite time"):
        Timing(times)


def test_contestants_take_turns() -> None:
    calls: list[str] = []
    works = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    found = timing.compare_cpu(works, seconds=0.0, least=3)
    assert calls == ["a", "a", "b", "b", *"ababab"]  # two warm-up calls each, then in turn
    assert [len(found[name].wall) for name in "ab"] == [3, 3]


def test_a_slow_contestant_drops_out_after_the_least_rounds() -> None:
    works = {"slow": lambda: time.sleep(0.02), "quick": int}
    found = timing.compare_cpu(works, seconds=0.01, least=2, most=9)
    assert [len(found[name].wall) for name in works] == [2, 9]


def test_the_number_of_rounds_is_bounded() -> None:
    assert len(timing.compare_cpu({"a": int}, seconds=9.0, most=5)["a"].wall) == 5


def test_threads_are_set_and_restored() -> None:
    before = torch.get_num_threads()
    with timing.threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_no_thread_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"), timing.threads(0):
        pass
