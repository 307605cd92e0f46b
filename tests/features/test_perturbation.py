"""What every feature perturbation shares: layouts, numbering, dtypes, modes, bad input."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anoaug import features


@pytest.fixture
def maps() -> Tensor:
    return torch.randn(2, 6, 5, 4, generator=torch.Generator().manual_seed(0))


def test_a_map_its_tokens_and_its_rows_get_the_same(maps: Tensor) -> None:
    perturb = features.create("simplenet", seed=0, mixture=3)
    number = {"index": [3, 4], "epoch": 1}
    tokens = maps.flatten(2).transpose(1, 2)
    expected = perturb(maps, **number).features.flatten(2).transpose(1, 2)
    assert torch.equal(perturb(tokens, **number).features, expected)
    rows = perturb(tokens.flatten(0, 1), **number)
    assert torch.equal(rows.features.view(2, 20, 6), expected)
    assert rows.label.shape == (40,)
    nhwc = features.create("simplenet", seed=0, mixture=3, layout="nhwc")
    found = nhwc(maps.permute(0, 2, 3, 1), **number).features
    assert torch.equal(found.flatten(1, 2), expected)


def test_a_sample_gets_the_same_in_any_batch(maps: Tensor) -> None:
    perturb = features.create("simplenet", seed=0)
    both = perturb(maps, index=[7, 2], epoch=0).features
    assert torch.equal(perturb(maps[1:], index=[2], epoch=0).features, both[1:])
    assert not torch.equal(perturb(maps, index=[7, 2], epoch=1).features, both)


def test_no_global_generator_is_moved(maps: Tensor) -> None:
    before = torch.get_rng_state()
    features.create("simplenet", seed=0)(maps)
    assert torch.equal(torch.get_rng_state(), before)


def test_eval_mode_hands_features_through(maps: Tensor) -> None:
    out = features.create("simplenet", seed=0).eval()(maps)
    assert out.features is maps and not out.mask.any() and not out.label.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_stay(maps: Tensor, dtype: torch.dtype) -> None:
    assert features.create("simplenet", seed=0)(maps.to(dtype)).features.dtype == dtype


def test_an_empty_batch_stays_empty() -> None:
    out = features.create("simplenet", seed=0)(torch.zeros(0, 4, 2, 2))
    assert out.features.shape == (0, 4, 2, 2) and out.label.shape == (0,)


def test_real_defects_are_united(maps: Tensor) -> None:
    perturb = features.create("simplenet", seed=0)
    nowhere = torch.zeros(2, 1, 5, 4)
    real = nowhere.clone()
    real[1, 0, 2, 3] = 1
    out = perturb(maps, mask=real, where=nowhere)
    assert torch.equal(out.features, maps) and torch.equal(out.mask, real)
    assert out.label.tolist() == [0, 1]
    assert perturb(maps, label=torch.tensor([1, 0]), where=nowhere).label.tolist() == [1, 0]


@pytest.mark.slow
def test_fullgraph_compile_gives_the_same(maps: Tensor) -> None:
    perturb = features.create("simplenet", seed=0)
    expected = perturb(maps, index=torch.tensor([0, 1]), epoch=0)
    compiled = torch.compile(perturb, fullgraph=True, backend="aot_eager")
    found = compiled(maps, index=torch.tensor([0, 1]), epoch=0)
    torch.testing.assert_close(found.features, expected.features)


def test_bad_input_is_refused(maps: Tensor) -> None:
    perturb = features.create("simplenet", seed=0)
    with pytest.raises(TypeError, match="expected a float dtype"):
        perturb(maps.long())
    with pytest.raises(ValueError, match="expected rank 3"):
        features.create("simplenet", layout="tokens")(maps)
    with pytest.raises(ValueError, match="mask: expected shape"):
        perturb(maps, mask=torch.zeros(2, 1, 4, 4))
    with pytest.raises(ValueError, match="exactly one of"):
        features.create("simplenet", sigma=0.1, radius=1.0)
    with pytest.raises(ValueError, match="divides 5 rows"):
        perturb(torch.zeros(5, 3), index=[0, 1], epoch=0)
    with pytest.raises(TypeError, match="not a keyword"):
        features.create("simplenet", sigmma=0.1)
    with pytest.raises(TypeError, match="takes no discriminator="):
        perturb(maps, discriminator=None)
    with pytest.raises(ValueError, match=r"noise: expected \[2, \d, 5, 4\]"):
        perturb(maps, noise=maps.transpose(2, 3))
    with pytest.raises(ValueError, match="prefix: expected a whole number from 0 on"):
        features.create("simplenet", prefix=-1)


def test_keys_take_what_loaders_give_and_refuse_the_rest() -> None:
    expected = features.keys(3, torch.tensor([5, 7]), epoch=2)
    assert torch.equal(features.keys(3, [5, 7], epoch=2), expected)
    with pytest.raises(TypeError, match="index: expected integers"):
        features.keys(3, torch.tensor([0.5]))
    with pytest.raises(ValueError, match="index: expected one number per sample"):
        features.keys(3, torch.tensor([[5], [7]]))
    with pytest.raises(ValueError, match="epoch: expected a whole number"):
        features.keys(3, [5], epoch=-1)
