"""Clocks: interleaved repeats on the CPU, events and graph replay on CUDA, and honest statistics.

Rules kept here: every contestant of a case is timed in turn within each round, so that a drift of
the machine touches all alike; nothing is discarded; the load average is read before and after.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

Work = Callable[[], object]
WARMING = 2  # calls of each contestant before its runs are timed
_cuda: Any = torch.cuda  # its event and stream classes carry no annotations


@dataclass(frozen=True)
class Timing:
    """Seconds per call of one contestant.

    Args:
        wall: Wall-clock seconds (CUDA: device seconds) of every run, in order.
        cpu: Process CPU seconds of the same runs; empty where it says nothing (CUDA). On one
            thread, wall far above cpu means that somebody else had the core.
    """

    wall: Sequence[float]
    cpu: Sequence[float] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        """Refuse what no statistic can be taken of."""
        if not self.wall or not np.isfinite(self.wall).all():
            raise ValueError(
                f"wall: expected at least one finite time, got {list(self.wall)}; time a run first"
            )

    @property
    def median(self) -> float:
        """Median of the wall times."""
        return float(np.median(self.wall))

    @property
    def iqr(self) -> float:
        """Distance between the quartiles of the wall times (linear interpolation)."""
        low, high = np.percentile(self.wall, (25, 75))
        return float(high - low)

    @property
    def min(self) -> float:
        """Shortest wall time."""
        return float(min(self.wall))

    @property
    def cpu_median(self) -> float | None:
        """Median of the CPU times, where taken."""
        return float(np.median(self.cpu)) if len(self.cpu) else None


def load_average() -> list[float] | None:
    """The 1, 5 and 15 minute load averages, or None where the system has none."""
    return list(os.getloadavg()) if hasattr(os, "getloadavg") else None


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run torch (and OpenCV, where it is installed) on ``count`` threads; restored at the end.

    Raises:
        ValueError: ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"threads: expected at least 1, got {count}; use --threads 1")
    try:
        cv2: Any = importlib.import_module("cv2")
    except ModuleNotFoundError:
        cv2 = None
    before = torch.get_num_threads(), cv2.getNumThreads() if cv2 else 0
    torch.set_num_threads(count)
    if cv2:
        cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        if cv2:
            cv2.setNumThreads(before[1])


def settle_allocator() -> None:
    """Free one 31 MiB block, as any process that has decoded a few photographs has done.

    glibc raises its mmap and trim thresholds to what was freed last. Before that, every temporary
    of a 256 x 256 float64 image is faulted in anew and the NumPy peer takes nearly twice as long.
    """
    block = np.ones(31 << 20, dtype=np.uint8)
    del block


def compare_cpu(
    works: Mapping[str, Work], seconds: float = 3.0, least: int = 7, most: int = 200
) -> dict[str, Timing]:
    """Time every contestant in turn, round after round, until its time is spent.

    Args:
        works: Contestants by name; each call is one run.
        seconds: Time of a contestant; a slow one drops out after ``least`` rounds, a quick one goes
            on.
        least: Fewest rounds, whatever they cost.
        most: Most rounds.
    """
    settle_allocator()
    for work in works.values():
        for _ in range(WARMING):
            work()
    wall: dict[str, list[float]] = {name: [] for name in works}
    cpu: dict[str, list[float]] = {name: [] for name in works}
    for done in range(most):
        for name, work in works.items():
            if done >= least and sum(wall[name]) >= seconds:
                continue
            begin, cpu_begin = time.perf_counter(), time.process_time()
            work()
            wall[name].append(time.perf_counter() - begin)
            cpu[name].append(time.process_time() - cpu_begin)
    return {name: Timing(wall[name], cpu[name]) for name in works}


def compare_cuda(
    works: Mapping[str, Work], seconds: float = 0.5, least: int = 20, most: int = 500
) -> dict[str, Timing]:
    """Time calls on the current CUDA device by events, contestants in turn.

    A spin kernel is queued ahead of each pair of events, so that the events do not measure how
    slowly the host launches; what the host itself costs is a case of its own (``host``).

    Args:
        works: Contestants by name; each call queues one run on the current stream.
        seconds: Target for each contestant's total time.
        least: Fewest rounds.
        most: Most rounds.
    """
    for work in works.values():
        for _ in range(3):
            work()
    torch.cuda.synchronize()
    once = 0.0
    for work in works.values():
        begin = time.perf_counter()
        work()
        torch.cuda.synchronize()
        once = max(once, time.perf_counter() - begin)
    rounds = int(min(max(seconds / max(once, 1e-9), least), most))
    # about 1 ns a cycle: cover the host's time for one call, at most a fifth of a second
    spin = int(min(once * 2e9, 2e8))
    events: dict[str, list[tuple[Any, Any]]] = {n: [] for n in works}
    for _ in range(rounds):
        for name, work in works.items():
            pair = (_cuda.Event(enable_timing=True), _cuda.Event(enable_timing=True))
            _cuda._sleep(spin)
            pair[0].record()
            work()
            pair[1].record()
            events[name].append(pair)
    torch.cuda.synchronize()
    return {
        name: Timing([first.elapsed_time(last) * 1e-3 for first, last in pairs])
        for name, pairs in events.items()
    }


def graph_of(work: Work, repeats: int) -> tuple[torch.cuda.CUDAGraph, int]:
    """Record ``repeats`` calls of ``work`` in one CUDA graph.

    Args:
        work: Must be capturable: no synchronisation, no host data.
        repeats: Calls in the graph; the inputs should rotate over more than the L2 cache.

    Returns:
        The graph and ``repeats``, by which a replay's time is to be divided.
    """
    side = _cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            work()
    return graph, repeats


def copy_bandwidth(device: torch.device, size: int = 1 << 30, runs: int = 20) -> float:
    """Bytes per second of a plain device copy (read plus write): the floor others are held to."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    timing = compare_cuda({"copy": lambda: target.copy_(source)}, least=runs, most=runs)["copy"]
    return 2 * size / timing.median
