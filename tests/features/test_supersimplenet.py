"""SuperSimpleNet: published frequencies and coverages, modes of the method, both versions."""

from __future__ import annotations

import copy
import functools
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

import anoaug
from anoaug import features, recipe
from anoaug.features import masks
from anoaug.features.methods.supersimplenet import SuperSimpleNet, stretched
from anoaug.numbering import Numbering

NUMBER: dict[str, Any] = {"index": torch.arange(4), "epoch": 2}
MANY = 2000


@pytest.fixture
def x() -> Tensor:
    return torch.randn(4, 8, 16, 16, generator=torch.Generator().manual_seed(0))


def made(**keywords: Any) -> SuperSimpleNet:
    return features.create("supersimplenet", **{"seed": 0, "sigma": 0.5, **keywords})


# ---- published figures ---------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def noise() -> Tensor:
    """Perlin noise of the method on a grid of 64 x 64, ``[MANY, 4096]``."""
    drawing = masks.perlin_drawing((64, 64), 0.0, (0, 5), 1.0)
    number = Numbering(1)(torch.arange(MANY), 0, MANY)
    found = drawing.table(number, (64, 64), "supersimplenet.mask.0", torch.device("cpu"))
    return drawing.level(found, (64, 64), "auto").flatten(1)


# Chance of an anomalous copy and mean coverage, of the published code.
PUBLISHED = {0.2: (0.499, 0.258), 0.5: (0.479, 0.057), 0.6: (0.455, 0.025)}


@pytest.mark.slow
@pytest.mark.parametrize("threshold", PUBLISHED)
def test_frequency_and_coverage(threshold: float) -> None:
    chance, coverage = PUBLISHED[threshold]
    inside = noise() > threshold
    # Of 0.091, 3 standard deviations are 0.019, of which a coin takes half.
    assert abs(0.5 * inside.any(1).float().mean() - chance) < 0.01
    # The coverages were measured too, to half a unit of their last digit.
    each = inside.float().mean(1)
    assert abs(each.mean() - coverage) < 4 * each.std() / MANY**0.5 + 0.0005


def test_a_fair_coin_empties_masks() -> None:
    index = torch.arange(40000)
    drawing = masks.perlin_drawing((64, 64), 0.2, (0, 5), 0.5)
    table = drawing.table(Numbering(0)(index, 0, len(index)), (64, 64), "m", torch.device("cpu"))
    assert abs((table[:, recipe.ACTIVE] > 0).float().mean() - 0.5) < 0.01


def test_rescued_masks_are_never_empty_and_cover_more() -> None:
    level = noise() - 0.6
    rescued = stretched(level, 0.6)
    empty = ~(level > 0).any(1)
    assert torch.equal(rescued[~empty], level[~empty])
    assert (rescued > 0).any(1).all()
    # 2.5 % become 3.7 %.
    assert abs((rescued > 0).float().mean() - 0.037) < 0.005
    own = (rescued > 0)[empty].float().mean(1)
    assert 0.10 < own.mean() < 0.30


# ---- the method ----------------------------------------------------------------------------------


def test_both_copies_are_perturbed_on_their_own(x: Tensor) -> None:
    out = made(no_anomaly="none")(x, **NUMBER)
    assert out.features.shape == (8, 8, 16, 16) and out.clean is x
    assert torch.equal(out.extras["source_row"], torch.arange(4).repeat(2))
    first, second = out.features.chunk(2)
    assert not torch.equal(first, second) and not torch.equal(out.mask[:4], out.mask[4:])
    assert torch.equal(out.label, out.mask.flatten(1).any(1).long())


def test_masks_of_a_fit_grid_are_those_of_the_expression(x: Tensor) -> None:
    out = made(no_anomaly="none")(x, **NUMBER)
    where = masks.perlin((16, 16), 0.2)
    for copy_, found in enumerate(out.mask.chunk(2)):
        stream = f"supersimplenet.mask.{copy_}"
        assert torch.equal(found, masks.drawn(where, (16, 16), NUMBER["index"], 2, stream=stream))


def test_other_grids_are_drawn_on_the_next_power_of_two() -> None:
    y = torch.zeros(4, 4, 12, 20)
    out = made(no_anomaly="none")(y, **NUMBER)
    where = masks.perlin((16, 32), 0.2)
    expected = masks.drawn(
        where, (12, 20), NUMBER["index"], 2, grid="power_of_two", stream="supersimplenet.mask.0"
    )
    assert torch.equal(out.mask[:4], expected) and expected.any()
    moved = (out.features != 0).any(1, keepdim=True).float()
    assert torch.equal(moved, out.mask)


def test_what_becomes_of_emptied_masks(x: Tensor) -> None:
    none = made(no_anomaly="none")(x, **NUMBER)
    always: dict[str, Any] = {"p_no_anomaly": 1.0}
    assert not made(**always)(x, **NUMBER).mask.any()
    assert made(no_anomaly="full", **always)(x, **NUMBER).mask.all()
    assert torch.equal(made(no_anomaly="none", **always)(x, **NUMBER).mask, none.mask)
    half = made()(x, **NUMBER).mask.flatten(1)
    kept = half.any(1)
    assert torch.equal(half[kept], none.mask.flatten(1)[kept]) and 0 < kept.sum() < 8


