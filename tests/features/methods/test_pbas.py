"""PBAS: the push from fitted centres, under one process and two."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anoaug import features
from anoaug.features import fitted
from tests.ranks import in_group


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def made(**keywords: object) -> features.Perturbation:
    return features.create("pbas", seed=0, **keywords).fit(
        [normal(4, 8, 3, 5, seed=s) for s in range(3)], progress=False
    )


def test_rows_move_by_a_quarter_of_the_mean_distance_from_the_most_similar_centre() -> None:
    perturb, x = made(), normal(2, 8, 3, 5, seed=9)
    out = perturb(x)
    rows = x.flatten(2).transpose(1, 2)
    centres = perturb.centres.centres[0]
    similar = torch.nn.functional.normalize(rows, dim=-1) @ torch.nn.functional.normalize(
        centres, dim=-1
    ).transpose(0, 1)
    away = rows - centres[similar.argmax(-1)]
    far = away.norm(dim=-1)
    step = (out.features - x).flatten(2).transpose(1, 2)
    torch.testing.assert_close(step, 0.25 * far.mean() * away / far[..., None])
    torch.testing.assert_close(out.extras["distance"], far)
    assert torch.equal(perturb(x).features, out.features)


def test_the_mean_distance_is_a_loss() -> None:
    perturb, x = made(), normal(2, 8, 3, 5, seed=9).requires_grad_()
    out = perturb(x)
    out.extras["distance"].mean().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert not any(value.requires_grad for value in perturb.parameters())


def test_centres_may_be_shared_and_are_state() -> None:
    centres = fitted.PositionalCentres("mean").fit([normal(4, 8, 3, 5)], progress=False)
    one = features.create("pbas", centres=centres, seed=0)
    assert one.centres is centres and one.is_fitted
    x = normal(2, 8, 3, 5, seed=9)
    fresh = features.create("pbas", centres=fitted.PositionalCentres("mean"), seed=5)
    fresh.load_state_dict(one.state_dict())
    assert torch.equal(fresh(x).features, one(x).features)


def test_unfitted_ones_and_other_grids_are_refused() -> None:
    with pytest.raises(RuntimeError, match="fit"):
        features.create("pbas")(normal(2, 8, 3, 5))
    with pytest.raises(ValueError, match="channels"):
        made()(normal(2, 7, 3, 5))
    with pytest.raises(TypeError, match="centres: expected a PositionalCentres"):
        features.create("pbas", centres=normal(15, 8))


def _length(rank: int, share: bool) -> float:
    perturb = features.create(
        "pbas", share=share, seed=0, centres=fitted.PositionalCentres("mean", share=False)
    ).fit([torch.zeros(1, 4, 2, 2)], progress=False)
    x = torch.full((1, 4, 2, 2), 1.0 + rank)  # distances 2 and 4
    return float((perturb(x).features - x).norm(dim=1).mean())


@pytest.mark.slow
def test_ranks_share_the_mean_distance_or_not() -> None:
    assert in_group(_length, 2, True) == pytest.approx([0.75, 0.75])
    assert in_group(_length, 2, False) == pytest.approx([0.5, 1.0])
