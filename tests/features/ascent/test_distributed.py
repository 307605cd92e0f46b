"""The ascent through a discriminator wrapped in DistributedDataParallel, on two ranks."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from anoaug import features


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def run(rank: int, cached: bool) -> Any:
    """Parameters, fakes and the number of passes after two steps of training."""
    torch.manual_seed(0)
    inner = nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.LeakyReLU(0.2), nn.Linear(16, 1)
    )  # fmt: skip
    network = DistributedDataParallel(inner)
    glass = features.create(
        "glass", discriminator=network, relative_radius=0.85, cache_first_linear=cached, seed=0
    )
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    fakes = []
    for step in range(2):
        real = torch.randn(12, 8, generator=torch.Generator().manual_seed(10 * step + rank))
        fake = glass(real, index=[rank], epoch=step).features
        logits = network(torch.cat((real, fake)))[:, 0]
        target = torch.arange(24) >= 12
        nn.functional.binary_cross_entropy_with_logits(logits, target.float()).backward()
        optimiser.step()
        optimiser.zero_grad()
        fakes.append(fake.tolist())
    values = [value.detach().tolist() for value in inner.parameters()]
    return values, fakes, int(inner[1].num_batches_tracked)


def train(rank: int, port: int, results: Any) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    results[rank] = [run(rank, cached) for cached in (False, True)]
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_stay_in_step() -> None:
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(train, (free_port(), results), nprocs=2)
        found = dict(results)
    for (one, fakes, passes), (other, others, _) in zip(found[0], found[1], strict=True):
        assert one == other
        assert fakes != others  # each rank has features of its own
        assert passes == 2 * 21
