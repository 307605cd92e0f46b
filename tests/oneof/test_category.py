"""ByCategory: each sample goes by its own product's settings, foreground and donors."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

import anoaug
from anoaug import (
    AnomalyCollate,
    AnomalyLoader,
    ByCategory,
    DonorBank,
    Layer,
    OneOf,
    ResidentDataset,
    Synthesizer,
    prepare,
)
from anoaug.masks import Rectangle
from anoaug.methods.nsa import PRESETS
from anoaug.sources import Donor
from tests.masks.test_patches import products
from tests.oneof.samples import COUNT, IMAGES, TEXTURES, bits, numbered, pictures, same, white

PRODUCTS = products(COUNT, 1)
NAMES = ["bottle", "screw", "carpet", "toothbrush"] * 3
BANK = DonorBank.from_tensors(products(12, 2), categories=NAMES)
MVTEC = sorted(prepare.PRESETS["nsa"]["mvtec"])
VISA = sorted(prepare.PRESETS["realnet"]["visa"])


def shades(**keywords: Any) -> ByCategory:
    """White boxes on nuts, grey ones on pins, black ones on all else."""
    members = {"nut": white("nut"), "pin": white("pin", 0.5)}
    return ByCategory(members, **{"default": white("else", 0.0), "p": 1.0, "seed": 0, **keywords})


SHADES = ["nut", "pin", "axe"] * 4


def test_shades_by_category() -> None:
    out = shades()(IMAGES, category=SHADES, **numbered())
    painted = [out.image[n][:, out.mask[n, 0] > 0].unique().tolist() for n in range(COUNT)]
    assert painted == [[255], [128], [0]] * 4
    assert [shades().kinds[k] for k in out.kind] == ["nut", "pin", "else"] * 4


# ---- a row is what its member alone makes --------------------------------------------------------


@pytest.mark.slow
def test_nsa_s_rows_are_those_of_each_preset() -> None:
    out = ByCategory("nsa", donors=BANK, seed=3)(PRODUCTS, category=NAMES, **numbered())
    assert out.label.sum() > 6
    for name in NAMES[:4]:
        alone = anoaug.create("nsa", donors=BANK, preset=name, seed=3)
        own = alone(PRODUCTS, category=NAMES, **numbered())
        rows = torch.tensor([one == name for one in NAMES])
        for field in ("image", "mask", "label", "clean"):
            assert torch.equal(getattr(out, field)[rows], getattr(own, field)[rows]), (name, field)
        width = own.params.table.shape[1]
        assert torch.equal(bits(out.params.table[rows, :width]), bits(own.params.table[rows]))


@pytest.mark.slow
@given(order=st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=5))
@settings(max_examples=6, deadline=None)
def test_a_sample_is_the_same_in_any_batch(order: list[int]) -> None:
    synth = ByCategory("nsa", donors=BANK, seed=3)
    whole = synth(PRODUCTS, category=NAMES, **numbered())
    names = [NAMES[n] for n in order]
    out = synth(PRODUCTS[order], index=order, epoch=3, category=names)
    for one, other in zip(out[:4], whole[:4], strict=True):
        assert torch.equal(one, other[order])  # type: ignore[arg-type, index]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "names"), [("memseg", MVTEC), ("realnet", MVTEC), ("realnet", VISA)]
)
def test_foregrounds_of_each_product(method: str, names: list[str]) -> None:
    images = products(len(names), 5)
    synth = ByCategory(method, textures=TEXTURES, p=1.0, seed=1)
    out = synth(images, category=names, **numbered(len(names)))
    assert out.label.any()
    data = "visa" if "candle" in names else "mvtec"
    for n, name in enumerate(names):
        rule = prepare.preset(data, name, of=method)
        alone = anoaug.create(method, textures=TEXTURES, p=1.0, seed=1, foreground=rule)
        own = alone(images[n : n + 1], index=[n], epoch=3)
        assert torch.equal(out.image[n], own.image[0]) and torch.equal(out.mask[n], own.mask[0])


@pytest.mark.slow
def test_destseg_turns_what_the_published_loader_turns() -> None:
    names = ["bottle", "wood", "pill"] * 4
    images = pictures(batch=COUNT)[..., :36, :36].contiguous()
    synth = ByCategory("destseg", textures=TEXTURES, seed=1)
    out = synth(images, category=names, **numbered())
    turned = (out.clean != images).flatten(1).any(1)  # type: ignore[union-attr]
    assert turned.tolist() == [True, True, False] * 4
    for name in names[:3]:
        published = anoaug.describe("destseg")["categories"][name]
        alone = anoaug.create("destseg", textures=TEXTURES, seed=1, **published)
        own = alone(images, **numbered())
        rows = torch.tensor([one == name for one in names])
        assert torch.equal(out.image[rows], own.image[rows])
        assert torch.equal(out.clean[rows], own.clean[rows])  # type: ignore[index]
    again = synth(out.clean, params=out.params)
    assert torch.equal(again.image, out.image)
    with pytest.raises(ValueError, match="mask: expected none together with normal_transform"):
        synth(images, category=names, mask=torch.zeros(COUNT, 1, 36, 36), **numbered())


# ---- donors --------------------------------------------------------------------------------------


def test_donors_are_of_the_sample_s_category() -> None:
    data = torch.zeros(6, 3, 40, 36, dtype=torch.uint8)
    shade = {"carpet": 40, "grid": 90, "tile": 160}
    for n, value in enumerate([*shade.values()] * 2):
        data[n] = value
    bank = DonorBank.from_tensors(data, categories=list(shade) * 2)
    names = list(shade) * 4
    synth = ByCategory("nsa", donors=bank, blend="swap", labels="binary", seed=0)
    out = synth(torch.zeros_like(IMAGES), category=names, **numbered())
    assert out.label.sum() > 6  # the smallest patches have no label
    for n in out.label.nonzero()[:, 0].tolist():
        assert out.image[n][:, out.mask[n, 0] > 0].unique().tolist() == [shade[names[n]]]


@pytest.mark.slow
def test_donors_objects_are_found_once_for_all_products() -> None:
    asked: list[int] = []

    def rule(images: Tensor) -> Tensor:
        asked.append(len(images))
        return prepare.background_distance(images, 20, 20)

    table = {name: {"preset": name} for name in NAMES}
    synth = ByCategory("nsa", table, donors=BANK, foreground=rule, seed=3)
    for _ in range(2):
        synth(PRODUCTS[:8], category=NAMES[:8], **numbered(8))
    assert sorted(asked) == [8, 8, len(BANK)]


def test_a_bank_without_categories_would_mix_products() -> None:
    with pytest.raises(ValueError, match=r"donors: expected a bank with categories .*categories="):
        ByCategory("nsa", donors=products(3, 1))
    table = {"bolt": Synthesizer(Layer(Rectangle(), Donor(DonorBank.from_tensors(IMAGES))))}
    assert ByCategory(table)(IMAGES, category="bolt").label.any()


def test_a_bank_without_the_category_is_refused() -> None:
    with pytest.raises(ValueError, match="category: 'zipper' is in no bank; known: bottle, "):
        ByCategory("nsa", donors=BANK)(PRODUCTS, category="zipper")


# ---- which categories ----------------------------------------------------------------------------


def test_all_of_mvtec_are_there() -> None:
    for method in ("destseg", "memseg", "nsa", "realnet"):
        assert set(MVTEC) <= set(anoaug.describe(method)["categories"]), method
    assert set(VISA) <= set(anoaug.describe("realnet")["categories"])
    assert set(PRESETS) == set(anoaug.describe("nsa")["categories"])


@pytest.mark.slow
def test_an_unknown_category_is_refused_or_has_the_default() -> None:
    synth = ByCategory("memseg", textures=TEXTURES)
    with pytest.raises(ValueError, match="category: 'bottel' has no settings; did you mean bottle"):
        synth(IMAGES, category="bottel")
    with pytest.raises(ValueError, match="category: expected one for each sample .*default="):
        synth(IMAGES)
    where = prepare.Foreground("otsu")
    other = ByCategory("memseg", textures=TEXTURES, default={"foreground": where}, p=1.0, seed=0)
    alone = anoaug.create("memseg", textures=TEXTURES, foreground=where, p=1.0, seed=0)
    for category in ("bottel", None, [None] * COUNT):
        out = other(PRODUCTS, category=category, **numbered())
        assert torch.equal(out.image, alone(PRODUCTS, **numbered()).image)


def test_a_default_by_name() -> None:
    bank = DonorBank.from_tensors(products(4, 2), categories=["bolt", "gear"] * 2)
    synth = ByCategory("nsa", {}, donors=bank, default="object", seed=3)
    own = anoaug.create("nsa", donors=bank, preset="object", seed=3)
    names = ["bolt", "gear"] * 6
    call = {"category": names, **numbered()}
    assert torch.equal(synth(PRODUCTS, **call).image, own(PRODUCTS, **call).image)


def test_a_table_of_one_s_own() -> None:
    bank = DonorBank.from_tensors(products(9, 2), categories=["bolt", "gear", "rod"] * 3)
    ready = white("rod", p=1.0)
    table = {"bolt": "screw", "gear": {"preset": "bottle", "patches": 1}, "rod": ready}
    synth = ByCategory("nsa", table, donors=bank, patches=2, label="hard", seed=3)
    assert synth.table["bolt"] is synth.table["screw"]
    assert [len(synth.table[n].layers) for n in ("bolt", "gear", "rod", "bottle")] == [2, 1, 1, 2]


def test_settings_of_a_table_come_before_those_of_the_call() -> None:
    table = {"bolt": {"opacity": 1.0}, "leather": {"opacity": 0.5}}
    synth = ByCategory("memseg", table, textures=TEXTURES, opacity=0.25, foreground="otsu")
    told = {n: synth.table[n].layers[0].blend.opacity for n in ("bolt", "leather", "bottle")}  # type: ignore[attr-defined]
    assert told == {"bolt": (1.0, 1.0), "leather": (0.5, 0.5), "bottle": (0.25, 0.25)}
    assert all(repr(one.foreground) == "Foreground('otsu')" for one in synth.table.values())


def test_numbers_and_one_for_all() -> None:
    synth = shades()
    assert synth.categories == ("nut", "pin")
    out = synth(IMAGES, category=torch.tensor([0, 1, -1] * 4), **numbered())
    assert same(out, synth(IMAGES, category=SHADES, **numbered()))
    alike = synth(IMAGES, category="pin", **numbered())
    assert same(alike, synth(IMAGES, category=1, **numbered()))
    with pytest.raises(ValueError, match="category: expected names, or numbers below 2"):
        synth(IMAGES, category=2)
    with pytest.raises(ValueError, match="category: expected one per sample, 12, got 3"):
        synth(IMAGES, category=["nut", "pin", "nut"])


# ---- launches ------------------------------------------------------------------------------------


def test_foregrounds_and_ranges_alone_share_a_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    render = anoaug.ops.render

    def counted(image: Tensor, *arguments: Any) -> Any:
        rows.append(len(image))
        return render(image, *arguments)

    monkeypatch.setattr(anoaug.ops, "render", counted)
    images = products(15, 5)
    ByCategory("memseg", textures=TEXTURES, p=1.0)(images, category=MVTEC, **numbered(15))
    assert rows == [15]


def test_reads_nothing_from_the_device() -> None:
    """A call on ``meta``, where no tensor has values, would fail where it does."""
    synth = ByCategory("memseg", textures=TEXTURES, p=1.0)
    out = synth(products(15, 5).to("meta"), category=MVTEC, **numbered(15))
    assert out.image.is_meta and out.params.choice.device.type == "cpu"  # type: ignore[union-attr]
    turned = ByCategory("destseg", textures=TEXTURES)
    assert turned(IMAGES.to("meta"), category=["pill"] * COUNT, **numbered()).image.is_meta


@pytest.mark.parametrize("dtype", [torch.uint16, torch.float32], ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["planar", "channels_last"])
def test_any_dtype_and_layout(dtype: torch.dtype, last: bool) -> None:
    images = pictures(dtype)
    if last:
        images = images.contiguous(memory_format=torch.channels_last)
    shade = {name: white(name, k / 2, clean="output") for k, name in enumerate(SHADES[:3])}
    out = ByCategory(shade, p=1.0, seed=0)(images, category=SHADES, **numbered())
    assert torch.equal(out.clean, images)  # type: ignore[arg-type]
    assert out.image.stride() == images.stride() and out.image.dtype == dtype
    own = white("pin", 0.5, p=1.0, seed=0)(images, **numbered())
    assert torch.equal(out.image[1::3], own.image[1::3])


# ---- as a module ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_replay_needs_no_category() -> None:
    synth = ByCategory("nsa", donors=BANK, default="object")
    out = synth(PRODUCTS, category=NAMES)
    assert same(synth(PRODUCTS, params=out.params), out)
    part = synth(PRODUCTS[5:8], params=out.params.take(slice(5, 8)))
    assert torch.equal(part.image, out.image[5:8])


def test_state_and_copies() -> None:
    synth = shades(p=0.6)
    synth(IMAGES, category=SHADES)
    stored = io.BytesIO()
    torch.save(synth.state_dict(), stored)
    stored.seek(0)
    twin = shades(p=0.6, seed=9)
    twin.load_state_dict(torch.load(stored, weights_only=True))
    others = [copy.deepcopy(synth), pickle.loads(pickle.dumps(synth)), twin]
    expected = synth(IMAGES, category=SHADES)
    for other in others:
        assert same(other(IMAGES, category=SHADES), expected)
    assert "9 categories" not in repr(synth) and "2 categories, default 'default'" in repr(synth)


def test_eval_is_the_identity_and_asks_for_nothing() -> None:
    out = ByCategory("nsa", donors=BANK).eval()(PRODUCTS)
    assert torch.equal(out.image, PRODUCTS) and not out.label.any()


def test_an_empty_batch() -> None:
    for category in (None, [], "nut"):
        assert shades()(IMAGES[:0], category=category).image.shape == (0, 3, 40, 36)


def test_p_is_the_members_or_given() -> None:
    assert (
        ByCategory("nsa", donors=BANK).p == 1.0 and ByCategory("memseg", textures=TEXTURES).p == 0.5
    )
    assert ByCategory({"a": "cutpaste", "b": white(p=0.5)}).p == 0.5
    with pytest.raises(ValueError, match=r"p: expected the same in all members, got \[0.5, 1.0\]"):
        ByCategory({"a": white(p=1.0), "b": white(p=0.5)})
    synth = shades(p=0.0)
    assert not synth(IMAGES, category=SHADES).label.any()
    synth.p = 1.0
    assert synth(IMAGES, category=SHADES).label.all()


# ---- in company ----------------------------------------------------------------------------------


def test_a_member_of_one_of() -> None:
    synth = OneOf({shades(): 1, "cutpaste": 1}, p=1.0, seed=0)
    assert synth.kinds == ("normal", "nut", "pin", "else", "cutpaste", "given")
    assert synth.names == ("by category", "cutpaste") and len(synth.members) == 4
    out = synth(IMAGES, category=SHADES, **numbered())
    ours = out.params.choice < 3  # type: ignore[operator]
    assert 0 < ours.sum() < COUNT
    own = shades()(IMAGES, category=SHADES, **numbered())
    assert torch.equal(out.image[ours], own.image[ours])
    theirs = anoaug.create("cutpaste", p=1.0, seed=0)(IMAGES, **numbered())
    assert torch.equal(out.image[~ours], theirs.image[~ours])
    assert same(synth(IMAGES, params=out.params), out)
    with pytest.raises(ValueError, match="category: expected one for each sample"):
        OneOf({ByCategory({"nut": white("nut")}): 1})(IMAGES)


def test_with_a_one_of_among_its_members() -> None:
    mixed = OneOf({"cutpaste": 1, white("white"): 1}, p=1.0)
    synth = ByCategory({"nut": mixed, "pin": "cutpaste_scar"}, p=1.0, seed=0)
    names = ["nut", "nut", "pin"] * 4
    out = synth(IMAGES, category=names, **numbered())
    own = OneOf({"cutpaste": 1, white("white"): 1}, p=1.0, seed=0)(IMAGES, **numbered())
    nuts = torch.tensor([name == "nut" for name in names])
    assert torch.equal(out.image[nuts], own.image[nuts])
    assert len(out.params.choice[nuts].unique()) == 2  # type: ignore[index]
    with pytest.raises(TypeError, match="no OneOf among them"):
        OneOf({synth: 1})


@pytest.mark.slow
def test_loaders_bring_the_category() -> None:
    data = ResidentDataset.from_tensors(PRODUCTS, NAMES)
    synth = ByCategory("nsa", donors=data.bank, seed=3)
    (batch,) = list(data.batches(COUNT, synth=synth, shuffle=False))
    own = synth(PRODUCTS, category=NAMES, index=range(COUNT), epoch=0)
    assert torch.equal(batch["image"], own.image) and torch.equal(batch["mask"], own.mask)
    samples = [{"image": p, "category": n} for p, n in zip(PRODUCTS, NAMES, strict=True)]
    indexed = anoaug.IndexedDataset(samples)
    for made in (
        AnomalyLoader(DataLoader(indexed, 5), synth),
        DataLoader(indexed, 5, collate_fn=AnomalyCollate(synth)),
    ):
        synth.set_epoch(0)
        got = torch.cat([batch["image"] for batch in made])
        assert torch.equal(got, own.image)


@pytest.mark.slow
def test_torch_compile_leaves_it_out() -> None:
    synth = shades()
    compiled = torch.compile(lambda x: synth(x, category=SHADES, **numbered()).mask * 2.0,
                             backend="eager")  # fmt: skip
    assert torch.equal(compiled(IMAGES), synth(IMAGES, category=SHADES, **numbered()).mask * 2.0)


# ---- refused -------------------------------------------------------------------------------------


def narrower(images: Tensor) -> Tensor:
    return images[..., 1:]


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "no settings": (lambda: ByCategory("draem"), ValueError, "draem has no published settings"),
    "no method": (lambda: ByCategory("nsaa"), ValueError, "'nsaa' is unknown; did you mean"),
    "an unknown keyword": (
        lambda: ByCategory("memseg", textures=TEXTURES, opactiy=1.0),
        TypeError,
        "did you mean opacity",
    ),
    "an unknown alias": (
        lambda: ByCategory("nsa", {"bolt": "scrw"}, donors=BANK),
        ValueError,
        r"table\['bolt'\]: .*did you mean screw",
    ),
    "no table": (lambda: ByCategory("nsa", [("a", {})]), TypeError, "table: expected"),
    "a number": (lambda: ByCategory("nsa", {"a": 3}, donors=BANK), TypeError, r"table\['a'\]"),
    "keywords without a method": (
        lambda: ByCategory({"bolt": {"p": 1.0}}),
        TypeError,
        "name their method first",
    ),
    "members and a table": (
        lambda: ByCategory({"bolt": "cutpaste"}, {"nut": "cutpaste"}),
        TypeError,
        "join them",
    ),
    "no members": (lambda: ByCategory({}), ValueError, "at least one"),
    "different outputs": (
        lambda: ByCategory({"a": white(), "b": white(label="soft")}),
        ValueError,
        "label: expected the same in all members, got 'hard' in a and 'soft' in b",
    ),
    "views": (lambda: ByCategory({"a": white(views=True)}), ValueError, "got a with views"),
    "two foregrounds": (
        lambda: ByCategory({"a": white(foreground="otsu")}, foreground="otsu"),
        ValueError,
        "that of a; leave one out",
    ),
    "a preset of nsa": (
        lambda: anoaug.create("nsa", donors=BANK, preset="category"),
        ValueError,
        r"anoaug\.ByCategory\('nsa', \.\.\.\)",
    ),
    "a transform to another size": (
        lambda: ByCategory({"a": white(normal_transform=narrower)})(IMAGES, category="a"),
        ValueError,
        "normal_transform: expected .*rows of a batch are alike",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
