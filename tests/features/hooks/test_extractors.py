"""Feature extractors as torchvision, timm and detectors build them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anoaug import features

from .nets import ResNet, ViT, images, masks, noise


def optional(name: str) -> Any:
    """A package that may be absent, or built for another torch."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{name}: {error}")


class Stages(nn.ModuleDict):
    """What torchvision's IntermediateLayerGetter and timm's feature networks rewrite models to."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        last = max(list(dict(model.named_children())).index(name) for name in names)
        super().__init__(dict(list(model.named_children())[: last + 1]))
        self.names = list(names)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = {}
        for name, module in self.items():
            x = module(x)
            if name in self.names:
                found[name] = x
        return found


class Collector(nn.Module):
    """What SimpleNet's aggregator and timm's FeatureHookNet do: hooks that take features out."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.found = model, {}
        for name in names:
            model.get_submodule(name).register_forward_hook(self._keeper(name))

    def _keeper(self, name: str) -> Any:
        def keep(module: nn.Module, args: Any, output: Tensor) -> None:
            self.found[name] = output

        return keep

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.found.clear()
        self.model(x)
        return dict(self.found)


@pytest.mark.slow
@pytest.mark.parametrize("build", [Stages, Collector])
def test_extractors_return_anomalies(build: Any) -> None:
    extractor = build(ResNet(), ["layer2", "layer3"]).eval().requires_grad_(False)
    clean = {name: one.clone() for name, one in extractor(images()).items()}
    target = "layer2" if build is Stages else "model.layer2"
    with features.attach(extractor, target, noise()) as handle:
        handle.context.set(where=masks())
        found = extractor(images())
    assert torch.equal(handle.context.clean, clean["layer2"])
    inside = handle.context.mask.bool()
    assert torch.equal((found["layer2"] != clean["layer2"]).any(1, keepdim=True), inside)
    # The anomaly goes on to the next stage, as it would in the image.
    assert not torch.equal(found["layer3"][0], clean["layer3"][0])
    assert torch.equal(found["layer3"][1], clean["layer3"][1])


@pytest.mark.slow
def test_what_an_extractor_returns_can_be_perturbed() -> None:
    extractor = Stages(ResNet(), ["layer2", "layer3"])
    clean = extractor(images())
    with features.attach(extractor, extractor, noise(), element="layer3"):
        found = extractor(images())
    assert torch.equal(found["layer2"], clean["layer2"])
    assert not torch.equal(found["layer3"], clean["layer3"])


@pytest.mark.slow
def test_a_sequential() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3))
    handle = features.attach(net, ["0", "2"], noise())
    found = net(images())
    assert found is handle.context.batch["2"].features
    assert handle.context.batch["0"].clean.shape == (2, 4, 14, 14)


@pytest.mark.slow
def test_transformer_blocks() -> None:
    net = ViT()
    clean = net.forward_features(images())
    with features.attach(net, "blocks.1", noise(prefix=2)) as handle:
        handle.context.set(where=masks())
        found = net.forward_features(images())
    made = handle.context.batch["blocks.1"]
    assert made.features.shape == (2, 18, 12) and made.mask.shape == (2, 16)
    assert torch.equal(made.features[:, :2], made.clean[:, :2])
    changed = (made.features[:, 2:] != made.clean[:, 2:]).any(2)
    assert torch.equal(changed, made.mask.bool())
    assert not torch.equal(found[0], clean[0]) and torch.equal(found[1], clean[1])


class Leaves(torch.fx.Tracer):
    """Blocks are taken apart, layers are not: as torchvision's extractor traces."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return not list(module.children())


def fx_extractor(model: nn.Module) -> torch.fx.GraphModule:
    return torch.fx.GraphModule(model, Leaves().trace(model))


@pytest.mark.slow
def test_leaves_of_an_fx_graph_are_reached_and_containers_refused() -> None:
    net = ResNet()
    graph = fx_extractor(net)
    clean = graph(images())
    with pytest.raises(ValueError, match=r"taken apart.*attach to 'layer3.0.\w+'"):
        features.attach(graph, "layer3", noise())
    with features.attach(graph, "layer3.0.conv2", noise()) as handle:
        assert not torch.equal(graph(images()), clean)
    assert handle.context.mask.all()
    with features.attach(graph, "", noise(layout="rows")):
        assert not torch.equal(graph(images()), clean)
    inside = nn.Sequential(graph)
    with pytest.raises(ValueError, match=r"attach to '0.layer3.0.\w+'"):
        features.attach(inside, "0.layer3", noise())


@pytest.mark.slow
def test_torchvisions_extractor() -> None:
    extraction: Any = optional("torchvision.models.feature_extraction")
    models: Any = optional("torchvision.models")
    net = models.resnet18(weights=None)
    graph = extraction.create_feature_extractor(net, ["layer2", "layer3"]).eval()
    x = torch.randn(1, 3, 64, 64)
    clean = graph(x)
    with pytest.raises(ValueError, match="taken apart"):
        features.attach(graph, "layer2", noise())
    with features.attach(graph, "layer2.1.bn2", noise()):
        assert not torch.equal(graph(x)["layer2"], clean["layer2"])
    with features.attach(graph, graph, noise(), element="layer2"):
        found = graph(x)
    assert not torch.equal(found["layer2"], clean["layer2"])
    assert torch.equal(found["layer3"], clean["layer3"])
    features.attach(net, "layer2", noise())
    with pytest.raises(RuntimeError, match="expected a model that runs"):
        extraction.create_feature_extractor(net, ["layer3"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224"])
def test_timms_feature_networks(name: str) -> None:
    timm: Any = optional("timm")
    net = timm.create_model(name, pretrained=False, features_only=True, out_indices=(1, 2)).eval()
    x = torch.randn(1, 3, 224, 224)
    clean = net(x)
    resnet = name == "resnet18"
    target, layout = ("layer1", None) if resnet else ("layers_1", "nhwc")
    with features.attach(net, target, noise(layout=layout)) as handle:
        mask = torch.zeros(1, 1, 224, 224)
        mask[..., :112, :] = 1
        handle.context.set(where=mask)
        found = net(x)
    changed = (found[0] != clean[0]).any(1 if resnet else 3)
    assert changed[:, : changed.shape[1] // 2].all()
    assert not changed[:, changed.shape[1] // 2 :].any()


@pytest.mark.slow
def test_timms_hook_network() -> None:
    timm: Any = optional("timm")
    net = timm.create_model(
        "resnet18", pretrained=False, features_only=True, feature_cls="hook", out_indices=(2,)
    ).eval()
    x = torch.randn(1, 3, 64, 64)
    (clean,) = net(x)
    with features.attach(net, "body.layer2", noise()) as handle:
        (found,) = net(x)
    assert torch.equal(handle.context.clean, clean)
    assert torch.equal(handle.context.batch["body.layer2"].features, found)


@pytest.mark.slow
def test_timms_transformer() -> None:
    timm: Any = optional("timm")
    net = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=64).eval()
    x = torch.randn(2, 3, 64, 64)
    with pytest.raises(ValueError, match="layer 'blocks.5': expected prefix=1"):
        features.attach(net, "blocks.5", noise())
        net(x)
    features.attached(net)[0].remove()
    with features.attach(net, "blocks.5", noise(prefix=1)) as handle:
        handle.context.set(where=torch.ones(2, 1, 64, 64))
        net.forward_intermediates(x)
    made = handle.context.batch["blocks.5"]
    assert made.features.shape == (2, 17, 192) and made.mask.shape == (2, 16)
    assert torch.equal(made.features[:, 0], made.clean[:, 0])
