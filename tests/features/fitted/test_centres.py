"""Positional centres: means, EMAs, matches, categories."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anoaug.features import fitted


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_mean_weighs_samples_or_batches() -> None:
    tokens = drawn(7, 6, 4)
    batches = tokens.split(3)
    sample = fitted.PositionalCentres().fit(batches, progress=False)
    torch.testing.assert_close(sample.centres[0], tokens.mean(0))
    assert sample.seen.tolist() == [7]
    batch = fitted.PositionalCentres(weighting="batch").fit(batches, progress=False)
    torch.testing.assert_close(batch.centres[0], torch.stack([b.mean(0) for b in batches]).mean(0))
    assert batch.seen.tolist() == [3]


def test_an_ema_starts_at_the_first_batch() -> None:
    first, second = drawn(3, 6, 4), drawn(2, 6, 4, seed=1)
    module = fitted.PositionalCentres("ema")
    module.update(first)
    torch.testing.assert_close(module.centres[0], first.mean(0))
    module.update(second)
    torch.testing.assert_close(module.centres[0], 0.9 * first.mean(0) + 0.1 * second.mean(0))


def test_a_matched_ema_is_one_mean_after_another() -> None:
    # Few distinct directions, so that many means meet the same centre.
    base = drawn(3, 5)
    tokens = base[torch.arange(12) % 3] * (1.0 + drawn(4, 12, 1).abs()) + 0.01 * drawn(4, 12, 5)
    module = fitted.PositionalCentres("ema", "cosine")
    module.fit(tokens.split(1), progress=False)
    centres = tokens[0].clone()
    collisions = 0
    for batch in tokens[1:].split(1):
        means = batch.mean(0)
        similarity = torch.nn.functional.cosine_similarity(means[:, None], centres[None], dim=2)
        places = similarity.argmax(1).tolist()
        collisions += len(places) - len(set(places))
        for mean, place in zip(means, places, strict=True):
            centres[place] = 0.9 * centres[place] + 0.1 * mean
    assert collisions > 5
    torch.testing.assert_close(module.centres[0], centres)


def test_once_is_fitted_once() -> None:
    module = fitted.PositionalCentres("once").fit(drawn(4, 6, 4).split(2), progress=False)
    before = module.centres.clone()
    torch.testing.assert_close(before[0], drawn(4, 6, 4).mean(0))
    module.update(drawn(4, 6, 4, seed=1))
    module.fit([drawn(4, 6, 4, seed=2)], progress=False)
    assert torch.equal(module.centres, before)
    module.reset()
    module.fit([drawn(4, 6, 4, seed=2)], progress=False)
    assert not torch.equal(module.centres, before)


@pytest.mark.parametrize("match", ["position", "cosine"])
def test_categories_have_their_own_centres(match: str) -> None:
    tokens, names = drawn(6, 5, 4), torch.tensor([0, 2, 1, 2, 0, 2])
    module = fitted.PositionalCentres("once", match, categories=3)
    batches = [(tokens[:4], names[:4]), (tokens[4:], names[4:])]
    module.fit(batches, category=1, progress=False)
    for k in range(3):
        torch.testing.assert_close(module.centres[k], tokens[names == k].mean(0))
    assert module.seen.tolist() == [2, 1, 3]
    for k in range(3):
        alone = fitted.PositionalCentres(match=match)
        alone.fit([tokens[names == k]], progress=False)
        found = module.distances(tokens, category=[k] * 6)
        torch.testing.assert_close(found, alone.distances(tokens))
        place, likeness = module.nearest(tokens, category=[k] * 6)
        assert torch.equal(place, alone.nearest(tokens)[0])
        torch.testing.assert_close(likeness, alone.nearest(tokens)[1])


def test_distances_are_to_the_position_or_to_the_most_alike() -> None:
    tokens = drawn(3, 6, 4)
    module = fitted.PositionalCentres().fit([tokens], progress=False)
    expected = (tokens - tokens.mean(0)).norm(dim=2)
    torch.testing.assert_close(module.distances(tokens), expected)
    matched = fitted.PositionalCentres(match="cosine").fit([tokens], progress=False)
    place, likeness = matched.nearest(tokens)
    torch.testing.assert_close(
        likeness,
        torch.nn.functional.cosine_similarity(tokens[:, :, None], tokens.mean(0), dim=3).amax(2),
    )
    assert torch.equal(matched.lookup(tokens), tokens.mean(0)[place])
    torch.testing.assert_close(
        matched.distances(tokens), (tokens - tokens.mean(0)[place]).norm(dim=2)
    )


def test_maps_tokens_and_rows_ask_alike() -> None:
    maps = drawn(3, 4, 2, 3)
    module = fitted.PositionalCentres().fit([maps], progress=False)
    tokens = maps.flatten(2).transpose(1, 2)
    expected = module.distances(maps)
    assert torch.equal(module.distances(tokens), expected)
    assert torch.equal(module.distances(tokens.flatten(0, 1)), expected)
    nhwc = maps.permute(0, 2, 3, 1)
    assert torch.equal(module.distances(nhwc, layout="nhwc"), expected)
    # A matched one takes any number of positions.
    alike = fitted.PositionalCentres(match="cosine").fit([maps], progress=False)
    assert alike.distances(tokens[:, :5]).shape == (3, 5)


def test_a_large_half_precision_distance_does_not_overflow() -> None:
    module = fitted.PositionalCentres().fit([torch.zeros(1, 2, 64)], progress=False)
    found = module.distances(torch.full((1, 2, 64), 60000.0, dtype=torch.float16))
    assert found.dtype == torch.float32 and found[0, 0] == pytest.approx(480000.0, rel=1e-3)


def test_the_gradient_goes_outwards_and_is_zero_at_the_centre() -> None:
    tokens = drawn(1, 2, 3)
    module = fitted.PositionalCentres().fit([tokens], progress=False)
    asked = tokens.clone()
    asked[0, 1] += torch.tensor([3.0, 0.0, 4.0])
    asked.requires_grad_()
    module.distances(asked).sum().backward()
    assert asked.grad is not None
    torch.testing.assert_close(asked.grad[0], torch.tensor([[0.0, 0.0, 0.0], [0.6, 0.0, 0.8]]))


@pytest.mark.slow
def test_it_compiles_without_a_break() -> None:
    tokens = drawn(3, 6, 4)
    module = fitted.PositionalCentres(match="cosine", categories=2)
    module.fit([(tokens, [0, 1, 0])], category=1, progress=False)
    names = torch.tensor([1, 0, 1])
    compiled = torch.compile(module.distances, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        compiled(tokens, category=names), module.distances(tokens, category=names)
    )


def test_bad_input_is_refused() -> None:
    module = fitted.PositionalCentres()
    with pytest.raises(RuntimeError, match=r"PositionalCentres.fit\(loader, extractor\)"):
        module.distances(drawn(1, 2, 3))
    module.fit([drawn(2, 6, 4)], progress=False)
    with pytest.raises(ValueError, match=r"positions and channels \[6, 4\]"):
        module.distances(drawn(2, 5, 4))
    with pytest.raises(ValueError, match=r"\[6, 4\]"):
        module.lookup(drawn(2, 6, 5))
    with pytest.raises(ValueError, match="update: expected one of"):
        fitted.PositionalCentres("epoch")
    with pytest.raises(ValueError, match="categories: expected a whole number"):
        fitted.PositionalCentres(categories=0)
    several = fitted.PositionalCentres(categories=3)
    with pytest.raises(ValueError, match="category: expected one in"):
        several.update(drawn(2, 6, 4))
    with pytest.raises(ValueError, match="got 1 to 3"):
        several.update(drawn(2, 6, 4), category=[1, 3])
    with pytest.raises(ValueError, match="groups: expected the number of images that 12 rows"):
        fitted.PositionalCentres().update(drawn(12, 4))
    with pytest.raises(ValueError, match=r"got none of \[1\]"):
        several.fit([(drawn(2, 6, 4), [0, 2])], category=1, progress=False)
    assert not several.is_fitted
