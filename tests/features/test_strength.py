"""One of four units, and the warning of presets on features of another scale."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch

from anoaug import features
from anoaug.features.methods.generalad import DINOV2
from anoaug.features.methods.simplenet import WIDE_RESNET
from anoaug.features.strength import FAR, Tuned


def scaled(size: float) -> torch.Tensor:
    return torch.randn(2, 8, 64, generator=torch.Generator().manual_seed(0)) * size


# sigma 0.015 at 6 % of a feature's length: the paper's features have a size of 0.25.
@pytest.mark.parametrize("size", [0.25 * 10, 0.25 / 10])
def test_a_preset_warns_once_of_another_scale(size: float) -> None:
    perturb = features.create("simplenet", seed=0)
    with pytest.warns(UserWarning, match=f"simplenet: sigma=0.015 .* sigma={0.06 * size:.2g}"):
        perturb(scaled(size))
    twin = copy.deepcopy(perturb)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        perturb(scaled(size))
        twin(scaled(size))


@pytest.mark.parametrize("keywords", [{"sigma": 0.015}, {"ratio": 0.06}, {"radius": 1.0}])
def test_a_strength_of_ones_own_is_not_judged(keywords: dict[str, float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features.create("simplenet", seed=0, **keywords)(scaled(100.0))


@pytest.mark.parametrize("size", [0.25 * 7, 0.25, 0.25 / 7])
def test_near_scales_pass(size: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features.create("simplenet", seed=0)(scaled(size))


def test_the_papers_own_features_pass() -> None:
    """As they come by their construction: a LayerNorm's tokens, a Xavier adaptor's outputs."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.nn.functional.layer_norm(torch.randn(1, 16, 1024, generator=generator), [1024])
    assert DINOV2.ratio * float(tokens.norm(dim=2).mean()) == pytest.approx(8.0, rel=0.01)
    pooled = torch.rand(1, 64, 1536, generator=generator) * 0.25 * 3**0.5
    weight = torch.empty(1536, 1536)
    torch.nn.init.xavier_normal_(weight, generator=generator)
    adapted = pooled @ weight.T
    size = WIDE_RESNET.sigma / WIDE_RESNET.ratio
    assert float(adapted.square().mean().sqrt()) == pytest.approx(size, rel=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features.create("generalad", seed=0)(tokens)
        features.create("simplenet", seed=0)(adapted)


def test_a_preset_for_one_backbone_is_not_for_the_other() -> None:
    """Features that would need the other's sigma for the same share of their length."""
    for name, size in (("simplenet", 0.25 * 0.25 / 0.015), ("generalad", 0.015 / 0.25)):
        with pytest.warns(UserWarning, match=f"{name}: sigma="):
            features.create(name, seed=0)(scaled(size))


def test_nothing_is_said_of_nothing() -> None:
    tuned = Tuned(0.1, 0.1, "these")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tuned.warn_if_far("m", torch.zeros(1, 2, 3))
        features.create("simplenet", seed=0)(torch.zeros(0, 4, 2, 2))
        tuned.warn_if_far("m", torch.ones(1, 2, 3) * FAR * 0.99)


@pytest.mark.slow
def test_a_compiled_call_does_not_look() -> None:
    perturb = features.create("simplenet", seed=0)
    compiled = torch.compile(perturb, fullgraph=True, backend="aot_eager")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        compiled(scaled(100.0), index=torch.tensor([0, 1]), epoch=0)
