"""Synthesizers as plain data and back: the same anomalies, to the bit."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import anoaug
from anoaug import blends, masks, methods, prepare, sources

IMAGES = anoaug.TextureBank.procedural(3, 48, seed=5).data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pillow = pytest.importorskip("PIL.Image")
    root = tmp_path_factory.mktemp("pictures")
    bank = anoaug.TextureBank.procedural(4, 48, seed=7)
    for number, picture in enumerate(bank.data.permute(0, 2, 3, 1).numpy()):
        pillow.fromarray(picture).save(root / f"{number}.png")
    return root


def drawn(synth: Any, **given: Any) -> tuple[Tensor, ...]:
    out = synth(IMAGES, index=range(3), epoch=1, **given)
    return out.image, out.mask, out.label, out.kind


def assert_twins(synth: Any, **given: Any) -> Any:
    """The config goes through JSON, makes the same anomalies, and itself again."""
    config = synth.to_config()
    twin = anoaug.from_config(json.loads(json.dumps(config)))
    assert twin.to_config() == config
    for one, other in zip(drawn(synth, **given), drawn(twin, **given), strict=True):
        assert torch.equal(one, other)
    return config


@pytest.mark.slow
@pytest.mark.parametrize("name", methods.list_methods())
def test_every_method_round_trips(name: str, folder: Path) -> None:
    fact = methods.get(name)
    needs = {need: str(folder) for need in fact.needs if need in ("textures", "donors")}
    if "donors" in needs:
        needs["donors"] = anoaug.DonorBank.from_folder(folder, size=48)
    if set(fact.needs) - {"textures", "donors"}:
        pytest.skip("needs tensors at the call")
    synth = anoaug.create(name, seed=2**63 + 5, **needs)
    config = synth.to_config()
    twin = anoaug.from_config(json.loads(json.dumps(config)))
    assert twin.to_config() == config and twin.seed == synth.seed and twin.p == synth.p


def test_keywords_come_back_as_they_were() -> None:
    synth = anoaug.create(
        "cutpaste", p=1.0, seed=3, area=(0.05, 0.1), dtype=torch.float32, label_rule="changed"
    )
    config = assert_twins(synth)
    assert config == {
        "_target_": "anoaug.create", "_args_": ["cutpaste"], "p": 1.0, "seed": 3,
        "area": [0.05, 0.1], "dtype": "float32", "label_rule": "changed",
    }  # fmt: skip


def test_what_was_set_later_is_said() -> None:
    synth = anoaug.create("cutpaste", seed=3)
    synth.p = 0.9
    assert assert_twins(synth)["p"] == 0.9


def test_a_composition_round_trips(folder: Path) -> None:
    bank = anoaug.TextureBank.from_folder(folder, size=32)
    shapes = anoaug.ShapeBank.procedural(("blob", "crack"), n=4, size=32)
    rust = anoaug.Layer(
        masks.Perlin(log2_cells=(1, 3), threshold=0.2) & ~masks.Rectangle(side=9),
        sources.Texture(bank), blends.Feather(width=0.1, opacity=(0.4, 1.0)),
    )  # fmt: skip
    chip = anoaug.Layer(
        masks.Shape(shapes), sources.Constant((0.0, 0.2)), count=(1, 2), kind="chip"
    )
    synth = anoaug.Synthesizer(
        rust, chip, p=1.0, seed=1, choose="one", weights=[1, 3], mean=[0.5], std=[0.25],
        foreground=prepare.Foreground("otsu"),
    )  # fmt: skip
    config = assert_twins(synth)
    assert config["_target_"] == "anoaug.Synthesizer" and config["weights"] == [1.0, 3.0]
    layer = config["_args_"][0]
    assert layer["_target_"] == "anoaug.Layer"
    assert layer["source"]["bank"]["_target_"] == "anoaug.TextureBank.from_folder"
    assert layer["source"]["bank"]["path"] == str(folder)


def test_one_of_and_by_category_round_trip() -> None:
    own = anoaug.create("cutpaste_scar", seed=9)
    one = anoaug.OneOf({"cutpaste": 0.7, own: 0.3}, p=1.0, seed=4)
    one.weights = (0.2, 0.8)
    config = assert_twins(one)
    assert [weight for _, weight in config["_args_"][0]] == [0.2, 0.8]
    by = anoaug.ByCategory(
        {"bolt": anoaug.create("cutpaste", p=1.0), "nut": anoaug.create("cdo", p=1.0)}, seed=1
    )
    assert_twins(by, category=["bolt", "nut", "bolt"])


def test_control_round_trips() -> None:
    asked = anoaug.Control(size=(0.02, 0.05), location=(0.2, 0.2, 0.8, 0.8))
    assert_twins(anoaug.create("draem", textures=None, seed=0, p=1.0, control=asked))


def test_copies_say_the_same() -> None:
    synth = anoaug.create("cutpaste", seed=3)
    for twin in (copy.deepcopy(synth), pickle.loads(pickle.dumps(synth))):
        assert twin.to_config() == synth.to_config()


# ---- files and other notations -------------------------------------------------------------------


def test_files(tmp_path: Path) -> None:
    synth = anoaug.create("cutpaste", seed=3, p=1.0)
    (tmp_path / "synth.json").write_text(json.dumps(synth.to_config()))
    (tmp_path / "synth.yaml").write_text("method: cutpaste\nseed: 3\np: 1.0\narea: [0.02, 0.15]\n")
    pytest.importorskip("yaml")
    for name in ("synth.json", "synth.yaml"):
        found = anoaug.from_config(tmp_path / name)
        assert all(map(torch.equal, drawn(found), drawn(synth)))
    with pytest.raises(ValueError, match="expected a .json, .yaml or .yml file"):
        anoaug.from_config("synth.toml")


def test_hydra_makes_the_same() -> None:
    hydra = pytest.importorskip("hydra.utils")
    synth = anoaug.create("cutpaste", seed=3, p=1.0, dtype="float32")
    found = hydra.instantiate(synth.to_config())
    assert all(map(torch.equal, drawn(found), drawn(synth)))


def test_values_may_be_configs() -> None:
    config = {
        "method": "draem", "seed": 1, "p": 1.0,
        "textures": {"_target_": "anoaug.TextureBank.procedural", "n": 3, "size": 32},
        "foreground": {"_target_": "anoaug.prepare.Foreground", "rule": "otsu"},
    }  # fmt: skip
    textures = anoaug.TextureBank.procedural(3, 32)
    other = anoaug.create("draem", seed=1, p=1.0, textures=textures, foreground="otsu")
    assert all(map(torch.equal, drawn(anoaug.from_config(config)), drawn(other)))


def test_what_a_control_measures_against_is_said(folder: Path) -> None:
    for variation in (0.02, prepare.Variation.of(folder, size=48)):
        control = anoaug.Control(strength=2.0, unit="sigma", variation=variation)
        assert_twins(anoaug.create("cutpaste", seed=1, p=1.0, control=control))
    made = prepare.Variation(torch.full((1, 1, 4, 4), 0.1))
    with pytest.raises(TypeError, match="variation: expected what plain data can say"):
        made.to_config()


@pytest.mark.parametrize(
    "table", ["realnet", {"bottle": "otsu", "screw": prepare.Foreground("all")}]
)
def test_a_foreground_by_category_is_said(table: Any) -> None:
    where = prepare.ByCategory(table, default="all")
    synth = anoaug.create("cutpaste", seed=1, p=1.0, foreground=where)
    assert_twins(synth, category=["bottle", "screw", "nut"])


def test_what_was_said_stays_if_the_callers_lists_change() -> None:
    mean, control = [0.5, 0.4, 0.3], {"size": 0.05}
    synth = anoaug.create("cutpaste", mean=mean, std=(0.2, 0.2, 0.2), control=control)
    own = anoaug.Synthesizer(
        anoaug.Layer(masks.Perlin(), sources.Constant(0.5)), mean=mean, std=[0.2] * 3
    )
    mean[0], control["size"] = 0.9, 0.3
    assert synth.to_config()["mean"] == own.to_config()["mean"] == [0.5, 0.4, 0.3]
    assert synth.to_config()["control"] == {"size": 0.05}


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    ["os.system", "anoaug", "anoaug.checks.importlib.import_module", "anoaug.config.json.loads",
     "anoaug.checks.require", "anoaug._x", 3, "builtins.eval"],
)  # fmt: skip
def test_nothing_outside_of_anoaug_is_called(target: Any) -> None:
    with pytest.raises(ValueError, match="_target_: "):
        anoaug.from_config({"_target_": target, "_args_": ["true"]})


def test_bad_configs_are_refused() -> None:
    with pytest.raises(TypeError, match="config: expected a dict or a path"):
        anoaug.from_config(3)
    with pytest.raises(ValueError, match="expected 'method' or '_target_'"):
        anoaug.from_config({"methd": "draem"})
    with pytest.raises(ValueError, match="got both, 'draem' and 'anoaug.create'"):
        anoaug.from_config({"method": "draem", "_target_": "anoaug.create"})
    with pytest.raises(ValueError, match="did you mean draem"):
        anoaug.from_config({"method": "dream"})
    with pytest.raises(ValueError, match="did you mean Perlin"):
        anoaug.from_config({"_target_": "anoaug.masks.Perling"})


def test_what_plain_data_cannot_say_is_named() -> None:
    bank = anoaug.TextureBank.from_tensors(IMAGES)
    with pytest.raises(TypeError, match="textures: expected what plain data can say.*from_folder"):
        anoaug.create("draem", textures=bank).to_config()
    with pytest.raises(TypeError, match="normal_transform: expected what plain data can say"):
        anoaug.create("cutpaste", normal_transform=lambda x: x).to_config()


# ---- set later -----------------------------------------------------------------------------------

LATER: dict[str, Any] = {
    "label_rule": "changed", "tolerance": 0.4, "min_area": 60, "label": "soft", "clean": "output",
    "dtype": "float16", "memory_format": "channels_last", "active": "always", "foreground": "otsu",
    "backend": "torch", "finish": anoaug.finish.Difference("binary"), "validate": True,
    "p": 0.9, "normal_transform": anoaug.turning.turned((20, 50), seed=3),
}  # fmt: skip


def test_every_setting_is_said_or_fixed() -> None:
    """Public attributes of an instance can be set and are said, or cannot be set."""
    synth = anoaug.create("cutpaste", seed=1)
    public = {name for name in vars(synth) if not name.startswith("_")} - {"training"}
    assert public == (set(LATER) - {"p"}) | type(synth)._fixed


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LATER))
def test_what_is_set_later_takes_effect_and_is_said(name: str) -> None:
    synth = anoaug.create("draem", textures=None, seed=4, opacity=0.4)
    setattr(synth, name, LATER[name])
    told = synth.to_config()
    assert name in ("finish", "normal_transform") or told[name] == LATER[name]
    keywords = {"opacity": 0.4, "p": 0.5, name: LATER[name]}
    made = anoaug.create("draem", textures=None, seed=4, **keywords)
    wanted = drawn(made)
    for one in (synth, anoaug.from_config(json.loads(json.dumps(told)))):
        for found, value in zip(drawn(one), wanted, strict=True):
            assert found.dtype == value.dtype and torch.equal(found, value)


def test_what_is_set_later_is_checked() -> None:
    synth = anoaug.create("cutpaste", seed=1)
    with pytest.raises(ValueError, match="label_rule: expected one of"):
        synth.label_rule = "changes"
    with pytest.raises(TypeError, match="finish: expected a callable"):
        synth.finish = 3
    assert "label_rule" not in synth.to_config()


@pytest.mark.parametrize("name", sorted(anoaug.Synthesizer._fixed))
def test_what_parts_are_bound_with_stays(name: str) -> None:
    synth = anoaug.create("cutpaste", seed=1)
    with pytest.raises(AttributeError, match=f"{name}: expected it as Synthesizer was made"):
        setattr(synth, name, getattr(synth, name))


def test_members_keep_their_own_settings() -> None:
    synth = anoaug.OneOf({"cutpaste": 1, "cutpaste_scar": 1}, seed=1)
    for name in ("label", "dtype", "backend", "members", "min_area"):
        with pytest.raises(AttributeError, match=f"{name}: expected it as OneOf was made"):
            setattr(synth, name, getattr(synth, name))
    synth.active, synth.foreground = "always", "otsu"
    assert_twins(synth)
    assert synth.to_config()["active"] == "always"
    copied = copy.deepcopy(synth)
    copied.active = "train"
    assert synth.active == "always" and pickle.loads(pickle.dumps(copied)).active == "train"
