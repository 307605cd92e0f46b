"""UniAD: the published jitter."""

from __future__ import annotations

import torch

from anoaug import features


def test_it_is_alpha_20_on_every_token_and_leaves_the_clean_ones() -> None:
    tokens = torch.randn(4, 196, 272, generator=torch.Generator().manual_seed(0))
    out = features.create("uniad", seed=0)(tokens)
    assert out.clean is tokens and out.mask.all()
    ratio = (out.features - tokens).norm(dim=-1) / tokens.norm(dim=-1)
    assert abs(float(ratio.mean()) - 20 / 272**0.5) < 0.01


def test_one_coin_is_thrown_for_a_batch() -> None:
    tokens = torch.randn(4, 9, 8)
    perturb = features.create("uniad", p=0.5, seed=0)
    masks = [perturb(tokens).mask for _ in range(30)]
    assert all(mask.unique().numel() == 1 for mask in masks)
    assert 5 < sum(float(mask[0, 0]) for mask in masks) < 25
    untouched = next(n for n, mask in enumerate(masks) if not mask.any())
    again = features.create("uniad", p=0.5, seed=0)
    outs = [again(tokens) for _ in range(untouched + 1)]
    assert torch.equal(outs[-1].features, tokens) and not outs[-1].label.any()


def test_a_ratio_stands_for_alpha() -> None:
    tokens = torch.randn(2, 64, 1024, generator=torch.Generator().manual_seed(0))
    out = features.create("uniad", ratio=1.21, seed=0)(tokens)
    ratio = (out.features - tokens).norm(dim=-1) / tokens.norm(dim=-1)
    assert abs(float(ratio.mean()) - 1.21) < 0.01
