"""The context of a step: masks of any resolution in, masks and labels out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from anoaug import features

from .nets import ResNet, ViT, images, masks, noise


@pytest.fixture
def net() -> ResNet:
    return ResNet()


def coarse(mask: Tensor, factor: int) -> Tensor:
    return nn.functional.max_pool2d(mask.float(), factor)


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "factor"), [("layer1", 1), ("layer2", 2), ("layer3", 4)])
def test_masks_come_to_the_layers_grid(net: ResNet, layer: str, factor: int) -> None:
    handle = features.attach(net, layer, noise())
    handle.context.set(where=masks(), mask=masks(1))
    net(images())
    inside = coarse(masks(), factor)
    made = handle.context.batch[layer]
    changed = (made.features != made.clean).any(1, keepdim=True)
    assert torch.equal(changed, inside.bool())
    assert torch.equal(handle.context.mask, torch.maximum(inside, coarse(masks(1), factor)))
    assert handle.context.label.tolist() == [1, 0]


@pytest.mark.slow
@pytest.mark.parametrize("rule", [None, "maxpool", "area", "nearest", "bilinear"])
def test_the_rule_is_the_perturbations_or_ours(net: ResNet, rule: str | None) -> None:
    perturb = noise()
    perturb.mask_rule = "nearest"
    handle = features.attach(net, "layer3", perturb, rule=rule)
    handle.context.set(where=masks())
    net(images())
    expected = features.masks.resize(masks(), (4, 4), rule or "nearest")
    assert torch.equal(handle.context.mask, expected)


@pytest.mark.slow
def test_masks_on_the_grid_stay(net: ResNet) -> None:
    handle = features.attach(net, "layer3", noise())
    handle.context.set(where=coarse(masks(), 4))
    net(images())
    assert torch.equal(handle.context.mask, coarse(masks(), 4))


@pytest.mark.slow
def test_labels_of_real_defects(net: ResNet) -> None:
    handle = features.attach(net, "layer3", noise())
    nowhere = torch.zeros(2, 1, 16, 16)
    handle.context.set(label=torch.tensor([0, 1]), where=nowhere)
    net(images())
    assert handle.context.label.tolist() == [0, 1] and not handle.context.mask.any()


@pytest.mark.slow
def test_tokens_get_masks_of_images() -> None:
    net = ViT()
    handle = features.attach(net, "blocks.*", noise(prefix=2))
    handle.context.set(where=masks())
    net(images())
    for made in handle.context.batch.values():
        assert torch.equal(made.mask, coarse(masks(), 4).flatten(1))
        assert torch.equal(made.features[:, :2], made.clean[:, :2])


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, (4, 2)])
def test_a_grid_has_the_pictures_proportions(size: tuple[int, int] | None) -> None:
    net = nn.Sequential(nn.Identity())
    mask = torch.zeros(2, 1, 32, 16)
    mask[:, 0, 17, 9] = 1
    handle = features.attach(net, "0", noise(), size=size)
    handle.context.set(where=mask)
    net(torch.randn(2, 8, 5))
    expected = torch.zeros(2, 4, 2)
    expected[:, 2, 1] = 1
    assert torch.equal(handle.context.mask, expected.flatten(1))


@pytest.mark.slow
def test_rows_are_divided_among_images() -> None:
    net = nn.Sequential(nn.Flatten(0, 1))
    handle = features.attach(net, "0", noise())
    handle.context.set(where=masks(), label=torch.tensor([0, 1]))
    net(torch.randn(2, 16, 5))
    inside = coarse(masks(), 4).flatten()
    assert torch.equal(handle.context.mask, inside)
    assert torch.equal(handle.context.label, torch.where(torch.arange(32) < 16, inside.long(), 1))


@pytest.mark.slow
def test_every_pass_needs_its_own_inputs(net: ResNet) -> None:
    perturb = noise()
    handle = features.attach(net, "layer3", perturb)
    net(images())
    handle.context.set(where=masks())
    net(images())
    with pytest.raises(RuntimeError, match="expected set.* before every forward pass"):
        net(images())
    perturb.eval()
    net(images())  # needs none, and does not see the last batch's
    assert not handle.context.mask.any()
    perturb.train()
    handle.context.clear()
    net(images())
    assert handle.context.mask.all()


@pytest.mark.slow
def test_a_context_is_read_after_a_pass(net: ResNet) -> None:
    handle = features.attach(net, ["layer2", "layer3"], noise())
    for what in ("mask", "label", "clean"):
        with pytest.raises(RuntimeError, match="expected a forward pass before"):
            getattr(handle.context, what)
    net(images())
    assert handle.context.label.tolist() == [1, 1]
    for what in ("mask", "clean"):
        with pytest.raises(ValueError, match=rf"one layer, got layer2, layer3; .*\.{what}"):
            getattr(handle.context, what)
    handle.context.clear()
    assert handle.context.batch == {}


@pytest.mark.slow
def test_bad_input(net: ResNet) -> None:
    handle = features.attach(net, "layer2", noise())
    with pytest.raises(TypeError, match=r"context.mask: expected a tensor, got list"):
        handle.context.set(mask=[1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no attached perturbation takes maks=; did you mean mask"):
        handle.context.set(maks=torch.zeros(2, 1, 16, 16))
    handle.context.set(where=torch.zeros(2, 1, 4, 4))
    with pytest.raises(ValueError, match=r"layer 'layer2': where: .* 8 x 8, got 4 x 4"):
        net(images())
    handle.context.set(where=torch.zeros(3, 1, 16, 16))
    with pytest.raises(ValueError, match=r"layer 'layer2': where: expected shape \[2, 1, H, W\]"):
        net(images())
    handle.context.set(index=[0, 1])
    with pytest.raises(ValueError, match="layer 'layer2': index: expected an epoch"):
        net(images())
    handle.context.set(index=[0, 1, 2], epoch=0)
    with pytest.raises(ValueError, match="layer 'layer2': index: expected one number per sample"):
        net(images())


@pytest.mark.slow
def test_tokens_without_a_fitting_grid_are_told() -> None:
    net = nn.Sequential(nn.Identity())
    handle = features.attach(net, "0", noise())
    handle.context.set(where=masks())
    with pytest.raises(ValueError, match=r"layer '0': mask: expected a grid of 17 positions"):
        net(torch.randn(2, 17, 5))