def test_simplenets_scheme_keeps_the_first_copy_clean(x: Tensor) -> None:
    out = made(perlin=False)(x, **NUMBER)
    assert torch.equal(out.features[:4], x) and out.mask[4:].all() and not out.mask[:4].any()
    assert (out.features[4:] != x).all() and out.label.tolist() == [0] * 4 + [1] * 4


def test_any_pattern_and_a_chance_of_it(x: Tensor) -> None:
    pattern = anoaug.masks.Rectangle(area=0.2) & ~anoaug.masks.Perlin()
    out = made(pattern=pattern, no_anomaly="none")(x, **NUMBER)
    expected = masks.drawn(pattern, (16, 16), NUMBER["index"], 2, stream="supersimplenet.mask.1")
    assert torch.equal(out.mask[4:], expected)
    for other in (
        copy.deepcopy(made(pattern=pattern)),
        pickle.loads(pickle.dumps(made(pattern=pattern))),
    ):
        assert torch.equal(other(x, **NUMBER).features, made(pattern=pattern)(x, **NUMBER).features)


def test_the_later_version_perturbs_raw_features_alike(x: Tensor) -> None:
    raw = x * 3.0
    perturb = made(no_anomaly="none")
    out = perturb(x, raw=raw, **NUMBER)
    assert torch.equal(out.features, perturb(x, **NUMBER).features)
    first = out.features - x[out.extras["source_row"]]
    second = out.extras["raw"] - raw[out.extras["source_row"]]
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)
    assert out.extras["raw"].shape == (8, 8, 16, 16)


def test_defects_and_labels_by_the_methods_rules(x: Tensor) -> None:
    real = torch.zeros(4, 1, 16, 16)
    real[2, 0, :8] = 1
    everywhere: dict[str, Any] = {"no_anomaly": "full", "p_no_anomaly": 1.0}
    out = made(**everywhere)(x, mask=real, **NUMBER)
    assert torch.equal(out.features[2, :, :8], x[2, :, :8]) and out.mask.all()
    over = made(**everywhere, overlap=True)(x, mask=real, **NUMBER)
    assert (over.features[2, :, :8] != x[2, :, :8]).all()
    spared = made(**everywhere, bad=False)(x, label=torch.tensor([0, 0, 0, 1]), **NUMBER)
    assert torch.equal(spared.features[[3, 7]], x[[3, 3]])
    assert spared.label.tolist() == [1] * 8 and not spared.mask[[3, 7]].any()


def test_a_radius_is_sigma_times_the_root_of_the_channels(x: Tensor) -> None:
    radius = made(sigma=None, radius=0.5 * 8**0.5)(x, **NUMBER).features
    torch.testing.assert_close(radius, made()(x, **NUMBER).features)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
@pytest.mark.filterwarnings("ignore:.*is_compiling.*")
def test_fullgraph_compile_with_everything(size: tuple[int, int]) -> None:
    y = torch.randn(4, 8, *size, generator=torch.Generator().manual_seed(0))
    perturb = made(rescue=size == (12, 20))
    given: dict[str, Any] = {
        "mask": (y[:, :1] > 1.5).float(), "label": torch.tensor([0, 0, 1, 0]), "raw": y * 2,
        **NUMBER,
    }  # fmt: skip
    expected = perturb(y, **given)
    torch.compiler.reset()
    found = torch.compile(perturb, fullgraph=True, backend="aot_eager")(y, **given)
    torch.testing.assert_close(found.features, expected.features)
    torch.testing.assert_close(found.extras["raw"], expected.extras["raw"])
    assert torch.equal(found.mask, expected.mask) and torch.equal(found.label, expected.label)


def test_a_preset_warns_of_another_scale(x: Tensor) -> None:
    with pytest.warns(UserWarning, match="supersimplenet: sigma=0.015"):
        features.create("supersimplenet", seed=0)(x * 100.0)


def test_bad_input_is_refused(x: Tensor) -> None:
    for keywords, words in (
        ({"threshold": (0.2, 0.6)}, "threshold: expected one number"),
        ({"no_anomaly": "half"}, "no_anomaly"),
        ({"p_no_anomaly": 1.5}, "p_no_anomaly"),
        ({"rescue": True, "perlin": False}, "rescue"),
        ({"pattern": anoaug.masks.Perlin(), "perlin": False}, "pattern"),
        ({"pattern": anoaug.masks.Foreground()}, "needs no image"),
        ({"sigma": 0.1, "radius": 1.0}, "exactly one of"),
        ({"log2_cells": (0.5, 2)}, "log2_cells"),
    ):
        with pytest.raises(ValueError, match=words):
            made(**keywords)
    with pytest.raises(ValueError, match="size: expected the grid's height and width"):
        made()(x.flatten(2).transpose(1, 2))
    with pytest.raises(ValueError, match="raw: expected"):
        made()(x, raw=x[:, :4])
    with pytest.raises(TypeError, match="raw: expected a tensor"):
        made()(x, raw=[1])
