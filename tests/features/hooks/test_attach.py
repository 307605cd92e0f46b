"""Perturbations on layers: which ones, when they work, what they return."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from anoaug import features
from anoaug.features import Perturbation

from .nets import Block, Pair, ResNet, Several, ViT, images, masks, noise

NUMBER = {"index": [3, 8], "epoch": 1}


@pytest.fixture
def net() -> ResNet:
    return ResNet()


def output_of(net: nn.Module, name: str, x: Tensor) -> Tensor:
    """What a layer returns without hooks, before anything overwrites it."""
    found: list[Tensor] = []
    hook = net.get_submodule(name).register_forward_hook(
        lambda module, args, output: found.append(output.clone())
    )
    net(x)
    hook.remove()
    return found[0]


@pytest.mark.slow
def test_a_layer_gets_what_a_call_gives(net: ResNet) -> None:
    clean = output_of(net, "layer2", images())
    with features.attach(net, "layer2", noise()) as handle:
        handle.context.set(**NUMBER)
        found = net(images())
    expected = noise()(clean, **NUMBER)
    made = handle.context.batch["layer2"]
    torch.testing.assert_close(made.features, expected.features, rtol=0, atol=0)
    assert torch.equal(made.clean, clean) and torch.equal(handle.context.clean, clean)
    assert torch.equal(handle.context.mask, expected.mask)
    assert torch.equal(handle.context.label, torch.ones(2, dtype=torch.int64))
    rest = net.fc(net.avgpool(torch.tanh(net.layer3(expected.features))).flatten(1))
    assert torch.equal(found, rest)


@pytest.mark.slow
def test_clean_features_survive_an_activation_in_place(net: ResNet) -> None:
    """Block's first convolution is followed by a ReLU that overwrites its output."""
    clean = output_of(net, "layer1.0.conv1", images())
    assert (clean < 0).any()
    with features.attach(net, "layer1.0.conv1", noise()) as handle:
        expected = net(images())
        assert torch.equal(handle.context.clean, clean)
        handle.perturbs["layer1.0.conv1"].eval()
        assert not torch.equal(net(images()), expected)
    assert torch.equal(handle.context.clean, clean)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("layer2", ["layer2"]),
        ("layer[23]", ["layer2", "layer3"]),
        ("layer*", ["layer1", "layer2", "layer3"]),
        ("layer*.0.conv?", [f"layer{n}.0.conv{k}" for n in (1, 2, 3) for k in (1, 2)]),
        (["layer3", "layer1"], ["layer1", "layer3"]),
        (["layer1", "layer*"], ["layer1", "layer2", "layer3"]),
    ],
)
def test_targets(net: ResNet, target: object, expected: list[str]) -> None:
    handle = features.attach(net, target, noise())
    assert list(handle.perturbs) == expected
    net(images())
    assert list(handle.context.batch) == expected


@pytest.mark.slow
def test_modules_are_targets(net: ResNet) -> None:
    handle = features.attach(net, [net.layer3, net.layer2[1]], noise())
    assert list(handle.perturbs) == ["layer2.1", "layer3"]
    assert list(features.attach(net, net, noise(layout="rows")).perturbs) == [""]


@pytest.mark.slow
def test_a_dict_gives_each_layer_its_own(net: ResNet) -> None:
    weak, strong = noise(sigma=0.0), noise()
    handle = features.attach(net, {"layer3": strong, "layer1": weak})
    assert list(handle.perturbs.items()) == [("layer1", weak), ("layer3", strong)]
    net(images())
    batch = handle.context.batch
    assert torch.equal(batch["layer1"].features, batch["layer1"].clean)
    assert not torch.equal(batch["layer3"].features, batch["layer3"].clean)


@pytest.mark.slow
@pytest.mark.parametrize("targets", [{"*": noise()}, {"0": noise(), "1": noise()}])
def test_layers_whose_perturbations_draw_alike_draw_on_their_own(
    targets: dict[str, Perturbation],
) -> None:
    net = nn.Sequential(nn.Identity(), nn.Identity())
    with features.attach(net, targets) as handle:
        handle.context.set(**NUMBER)
        net(images())
    first, second = handle.context.batch.values()
    assert not torch.allclose(first.features - first.clean, second.features - second.clean)


@pytest.mark.slow
def test_a_later_attachment_draws_on_its_own() -> None:
    net = nn.Sequential(nn.Identity(), nn.Identity())
    one = features.attach(net, "0", noise())
    with one, features.attach(net, "1", noise()) as other:
        one.context.set(**NUMBER)
        other.context.set(**NUMBER)
        net(images())
        first, second = one.context.batch["0"], other.context.batch["1"]
        expected = noise()(first.clean, **NUMBER)
    assert torch.equal(first.features, expected.features)
    assert not torch.allclose(first.features - first.clean, second.features - second.clean)


