"""A sharded model (FSDP2) in several processes: anomalies before it, noise on its features inside.

torchrun --nproc-per-node 2 examples/loaders/with_fsdp.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

import anoaug


class Network(nn.Module):
    """A backbone and a head, where yours has many layers."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 16, 5, padding=2), nn.ReLU())
        self.head = nn.Conv2d(16, 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of the mask."""
        return self.head(self.backbone(images))


def main(folder: Path, epochs: int = 1) -> int:
    """Train; returns how many anomalies all ranks saw together."""
    cuda = torch.cuda.is_available()
    dist.init_process_group("nccl" if cuda else "gloo")
    device = torch.device("cuda", dist.get_rank()) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    torch.manual_seed(0)
    network = Network().to(device)
    perturb = anoaug.features.create("simplenet", sigma=0.05, seed=0)
    handle = anoaug.features.attach(network, "backbone", perturb)
    for part in (network.backbone, network):  # once the hooks are there
        fully_shard(part)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    synth = anoaug.create("cutpaste", p=0.5, seed=0, dtype=torch.float32)
    data = anoaug.ResidentDataset.from_folder(folder, size=64, device=device)
    batches = data.batches(8, synth=synth)  # each rank its share
    seen = torch.zeros((), dtype=torch.int64, device=device)
    for epoch in range(epochs):
        for batch in batches:
            handle.context.set(index=batch["index"], epoch=epoch)
            logits = network(batch["image"])
            loss = nn.functional.binary_cross_entropy_with_logits(logits, batch["mask"])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            seen += batch["label"].sum()
    dist.all_reduce(seen)
    if dist.get_rank() == 0:
        print(f"{int(seen)} anomalies")
    dist.destroy_process_group()
    return int(seen)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
