"""The registry of methods: names, keywords, and what describe() tells of each."""

from __future__ import annotations

import inspect
import pkgutil
import re
from typing import Any

import pytest
import torch

import anoaug
from anoaug import methods

NAMES = methods.list_methods()
TEXTURES = anoaug.TextureBank.from_tensors(
    torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator())
)
DONORS = anoaug.DonorBank.from_tensors(
    torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator())
)
# What methods cannot do without, for tests that make every one of them.
INPUTS = {"donors": DONORS, "textures": TEXTURES}


def made(name: str, /, **keywords: Any) -> anoaug.Synthesizer:
    needs = {need: INPUTS[need] for need in methods.get(name).needs}
    return anoaug.create(name, **{**needs, "seed": 0, **keywords})


# ---- names ---------------------------------------------------------------------------------------


def test_the_first_methods_are_there() -> None:
    first = {"draem", "destseg", "cutpaste", "cutpaste_scar", "cutpaste_union"}
    assert first <= set(NAMES)


def test_every_file_of_methods_registers_some() -> None:
    files = {module.name for module in pkgutil.iter_modules(methods.__path__)} - {"inputs"}
    registered = {methods.get(name).build.__module__.rsplit(".", 1)[1] for name in NAMES}
    assert files == registered


def test_names_are_sorted_and_divided_among_families() -> None:
    assert sorted(NAMES) == NAMES
    by_family = [methods.list_methods(family=family) for family in methods.FAMILIES]
    assert sorted(sum(by_family, [])) == NAMES
    assert "draem" in methods.list_methods(family="external")
    assert "cutpaste" in methods.list_methods(family="self-contained")


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(ValueError, match="family: expected one of"):
        methods.list_methods(family="extern")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("dream", "draem"),
        ("DRAEM", "draem"),
        ("CutPaste-Scar", "cutpaste_scar"),
        ("cut_paste", "cutpaste"),
        ("destsg", "destseg"),
    ],
)
def test_an_unknown_method_names_the_nearest(wrong: str, right: str) -> None:
    for call in (anoaug.create, anoaug.describe):
        with pytest.raises(ValueError, match=f"'{wrong}' is unknown; did you mean .*{right}"):
            call(wrong)


def test_names_much_further_than_the_nearest_are_not_proposed() -> None:
    for wrong in ("dream", "DRAEM"):
        with pytest.raises(ValueError, match="did you mean draem[?]$"):
            anoaug.create(wrong)


@pytest.mark.parametrize("wrong", [None, 3, b"draem"])
def test_what_is_no_name_is_refused(wrong: Any) -> None:
    for call in (anoaug.create, anoaug.describe):
        with pytest.raises(TypeError, match="expected a name such as 'draem', got .*list_methods"):
            call(wrong)


def test_a_name_far_from_all_lists_them() -> None:
    with pytest.raises(ValueError, match="known: .*cutpaste.*draem"):
        anoaug.create("qqqqqqqq")


def test_a_taken_name_is_refused() -> None:
    fields = {"family": "external", "paper": "p", "matches": "m", "defects": (), "surfaces": ()}

    def build() -> anoaug.Synthesizer:
        raise AssertionError("never called")

    with pytest.raises(ValueError, match="expected a new name, got 'draem'"):
        methods.method("draem", **fields)(build)
    assert methods.get("draem").build is not build


# ---- keywords ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("draem", "opacitty", "opacity"),
        ("draem", "texture", "textures"),
        ("cutpaste", "aspects", "aspect"),
        ("cutpaste", "label_rul", "label_rule"),
    ],
)
def test_an_unknown_keyword_names_the_nearest(name: str, wrong: str, right: str) -> None:
    with pytest.raises(
        TypeError, match=f"'{wrong}' is not a keyword of it; did you mean .*{right}"
    ):
        anoaug.create(name, **{wrong: 1})


