"""prepare.ByCategory: each image judged by the rule of its own category."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import anoaug
from anoaug import DonorBank, prepare
from anoaug.prepare import ByCategory, Foreground
from tests.masks.test_patches import products
from tests.recipes import assert_same

IMAGES = products(6, 1)
NAMES = ["bottle", "screw", "leather", "pill", "bottle", "hazelnut"]


class Asked:
    """A rule that remembers how many images it was shown."""

    def __init__(self, level: int) -> None:
        self.level, self.rows = level, []  # type: ignore[var-annotated]

    def __call__(self, images: Tensor) -> Tensor:
        self.rows.append(len(images))
        return images.amax(1, keepdim=True) > self.level


@pytest.mark.parametrize("code", ["memseg", "nsa", "realnet"])
def test_equals_the_preset_of_each_image(code: str) -> None:
    found = ByCategory(code)(IMAGES, NAMES)
    assert found.shape == (6, 1, 96, 96) and found.dtype == torch.uint8
    for n, name in enumerate(NAMES):
        rule = prepare.preset("mvtec", name, of=code)
        assert torch.equal(found[n : n + 1], rule(IMAGES[n : n + 1])), name


@pytest.mark.parametrize("code", sorted(prepare.PRESETS))
def test_every_published_category_is_there(code: str) -> None:
    tables = prepare.PRESETS[code]
    assert ByCategory(code).table == {k: v for table in tables.values() for k, v in table.items()}
    assert sum(map(len, tables.values())) == len(ByCategory(code).categories)  # no name twice


def test_each_rule_is_called_once_on_its_images() -> None:
    low, high = Asked(40), Asked(200)
    where = ByCategory({"a": low, "b": high, "c": low})
    found = where(IMAGES, ["a", "b", "c", "a", "c", "b"])
    assert low.rows == [4] and high.rows == [2]
    assert torch.equal(found[:1], low(IMAGES[:1]).to(torch.uint8))
    assert torch.equal(found[5:], high(IMAGES[5:]).to(torch.uint8))
    where(IMAGES, "b")
    assert high.rows[-1] == 6


def test_defaults_and_names_of_rules() -> None:
    where = ByCategory({"cloth": "all"}, default="otsu")
    found = where(IMAGES, ["cloth", "nut", "", "cloth", "pin", "cloth"])
    assert found[[0, 3, 5]].all()
    assert torch.equal(found[[1, 2, 4]], Foreground("otsu")(IMAGES[[1, 2, 4]]))
    assert torch.equal(where(IMAGES, None), Foreground("otsu")(IMAGES))
    assert repr(where).endswith("{'cloth': Foreground('all')}, default=Foreground('otsu'))")
    assert where(IMAGES[:0], []).shape == (0, 1, 96, 96)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.float32], ids=str)
def test_other_dtypes(dtype: torch.dtype) -> None:
    images = IMAGES.to(torch.int32) * 257 if dtype == torch.uint16 else IMAGES / 255
    found = ByCategory("nsa")(images.to(dtype), NAMES)
    assert torch.equal(found, ByCategory("nsa")(IMAGES, NAMES))


def test_floats_are_foreground_above_a_half() -> None:
    grey = ByCategory({"a": lambda images: images[:, :1] / 255, "b": "all"})
    found = grey(IMAGES, ["a", "b"] * 3)
    assert torch.equal(found[::2] > 0, IMAGES[::2, :1] / 255 > 0.5)


# ---- as a synthesizer's --------------------------------------------------------------------------


def made(method: str = "cutpaste", **keywords: Any) -> anoaug.Synthesizer:
    return anoaug.create(method, **{"p": 1.0, "seed": 0, **keywords})


CALL: dict[str, Any] = {"index": range(6), "epoch": 0}


def same(one: anoaug.AnomalyBatch, other: anoaug.AnomalyBatch) -> None:
    assert_same(one._replace(clean=one.image), other._replace(clean=other.image))


def test_a_synthesizer_hands_it_the_categories() -> None:
    where = ByCategory("memseg")
    synth = made(foreground=where)
    out = synth(IMAGES, category=NAMES, **CALL)
    same(out, made()(IMAGES, foreground=where(IMAGES, NAMES), **CALL))
    same(synth(IMAGES, params=out.params, category=NAMES), out)
    with pytest.raises(ValueError, match="category: expected one for each image .* got none"):
        synth(IMAGES, params=out.params)
    with pytest.raises(ValueError, match="category: 'bottl' has no foreground; did you mean bott"):
        synth(IMAGES, category="bottl")
    with pytest.raises(ValueError, match="category: expected names, or numbers below 0"):
        synth(IMAGES, category=[0] * 6)


@pytest.mark.slow
def test_donors_are_looked_at_as_their_own_category() -> None:
    bank = DonorBank.from_tensors(products(12, 2), categories=NAMES * 2)
    where = ByCategory("nsa")
    synth = made("nsa", donors=bank, preset="object", foreground=where)
    out = synth(IMAGES, category=NAMES, **CALL)
    for n, name in enumerate(NAMES):
        alone = made("nsa", donors=bank, preset="object", foreground=where.table[name])
        own = alone(IMAGES[n : n + 1], index=[n], epoch=0, category=name)
        assert torch.equal(out.image[n], own.image[0]) and torch.equal(out.mask[n], own.mask[0])


def test_one_of_hands_it_on() -> None:
    where, odds = ByCategory("realnet"), {"cutpaste": 1, "cdo": 1}
    ours = anoaug.OneOf(odds, p=1.0, seed=2, foreground=where)(IMAGES, category=NAMES, **CALL)
    theirs = anoaug.OneOf(odds, p=1.0, seed=2)(IMAGES, foreground=where(IMAGES, NAMES), **CALL)
    same(ours, theirs)
    members = [(made("cutpaste", foreground=where), 1), (made("cdo"), 1)]
    one = anoaug.OneOf(members, p=1.0, seed=2)
    out = one(IMAGES, category=NAMES, **CALL)
    rows = out.params.choice == 0
    assert 0 < rows.sum() < 6 and torch.equal(out.mask[rows], theirs.mask[rows])
    same(one(IMAGES, params=out.params, category=NAMES), out)


def test_a_normal_transform_s() -> None:
    where = ByCategory("nsa")
    first = made(foreground=where, seed=5)
    out = made(p=0.0, normal_transform=first)(IMAGES, category=NAMES, **CALL)
    assert torch.equal(out.image, first(IMAGES, category=NAMES, **CALL).image)


def test_kept_by_index() -> None:
    rule = Asked(60)
    cached = prepare.Cached(ByCategory({"nut": rule, "cloth": "all"}), 9)
    synth = made(foreground=cached)
    names = ["nut", "cloth"] * 3
    for first in (0, 3, 3):
        rows = range(first, first + 6)
        out = synth(IMAGES, index=rows, epoch=0, category=names)
        plain = ByCategory({"nut": Asked(60), "cloth": "all"})(IMAGES, names)
        if first == 0:
            same(out, made()(IMAGES, foreground=plain, **CALL))
    assert rule.rows == [3, 1] and cached.known == 9


def test_one_that_looks_at_images_alone_ignores_the_category() -> None:
    cached = prepare.Cached(Foreground("otsu"), 6)
    out = made(foreground=cached)(IMAGES, category=[3] * 6, **CALL)
    same(out, made(foreground="otsu")(IMAGES, **CALL))


def test_a_callable_of_one_s_own() -> None:
    told: list[Any] = []

    def rule(images: Tensor, category: list[str] | None) -> Tensor:
        told.append(category)
        return images[:, :1] > 60

    made(foreground=rule)(IMAGES, category=[*NAMES[:5], None])
    made(foreground=rule)(IMAGES)
    assert told == [[*NAMES[:5], ""], None]


@pytest.mark.slow
def test_compiles_into_one_graph() -> None:
    synth = made(foreground=ByCategory("memseg"))

    def step(images: Tensor, index: Tensor) -> Tensor:
        return synth(images, index=index, epoch=0, category=NAMES).mask * 2.0

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(IMAGES, torch.arange(6)), step(IMAGES, torch.arange(6)))


def test_loaders_hand_it_on() -> None:
    data = anoaug.ResidentDataset.from_tensors(IMAGES, NAMES)
    (batch,) = list(data.batches(6, synth=made(foreground=ByCategory("memseg")), shuffle=False))
    out = made(foreground=ByCategory("memseg"))(IMAGES, category=NAMES, **CALL)
    assert torch.equal(batch["image"], out.image)


# ---- refused -------------------------------------------------------------------------------------


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "no such code": (lambda: ByCategory("memsec"), ValueError, "did you mean memseg"),
    "no table": (lambda: ByCategory(["otsu"]), TypeError, "table: expected one of"),
    "empty": (lambda: ByCategory({}), ValueError, "at least one category"),
    "no such rule": (lambda: ByCategory({"a": "otso"}), ValueError, r"table\['a'\]: .*mean otsu"),
    "no rule": (lambda: ByCategory({"a": 3}), TypeError, r"table\['a'\]: expected a Foreground"),
    "a default": (lambda: ByCategory({"a": "all"}, default=3), TypeError, "default: expected a"),
    "a cache": (
        lambda: ByCategory({"a": prepare.Cached(Foreground(), 5)}),
        TypeError,
        r"Cached\(ByCategory\(table\), count\)",
    ),
    "too few": (lambda: ByCategory("nsa")(IMAGES, NAMES[:3]), ValueError, "per image, 6, got 3"),
    "masks that do not fit": (
        lambda: ByCategory({"a": lambda images: images[:, :1, 1:]})(IMAGES, "a"),
        ValueError,
        "foreground: expected shape",
    ),
}


@pytest.mark.parametrize(("call", "error", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
