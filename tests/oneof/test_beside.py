"""Further modalities of a batch whose rows have members of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import anoaug
from anoaug import Synthesizer, modalities
from tests.oneof.samples import COUNT, DONORS, IMAGES, SPOT, alone, chosen, make, numbered, white


def sensors() -> dict[str, Tensor]:
    """A depth map, a grey infrared image of 16 bits and a picture by another camera."""
    generator = torch.Generator().manual_seed(4)
    values = torch.rand(COUNT, 5, 40, 36, generator=generator)
    infrared = (values[:, 1:2] * 60_000).to(torch.int32).to(torch.uint16)
    rgb = (values[:, 2:] * 255).to(torch.uint8)
    return {"depth": 0.2 + 0.5 * values[:, :1], "ir": infrared, "rgb": rgb}


LOOKS = {"rgb": modalities.Modality()}
KNOWN = {"modalities": LOOKS}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


@pytest.mark.slow
def test_a_row_is_what_its_member_alone_makes_of_it() -> None:
    out = make(**KNOWN)(IMAGES, extra=sensors(), **numbered())
    names = chosen(make(), range(COUNT), epoch=3)
    assert len(set(names)) > 1
    for name in set(names):
        whole = alone(name, **KNOWN)(IMAGES, extra=sensors(), **numbered())
        rows = torch.tensor([n for n, own in enumerate(names) if own == name])
        assert equal({n: v[rows] for n, v in whole.extras.items()},
                     {n: v[rows] for n, v in out.extras.items()})  # fmt: skip
    touched = (out.extras["depth"] != sensors()["depth"]).flatten(1).any(1)
    assert touched.any() and not touched[out.label == 0].any()


def test_the_image_is_as_without() -> None:
    plain = make(**KNOWN)(IMAGES, **numbered())
    more = make(**KNOWN)(IMAGES, extra=sensors(), **numbered())
    assert torch.equal(plain.image, more.image) and torch.equal(plain.mask, more.mask)


@pytest.mark.slow
def test_replay_of_all_and_of_some() -> None:
    synth = make(**KNOWN)
    out = synth(IMAGES, extra=sensors(), **numbered())
    assert equal(synth(IMAGES, extra=sensors(), params=out.params).extras, out.extras)
    rows = torch.tensor([7, 0, 4])
    some = {name: value[rows] for name, value in sensors().items()}
    again = synth(IMAGES[rows], extra=some, params=out.params.take(rows))
    assert equal(again.extras, {name: value[rows] for name, value in out.extras.items()})
    fewer = synth(IMAGES, extra={"ir": sensors()["ir"]}, params=out.params)
    assert torch.equal(fewer.extras["ir"], out.extras["ir"])


def test_members_by_category_and_those_that_seek_their_place() -> None:
    synth = anoaug.ByCategory({"nut": "pei", "pin": "cutpaste"}, p=1.0, seed=2)
    category = ["nut", "pin"] * (COUNT // 2)
    depth = {"depth": sensors()["depth"]}
    out = synth(IMAGES, extra=depth, category=category, **numbered())
    assert equal(
        synth(IMAGES, extra=depth, category=category, params=out.params).extras, out.extras
    )
    for name, first in (("pei", 0), ("cutpaste", 1)):
        whole = anoaug.create(name, p=1.0, seed=2)(IMAGES, extra=depth, **numbered())
        rows = slice(first, None, 2)
        assert torch.equal(whole.extras["depth"][rows], out.extras["depth"][rows])


def test_donors_follow_their_category() -> None:
    category = ["nut", "pin"] * (COUNT // 2)
    keywords: dict[str, Any] = {"donors": DONORS, "p": 1.0, "seed": 1, **KNOWN}
    rgb = {"rgb": sensors()["rgb"]}
    call = {"extra": rgb, "category": category, **numbered()}
    out = anoaug.OneOf({"fpi": 1}, **keywords)(IMAGES, **call)
    assert equal(out.extras, anoaug.create("fpi", **keywords)(IMAGES, **call).extras)


def test_a_control_reaches_them() -> None:
    synth = make({"cutpaste": 1, "noise_fill": 1}, p=1.0, control=True, **KNOWN)
    sizes = torch.linspace(0.02, 0.1, COUNT)
    out = synth(IMAGES, extra=sensors(), control={"size": sizes}, **numbered())
    share = (out.extras["rgb"] != sensors()["rgb"]).any(1).float().mean((1, 2))
    assert (share > 0.5 * sizes).all() and (share < 1.1 * sizes).all()
    assert equal(synth(IMAGES, extra=sensors(), params=out.params).extras, out.extras)


def test_where_nothing_is_drawn_they_come_back() -> None:
    synth = make(**KNOWN)
    assert equal(synth.eval()(IMAGES, extra=sensors()).extras, sensors())
    none = {name: value[:0] for name, value in sensors().items()}
    empty = synth.train()(IMAGES[:0], extra=none)
    assert equal(empty.extras, none)
    assert equal(synth(IMAGES[:0], extra=none, params=empty.params).extras, none)


def test_refusals() -> None:
    synth = make(**KNOWN)
    with pytest.raises(ValueError, match="extra: 'deptj' is no known modality"):
        synth(IMAGES, extra={"deptj": sensors()["depth"]})
    with pytest.raises(ValueError, match="rgb.* is no known modality"):
        make({white(): 1, white("grey", modalities=LOOKS): 1})(IMAGES, extra=sensors())
    with pytest.raises(ValueError, match="extra: expected none together with normal_transform"):
        make(normal_transform=lambda x: x.flip(3))(IMAGES, extra={"ir": sensors()["ir"]})
    out = synth(IMAGES, extra={"rgb": sensors()["rgb"]}, **numbered())
    with pytest.raises(ValueError, match="params were sampled with"):
        synth(IMAGES, extra={"ir": sensors()["ir"]}, params=out.params)
    with pytest.raises(ValueError, match="rgb: expected params that these members drew for it"):
        synth(IMAGES, extra={"rgb": sensors()["ir"]}, params=out.params)
    with pytest.raises(ValueError, match=r"expected B, H, W = \[12, 40, 36\]"):
        synth(IMAGES, extra={"ir": sensors()["ir"][..., 1:]})


def test_real_defects_stay_labels_of_the_image() -> None:
    out = make(**KNOWN)(IMAGES, extra=sensors(), mask=SPOT, **numbered())
    assert out.label.all()
    plain = make(**KNOWN)(IMAGES, extra=sensors(), **numbered())
    assert equal(out.extras, plain.extras)


def test_a_synthesizer_of_several_members_may_be_one() -> None:
    inner = make({"cutpaste": 1, "cutpaste_scar": 1}, **KNOWN)
    synth = anoaug.ByCategory({"nut": inner, "pin": Synthesizer(*white().layers, modalities=LOOKS,
                                                                p=0.7)}, seed=0)  # fmt: skip
    category = ["nut", "pin"] * (COUNT // 2)
    out = synth(IMAGES, extra=sensors(), category=category, **numbered())
    alike = inner(IMAGES, extra=sensors(), **numbered())
    assert torch.equal(out.extras["rgb"][::2], alike.extras["rgb"][::2])
