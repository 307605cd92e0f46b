"""Hooks under torch.compile: attached before, the same as without; after, refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anoaug import features

from .nets import ResNet, Shift, images, masks, noise

dynamo: Any = pytest.importorskip("torch._dynamo")
LAYERS = ["layer2", "layer3"]

pytestmark = pytest.mark.filterwarnings("ignore:.*is_compiling.*")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Detector(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.backbone(x)


def pair(outer: bool, backend: str = "aot_eager") -> tuple[Any, Any, Any, Any]:
    """A compiled model with its handle, and its copy without compilation."""
    net = ResNet()
    handle = features.attach(net, LAYERS, Shift(seed=0))
    model = Detector(net) if outer else net
    twin = copy.deepcopy(model)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    return compiled, handle, twin, features.attached(twin)[0]


@pytest.mark.slow
@pytest.mark.parametrize("outer", [False, True], ids=["model", "inside"])
def test_a_full_graph_gives_the_same(outer: bool) -> None:
    compiled, handle, twin, other = pair(outer)
    for _ in range(4):
        assert torch.equal(compiled(images()), twin(images()))
        assert torch.equal(handle.context.label, other.context.label)
    assert not torch.equal(compiled(images()), compiled(images()))
    for n in range(4):
        for one in (handle, other):
            one.context.set(where=masks(n), index=torch.tensor([n, 9]), epoch=n)
        torch.testing.assert_close(compiled(images(n)), twin(images(n)), rtol=0, atol=0)
        for name in LAYERS:
            found, expected = handle.context.batch[name], other.context.batch[name]
            assert torch.equal(found.mask, expected.mask)
            assert torch.equal(found.clean, expected.clean)


@pytest.mark.slow
def test_new_steps_compile_nothing_new() -> None:
    compiled, handle, _, _ = pair(outer=True)
    for n in range(3):
        handle.context.set(where=masks(n), index=torch.tensor([n, 9]), epoch=n)
        compiled(images())
    with dynamo.config.patch(error_on_recompile=True):
        for n in range(3, 6):
            handle.context.set(where=masks(n), index=torch.tensor([n, 9]), epoch=n)
            compiled(images())


@pytest.mark.slow
def test_noise_by_inductor() -> None:
    net = ResNet()
    features.attach(net, LAYERS, noise())
    twin = copy.deepcopy(net)
    compiled = torch.compile(net, fullgraph=True)
    for n in range(3):
        torch.testing.assert_close(compiled(images(n)), twin(images(n)))


@pytest.mark.slow
def test_gradients_are_the_same() -> None:
    compiled, _, twin, _ = pair(outer=False)
    found, expected = compiled(images()), twin(images())
    found.sum().backward()
    expected.sum().backward()
    for one, other in zip(compiled.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.slow
def test_switches_are_obeyed() -> None:
    compiled, handle, _, _ = pair(outer=False, backend="eager")
    plain = ResNet()(images())
    assert not torch.equal(compiled(images()), plain)
    handle.disable()
    assert torch.equal(compiled(images()), plain)
    handle.enable()
    assert not torch.equal(compiled(images()), plain)
    handle.perturbs["layer2"].eval()
    assert torch.equal(compiled(images()), plain)
    handle.perturbs["layer2"].train()
    assert not torch.equal(compiled(images()), plain)
    handle.remove()
    assert torch.equal(compiled(images()), plain)


@pytest.mark.slow
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_compiled_layer_inside_an_eager_checkpoint(reentrant: bool) -> None:
    found = []
    for kind, wrap in ((None, False), (reentrant, True)):
        net = ResNet(kind)
        features.attach(net, LAYERS, Shift(seed=0))
        if wrap:
            net.layer3 = torch.compile(net.layer3, backend="aot_eager")
        (net(images()) + net(images(1))).sum().backward()
        found.append([one.grad for one in net.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.slow
def test_a_checkpoint_inside_a_compiled_model() -> None:
    """Dynamo does not let code within a checkpoint write to the context, unless told to."""
    net = ResNet(reentrant=False)
    handle = features.attach(net, LAYERS, Shift(seed=0))
    twin = copy.deepcopy(net)
    with dynamo.config.patch(skip_fwd_side_effects_in_bwd_under_checkpoint=True):
        compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
        found, expected = compiled(images()), twin(images())
        assert torch.equal(found, expected)
        found.sum().backward()
        expected.sum().backward()
    assert torch.equal(handle.context.label, torch.ones(2).long())
    for one, other in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.slow
def test_late_hooks_are_refused() -> None:
    net = ResNet()
    compiled = torch.compile(net, backend="eager")
    features.attach(compiled, "layer3", Shift(seed=0)).remove()  # not called yet
    compiled(images())
    for model in (compiled, net):
        with pytest.raises(RuntimeError, match=r"before the first call .* 'layer3' in a"):
            features.attach(model, "layer3", Shift(seed=0))
    features.attach(ResNet(), "layer3", Shift(seed=0))  # another model of the class
    with dynamo.config.patch(skip_nnmodule_hook_guards=False):
        features.attach(net, "layer3", Shift(seed=0)).remove()
    torch.compiler.reset()
    features.attach(net, "layer3", Shift(seed=0))


@pytest.mark.slow
def test_late_hooks_of_a_model_that_compiles_itself_are_refused() -> None:
    net = ResNet()
    net.compile(backend="eager")
    features.attach(net, "layer3", Shift(seed=0)).remove()
    net(images())
    with pytest.raises(RuntimeError, match="before the first call"):
        features.attach(net, "layer3", Shift(seed=0))


@pytest.mark.slow
def test_late_hooks_that_nobody_sees_are_told_by_the_pass() -> None:
    net = ResNet()
    net.layer2 = torch.compile(net.layer2, backend="eager")
    net(images())
    features.attach(net, "layer2._orig_mod.0.conv1", Shift(seed=0))
    with pytest.raises(RuntimeError, match="expected layer2._orig_mod.0.conv1 to be called"):
        net(images())


@pytest.mark.slow
def test_hooks_inside_a_compiled_function_are_told_by_the_context() -> None:
    net = ResNet()
    step = torch.compile(lambda x: net(x), backend="eager")
    step(images())
    handle = features.attach(net, "layer3", Shift(seed=0))
    step(images())
    with pytest.raises(RuntimeError, match="was the model compiled"):
        _ = handle.context.mask


@pytest.mark.slow
def test_an_export_is_refused() -> None:
    net = ResNet()
    handle = features.attach(net, "layer3", Shift(seed=0))
    with pytest.raises(RuntimeError, match="expected a model that runs"):
        torch.export.export(net, (images(),))
    handle.disable()
    program = torch.export.export(net, (images(),))
    torch.testing.assert_close(program.module()(images()), net(images()))
