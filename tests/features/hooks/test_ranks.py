"""Two processes under DistributedDataParallel: noise of their own, gradients in common."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from anoaug import features
from tests.ranks import in_group

from .nets import ResNet, images, noise

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
        reason="needs gloo",
    ),
]


def train(rank: int, folder: str) -> None:
    """Two steps with checkpointing; what came out is written to a file."""
    net = DistributedDataParallel(ResNet(reentrant=False))
    handle = features.attach(net, ["layer2", "layer3"], noise())
    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    steps = []
    for _ in range(2):
        optimiser.zero_grad()
        net(images()).square().mean().backward()
        made = handle.context.batch
        optimiser.step()
        steps.append(
            {
                "noise": {n: one.features - one.clean for n, one in made.items()},
                "gradients": [one.grad.clone() for one in net.parameters()],
            }
        )
    torch.save({"steps": steps, "weights": net.module.state_dict()}, f"{folder}/{rank}.pt")


def test_ranks_differ_in_noise_and_agree_in_gradients(tmp_path: Path) -> None:
    in_group(train, 2, str(tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    drawn = []
    for one, other in zip(first["steps"], second["steps"], strict=True):
        for mine, theirs in zip(one["gradients"], other["gradients"], strict=True):
            assert torch.equal(mine, theirs)
        drawn += [one["noise"]["layer3"], other["noise"]["layer3"]]
    for n, one in enumerate(drawn):
        assert all(not torch.allclose(one, other) for other in drawn[:n])
    for mine, theirs in zip(first["weights"].values(), second["weights"].values(), strict=True):
        assert torch.equal(mine, theirs)
    # One process that sees both halves, with each rank's numbers, has the mean of the gradients.
    expected = [torch.zeros_like(one) for one in first["steps"][0]["gradients"]]
    for rank in range(2):
        net = ResNet()
        perturb = noise()
        features.attach(net, ["layer2", "layer3"], perturb)
        perturb._numbering._count = lambda rows, rank=rank, calls=[]: _numbers(rows, rank, calls)
        net(images()).square().mean().backward()
        for total, one in zip(expected, net.parameters(), strict=True):
            assert one.grad is not None
            total += one.grad / 2
    for one, other in zip(expected, first["steps"][0]["gradients"], strict=True):
        torch.testing.assert_close(one, other)


def _numbers(rows: int, rank: int, calls: list[int]) -> torch.Tensor:
    """What the counter gives a rank of two."""
    from anoaug.numbering import COUNTER_DOMAIN

    base = 2 * rows * len(calls)
    calls.append(rows)
    return base + rank + 2 * torch.arange(rows) + COUNTER_DOMAIN
