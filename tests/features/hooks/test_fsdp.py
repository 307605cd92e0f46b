"""Two processes under FSDP2: a synthesizer before the model and a hook inside what is sharded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import anoaug
from anoaug import features
from tests.ranks import in_group

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
        reason="needs gloo",
    ),
]

COUNT, EPOCHS = 8, 2
LAYERS = ["layer1", "layer2.0"]  # a sharded unit itself, and a layer inside one


class Net(nn.Module):
    """Convolutions in stages; what follows a hooked unit works in place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.layer1 = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.Tanh())
        self.layer2 = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.Tanh())
        self.head = nn.Conv2d(12, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.stem(x))
        x += 0.5
        return self.head(self.layer2(x))


def train(rank: int, world: int, folder: str) -> None:
    """An epoch is one step over all images; what was seen is written to a file."""
    from torch.distributed.fsdp import fully_shard

    warnings.filterwarnings("error", message="FSDP2-wrapped module")
    net = Net()
    perturb = features.create("simplenet", sigma=0.5, seed=0)
    handle = features.attach(net, LAYERS, perturb)
    for part in (net.layer1, net.layer2, net):
        fully_shard(part)
    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    synth = anoaug.create("cutpaste", p=0.5, seed=0, dtype=torch.float32)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (COUNT, 3, 32, 32), dtype=torch.uint8, generator=generator)
    steps: list[dict[str, Any]] = []
    for epoch in range(EPOCHS):
        index = torch.arange(rank, COUNT, world)
        out = synth(images[index], index=index, epoch=epoch)
        handle.context.set(index=index, epoch=epoch)
        wanted = nn.functional.max_pool2d(out.mask, 4)
        loss = (net(out.image) - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        noise = {name: one.features - one.clean for name, one in handle.context.batch.items()}
        seen = {"image": out.image, "mask": out.mask, **noise}
        steps.append({name: value.detach() for name, value in seen.items()} | {"index": index})
    weights = {name: value.full_tensor() for name, value in net.state_dict().items()}
    torch.save({"steps": steps, "weights": weights}, f"{folder}/{world}-{rank}.pt")


def test_two_ranks_see_and_learn_what_one_does(tmp_path: Path) -> None:
    pytest.importorskip("torch.distributed.fsdp")
    for world in (1, 2):
        in_group(train, world, world, str(tmp_path))
    whole = torch.load(tmp_path / "1-0.pt")
    parts = [torch.load(tmp_path / f"2-{rank}.pt") for rank in range(2)]
    for epoch in range(EPOCHS):
        one, halves = whole["steps"][epoch], [part["steps"][epoch] for part in parts]
        order = torch.cat([half["index"] for half in halves]).argsort()
        assert one["mask"].any()
        for name in ("image", "mask"):
            both = torch.cat([half[name] for half in halves])[order]
            assert torch.equal(both, one[name]), name
        for name in LAYERS:
            assert one[name].abs().max() > 0.5
            both = torch.cat([half[name] for half in halves])[order]
            # The same noise on features that weights averaged in another order made.
            torch.testing.assert_close(both, one[name], atol=1e-5, rtol=1e-4)
    assert not torch.equal(*(step["mask"] for step in whole["steps"]))
    for name, value in whole["weights"].items():
        assert torch.equal(parts[0]["weights"][name], parts[1]["weights"][name])
        torch.testing.assert_close(parts[0]["weights"][name], value, atol=1e-6, rtol=1e-5)
