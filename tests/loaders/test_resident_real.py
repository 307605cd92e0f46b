"""Real defects through a synthesizer in training: seen as they are, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from anoaug import (
    AnomalyLoader,
    Bank,
    DonorBank,
    Layer,
    OneOf,
    ResidentDataset,
    Synthesizer,
    masks,
    sources,
)
from tests.loaders.samples import COUNT, SIZE, make_images, make_synth


def with_a_defect() -> ResidentDataset:
    """Images of which the first has a defect in its corner."""
    truth = torch.zeros(COUNT, 1, SIZE, SIZE, dtype=torch.uint8)
    truth[0, :, :4, :4] = 1
    return ResidentDataset(Bank.from_tensors(make_images()), masks=truth)


def of_several(**options: Any) -> Synthesizer:
    return OneOf([(make_synth(**options), 1.0)], p=1.0, seed=1)


def over_black(**options: Any) -> Synthesizer:
    black = Synthesizer(Layer(masks.Everywhere(), sources.Constant(0.0)), p=1.0, seed=0)
    return make_synth(normal_transform=black, **options)


@pytest.mark.parametrize("make", [make_synth, of_several, over_black])
@pytest.mark.parametrize("active", ["train", "always"])
def test_real_test_images_are_never_painted_on(
    make: Callable[..., Synthesizer], active: str
) -> None:
    synth = make(mean=(0.5,), std=(0.25,))
    synth.active = active
    data = with_a_defect()
    (batch,) = data.batches(COUNT, synth, shuffle=False)
    assert torch.allclose(batch["image"], (make_images() / 255 - 0.5) / 0.25, atol=1e-5)
    assert batch["label"].tolist() == [1] + [0] * (COUNT - 1)
    assert data.masks is not None and torch.equal(batch["mask"], data.masks.float())


@pytest.mark.parametrize("make", [make_synth, of_several, over_black])
def test_a_pass_over_test_images_leaves_the_synthesizer_as_it_was(
    make: Callable[..., Synthesizer],
) -> None:
    synth = make()
    batches = ResidentDataset.from_tensors(make_images()).batches(COUNT, synth, epoch=7)
    (first,) = batches
    list(with_a_defect().batches(4, synth, epoch=3))
    assert synth.training and synth.active == "train" and synth.epoch == 7
    batches.set_epoch(7)
    (again,) = batches
    assert again["label"].tolist() == [1] * COUNT
    assert torch.equal(again["image"], first["image"])


def test_the_twin_of_a_test_pass_shares_the_banks() -> None:
    bank = DonorBank.from_tensors(make_images())
    synth = Synthesizer(Layer(masks.Rectangle(area=0.3), sources.Donor(bank)), seed=0)
    loader = with_a_defect().batches(4, synth)
    assert isinstance(loader, AnomalyLoader) and loader.synth is not synth
    assert loader.synth.layers[0].source.bank is bank  # type: ignore[attr-defined]
