"""Models with hooks are copied, averaged, pickled and read back."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from anoaug import features

from .nets import ResNet, images, noise


@pytest.fixture
def net() -> ResNet:
    return ResNet()


def by_file(net: nn.Module) -> Any:
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net)), by_file],
    ids=["deepcopy", "pickle", "save"],
)
def test_a_copy_goes_its_own_way(net: ResNet, duplicate: Any) -> None:
    handle = features.attach(net, ["layer2", "layer3"], noise())
    handle.context.set(index=[0, 1], epoch=0)
    net(images())  # its results hang on an autograd graph, which no copy can hold
    handle.context.clear()
    twin = duplicate(net)
    (other,) = features.attached(twin)
    assert list(other.perturbs) == ["layer2", "layer3"]
    assert other.perturbs["layer2"] is other.perturbs["layer3"]
    assert torch.equal(twin(images()), net(images()))
    assert handle.context is not other.context
    other.disable()
    assert torch.equal(twin(images()), ResNet()(images()))
    assert not torch.equal(net(images()), ResNet()(images()))
    other.remove()
    assert features.attached(twin) == [] and len(features.attached(net)) == 1


@pytest.mark.slow
def test_an_averaged_teacher_can_be_left_alone(net: ResNet) -> None:
    handle = features.attach(net, "layer3", noise(), copies="disabled")
    teacher = AveragedModel(net)
    assert torch.equal(teacher(images()), ResNet()(images()))
    assert not torch.equal(net(images()), ResNet()(images()))
    (other,) = features.attached(teacher)
    assert handle.enabled and not other.enabled
    other.enable()
    assert not torch.equal(teacher(images()), ResNet()(images()))
    assert features.attached(pickle.loads(pickle.dumps(net)))[0].enabled


@pytest.mark.slow
def test_a_part_is_copied_without_the_whole(net: ResNet) -> None:
    features.attach(net, "layer3", noise())
    part = copy.deepcopy(net.layer3)
    x = torch.randn(2, 12, 4, 4)
    assert not torch.equal(part(x), part(x))
    assert len(pickle.dumps(part)) < len(pickle.dumps(net)) / 2


@pytest.mark.slow
def test_later_hooks_of_a_new_process_take_no_place(net: ResNet, tmp_path: Path) -> None:
    """Hooks are numbered from 0 in every process."""
    features.attach(net, "layer3", noise())
    torch.save(net, tmp_path / "net.pt")
    program = """
import sys, torch
from anoaug import features
net = torch.load(sys.argv[1], weights_only=False)
for _ in range(200):
    net.layer3.register_forward_hook(lambda *_: None)
    net.register_forward_hook(lambda *_: None)
    net.register_forward_pre_hook(lambda *_: None)
x = torch.zeros(1, 3, 16, 16)
assert not torch.equal(net(x), net(x))
"""
    root = Path(features.__file__).parents[2]
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "net.pt")], check=True, cwd=root)


def test_state_of_the_model_knows_nothing_of_it(net: ResNet) -> None:
    before = list(net.state_dict())
    features.attach(net, "layer3", noise())
    assert list(net.state_dict()) == before


@pytest.mark.slow
def test_a_run_is_resumed(net: ResNet) -> None:
    perturb = noise()
    features.attach(net, ["layer2", "layer3"], perturb)
    net(images())
    state = copy.deepcopy(perturb.state_dict())
    expected = net(images())
    other = noise(seed=5)
    again = ResNet()
    features.attach(again, ["layer2", "layer3"], other)
    other.load_state_dict(state)
    assert torch.equal(again(images()), expected)
