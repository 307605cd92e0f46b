"""Perturbation resilience against the score of a normal distribution, which is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from anoaug import features
from anoaug.features import functional


def keys(count: int = 2, stream: str = "features") -> Tensor:
    return features.keys(0, torch.arange(count), stream=stream)


def test_the_published_deviation() -> None:
    assert functional.perturbation_deviation(1e-3) == pytest.approx(0.0317, abs=1e-4)
    expected = math.sqrt((25.0**1.4 - 1) / (2 * math.log(25.0)))
    found = functional.perturbation_deviation(torch.tensor([0.7], dtype=torch.float64))
    assert float(found) == pytest.approx(expected)


def test_what_is_left_is_small_where_the_score_is_right() -> None:
    # Normal features are N(0, 1e-6), so that noise is nearly all there is to take back.
    scale = functional.perturbation_deviation(1e-3)

    def score(noisy: Tensor, times: Tensor) -> Tensor:
        assert times.shape == (2,) and times.dtype == torch.float32
        return -noisy / (scale**2 + 1e-6)

    normal = torch.randn(2, 8, 6, 5, generator=torch.Generator().manual_seed(0)) * 1e-3
    odd = normal.clone()
    odd[1, :, 2, 3] += 0.5
    moved, mask, left = functional.score_perturbation(odd, rng=keys(), score=score)
    assert left.shape == mask.shape == (2, 1, 6, 5) and mask.all()
    assert (moved - odd).std() == pytest.approx(scale, rel=0.1)
    top = left.flatten().argmax()
    assert top == 1 * 30 + 2 * 5 + 3
    assert left.flatten()[top] > 50 * left.flatten().sort().values[-2]


def test_the_formula_by_given_noise() -> None:
    values = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    where = torch.arange(10).reshape(2, 5) % 3 > 0
    scale = functional.perturbation_deviation(0.1)
    moved, mask, left = functional.score_perturbation(
        values, where, score=lambda x, t: x.sin(), time=0.1, noise=noise
    )
    step = noise * scale * where[..., None]
    torch.testing.assert_close(moved, values + step)
    expected = ((moved.sin() * scale**2 + step) ** 2).mean(-1) * where
    torch.testing.assert_close(left.double(), expected, rtol=1e-6, atol=0)
    assert torch.equal(moved[~where], values[~where]) and torch.equal(mask.bool(), where)


def test_repeats_draw_anew_and_a_call_can_be_repeated() -> None:
    values = torch.zeros(2, 3, 4, 4)
    seen: list[Tensor] = []

    def score(noisy: Tensor, times: Tensor) -> Tensor:
        seen.append(noisy)
        return torch.zeros_like(noisy)

    first, _, left = functional.score_perturbation(values, rng=keys(), score=score)
    assert len(seen) == 3 and torch.equal(first, seen[0])
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])
    torch.testing.assert_close(
        left[:, 0], torch.stack(seen).square().mean(2).mean(0), rtol=1e-5, atol=0
    )
    again = functional.score_perturbation(values, rng=keys(), score=score)
    assert torch.equal(again[2], left)
    alone = functional.score_perturbation(values[1:], rng=keys()[1:], score=score)
    assert torch.equal(alone[2], left[1:])


@pytest.mark.parametrize("backend", ["auto", "compiled"])
def test_backends_draw_the_same_noise(backend: str) -> None:
    if backend == "compiled":
        pytest.importorskip("numba")
    values = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    number = {"rng": keys(), "score": lambda x, t: x.sin()}
    expected = functional.score_perturbation(values, **number, backend="torch")
    found = functional.score_perturbation(values, **number, backend=backend)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    losses = [functional.score_loss(values, **number, backend=b) for b in ("torch", backend)]
    torch.testing.assert_close(*losses)


def test_dtypes_layouts_and_empty_batches() -> None:
    values = torch.randn(2, 3, 4, 4).bfloat16()
    moved, _, left = functional.score_perturbation(values, rng=keys(), score=lambda x, t: -x)
    assert moved.dtype == torch.bfloat16 and left.dtype == torch.float32
    tokens = values.flatten(2).transpose(1, 2)
    rows = functional.score_perturbation(
        tokens.flatten(0, 1), rng=keys(), score=lambda x, t: -x * (len(x) == len(t))
    )
    torch.testing.assert_close(rows[2].view(2, 16), left.flatten(1))
    prefixed = torch.cat((tokens[:, :1], tokens), 1)
    found = functional.score_perturbation(prefixed, rng=keys(), score=lambda x, t: -x, prefix=1)
    assert torch.equal(found[0][:, 1:].transpose(1, 2).reshape(moved.shape), moved)
    empty = functional.score_perturbation(values[:0], rng=keys(0), score=lambda x, t: x)
    assert empty[2].shape == (0, 1, 4, 4)


def test_the_loss_trains_a_score_network() -> None:
    class Affine(nn.Module):
        """The score of N(0, v) at each time, v unknown."""

        def __init__(self) -> None:
            super().__init__()
            self.log = nn.Parameter(torch.zeros(()))

        def forward(self, noisy: Tensor, times: Tensor) -> Tensor:
            scale = functional.perturbation_deviation(times)
            return -noisy / (self.log.exp() + scale.square())[:, None, None, None]

    network = Affine()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1)
    values = 3.0 * torch.randn(64, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    for step in range(60):
        number = features.keys(0, torch.arange(64), epoch=step)
        optimiser.zero_grad()
        functional.score_loss(values, number, score=network).backward()
        optimiser.step()
    assert network.log.exp().item() == pytest.approx(9.0, rel=0.25)


def test_gradients_pass_by_the_identity_and_through_what_is_left() -> None:
    values = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(2, 3, 2, dtype=torch.float64)

    def call(value: Tensor) -> Tensor:
        moved, _, _ = functional.score_perturbation(
            value, score=lambda x, t: x.sin(), noise=noise, repeats=1
        )
        return moved

    assert torch.autograd.gradcheck(call, (values,))


def test_bad_input_is_refused() -> None:
    values = torch.zeros(2, 3, 4, 4)

    def call(**keywords):
        return functional.score_perturbation(
            values, **{"rng": keys(), "score": lambda x, t: x, **keywords}
        )

    with pytest.raises(ValueError, match="like the features"):
        call(score=lambda x, t: x[:1])
    with pytest.raises(TypeError, match="expected a network"):
        call(score=None)
    with pytest.raises(ValueError, match="time"):
        call(time=0.0)
    with pytest.raises(ValueError, match="sigma"):
        call(sigma=1.0)
    with pytest.raises(ValueError, match="backend: expected one of"):
        call(backend="numba")
    with pytest.raises(ValueError, match="repeats"):
        call(repeats=0)
    with pytest.raises(TypeError, match="rng"):
        call(rng=None)