@pytest.mark.parametrize(
    ("name", "wrong", "hint"),
    [
        ("draem", "probability", "did you mean p?"),
        ("cutpaste", "prob", "did you mean p?"),
        ("cutpaste", "P", "did you mean p?"),
        ("draem", "DTD", "did you mean textures?"),
        ("draem", "beta", "did you mean opacity?"),
        ("draem", "Opacity", "did you mean opacity?"),
        ("cutpaste", "category", "synth(images, category=...)"),
        ("cutpaste", "device", "follows the images"),
        ("draem", "size", "follows the images"),
    ],
)
def test_what_people_call_keywords_is_understood(name: str, wrong: str, hint: str) -> None:
    with pytest.raises(TypeError, match=f"'{wrong}' is not a keyword of it; .*{re.escape(hint)}$"):
        anoaug.create(name, **{wrong: 1})


def test_data_that_a_method_does_not_take_name_those_that_do() -> None:
    with pytest.raises(TypeError, match="'donors' is not a keyword of it; it is for .*nsa"):
        anoaug.create("cutpaste", donors=DONORS)


def test_images_of_other_channels_than_the_textures_of_nobody_are_told_what_to_pass() -> None:
    images = torch.zeros(2, 4, 16, 16, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"pass .*textures=TextureBank.procedural\(channels=1\)"):
        made("draem", p=1.0)(images)


def test_a_synonym_of_what_a_method_lacks_is_not_proposed() -> None:
    with pytest.raises(TypeError, match="not a keyword") as caught:
        anoaug.create("cutpaste", dtd=1)
    assert "textures" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_method_takes_every_common_keyword(name: str) -> None:
    for keyword, default in methods.common_keywords().items():
        if keyword not in methods.get(name).defaults():
            made(name, **{keyword: default})


def test_the_kind_s_name_can_be_chosen() -> None:
    assert made("draem", name="dirt").kinds == ("normal", "dirt", "given")


@pytest.mark.parametrize("name", NAMES)
def test_published_defaults_given_in_words_change_nothing(name: str) -> None:
    chosen = methods.get(name)
    spoken = {k: v for k, v in chosen.defaults().items() if k not in chosen.needs}
    assert made(name, **spoken).laws(3) == made(name).laws(3)


@pytest.mark.parametrize("name", NAMES)
def test_overridden_keywords_reach_the_synthesizer(name: str) -> None:
    synth = made(name, p=0.25, seed=12, min_area=7, label="soft", active="always")
    assert (synth.p, synth.seed, synth.min_area) == (0.25, 12, 7.0)
    assert (synth.label, synth.active) == ("soft", "always")


@pytest.mark.parametrize("name", NAMES)
def test_bad_values_are_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match="p: expected a number in"):
        made(name, p=1.5)


# ---- what a method is ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_describe_is_complete(name: str) -> None:
    told = anoaug.describe(name)
    assert told["name"] == name and told["family"] in methods.FAMILIES
    for field in ("paper", "matches", "deviations", "defects", "surfaces", "defaults", "common"):
        assert told[field], f"{field} is empty"
    for field in ("deviations", "defects", "surfaces"):
        assert all(isinstance(entry, str) and entry.strip() for entry in told[field])
    # Authors, title, venue with its year, and where to find it.
    assert re.search(r"\w+.*: .+, .*\d{4}.*(arXiv \d{4}\.\d{4,5}|doi|http)", told["paper"])


@pytest.mark.parametrize("name", NAMES)
def test_describe_names_every_keyword_with_its_default(name: str) -> None:
    told, chosen = anoaug.describe(name), methods.get(name)
    parameters = inspect.signature(chosen.build).parameters
    for keyword, default in told["defaults"].items():
        assert parameters[keyword].default == default
    assert set(told["needs"]) <= set(told["defaults"])
    assert {"p"} <= set(told["defaults"]) and {"seed", "clean"} <= set(told["common"])


@pytest.mark.parametrize("name", NAMES)
def test_describe_is_a_copy(name: str) -> None:
    anoaug.describe(name)["deviations"].append("changed by a reader")
    assert "changed by a reader" not in anoaug.describe(name)["deviations"]


@pytest.mark.parametrize("name", NAMES)
def test_every_keyword_is_explained(name: str) -> None:
    chosen = methods.get(name)
    text = inspect.getdoc(chosen.build) or ""
    if "arguments as in" in text:
        return
    for keyword in chosen.defaults():
        assert re.search(rf"\b{keyword}\b", text), keyword


