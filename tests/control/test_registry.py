"""Every control of every method does what it says, and what a method lacks is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import anoaug
from anoaug import methods, recipe
from anoaug.control import Control
from anoaug.control.scope import NAMES
from tests.control.making import B, areas, called, centres, everywhere, footprint, images, method

LISTED = [(name, c) for name in anoaug.list_methods() for c in anoaug.describe(name)["controls"]]
LACKED = [
    (name, control)
    for name in anoaug.list_methods()
    for control in NAMES
    if (name, control) not in LISTED
]
VALUES: dict[str, Any] = {
    "size": 0.05, "location": (0.5, 0.5), "strength": 0.5, "shape": "crack", "aspect": 2.0,
    "rotation": 30.0, "count": 1, "kind": 1,
}  # fmt: skip


def one_copy(synth: anoaug.Synthesizer) -> dict[str, Any]:
    return {"count": 1} if "count" in synth.controls else {}


def size(name: str) -> None:
    synth = footprint(name)
    wanted = torch.linspace(0.03, 0.09, B)
    out = called(synth, {"size": wanted, **one_copy(synth)})
    assert ((areas(out) / wanted - 1).abs() <= 0.1).all(), areas(out) / wanted


def location(name: str) -> None:
    # Structural anomalies show what changes: their footprint is all of the region.
    synth = footprint(name) if "size" in anoaug.describe(name)["controls"] else method(name)
    small = {"size": 0.01} if "size" in synth.controls else {}
    y0, x0, y1, x1 = box = (0.2, 0.45, 0.7, 0.9)
    out = called(synth, {"location": box, **small, **one_copy(synth)})
    there = out.label > 0
    assert there.sum() >= B // 2
    y, x = centres(out)[there].T
    assert ((y >= y0 - 0.02) & (y <= y1 + 0.02) & (x >= x0 - 0.02) & (x <= x1 + 0.02)).all()
    if synth._scope.confines:
        rows, columns = (out.mask > 0).any(3), (out.mask > 0).any(2)
        ends = [(rows, y0, y1), (columns, x0, x1)]
        for inside, low, high in ends:
            some = inside.any(1).any(0).nonzero()
            assert some.min() >= int(low * 96) and some.max() < int(high * 96) + 1


def strength(name: str) -> None:
    # NSA's labels begin at seven grey levels.
    synth = footprint(name) if name == "nsa" else method(name)
    half = torch.ones(B, 1, 96, 96, dtype=torch.uint8)
    half[..., 60:] = 0
    given = {"foreground": half} if name == "chip" else {}
    moved = [
        difference(called(synth, {"strength": weight}, **given), None) for weight in (0.25, 0.5, 1)
    ]
    there = moved[2] > 0
    assert there.sum() >= B // 4
    assert (moved[0] < moved[1])[there].all() and (moved[1] < moved[2])[there].all()
    if synth._scope.replaces:
        with pytest.raises(ValueError, match="unit: expected 'weight'"):
            called(synth, {"strength": 0.1, "unit": "difference"})
        return
    whole = called(synth, {"strength": 1.0}, **given)
    inside = whole.mask > 0
    most = difference(whole, inside)[:B]
    target = 0.5 * most.nan_to_num(nan=0.0).to(torch.float64)
    out = called(synth, {"strength": target, "unit": "difference"}, **given)
    # Of 8 bits, and of less than a hundred pixels, a difference comes in steps.
    sure = (target > 0.01) & (inside.flatten(1).sum(1)[:B] >= 20)
    got = difference(out, inside)[:B]
    assert sure.any() and ((got - target).abs() <= 0.1 * target + 0.2 / 255)[sure].all(), (
        got / target
    )


def difference(out: anoaug.AnomalyBatch, inside: Tensor | None) -> Tensor:
    """Mean difference from the image, over all of it or inside a mask."""
    apart = (out.image.float() - out.clean.float()).abs().mean(1, keepdim=True) / 255  # type: ignore[union-attr]
    if inside is None:
        return apart.mean((1, 2, 3))
    return (apart * inside).sum((1, 2, 3)) / inside.sum((1, 2, 3))


def aspect(name: str) -> None:
    synth = footprint(name)
    control = {"size": 0.04, "rotation": 0.0, "location": (0.5, 0.5), **one_copy(synth)}
    for wanted in (0.5, 2.0):
        out = called(synth, {"aspect": wanted, **control})
        x0, y0, x1, y1 = out.boxes().to(torch.float32).unbind(1)
        assert (((x1 - x0) / (y1 - y0)) / wanted - 1).abs().max() <= 0.15


def rotation(name: str) -> None:
    synth = footprint(name)
    laws = recipe.recipe(synth.laws(3))
    for degrees, zero, whole in (
        (0.0, ("sin", "yx"), ("cos", "yy")),
        (90.0, ("cos", "yy"), ("sin", "yx")),
    ):
        table = called(synth, {"rotation": degrees, **one_copy(synth)}).params.table
        read = {
            key.split(".", 1)[1]: table[:, at]
            for key, (at, width) in laws.columns.items()
            if ".mask." in key and width == 1 and key.startswith("layer0.")
        }
        ends = {key.rsplit(".", 1)[1]: values for key, values in read.items()}
        turned = [ends[end].abs().max() for end in zero if end in ends]
        straight = [ends[end].abs().min() for end in whole if end in ends]
        assert turned and max(turned) < 1e-6 and min(straight) > 1e-4


def count(name: str) -> None:
    synth = footprint(name)
    gates = [layer.gate for layer in recipe.recipe(synth.laws(3)).layers]
    wanted = torch.arange(B) % (synth._scope.most + 1)
    out = called(synth, {"count": wanted})
    assert torch.equal((out.params.table[:, gates] > 0).sum(1), wanted)
    assert not out.mask[wanted == 0].any() and not out.label[wanted == 0].any()
    assert out.label[wanted > 0].all()


def kind(name: str) -> None:
    synth = footprint(name)
    number = torch.arange(B) % (len(synth.kinds) - 2) + 1
    out = called(synth, {"kind": number})
    assert out.label.any() and torch.equal(out.kind[out.label > 0], number[out.label > 0])
    one = called(synth, {"kind": synth.kinds[1]})
    assert (one.kind[one.label > 0] == 1).all()


CHECKS = {one.__name__: one for one in (size, location, strength, aspect, rotation, count, kind)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:textures=None")
@pytest.mark.parametrize(("name", "control"), LISTED)
def test_a_control_does_what_it_says(name: str, control: str) -> None:
    CHECKS[control](name)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "control"), LACKED)
def test_a_control_that_a_method_lacks_is_refused(name: str, control: str) -> None:
    synth = method(name)
    with pytest.raises(ValueError, match=f"{control} does not apply .*; those that do: "):
        called(synth, {control: VALUES[control]})
    with pytest.raises(ValueError, match=f"{control} does not apply"):
        method(name, control={control: VALUES[control]})


@pytest.mark.slow
@pytest.mark.parametrize("name", anoaug.list_methods())
def test_describe_and_the_synthesizer_list_the_same(name: str) -> None:
    told = anoaug.describe(name)["controls"]
    assert list(told) == [one for one in NAMES if one in told] and all(told.values())
    assert told == method(name).controls == methods.get(name).controls()
    assert set(told) <= set(Control.__dataclass_fields__)


@pytest.mark.slow
@pytest.mark.parametrize("name", anoaug.list_methods())
def test_what_nothing_is_asked_of_keeps_its_bits(name: str) -> None:
    """A hard paste with a weight of 1 is one, and a control of NaN draws nothing."""
    plain = called(method(name, control=None))
    open_ = called(method(name))
    asked = {"strength": torch.full((B,), torch.nan)}
    if "size" in method(name).controls:
        asked["size"] = torch.full((B,), torch.nan)
    free = called(method(name), asked)
    for other in (open_, free):
        assert torch.equal(plain.image, other.image) and torch.equal(plain.mask, other.mask)
        assert torch.equal(plain.kind, other.kind)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cutpaste", "draem", "nsa", "reb", "smai", "warp", "missing"])
def test_a_replay_gives_the_same_bits(name: str) -> None:
    synth = method(name)
    control: dict[str, Any] = {"strength": 0.1, "unit": "difference", "location": (0.4, 0.6)}
    if "size" in synth.controls:
        control["size"] = (0.02, 0.06)
    out = called(synth, control)
    again = synth(images(), params=out.params, foreground=everywhere())
    assert torch.equal(out.image, again.image) and torch.equal(out.mask, again.mask)
    assert torch.equal(out.params.table.view(torch.int32), again.params.table.view(torch.int32))
    some = out.params.take(torch.tensor([2, 5]))
    part = synth(images()[[2, 5]], params=some, foreground=everywhere()[[2, 5]])
    assert torch.equal(part.image, out.image[[2, 5]]) and torch.equal(part.mask, out.mask[[2, 5]])
