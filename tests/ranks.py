"""Ranks of a test: processes forked from one that has imported everything, once for all tests."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import torch.multiprocessing

import tests.conftest  # noqa: F401  a rank imports the test's module, where torchvision may be met


def on_ranks(work: Callable[..., Any], ranks: int, *arguments: Any) -> None:
    """Run ``work(rank, *arguments)`` in so many processes; an error there is one here.

    That of a test is not forked itself: its threads and devices would not be there.
    """
    multiprocessing.set_forkserver_preload(["anoaug", "torch.distributed.fsdp"])
    torch.multiprocessing.start_processes(work, arguments, ranks, start_method="forkserver")


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