HIDING = {"cutout", "i3ad", "intra", "riad", "smai"}


@pytest.mark.parametrize("name", NAMES)
def test_methods_that_hide_pixels_say_that_these_are_no_defects(name: str) -> None:
    told = anoaug.describe(name)
    assert told["mask"] == ("corruption" if name in HIDING else "defect")
    assert told["family"] == "inpainting" or told["mask"] == "defect"


def test_surfaces_are_of_a_kind() -> None:
    fields = {"family": "external", "paper": "p", "matches": "m", "defects": ()}
    with pytest.raises(ValueError, match="surfaces: expected one of"):
        methods.method("weaver", **fields, surfaces=("cloth",))


def test_what_a_mask_marks_is_one_of_two() -> None:
    fields = {"family": "inpainting", "paper": "p", "matches": "m", "defects": (), "surfaces": ()}
    with pytest.raises(ValueError, match="mask: expected one of"):
        methods.method("hider", **fields, mask="hole")


# ---- what every method does ----------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_kinds_bear_the_method_s_name(name: str) -> None:
    kinds = made(name).kinds
    assert kinds[0] == "normal" and kinds[-1] == "given"
    assert all(kind.startswith(name.split("_")[0]) for kind in kinds[1:-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_samples_are_normal_and_untouched_or_anomalous_and_changed(
    name: str, channels: int
) -> None:
    generator = torch.Generator().manual_seed(channels)
    shape = (24, channels, 40, 52)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    images[..., ::6] = 0  # a pattern, for methods that break one
    four = torch.cat([TEXTURES.data, TEXTURES.data[:, :1]], 1)
    given = {"textures": TEXTURES if channels < 4 else four, "donors": images.roll(1, 0)}
    needed = {need: given[need] for need in methods.get(name).needs}
    out = anoaug.create(name, **needed, seed=1, p=0.6)(images, index=range(24), epoch=0)
    images = images[out.extras.get("source_row", torch.arange(24))]
    normal = out.label == 0
    assert 0 < normal.sum() < len(normal)
    assert torch.equal(out.image[normal], images[normal])
    assert not out.mask[normal].any() and not out.kind[normal].any()
    outside = out.mask.expand_as(images) == 0
    assert torch.equal(out.image[outside], images[outside])
    assert out.mask[~normal].flatten(1).any(1).all() and out.kind[~normal].all()
    changed = (out.image != images).flatten(1).any(1)
    assert changed[~normal].all()


def test_textures_may_be_a_bank_a_tensor_or_a_folder(tmp_path: Any) -> None:
    pillow = pytest.importorskip("PIL.Image")
    for n, texture in enumerate(TEXTURES.data):
        pillow.fromarray(texture.permute(1, 2, 0).numpy()).save(tmp_path / f"{n}.png")
    (tmp_path / "cache").mkdir()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("ANOAUG_CACHE", str(tmp_path / "cache"))
        banks = [
            methods.inputs.as_textures(given)
            for given in (TEXTURES, TEXTURES.data, TEXTURES.data / 255, tmp_path, str(tmp_path))
        ]
    assert banks[0] is TEXTURES
    assert all(torch.equal(bank.data, TEXTURES.data) for bank in banks[1:3])
    assert all(len(bank) == 3 for bank in banks)


@pytest.mark.parametrize("given", [3, [1, 2], b"folder"])
def test_textures_of_another_type_are_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="textures: expected a TextureBank, a folder, a tensor"):
        anoaug.create("draem", textures=given)


@pytest.mark.slow
def test_no_textures_are_procedural_ones_and_say_so_once() -> None:
    methods.inputs._procedural.cache_clear()
    with pytest.warns(UserWarning, match="not the paper's DTD") as caught:
        first, second = anoaug.create("draem"), anoaug.create("destseg")
    assert len(caught) == 1
    assert first.layers[0].source.bank is second.layers[0].source.bank


def test_donors_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match="donors: expected a DonorBank, a folder or a tensor"):
        methods.inputs.as_donors(None)
