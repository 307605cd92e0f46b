"""The radius quantile: what it counts, which convention of gradient, what it does without rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anoaug.features import fitted
from tests.ranks import in_group


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def centres() -> fitted.PositionalCentres:
    return fitted.PositionalCentres().fit([drawn(5, 6, 4)], progress=False)


def test_it_is_the_quantile_of_the_distances(centres: fitted.PositionalCentres) -> None:
    module = fitted.RadiusQuantile(0.75, centres)
    tokens = drawn(4, 6, 4, seed=1)
    expected = torch.quantile((tokens - centres.centres[0]).norm(dim=2), 0.75)
    torch.testing.assert_close(module.update(tokens), expected)
    torch.testing.assert_close(module.radius, expected[None])
    rows = module.update(tokens.flatten(0, 1))
    torch.testing.assert_close(rows, expected)
    module.fit(tokens.split(3), progress=False)
    torch.testing.assert_close(module.radius, expected[None])


def test_a_mask_says_which_rows_count(centres: fitted.PositionalCentres) -> None:
    module = fitted.RadiusQuantile(0.75, centres)
    tokens = drawn(4, 6, 4, seed=1)
    mask = torch.rand(4, 6, generator=torch.Generator().manual_seed(2)) < 0.5
    apart = (tokens - centres.centres[0]).norm(dim=2)
    torch.testing.assert_close(module.update(tokens, mask), torch.quantile(apart[mask], 0.75))
    maps = tokens.transpose(1, 2).unflatten(2, (2, 3))
    found = module.update(maps, mask.view(4, 1, 2, 3).float())
    torch.testing.assert_close(found, torch.quantile(apart[mask], 0.75))


def test_no_row_keeps_the_radius(centres: fitted.PositionalCentres) -> None:
    module = fitted.RadiusQuantile(0.75, centres)
    nothing = torch.zeros(4, 6)
    assert module.update(drawn(4, 6, 4), nothing) == 0.0 and module.radius.tolist() == [0.0]
    before = module.update(drawn(4, 6, 4))
    assert module.update(drawn(4, 6, 4, seed=3), nothing) == before == module.radius[0]
    assert module.update(drawn(0, 6, 4)) == before


def test_an_ema_over_updates() -> None:
    module = fitted.RadiusQuantile(1.0, momentum=0.5)
    assert module.update(torch.tensor([[3.0, 4.0]])) == 5.0
    assert module.update(torch.tensor([[0.0, 1.0]])) == 3.0


def test_both_conventions_of_the_gradient(centres: fitted.PositionalCentres) -> None:
    tokens = drawn(4, 6, 4, seed=1).requires_grad_()
    assert not fitted.RadiusQuantile(0.75, centres).update(tokens).requires_grad  # the original
    module = fitted.RadiusQuantile(0.75, centres, detach=False)  # anomalib's
    module.update(tokens).backward()
    assert tokens.grad is not None
    mine, tokens.grad = tokens.grad, None
    torch.quantile((tokens - centres.centres[0]).norm(dim=2), 0.75).backward()
    torch.testing.assert_close(mine, tokens.grad)
    assert not module.radius.requires_grad


def _attached_on(rank: int) -> tuple[Tensor, Tensor]:
    values = drawn(8, 3)[rank::2].requires_grad_()
    module = fitted.RadiusQuantile(0.3, detach=False)
    radius = module.update(values)
    radius.backward()
    assert values.grad is not None
    return radius.detach(), values.grad


@pytest.mark.slow
def test_ranks_share_value_and_gradient() -> None:
    values = drawn(8, 3).requires_grad_()
    radius = torch.quantile(values.norm(dim=1), 0.3)
    radius.backward()
    assert values.grad is not None
    found = in_group(_attached_on, 2)
    for rank, (value, gradient) in enumerate(found):
        torch.testing.assert_close(value, radius.detach())
        torch.testing.assert_close(gradient, values.grad[rank::2])


def test_half_precision_features_may_be_long() -> None:
    module = fitted.RadiusQuantile(0.5)
    found = module.update(torch.full((4, 64), 60000.0, dtype=torch.float16))
    assert found.dtype == torch.float32 and found == pytest.approx(480000.0, rel=1e-3)


def test_bad_input_is_refused(centres: fitted.PositionalCentres) -> None:
    with pytest.raises(ValueError, match="q: expected"):
        fitted.RadiusQuantile(75)
    with pytest.raises(RuntimeError, match="expected a fitted one"):
        fitted.RadiusQuantile(0.5, fitted.PositionalCentres()).update(drawn(2, 6, 4))
    with pytest.raises(ValueError, match="mask: expected shape"):
        fitted.RadiusQuantile(0.5, centres).update(drawn(2, 6, 4), torch.zeros(2, 5))
