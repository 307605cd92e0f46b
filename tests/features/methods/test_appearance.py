"""Methods that change how normal features look: labels stay, whatever they do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from anoaug import features

NAMES = features.list_methods("appearance")


@pytest.fixture
def maps() -> Tensor:
    return torch.randn(4, 6, 5, 7, generator=torch.Generator().manual_seed(0))


def test_the_family() -> None:
    assert NAMES == ["manifold_mixup", "mixstyle", "noisy_bottleneck"]
    assert all(features.describe(n)["labels"].startswith("left alone") for n in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_left_alone(name: str, maps: Tensor) -> None:
    real = torch.zeros(4, 1, 5, 7)
    real[2, 0, 1, 1] = 1
    perturb = features.create(name, seed=0, **({"p": 1.0} if name == "mixstyle" else {}))
    out = perturb(maps, mask=real)
    assert not torch.equal(out.features, maps)
    assert torch.equal(out.mask, real) and out.label.tolist() == [0, 0, 1, 0]


@pytest.mark.slow
def test_mixstyle_throws_one_coin_a_call(maps: Tensor) -> None:
    perturb = features.create("mixstyle", seed=0)
    changed = []
    for _ in range(200):
        out = perturb(maps)
        moved = (out.features != maps).flatten(1).any(1)
        assert moved.all() or not moved.any()
        changed.append(bool(moved.any()))
    assert 70 < sum(changed) < 130


def test_mixup_has_one_lambda_a_call_or_a_sample(maps: Tensor) -> None:
    out = features.create("manifold_mixup", seed=0)(maps)
    assert len(out.extras["weight"].unique()) == 1
    out = features.create("manifold_mixup", per="sample", seed=0)(maps)
    weight, partner = out.extras["weight"][:, None, None, None], out.extras["partner"]
    assert len(weight.unique()) == 4
    torch.testing.assert_close(out.features, weight * maps + (1 - weight) * maps[partner])
    torch.testing.assert_close(out.extras["soft"], (1 - weight).expand(4, 1, 5, 7))


def test_mixing_under_a_mask_may_count_as_an_anomaly(maps: Tensor) -> None:
    where = torch.zeros(4, 1, 5, 7)
    where[..., :3] = 1
    out = features.create("manifold_mixup", anomalous=True, seed=0)(maps, where=where)
    assert torch.equal(out.mask, where) and out.label.tolist() == [1, 1, 1, 1]
    assert not out.extras["soft"][..., 3:].any()


@pytest.mark.slow
def test_three_sites_of_a_bottleneck_drop_each_its_own() -> None:
    bottleneck = nn.Sequential(nn.Identity(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))
    perturb = features.create("noisy_bottleneck", seed=0)
    handle = features.attach(bottleneck, ["0", "2", "3"], perturb)
    x = torch.randn(2, 9, 8)
    bottleneck(x)
    dropped = [made.features == 0 for made in handle.context.batch.values()]
    for made, zeros in zip(handle.context.batch.values(), dropped, strict=True):
        torch.testing.assert_close(made.features[~zeros], made.clean[~zeros] / 0.8)
    assert not torch.equal(dropped[0], dropped[1]) and not torch.equal(dropped[1], dropped[2])
    perturb.eval()
    assert torch.equal(bottleneck(x), nn.Sequential(*bottleneck)(x))


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="alpha: expected a finite number above 0"):
        features.create("mixstyle", alpha=0.0)
    with pytest.raises(ValueError, match="mix: expected one of"):
        features.create("mixstyle", mix="half")
    with pytest.raises(ValueError, match="p: expected a number below 1"):
        features.create("noisy_bottleneck", p=1.0)
