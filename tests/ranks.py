"""Ranks of a test: processes forked from one that has imported everything, once for all tests."""

from __future__ import annotations

import datetime
import faulthandler
import gc
import multiprocessing
import os
import pickle
import socket
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing
from torch import distributed

import tests.conftest  # noqa: F401  a rank imports the test's module, where torchvision may be met

PATIENCE = 120.0  # seconds; a rank that takes longer shows where it stands, and fails


def on_ranks(work: Callable[..., Any], ranks: int, *arguments: Any) -> list[Any]:
    """What ``work(rank, *arguments)`` returns in each of so many processes; an error is one here.

    The test's own process is not forked: its threads and devices would not be there.
    """
    multiprocessing.set_forkserver_preload(["anoaug", "pytest", "torch.distributed.fsdp"])
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.start_processes(
            _rank, (folder, work, arguments), ranks, start_method="forkserver"
        )
        return [pickle.loads(Path(folder, str(rank)).read_bytes()) for rank in range(ranks)]


def in_group(work: Callable[..., Any], ranks: int, *arguments: Any) -> list[Any]:
    """As ``on_ranks``, where the ranks are a group of gloo's."""
    with tempfile.TemporaryDirectory() as folder:
        return on_ranks(_joined, ranks, str(Path(folder) / "meeting"), ranks, work, arguments)


def _rank(rank: int, folder: str, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    torch.set_num_threads(1)
    try:
        found = work(rank, *arguments)
        # As bytes: tensors would travel in shared memory, which ends with the rank.
        Path(folder, str(rank)).write_bytes(pickle.dumps(found))
    except Exception as error:
        traceback.clear_frames(error.__traceback__)  # which hold what was made in them
        raise
    finally:
        # The group is the last to let go of itself: where a DistributedDataParallel model is, which
        # does so with the interpreter locked, gloo's thread waits for the lock, and it for gloo's.
        gc.collect()
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _joined(
    rank: int, meeting: str, ranks: int, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> Any:
    patience = datetime.timedelta(seconds=PATIENCE / 2)
    distributed.init_process_group("gloo", f"file://{meeting}", patience, ranks, rank)
    return work(rank, *arguments)


def free_port() -> int:
    """A port that ranks may meet at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def as_launched(rank: int, ranks: int, port: int, **more: str) -> None:
    """The environment that torchrun, or Lightning, gives a process."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **more,
    }  # fmt: skip
