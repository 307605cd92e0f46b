"""Run a function on two ranks of a gloo group on the CPU."""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed

RANKS = 2


def _rank(rank: int, meeting: str, work: Callable[..., Any], arguments: Any, pipe: Any) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS
    )
    try:
        # As bytes: tensors would travel in shared memory, which ends with the rank.
        pipe.send((True, pickle.dumps(work(rank, *arguments))))
    except Exception as error:
        pipe.send((False, f"{type(error).__name__}: {error}"))
    finally:
        distributed.destroy_process_group()


def on_two_ranks(work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What ``work(rank, *arguments)`` returns on each rank; an error's text stands in brackets."""
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        pipes, processes = [], []
        for rank in range(RANKS):
            mine, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=_rank,
                args=(rank, str(Path(folder) / "meeting"), work, arguments, theirs),
                daemon=True,
            )
            process.start()
            pipes.append(mine)
            processes.append(process)
        results = []
        for pipe, process in zip(pipes, processes, strict=True):
            assert pipe.poll(60), "a rank does not answer"
            good, value = pipe.recv()
            results.append(pickle.loads(value) if good else f"[{value}]")
            process.join(30)
        return results
