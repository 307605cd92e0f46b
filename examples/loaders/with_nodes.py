"""torchdata's nodes: a chain of stages that can be resumed in the middle of an epoch.

python examples/loaders/with_nodes.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torchdata.nodes as nodes
from torch.utils.data import SequentialSampler, default_collate

import anoaug


def chain(folder: Path, change: anoaug.loaders.AnomalyMap) -> Any:
    """Samples by number, batches, anomalies."""
    data = anoaug.ResidentDataset.from_folder(folder, size=128)
    node = nodes.MapStyleWrapper(map_dataset=data, sampler=SequentialSampler(data))
    node = nodes.Mapper(nodes.Batcher(node, 8, drop_last=False), default_collate)
    return nodes.Loader(nodes.ParallelMapper(node, change, num_workers=2, method="thread"))


def main(folder: Path) -> int:
    """Stop after a batch, go on from there; returns how many anomalies were seen."""
    change = anoaug.loaders.AnomalyMap(anoaug.create("cutpaste", p=1.0, seed=0))
    change.set_epoch(0)
    loader = chain(folder, change)
    flow = iter(loader)
    seen = int(next(flow)["label"].sum())
    state = loader.state_dict()  # of which samples were given; anomalies follow from their numbers

    resumed = chain(folder, change)
    resumed.load_state_dict(state)
    seen += sum(int(batch["label"].sum()) for batch in resumed)
    print(f"{seen} anomalies")
    return seen


if __name__ == "__main__":
    main(Path(sys.argv[1]))
