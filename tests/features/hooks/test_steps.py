"""One draw for each forward pass: gradients under activation checkpointing."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from anoaug import features
from anoaug.features.hooks import steps

from .nets import ResNet, images, masks, noise

LAYERS = ["layer1.0.conv1", "layer2", "layer3"]

kinds = pytest.mark.parametrize("reentrant", [True, False])


def trained(net: nn.Module, passes: int, told: str, **keywords: Any) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients of several forward passes before one backward pass."""
    handle = features.attach(net, LAYERS, noise(**keywords))
    loss = torch.zeros(())
    for n in range(passes):
        if told == "masks":
            handle.context.set(where=masks(n))
        elif told == "index":
            handle.context.set(where=masks(n), index=[n, 7], epoch=n)
        loss = loss + net(images(n)).square().sum()
    loss.backward()
    return loss, [one.grad for one in net.parameters()]


@functools.cache
def without(passes: int, told: str) -> tuple[Tensor, list[Tensor]]:
    return trained(ResNet(), passes, told)


@pytest.mark.slow
@kinds
@pytest.mark.parametrize(
    ("passes", "told"), [(1, "nothing"), (3, "nothing"), (3, "masks"), (3, "index")]
)
def test_gradients_under_checkpointing_are_those_without(
    reentrant: bool, passes: int, told: str
) -> None:
    loss, expected = without(passes, told)
    found_loss, found = trained(ResNet(reentrant), passes, told)
    assert torch.equal(found_loss, loss)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
@kinds
def test_a_checkpointed_model_is_called_once(reentrant: bool) -> None:
    """Here the model itself runs again in backward, its own hooks with it."""

    class Around(nn.Module):
        def __init__(self, checkpointed: bool) -> None:
            super().__init__()
            self.net, self.checkpointed = ResNet(), checkpointed

        def forward(self, x: Tensor) -> Tensor:
            x = x.requires_grad_()
            if not self.checkpointed:
                return self.net(x)
            return checkpoint(self.net, x, use_reentrant=reentrant)

    found = []
    for checkpointed in (False, True):
        around = Around(checkpointed)
        handle = features.attach(around.net, LAYERS, noise())
        loss = around(images()) + around(images(1))
        kept = handle.context.batch["layer3"]
        loss.sum().backward()
        assert handle.context.batch["layer3"] is kept
        around(images()).sum().backward()
        found.append([one.grad for one in around.parameters()])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
@kinds
def test_a_switch_between_forward_and_backward_is_told(reentrant: bool) -> None:
    net = ResNet(reentrant)
    perturb = noise().eval()
    features.attach(net, "layer2", perturb)
    loss = net(images()).sum()
    perturb.train()
    with pytest.raises(RuntimeError, match=r"layer 'layer2': .* switch it after backward"):
        loss.backward()


@pytest.mark.slow
def test_a_pass_that_is_forgotten_is_told() -> None:
    net = ResNet(reentrant=False)
    features.attach(net, "layer2", noise())
    loss = net(images()).sum()
    for _ in range(steps.KEPT):
        net(images())
    with pytest.raises(RuntimeError, match=f"backward.. within {steps.KEPT} forward passes"):
        loss.backward()


@pytest.mark.slow
def test_a_pass_that_fails_ends() -> None:
    net = ResNet()
    features.attach(net, "layer3", noise())
    with pytest.raises(RuntimeError):
        net(torch.zeros(2, 4, 16, 16))
    assert not torch.equal(net(images()), net(images()))


@pytest.mark.slow
def test_no_global_generator_is_moved() -> None:
    net = ResNet(reentrant=False)
    features.attach(net, "layer3", noise())
    before = torch.get_rng_state()
    net(images()).sum().backward()
    assert torch.equal(torch.get_rng_state(), before)