@pytest.mark.slow
def test_the_perturbations_mode_counts_and_not_the_models(net: ResNet) -> None:
    expected = net(images())
    perturb = noise()
    handle = features.attach(net.eval().requires_grad_(False), "layer3", perturb)
    with torch.no_grad():
        assert not torch.equal(net(images()), expected)
    assert handle.context.mask.all()
    perturb.eval()
    net.train()
    assert torch.equal(net(images()), expected)
    assert not handle.context.mask.any() and not handle.context.label.any()
    assert perturb not in set(net.modules())


@pytest.mark.slow
def test_disable_and_remove(net: ResNet) -> None:
    expected = net(images())
    handle = features.attach(net, ["layer2", "layer3"], noise())
    handle.disable()
    assert torch.equal(net(images()), expected) and handle.context.batch == {}
    handle.enable()
    assert not torch.equal(net(images()), expected)
    other = features.attach(net, "layer1", noise())
    other.disable()
    handle.remove()
    assert torch.equal(net(images()), expected)
    assert [list(one.perturbs) for one in features.attached(net)] == [["layer1"]]
    other.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.slow
def test_a_pass_draws_anew_unless_told_its_index(net: ResNet) -> None:
    handle = features.attach(net, "layer3", noise())
    assert not torch.equal(net(images()), net(images()))
    handle.context.set(**NUMBER)
    first = net(images())
    handle.context.set(**NUMBER)
    assert torch.equal(net(images()), first)


@pytest.mark.slow
def test_passes_are_numbered_from_the_seed(net: ResNet) -> None:
    twin = ResNet()
    for one in (net, twin):
        features.attach(one, "layer3", noise())
    for _ in range(2):
        assert torch.equal(net(images()), twin(images()))


@pytest.mark.slow
def test_methods_of_the_model_are_passes_too() -> None:
    net = ViT()
    handle = features.attach(net, "blocks.1", noise(prefix=2))
    first = net.forward_features(images())
    assert not torch.equal(net.forward_features(images()), first)
    handle.context.set(where=masks(), **NUMBER)
    net.forward_features(images())
    with pytest.raises(RuntimeError, match="expected set"):
        net.forward_features(images())


@pytest.mark.slow
def test_a_layer_called_twice_in_a_pass_gets_the_same() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.inner(x), self.inner(x)

    net = Twice()
    features.attach(net, "inner", noise())
    first, second = net(images())
    assert torch.equal(first, second)
    assert not torch.equal(net(images())[0], first)


@pytest.mark.slow
@pytest.mark.parametrize(("target", "element"), [("pair", 0), ("named", "1")])
def test_one_of_several_outputs(target: str, element: object) -> None:
    net = Several()
    pair, named = net(images())
    handle = features.attach(net, target, noise(), element=element)
    found_pair, found_named = net(images())
    assert type(found_pair) is tuple and type(found_named) is dict and found_pair[1] is None
    assert torch.equal(found_pair[0], pair[0]) == (target == "named")
    assert torch.equal(found_named["1"], named["1"]) == (target == "pair")
    assert torch.equal(found_named["0"], named["0"])
    assert torch.equal(handle.context.clean, pair[0] if target == "pair" else named["1"])


@pytest.mark.slow
def test_hooks_that_collect_see_anomalies(net: ResNet) -> None:
    seen: list[Tensor] = []
    net.layer2.register_forward_hook(lambda module, args, output: seen.append(output))
    handle = features.attach(net, "layer2", noise())
    net(images())
    assert seen[0] is handle.context.batch["layer2"].features
    handle.remove()
    late = features.attach(net, "layer2", noise(), prepend=False)
    net(images())
    assert torch.equal(seen[1], late.context.clean)


@pytest.mark.slow
def test_channels_last_and_autocast(net: ResNet) -> None:
    handle = features.attach(net, "layer2", noise())
    x = images().contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        net.to(memory_format=torch.channels_last)(x)
    made = handle.context.batch["layer2"]
    assert made.features.dtype == made.clean.dtype == torch.bfloat16
    assert made.features.is_contiguous(memory_format=torch.channels_last)
    handle.perturbs["layer2"].load_state_dict(noise().state_dict())
    # Float32 inside, rounded once: what the same noise gives on float32 features.
    wide = noise()(made.clean.float()).features
    assert torch.equal(made.features, wide.bfloat16())


@pytest.mark.slow
def test_gradients_flow_through(net: ResNet) -> None:
    features.attach(net, "layer3", noise())
    net(images()).sum().backward()
    assert net.conv1.weight.grad is not None and net.conv1.weight.grad.any()


