"""Checkpoints of models that were swapped into are the originals', both ways."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anoaug.loaders import anomalib as door
from anoaug.loaders.anomalib import states

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def drawn(module: Any) -> Tensor:
    """What a generator gives next."""
    if isinstance(module, door.SuperSimpleNetGenerator):
        beside = torch.zeros(4, 1, 32, 32), torch.zeros(4)
        return module(IMAGES, IMAGES, *beside)[1]
    if isinstance(module, door.DsrAnomalyGenerator):
        return module.augment_batch(IMAGES)
    return module(IMAGES)[0]


MAKERS: dict[str, Callable[[], nn.Module]] = {
    "perlin": lambda: door.PerlinAnomalyGenerator(probability=1.0, seed=3, size=32),
    "cutpaste": lambda: door.CutPasteGenerator(seed=3),
    "dsr": lambda: door.DsrAnomalyGenerator(1.0, seed=3),
    "supersimplenet": lambda: door.SuperSimpleNetGenerator(seed=3),
}


class Model(nn.Module):
    """A detector with a generator, like a Lightning module as far as checkpoints go."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.head = nn.Linear(3, 1)
        self.augmenter = MAKERS[name]()
        self.said: list[str] = []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["own"] = True

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.said += sorted(checkpoint)


@pytest.fixture(params=MAKERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_state_dict_has_the_keys_of_the_original(name: str) -> None:
    model = Model(name)
    assert set(model.state_dict()) == {"head.weight", "head.bias"}
    model.load_state_dict(model.state_dict(), strict=True)
    MAKERS[name]().load_state_dict({}, strict=True)


def test_an_unknown_key_is_still_refused(name: str) -> None:
    model = Model(name)
    with pytest.raises(RuntimeError, match="augmenter.other"):
        model.load_state_dict(model.state_dict() | {"augmenter.other": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="head.bias"):
        model.load_state_dict({"head.weight": torch.zeros(1, 3)})


def test_a_state_without_numbers_leaves_them_where_they_are(name: str) -> None:
    one, other = Model(name), Model(name)
    drawn(one.augmenter), drawn(other.augmenter)
    one.load_state_dict(one.state_dict())
    assert torch.equal(drawn(one.augmenter), drawn(other.augmenter))


def test_a_run_that_is_resumed_goes_on(name: str) -> None:
    model, resumed = Model(name), Model(name)
    for one in (model, resumed):
        states.keep_beside(one)
        states.keep_beside(one)
    first = drawn(model.augmenter)
    checkpoint: dict[str, Any] = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    resumed.on_load_checkpoint(copy.deepcopy(checkpoint))
    resumed.load_state_dict(checkpoint["state_dict"])
    after = drawn(model.augmenter)
    assert checkpoint["own"] and resumed.said == ["anoaug", "own", "state_dict"]
    assert torch.equal(drawn(resumed.augmenter), after) and not torch.equal(after, first)


def test_a_checkpoint_without_numbers_is_taken(name: str) -> None:
    model = Model(name)
    states.keep_beside(model)
    model.on_load_checkpoint({})
    assert model.said == []
