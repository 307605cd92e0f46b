"""AnomalyMap among torchdata's nodes, and AnomalyLoader over a loader that knows its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import default_collate

import anoaug
from anoaug.loaders import AnomalyMap

from .samples import Records, make_images, make_synth, pairs

nodes: Any = pytest.importorskip("torchdata.nodes")
stateful: Any = pytest.importorskip("torchdata.stateful_dataloader")


def chain(change: AnomalyMap, workers: int = 0) -> Any:
    samples = [{"image": image, "index": k} for k, image in enumerate(make_images(8))]
    node = nodes.Batcher(nodes.IterableWrapper(samples), 4)
    node = nodes.Mapper(node, default_collate)
    if workers:
        return nodes.ParallelMapper(node, change, num_workers=workers, method="thread")
    return nodes.Mapper(node, change)


@pytest.mark.parametrize("workers", [0, 2])
def test_in_a_chain_of_nodes(workers: int) -> None:
    change = AnomalyMap(make_synth())
    change.set_epoch(3)
    loader = nodes.Loader(chain(change, workers))
    masks = torch.cat([batch["mask"] for batch in loader])
    assert torch.equal(masks, make_synth()(make_images(8), index=range(8), epoch=3).mask)


def test_a_chain_of_nodes_resumes() -> None:
    change = AnomalyMap(make_synth())
    change.set_epoch(0)
    loader = nodes.Loader(chain(change))
    flow = iter(loader)
    next(flow)
    state, expected = loader.state_dict(), next(flow)
    again = nodes.Loader(chain(change))
    again.load_state_dict(state)
    assert torch.equal(next(iter(again))["image"], expected["image"])


def test_the_counter_is_in_the_state() -> None:
    change = AnomalyMap(make_synth())
    change({"image": make_images(4)})
    state = change.state_dict()
    expected = change({"image": make_images(4)})["mask"]
    other = AnomalyMap(make_synth(seed=77))
    other.load_state_dict(state)
    assert torch.equal(other({"image": make_images(4)})["mask"], expected)


def test_a_generator_of_tuples() -> None:
    def batches() -> Iterator[Any]:
        for k in range(2):
            yield make_images(4), torch.full((4,), k)

    made = list(map(AnomalyMap(make_synth()), batches()))
    assert all(batch.mask.any() for batch, _ in made) and made[1][1].tolist() == [1] * 4


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("dataset", ["tuples", "mappings"])
def test_a_stateful_loader_resumes_in_mid_epoch(workers: int, dataset: str) -> None:
    def made() -> anoaug.AnomalyLoader:
        plain = pairs() if dataset == "tuples" else Records()
        loader = stateful.StatefulDataLoader(
            anoaug.IndexedDataset(plain), batch_size=3, shuffle=True, num_workers=workers,
            generator=torch.Generator().manual_seed(1),
        )  # fmt: skip
        return anoaug.AnomalyLoader(loader, make_synth())

    def image(batch: Any) -> Any:
        return batch["image"] if isinstance(batch, dict) else batch[0].image

    loader = made()
    list(loader)
    flow = iter(loader)
    next(flow)
    state = loader.state_dict()
    expected = [image(batch) for batch in flow]
    other = made()
    other.load_state_dict(state)
    found = [image(batch) for batch in other]
    assert len(found) == len(expected) == 3
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_bad_input_is_refused() -> None:
    with pytest.raises(TypeError, match="synth: expected"):
        AnomalyMap("draem")
    with pytest.raises(TypeError, match="batch: expected a mapping"):
        AnomalyMap(make_synth())("nothing")