@pytest.mark.slow
def test_more_rows_than_a_layer_has_are_refused(net: ResNet) -> None:
    class Twofold(features.Perturbation):
        def perturb(self, site):  # type: ignore[no-untyped-def]
            from anoaug.features.perturbation import Perturbed, everywhere

            return Perturbed(site.features.repeat(2, 1, 1), everywhere(site).repeat(2, 1))

    handle = features.attach(net, "layer3", Twofold())
    with pytest.raises(ValueError, match=r"layer 'layer3': expected as many rows .* grow=True"):
        net(images())
    handle.remove()
    features.attach(net, "layer3", Twofold(), grow=True)
    assert len(net(images())) == 4


@pytest.mark.parametrize(
    ("target", "error", "match"),
    [
        ("layer4", ValueError, r"no layer is called 'layer4'; did you mean layer3 or"),
        ("encoder.*", ValueError, r"called 'encoder.\*'; it has conv1, relu, layer1"),
        (Block(3, 3, 1), ValueError, "a module of the model"),
        (3, TypeError, "name, pattern or module, got int"),
        ([3], TypeError, "name, pattern or module, got int"),
        ([], ValueError, "at least one layer"),
        ({}, ValueError, "at least one layer"),
    ],
)
def test_bad_targets(net: ResNet, target: object, error: type[Exception], match: str) -> None:
    perturb = None if target == {} else noise()
    with pytest.raises(error, match=match):
        features.attach(net, target, perturb)
    assert features.attached(net) == []


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated")
def test_bad_arguments(net: ResNet) -> None:
    with pytest.raises(TypeError, match="expected a module, got str"):
        features.attach("layer3", net, noise())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a perturbation .* got function"):
        features.attach(net, "layer3", lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="in the dict alone"):
        features.attach(net, {"layer3": noise()}, noise())
    with pytest.raises(ValueError, match="two for 'layer3'"):
        features.attach(net, {"layer3": noise(), "layer[3]": noise()})
    with pytest.raises(ValueError, match="rule: expected one of"):
        features.attach(net, "layer3", noise(), rule="mean")
    with pytest.raises(TypeError, match="one model per process"):
        features.attach(nn.DataParallel(net), "layer3", noise())
    scripted = torch.jit.script(nn.Sequential(nn.ReLU()))
    with pytest.raises(ValueError, match="before torch.jit.script"):
        features.attach(scripted, "0", noise())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "keywords", "error", "match"),
    [
        ("pair", {}, TypeError, r"layer 'pair': expected a tensor, got tuple with 2 elements"),
        ("named", {}, TypeError, r"layer 'named': .* entries '0', '1'; pass element="),
        ("named", {"element": "2"}, ValueError, "layer 'named': element: .* got '2'"),
        ("pair", {"element": 1}, TypeError, "layer 'pair': .* to name a tensor .* got NoneType"),
    ],
)
def test_outputs_that_are_no_features(
    target: str, keywords: dict[str, object], error: type[Exception], match: str
) -> None:
    net = Several()
    features.attach(net, target, noise(), **keywords)  # type: ignore[arg-type]
    with pytest.raises(error, match=match):
        net(images())


@pytest.mark.slow
def test_a_layout_that_does_not_fit_names_the_layer(net: ResNet) -> None:
    features.attach(net, "layer3", noise(layout="tokens"))
    with pytest.raises(ValueError, match=r"layer 'layer3': features: expected rank 3"):
        net(images())


@pytest.mark.slow
def test_a_transformer_knows_its_prefix_tokens() -> None:
    net = ViT()
    features.attach(net, "blocks.0", noise())
    with pytest.raises(ValueError, match=r"layer 'blocks.0': expected prefix=2"):
        net(images())


@pytest.mark.slow
def test_a_layer_that_is_never_called_is_told(net: ResNet) -> None:
    net.spare = Pair()
    handle = features.attach(net, ["layer3", "spare"], noise())
    with pytest.raises(RuntimeError, match="expected spare to be called in every pass"):
        net(images())
    handle.remove()
    features.attach(net, ["layer3", "spare"], noise(), missing="ignore")
    net(images())


@pytest.mark.slow
def test_features_of_inference_mode_are_refused(net: ResNet) -> None:
    perturb = noise()
    features.attach(net, "layer3", perturb)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="outside inference_mode"):
        net(images())
    perturb.eval()
    with torch.inference_mode():
        net(images())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated")
def test_programs_made_of_the_model_are_refused(net: ResNet) -> None:
    perturb = noise()
    features.attach(net, "layer3", perturb)
    with pytest.raises(RuntimeError, match="layer 'layer3': expected a model that runs"):
        torch.fx.symbolic_trace(net)
    with pytest.raises(RuntimeError, match="layer 'layer3': expected a model that runs"):
        torch.jit.trace(net, images())
    perturb.eval()
    graph = torch.fx.symbolic_trace(net)
    assert torch.equal(graph(images()), net(images()))
