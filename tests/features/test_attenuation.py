"""Easy positions get a share of their gradient; values stay."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anoaug import features


def pair(layout: str = "nchw") -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    made, wanted = torch.randn(2, 2, 6, 5, 4, generator=draw)
    if layout == "tokens":
        made, wanted = (one.flatten(2).transpose(1, 2).contiguous() for one in (made, wanted))
    return made.requires_grad_(), wanted


@pytest.mark.parametrize("layout", ["nchw", "tokens"])
def test_the_hardest_keep_their_gradient(layout: str) -> None:
    made, wanted = pair(layout)
    out = features.GradientAttenuator(ramp=0)(made, wanted)
    assert torch.equal(out, made)
    out.sum().backward()
    channel = 1 if layout == "nchw" else 2
    distance = 1 - torch.cosine_similarity(made.detach(), wanted, dim=channel)
    hard = distance >= distance.flatten().topk(4).values[-1]  # a tenth of 40
    expected = torch.where(hard, 1.0, 0.1).unsqueeze(channel).expand_as(made)
    assert made.grad is not None
    torch.testing.assert_close(made.grad, expected)


def test_the_share_rises_with_training() -> None:
    attenuator = features.GradientAttenuator(share=0.8, factor=0.0, ramp=4)
    found = []
    for _ in range(6):
        made, wanted = pair()
        attenuator(made, wanted).sum().backward()
        assert made.grad is not None
        found.append(int(made.grad[:, 0].sum()))
    assert found == [40, 32, 24, 16, 8, 8]
    again = features.GradientAttenuator(share=0.8, factor=0.0, ramp=4)
    again.load_state_dict(attenuator.state_dict())
    assert int(again.step) == 6


def test_eval_mode_and_prefix_tokens_are_left_alone() -> None:
    made, wanted = pair("tokens")
    assert features.GradientAttenuator(ramp=0).eval()(made, wanted) is made
    features.GradientAttenuator(ramp=0, factor=0.0)(made, wanted, prefix=3).sum().backward()
    assert made.grad is not None and (made.grad[:, :3] == 1).all()
    assert int(made.grad[:, 3:, 0].sum()) == 3  # a tenth of 34


def test_bad_input() -> None:
    made, wanted = pair()
    with pytest.raises(ValueError, match="share: expected a number below 1"):
        features.GradientAttenuator(share=1.0)
    with pytest.raises(ValueError, match="ramp: expected a whole number"):
        features.GradientAttenuator(ramp=-1)
    with pytest.raises(ValueError, match="wanted: expected shape"):
        features.GradientAttenuator()(made, wanted[:1])
