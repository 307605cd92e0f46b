"""GeneralAD: its branches, what each needs, what it labels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from anoaug import features
from anoaug.features import functional

NUMBER = {"index": [4, 9, 2], "epoch": 1}
MODES = ("random", "attn", "copy_out", "shuffle", "randshuffle", "all")


@pytest.fixture
def tokens() -> Tensor:
    return torch.randn(3, 10, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def attention() -> Tensor:
    return torch.rand(3, 10, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_is_its_op(mode: str, tokens: Tensor, attention: Tensor) -> None:
    out = features.create("generalad", mode=mode, seed=3)(tokens, saliency=attention, **NUMBER)
    rng = features.keys(3, torch.tensor([4, 9, 2]), epoch=1, stream="features.generalad")
    saliency = attention if mode in ("attn", "copy_out", "shuffle") else None
    if mode == "all":
        moved, mask = functional.gaussian_noise(tokens, None, rng, sigma=0.25)
    elif mode in ("random", "attn"):
        moved, mask = functional.patch_noise(tokens, None, rng, sigma=0.25, saliency=saliency)
    elif mode == "copy_out":
        moved, mask = functional.patch_copy(tokens, None, rng, saliency=saliency)
    else:
        moved, mask = functional.patch_shuffle(tokens, None, rng, saliency=saliency)
    assert torch.equal(out.features, moved) and torch.equal(out.mask, mask)
    assert out.label.tolist() == [1, 1, 1]


@pytest.mark.parametrize("mode", ["attn", "copy_out", "shuffle"])
def test_attention_is_asked_for(mode: str, tokens: Tensor) -> None:
    with pytest.raises(ValueError, match=f"saliency: expected .* mode='{mode}', got none"):
        features.create("generalad", mode=mode)(tokens)


def test_another_strength_is_one(tokens: Tensor) -> None:
    noise = torch.randn(tokens.shape)
    out = features.create("generalad", mode="all", ratio=0.5, seed=0)(tokens, noise=noise)
    step = noise * tokens.norm(dim=2, keepdim=True) * 0.5 / 6**0.5
    torch.testing.assert_close(out.features, tokens + step)


def test_it_warns_of_features_unlike_the_papers(tokens: Tensor) -> None:
    with pytest.warns(UserWarning, match="generalad: sigma=0.25 is tuned to .* DINOv2"):
        features.create("generalad", seed=0)(1000 * tokens)


@pytest.mark.slow
def test_attention_goes_through_a_hook(tokens: Tensor, attention: Tensor) -> None:
    net = nn.Sequential(nn.Identity())
    handle = features.attach(net, "0", features.create("generalad", mode="attn", seed=3))
    handle.context.set(saliency=attention, **NUMBER)
    found = net(tokens)
    expected = features.create("generalad", mode="attn", seed=3)(
        tokens, saliency=attention, **NUMBER
    )
    assert torch.equal(found, expected.features)
