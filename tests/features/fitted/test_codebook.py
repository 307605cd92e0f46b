"""Codebooks: k-means and moving averages find clusters; loading, quantising."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anoaug.features import fitted, keys
from anoaug.features.fitted.sampling import RowSample, lloyd, seeded


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clusters(count: int = 8, each: int = 40) -> tuple[Tensor, Tensor]:
    """Rows about far middles, in a mixed order, and the middles."""
    middles = 20.0 * drawn(count, 6, seed=3)
    rows = (middles[:, None] + 0.1 * drawn(count, each, 6)).flatten(0, 1)
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(4))], middles


@pytest.mark.parametrize("method", ["kmeans", "vq"])
def test_it_finds_clusters(method: str) -> None:
    rows, middles = clusters()
    module = fitted.Codebook(8, method=method, decay=0.5).fit(rows.split(64), progress=False)
    apart = torch.cdist(middles, module.codes).min(1).values
    assert apart.max() < 0.2 if method == "kmeans" else apart.max() < 0.5
    assert module.codes.shape == (8, 6) and module.codes.isfinite().all()


def test_the_seeds_lie_apart() -> None:
    rows, middles = clusters()
    found = seeded(rows, 8, keys(0, torch.tensor([0])))
    assert torch.cdist(middles, found).min(1).values.max() < 1.0  # one in each cluster
    many = seeded(rows[:4], 9, keys(0, torch.tensor([0])))  # more than rows: repeated
    assert many.shape == (9, 6) and many.isfinite().all()


def test_lloyd_never_gets_worse_and_leaves_no_code_empty() -> None:
    rows = drawn(400, 5)
    codes = rows[:16].clone()
    codes[3:6] = 100.0  # nobody's
    error = torch.cdist(rows, codes).min(1).values.square().sum()
    for _ in range(4):
        codes, _ = lloyd(rows, codes)
        now = torch.cdist(rows, codes).min(1).values.square().sum()
        assert now <= error * (1 + 1e-6)
        error = now
    _, counts = lloyd(rows, codes)
    assert (counts > 0).all()


def test_a_fit_is_a_function_of_the_seed() -> None:
    rows = drawn(300, 4)
    one, other = (fitted.Codebook(10, seed=3, samples=100) for _ in range(2))
    one.fit(rows.split(50), progress=False)
    before = torch.get_rng_state()
    other.fit(rows.split(50), progress=False)
    assert torch.equal(one.codes, other.codes) and torch.equal(torch.get_rng_state(), before)
    different = fitted.Codebook(10, seed=4, samples=100).fit(rows.split(50), progress=False)
    assert not torch.equal(one.codes, different.codes)


@pytest.mark.slow
def test_the_sample_is_uniform() -> None:
    hits = torch.zeros(60)
    for seed in range(300):
        sample = RowSample(20, seed, "test")
        for part in torch.arange(60.0)[:, None].split(25):
            sample.add(part)
        hits[sample.shared(False)[:, 0].long()] += 1
    # 300 draws of probability 1/3 each: a standard deviation of 8.2.
    assert hits.sum() == 300 * 20 and (hits - 100).abs().max() < 33


def test_an_update_is_a_moving_average() -> None:
    module = fitted.Codebook(2, decay=0.9)
    module.load_codebook(torch.tensor([[0.0, 0.0], [10.0, 10.0]]))
    module.update(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
    # (0.9 * 0 + 0.1 * (1 + 3)) / (0.9 + 0.1 * 2); the other was not met.
    torch.testing.assert_close(module.codes, torch.tensor([[0.4 / 1.1, 0.0], [10.0, 10.0]]))
    torch.testing.assert_close(module.weight, torch.tensor([1.1, 0.9]))


def test_quantising_gives_the_nearest_codes_in_the_layout() -> None:
    module = fitted.Codebook().load_codebook(drawn(9, 4).double())
    assert module.size == 9
    maps = drawn(2, 4, 3, 5, seed=1).half()
    found, place = module.quantise(maps)
    assert found.shape == maps.shape and found.dtype == torch.float16 and place.shape == (2, 15)
    rows = maps.float().permute(0, 2, 3, 1).flatten(0, 2)
    expected = module.codes[torch.cdist(rows, module.codes).argmin(1)]
    assert torch.equal(found.permute(0, 2, 3, 1).flatten(0, 2), expected.half())


def test_bad_input_is_refused() -> None:
    module = fitted.Codebook(50)
    with pytest.raises(RuntimeError, match="expected a fitted one"):
        module.quantise(drawn(2, 4))
    with pytest.raises(ValueError, match="as many codes as the 6 features"):
        module.fit([drawn(6, 4)], progress=False)
    assert not module.is_fitted
    with pytest.raises(ValueError, match=r"\(C, K\) embedding needs .T"):
        module.load_codebook(drawn(2, 3, 4))
    with pytest.raises(ValueError, match="finite"):
        module.load_codebook(torch.full((2, 3), float("nan")))
    with pytest.raises(TypeError, match="float tensor"):
        module.load_codebook(torch.zeros(2, 3, dtype=torch.int64))
    module.load_codebook(drawn(50, 4))
    with pytest.raises(ValueError, match=r"channels \[4\]"):
        module.quantise(drawn(2, 5))
    with pytest.raises(ValueError, match="samples: expected"):
        fitted.Codebook(100, samples=50)
    with pytest.raises(TypeError, match="size: expected a whole number"):
        fitted.Codebook(10.0)
