"""Dinomaly's bottleneck with dropout of ours, without anomalib."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from anoaug.loaders.anomalib import DinomalyBottleneck

CHANNELS = 64


class Unit(nn.Module):
    """Linear layers that change nothing, so that what each site drops can be seen."""

    def forward(self, value: Tensor) -> Tensor:
        return value


def bare(p: float = 0.2, first: bool = True) -> DinomalyBottleneck:
    made = DinomalyBottleneck(CHANNELS, act_layer=Unit, drop=p, apply_input_dropout=first, seed=0)
    made.fc1, made.fc2 = Unit(), Unit()
    return made


@pytest.fixture
def tokens() -> Tensor:
    return torch.randn(4, 50, CHANNELS, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize(("first", "sites"), [(True, 3), (False, 2)])
def test_every_site_drops_on_its_own(first: bool, sites: int) -> None:
    ones = torch.ones(4, 50, CHANNELS)
    made = bare(first=first)(ones)
    kept = made > 0
    torch.testing.assert_close(made[kept], torch.full_like(made[kept], 0.8**-sites))
    # 12 800 channels: 0.01 is more than two standard deviations.
    assert abs(float(kept.float().mean()) - 0.8**sites) < 0.01


@pytest.mark.slow
def test_passes_differ_and_an_index_repeats_one(tokens: Tensor) -> None:
    made = bare()
    assert not torch.equal(made(tokens), made(tokens))

    def told(index: list[int], given: Tensor) -> Tensor:
        made.handle.context.set(index=torch.tensor(index), epoch=3)
        return made(given)

    whole = told([5, 6, 7, 8], tokens)
    assert torch.equal(told([5, 6, 7, 8], tokens), whole)
    assert torch.equal(told([7], tokens[2:3]), whole[2:3])


@pytest.mark.slow
def test_dropout_follows_the_mode_of_the_model_around_it(tokens: Tensor) -> None:
    model = nn.Sequential(bare())
    assert not torch.equal(model(tokens), tokens)
    assert torch.equal(model.eval()(tokens), tokens)
    assert not torch.equal(model.train()(tokens), tokens)
    assert torch.equal(bare(0.0)(tokens), tokens) and bare(0.0).handle is None


@pytest.mark.slow
def test_gradients_under_checkpointing_are_those_without(tokens: Tensor) -> None:
    model = nn.Sequential(nn.Linear(CHANNELS, CHANNELS), bare())
    results = []
    for again in (False, True):
        model[1].handle.context.set(index=torch.arange(4), epoch=0)
        model.zero_grad()
        run = torch.utils.checkpoint.checkpoint
        out = run(model, tokens, use_reentrant=False) if again else model(tokens)
        out.square().sum().backward()
        results.append(model[0].weight.grad.clone())
    assert torch.equal(*results)


@pytest.mark.slow
def test_copies_and_files_keep_their_noise(tokens: Tensor) -> None:
    made = bare()
    for twin in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert torch.equal(twin(tokens), copy.deepcopy(made)(tokens))
        assert torch.equal(twin.eval()(tokens), tokens)
        assert made.handle.perturbs["before"].training


def test_bad_input() -> None:
    with pytest.raises(TypeError, match="expected anomalib's DinomalyMLP, got Linear"):
        DinomalyBottleneck.of(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="p: expected"):
        DinomalyBottleneck(4, drop=1.5)
