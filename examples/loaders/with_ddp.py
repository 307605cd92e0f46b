"""Several processes: each rank has its own share of samples and anomalies.

torchrun --nproc-per-node 2 examples/loaders/with_ddp.py FOLDER
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import anoaug


def train(folder: Path, epochs: int) -> int:
    """One rank's part; returns how many anomalies all ranks saw together."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", dist.get_rank()) if cuda else torch.device("cpu")
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 1, 5, padding=2).to(device)
    network = DistributedDataParallel(plain, device_ids=[device.index] if cuda else None)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    synth = anoaug.create("cutpaste", p=0.5, seed=0, dtype=torch.float32)
    data = anoaug.ResidentDataset.from_folder(folder, size=64, device=device)
    seen = torch.zeros((), dtype=torch.int64, device=device)
    for batch in (batch for _ in range(epochs) for batch in data.batches(8, synth=synth)):
        loss = nn.functional.binary_cross_entropy_with_logits(
            network(batch["image"]), batch["mask"]
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen += batch["label"].sum()
    dist.all_reduce(seen)
    return int(seen)


def main(folder: Path, epochs: int = 1) -> int:
    """Train on every rank; what was seen is said once."""
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    seen = train(folder, epochs)
    gc.collect()  # its network goes before its group, or gloo could hang
    if dist.get_rank() == 0:
        print(f"{seen} anomalies")
    dist.destroy_process_group()
    return seen


if __name__ == "__main__":
    main(Path(sys.argv[1]))
