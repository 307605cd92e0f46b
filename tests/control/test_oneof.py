"""A OneOf hands its rows' values to the members that make them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import anoaug
from anoaug.batch import AnomalyBatch
from tests.control.making import SIDE, B, areas, banks, centres, everywhere, images


def mixed(**keywords: Any) -> anoaug.OneOf:
    members = {"draem": 0.4, "cutpaste": 0.3, "memseg": 0.3}
    return anoaug.OneOf(
        members, textures=banks()["textures"], **{"p": 1.0, "seed": 1, "control": True, **keywords}
    )


def called(synth: anoaug.Synthesizer, control: Any = None, **keywords: Any) -> AnomalyBatch:
    given = {"index": range(B), "epoch": 0, **keywords}
    return synth(images(), control=control, **given)


SIZES = torch.linspace(0.02, 0.09, B)


def test_members_get_their_rows_values() -> None:
    synth = mixed()
    points = torch.linspace(0.3, 0.7, B)[:, None].repeat(1, 2)
    out = called(synth, {"size": SIZES, "location": points})
    assert len(set(out.params.choice.tolist())) > 1  # type: ignore[union-attr]
    assert (areas(out) / SIZES - 1).abs().max() <= 0.1
    assert (centres(out) - points).abs().max() <= 0.2
    again = synth(images(), params=out.params)
    assert torch.equal(out.image, again.image) and torch.equal(out.mask, again.mask)
    some = torch.tensor([6, 1])
    part = synth(images()[some], params=out.params.take(some))
    assert torch.equal(part.image, out.image[some])


@pytest.mark.slow
def test_a_row_is_what_its_member_alone_makes_of_it() -> None:
    synth = mixed()
    control = {"size": SIZES, "location": (0.4, 0.6), "strength": 0.1, "unit": "difference"}
    out = called(synth, control)
    for k, name in enumerate(synth.names):
        keywords = {} if name == "cutpaste" else {"textures": banks()["textures"]}
        alone = anoaug.create(name, p=1.0, seed=1, control=True, **keywords)
        rows = (out.params.choice == k).nonzero()[:, 0]  # type: ignore[union-attr]
        made = alone(images(), index=range(B), epoch=0, control=control)
        assert torch.equal(made.image[rows], out.image[rows])
        assert torch.equal(made.mask[rows], out.mask[rows])


def test_kinds_choose_members() -> None:
    synth = mixed()
    number = torch.tensor([1, 2, 3, 4, 1, 2, 3, 4])
    out = called(synth, {"kind": number})
    assert torch.equal(out.kind[out.label > 0], number[out.label > 0]) and out.label.sum() >= 6
    memseg = called(synth, {"kind": "memseg"})
    assert set(memseg.params.choice.tolist()) == {2}  # type: ignore[union-attr]
    either = called(synth, {"kind": ("draem", "cutpaste")})
    assert set(either.params.choice.tolist()) == {0, 1}  # type: ignore[union-attr]
    texture = called(synth, {"kind": "memseg_texture", "size": 0.05})
    assert {synth.kinds[n] for n in texture.kind.tolist()} == {"memseg_texture"}
    free = called(synth, {"kind": torch.full((B,), -1)})
    assert torch.equal(free.image, called(synth).image)


def test_what_some_member_lacks_is_refused() -> None:
    synth = anoaug.OneOf({"cutpaste": 1, "intra": 1}, control=True)
    with pytest.raises(ValueError, match="size does not apply to every member, cutpaste, intra"):
        called(synth, {"size": 0.1})
    assert set(synth.controls) == {"strength", "kind"}


def test_bad_values_are_refused() -> None:
    synth = mixed()
    with pytest.raises(ValueError, match="size: expected one value per sample, 8, got 2"):
        called(synth, {"size": torch.tensor([0.1, 0.2])})
    with pytest.raises(ValueError, match="kind: 'drem' is unknown; did you mean draem"):
        called(synth, {"kind": "drem"})
    synth.weights = {"draem": 1, "cutpaste": 0, "memseg": 0}
    with pytest.raises(ValueError, match="kind: expected one of members with a weight above 0"):
        called(synth, {"kind": "cutpaste"})
    with pytest.raises(ValueError, match="control: expected none with params"):
        synth(images(), params=called(synth).params, control={"size": 0.1})


def test_members_may_have_controls_of_their_own() -> None:
    first = anoaug.create("cutpaste", control={"size": 0.03}, name="small")
    second = anoaug.create("cutpaste", control={"size": 0.1}, name="large")
    synth = anoaug.OneOf({first: 1.0, second: 1.0}, p=1.0, seed=0)
    out = called(synth)
    wanted = torch.tensor([0.03, 0.1])[out.params.choice]  # type: ignore[index]
    assert len(wanted.unique()) == 2 and (areas(out) / wanted - 1).abs().max() <= 0.1


def test_seekers_and_empty_batches() -> None:
    synth = anoaug.OneOf({"pei": 1.0, "draem": 1.0}, textures=banks()["textures"], p=1.0, seed=0)
    out = called(synth, {"size": SIZES, "location": (0.5, 0.5)}, foreground=everywhere())
    assert (areas(out) / SIZES - 1).abs().max() <= 0.1
    again = synth(images(), params=out.params, foreground=everywhere())
    assert torch.equal(out.image, again.image)
    none = torch.zeros(0, 3, SIDE, SIDE, dtype=torch.uint8)
    assert len(synth(none, index=[], epoch=0, control={"size": 0.1}).label) == 0


def test_members_by_category_are_controlled_too() -> None:
    synth = anoaug.ByCategory({"nut": "cutpaste", "tile": "fractal"}, p=1.0, seed=0, control=True)
    assert "kind" not in synth.controls and "size" in synth.controls
    names = ["nut", "tile"] * (B // 2)
    out = called(synth, {"size": SIZES, "location": (0.5, 0.5)}, category=names)
    assert (areas(out) / SIZES - 1).abs().max() <= 0.1
    again = synth(images(), params=out.params, category=names)
    assert torch.equal(out.image, again.image)
    with pytest.raises(ValueError, match="kind does not apply"):
        called(synth, {"kind": "cutpaste"}, category=names)
