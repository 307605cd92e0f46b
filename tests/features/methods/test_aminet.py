"""AMI-Net: hidden tokens and jitter."""

from __future__ import annotations

import pytest
import torch

from anoaug import features


def test_the_share_of_hidden_tokens_is_uniform() -> None:
    tokens = torch.ones(400, 16, 4)
    out = features.create("aminet", seed=0)(tokens)
    counts = out.extras["hidden"].sum(1)
    # floor(16 U): 0 to 15, 25 samples each.
    assert counts.max() <= 15 and counts.min() == 0
    frequency = torch.bincount(counts.long(), minlength=16).float()
    chi = ((frequency - 25).square() / 25).sum()
    assert chi < 37.7  # 0.1 % of the chi-squared law of 15 degrees
    places = out.extras["hidden"].mean(0)
    assert places.std() < 0.05


def test_hidden_tokens_become_the_token_and_are_jittered_like_others() -> None:
    tokens = torch.randn(8, 32, 64, generator=torch.Generator().manual_seed(0))
    token = torch.nn.Parameter(torch.full((64,), 2.0))
    perturb = features.create("aminet", token=token, seed=0)
    assert dict(perturb.named_parameters())["token"] is token
    out = perturb(tokens)
    hidden = out.extras["hidden"] > 0
    start = torch.where(hidden[..., None], token.detach(), tokens)
    ratio = (out.features - start).norm(dim=-1) / start.norm(dim=-1)
    assert abs(float(ratio.mean().detach()) - 20 / 8) < 0.05
    out.features.sum().backward()
    assert token.grad is not None and token.grad.abs().sum() > 0


def test_without_jitter_the_mask_is_what_is_hidden() -> None:
    tokens = torch.randn(8, 32, 6)
    out = features.create("aminet", scale=0.0, share=0.5, seed=0)(tokens)
    assert torch.equal(out.mask, out.extras["hidden"]) and (out.mask.sum(1) == 16).all()
    assert not out.features[out.mask > 0].any()


def test_what_may_be_hidden_is_chosen_among_where() -> None:
    tokens = torch.randn(8, 32, 6)
    where = torch.zeros(8, 32)
    where[:, :10] = 1
    out = features.create("aminet", share=0.5, seed=0)(tokens, where=where)
    assert (out.extras["hidden"].sum(1) == 5).all() and not out.extras["hidden"][:, 10:].any()


def test_a_token_of_other_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"token: expected shape \[6\]"):
        features.create("aminet", token=torch.zeros(5))(torch.zeros(2, 3, 6))
