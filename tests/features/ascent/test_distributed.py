"""The ascent through a discriminator wrapped in DistributedDataParallel, on two ranks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from anoaug import features
from tests.ranks import in_group


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


def both(rank: int) -> Any:
    return [run(rank, cached) for cached in (False, True)]


@pytest.mark.slow
def test_two_ranks_stay_in_step() -> None:
    first, second = in_group(both, 2)
    for (one, fakes, passes), (other, others, _) in zip(first, second, strict=True):
        assert one == other
        assert fakes != others  # each rank has features of its own
        assert passes == 2 * 21
