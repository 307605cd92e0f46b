"""Bad input is refused at the door: what was expected, what was got, how to mend it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import anoaug
from anoaug import Layer, Synthesizer, TextureBank
from anoaug.blends import Feather, Opacity
from anoaug.masks import Everywhere, Perlin, Rectangle
from anoaug.sources import BatchDonor, Constant, Noise

OK = torch.zeros(4, 3, 20, 16, dtype=torch.uint8)
FLOATS = torch.zeros(4, 3, 20, 16)
LAYER = Layer(Rectangle(), Constant(1.0))


@functools.cache
def textures() -> TextureBank:
    return TextureBank.from_tensors(OK)


def make(*layers: Layer, **keywords: Any) -> Synthesizer:
    return Synthesizer(*(layers or (LAYER,)), **{"p": 1.0, "seed": 0, **keywords})


def refused(error: type[Exception], words: tuple[str, ...], call: Callable[[], Any]) -> None:
    """The call raises exactly this type, and the message holds every word."""
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    message = str(caught.value)
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not in: {message}"


Case = tuple[type[Exception], tuple[str, ...], Callable[[], Any]]


def parametrise(cases: dict[str, Case]) -> Any:
    return pytest.mark.parametrize(("error", "words", "call"), cases.values(), ids=cases.keys())


# ---- images --------------------------------------------------------------------------------------


def with_value(value: float) -> Tensor:
    image = FLOATS.clone()
    image[1, 2, 3, 4] = value
    return image


IMAGES: dict[str, Case] = {
    "rank 3": (ValueError, ("rank 4", "got [3, 20, 16]", "images[None]"), lambda: OK[0]),
    "rank 2": (ValueError, ("rank 4", "got [20, 16]", "(B, C, H, W)"), lambda: OK[0, 0]),
    "no tensor": (TypeError, ("a tensor", "got ndarray", "torch.from_numpy"), lambda: OK.numpy()),
    "a list": (TypeError, ("a tensor", "got list", "torch.stack"), lambda: list(OK)),
    "int16": (TypeError, ("uint8", "got int16", ".to(torch.uint16)"), lambda: OK.to(torch.int16)),
    "int64": (TypeError, ("uint8", "got int64", ".to(torch.uint8)"), lambda: OK.long()),
    "bool": (TypeError, ("uint8", "got bool", ".to(torch.uint8)"), lambda: OK.bool()),
    "float64": (TypeError, ("float32", "got float64", "float"), lambda: FLOATS.double()),
    "complex": (TypeError, ("float32", "got complex64"), lambda: FLOATS.to(torch.complex64)),
    "no channels": (ValueError, ("one channel", "got [4, 0, 20, 16]"), lambda: OK[:, :0]),
    "height of 1": (
        ValueError,
        ("at least 2", "got [4, 3, 1, 16]", "layout"),
        lambda: OK[:, :, :1],
    ),
    "width of 1": (ValueError, ("at least 2", "got [4, 3, 20, 1]", "layout"), lambda: OK[..., :1]),
    "no height": (ValueError, ("at least 2", "got [4, 3, 0, 16]"), lambda: OK[:, :, :0]),
    "too many values": (
        ValueError,
        ("fewer than 2**31", "got [1, 3, 40000, 40000]", "tiles"),
        lambda: torch.empty(1, 3, 40000, 40000, dtype=torch.uint8, device="meta"),
    ),
    "requires_grad": (
        ValueError,
        ("without gradient", "requires_grad=True", "images.detach()"),
        lambda: FLOATS.clone().requires_grad_(),
    ),
    "bytes as floats": (
        ValueError,
        ("[0, 1]", "got values from 0 to 255", "divide by 255"),
        lambda: with_value(255.0),
    ),
    "normalised already": (
        ValueError,
        ("[0, 1]", "-2.1", "mean=", "std="),
        lambda: with_value(-2.1),
    ),
    "NaN": (ValueError, ("finite", "got NaN", "clean"), lambda: with_value(float("nan"))),
    "infinite": (ValueError, ("[0, 1]", "got", "inf"), lambda: with_value(float("inf"))),
}


@pytest.mark.parametrize(("error", "words", "image"), IMAGES.values(), ids=IMAGES.keys())
def test_images(error: type[Exception], words: tuple[str, ...], image: Callable[[], Any]) -> None:
    refused(error, ("images", "expected", "got", *words), lambda: make()(image()))


# ---- what comes with the images ------------------------------------------------------------------

NARROW = torch.zeros(4, 1, 20, 15)
META = torch.zeros(4, 1, 20, 16, device="meta")

PLANES: dict[str, Case] = {
    f"{name}: {what}": (
        error,
        (name, "expected", "got", *words),
        lambda name=name, value=value: make()(OK, **{name: value}),  # type: ignore[misc]
    )
    for name in ("mask", "foreground")
    for what, error, words, value in (
        ("size", ValueError, ("[4, 1, 20, 16]", "[4, 1, 20, 15]", "nearest"), NARROW),
        ("rows", ValueError, ("[4, 1, 20, 16]", "[3, 1, 20, 16]"), torch.zeros(3, 1, 20, 16)),
        ("channels", ValueError, ("[4, 1, 20, 16]", "[4, 3, 20, 16]"), torch.zeros(OK.shape)),
        ("rank", ValueError, ("[4, 1, 20, 16]", "got [20, 16]"), torch.zeros(20, 16)),
        ("dtype", TypeError, ("bool", "torch.int64", ".bool()"), torch.zeros(4, 1, 20, 16).long()),
        ("device", ValueError, ("device cpu", "got meta", f"{name}.to('cpu')"), META),
        ("type", TypeError, ("a tensor", "ndarray"), np.zeros((4, 1, 20, 16))),
    )
}

CALLS: dict[str, Case] = {
    "index without epoch": (
        ValueError,
        ("index", "expected an epoch", "epoch=", "set_epoch()"),
        lambda: make()(OK, index=[0, 1, 2, 3]),
    ),
    "index on a device": (
        ValueError,
        ("index", "expected a CPU tensor", "meta", "keep", "on the CPU"),
        lambda: make()(OK, index=torch.zeros(4, dtype=torch.int64, device="meta"), epoch=0),
    ),
    "index too short": (
        ValueError,
        ("index", "expected one number per sample", "[4]", "got [3]"),
        lambda: make()(OK, index=[0, 1, 2], epoch=0),
    ),
    "index of rank 2": (
        ValueError,
        ("index", "expected one number per sample", "got [4, 1]"),
        lambda: make()(OK, index=torch.zeros(4, 1, dtype=torch.int64), epoch=0),
    ),
    "float index": (
        TypeError,
        ("index", "expected integers", "got torch.float32", ".long()"),
        lambda: make()(OK, index=[0.0, 1.0, 2.0, 3.0], epoch=0),
    ),
    "negative index": (
        ValueError,
        ("index", "expected", "2**47", "got -1", "from 0"),
        lambda: make()(OK, index=[0, 1, 2, -1], epoch=0),
    ),
    "index too large": (
        ValueError,
        ("index", "expected", "2**47", "from 0"),
        lambda: make()(OK, index=[0, 1, 2, 2**47], epoch=0),
    ),
    "negative epoch": (
        ValueError,
        ("epoch", "expected", "2**32", "got -1"),
        lambda: make()(OK, index=[0, 1, 2, 3], epoch=-1),
    ),
    "epoch too large": (
        ValueError,
        ("epoch", "expected", "2**32", "got 4294967296"),
        lambda: make().set_epoch(2**32),
    ),
    "float epoch": (
        ValueError,
        ("epoch", "expected an integer", "got 1.5"),
        lambda: make()(OK, index=[0, 1, 2, 3], epoch=1.5),  # type: ignore[arg-type]
    ),
    "too few labels": (
        ValueError,
        ("label", "expected one number per sample", "[4]", "got [3]"),
        lambda: make()(OK, label=torch.zeros(3, dtype=torch.int64)),
    ),
    "float labels": (
        TypeError,
        ("label", "expected integers", "got torch.float32", ".long()"),
        lambda: make()(OK, label=torch.zeros(4)),
    ),
    "a donor in a batch of one": (
        ValueError,
        ("donors", "expected", "at least 2", "got 1", "DonorBank"),
        lambda: make(Layer(Rectangle(), BatchDonor()))(OK[:1]),
    ),
    "a donor in a batch of one with views": (
        ValueError,
        ("donors", "expected", "at least 2", "got 1", "DonorBank"),
        lambda: make(Layer(Rectangle(), BatchDonor()), views=True)(OK[:1]),
    ),
    "a mask that a normal_transform would leave behind": (
        ValueError,
        ("mask", "expected none", "normal_transform", "before the call"),
        lambda: make(normal_transform=lambda x: x)(OK, mask=torch.zeros(4, 1, 20, 16)),
    ),
    "a normal_transform with views": (
        ValueError,
        ("normal_transform", "expected", "views"),
        lambda: make(normal_transform=make(views=True))(OK),
    ),
    "a normal_transform that drops rows": (
        ValueError,
        ("normal_transform", "expected", "got"),
        lambda: make(normal_transform=lambda x: x[:2])(OK),
    ),
}


@parametrise(PLANES | CALLS)
def test_calls(error: type[Exception], words: tuple[str, ...], call: Callable[[], Any]) -> None:
    refused(error, words, call)


# ---- construction --------------------------------------------------------------------------------

OPTIONS: dict[str, Case] = {
    f"unknown {name}": (
        ValueError,
        (name, "expected one of", "got", known, "did you mean"),
        lambda name=name, value=value: make(**{name: value}),  # type: ignore[misc]
    )
    for name, value, known in (
        ("label_rule", "footprints", "footprint"),
        ("label", "softt", "soft"),
        ("clean", "inputs", "input"),
        ("choose", "al", "all"),
        ("memory_format", "channel_last", "channels_last"),
        ("active", "allways", "always"),
        ("backend", "tritn", "triton"),
    )
}

MAKING: dict[str, Case] = {
    "unknown method": (
        ValueError,
        ("'dream'", "unknown", "did you mean draem"),
        lambda: anoaug.create("dream"),
    ),
    "a method like none": (ValueError, ("'xyz'", "known", "draem"), lambda: anoaug.create("xyz")),
    "unknown method described": (
        ValueError,
        ("'cut_paste'", "did you mean", "cutpaste"),
        lambda: anoaug.describe("cut_paste"),
    ),
    "unknown family": (
        ValueError,
        ("family", "expected", "got", "external"),
        lambda: anoaug.list_methods(family="extern"),
    ),
    "unknown keyword": (
        TypeError,
        ("'opacty'", "did you mean opacity"),
        lambda: anoaug.create("draem", opacty=0.5),
    ),
    "keyword of another method": (
        TypeError,
        ("'textures'", "cutpaste"),
        lambda: anoaug.create("cutpaste", textures=textures()),
    ),
    "reversed range": (
        ValueError,
        ("opacity", "low <= high", "got (1.0, 0.2)", "swap"),
        lambda: anoaug.create("draem", textures=textures(), opacity=(1.0, 0.2)),
    ),
    "range out of bounds": (
        ValueError,
        ("opacity", "[0.0, 1.0]", "got (0.5, 2)"),
        lambda: Opacity((0.5, 2)),
    ),
    "range that is none": (
        TypeError,
        ("threshold", "a number or a pair", "got (1, 2, 3)"),
        lambda: Perlin(threshold=(1, 2, 3)),  # type: ignore[arg-type]
    ),
    "a ramp of no width": (ValueError, ("width", "expected", "got"), lambda: Feather(width=0)),
    "cells between integers": (
        ValueError,
        ("log2_cells", "expected integers", "got (0, 2.5)", "cells="),
        lambda: Perlin(log2_cells=(0, 2.5)),  # type: ignore[arg-type]
    ),
    "no octaves": (
        ValueError,
        ("octaves", "expected", "1 to 8", "got 0"),
        lambda: Perlin(octaves=0),
    ),
    "one side": (
        ValueError,
        ("height", "width", "expected", "got one", "give both"),
        lambda: Rectangle(height=3),
    ),
    "noise the wrong way round": (
        ValueError,
        ("low", "high", "expected", "got", "swap"),
        lambda: Noise(0.9, 0.1),
    ),
    "p above 1": (ValueError, ("p:", "expected", "[0, 1]", "got 1.5"), lambda: make(p=1.5)),
    "p below 0": (
        ValueError,
        ("p:", "expected", "[0, 1]", "got -0.1"),
        lambda: anoaug.create("cutpaste", p=-0.1),
    ),
    "p set later": (
        ValueError,
        ("p:", "expected", "[0, 1]", "got 2"),
        lambda: setattr(make(), "p", 2),
    ),
    "p is NaN": (ValueError, ("p:", "expected", "got nan"), lambda: make(p=float("nan"))),
    "p is a word": (ValueError, ("p:", "expected", "got 'half'"), lambda: make(p="half")),
    "tolerance": (
        ValueError,
        ("tolerance", "expected", "[0, 1]", "got 3"),
        lambda: make(tolerance=3),
    ),
    "min_area": (ValueError, ("min_area", "expected", "got -1"), lambda: make(min_area=-1)),
    "mean without std": (
        ValueError,
        ("mean", "std", "expected both", "got one", "give both"),
        lambda: make(mean=[0.5] * 3),
    ),
    "std without mean": (
        ValueError,
        ("mean", "std", "expected both", "got one", "give both"),
        lambda: make(std=[0.5] * 3),
    ),
    "mean of another length": (
        ValueError,
        ("mean", "expected", "3", "got 2"),
        lambda: make(mean=[0.5] * 2, std=[0.5] * 2)(OK),
    ),
    "std of zero": (
        ValueError,
        ("std", "expected", "got"),
        lambda: make(mean=[0.5] * 3, std=[0.5, 0.0, 0.5]),
    ),
    "integer output dtype": (
        TypeError,
        ("dtype", "expected a float dtype", "got torch.int16"),
        lambda: make(dtype=torch.int16),
    ),
    "no layers": (ValueError, ("layers", "expected at least one", "got none"), Synthesizer),
    "weights for all layers": (
        ValueError,
        ("weights", "expected choose='one'", "got choose='all'"),
        lambda: make(weights=[1.0]),
    ),
    "weights of another length": (
        ValueError,
        ("weights", "expected 1 number", "got [1, 2]"),
        lambda: make(choose="one", weights=[1, 2]),
    ),
    "one weight": (
        TypeError,
        ("weights", "expected a sequence of 1 number", "got 5"),
        lambda: make(choose="one", weights=5),
    ),
    "a weight of nan": (
        ValueError,
        ("weights", "expected finite numbers", "nan"),
        lambda: make(choose="one", weights=[float("nan")]),
    ),
    "an endless weight": (
        ValueError,
        ("weights", "expected finite numbers", "inf"),
        lambda: make(choose="one", weights=[float("inf")]),
    ),
    "a weight beyond floats": (
        ValueError,
        ("weights", "finite sum", "ratios"),
        lambda: make(choose="one", weights=[10**400]),
    ),
    "an index of 65 bits": (
        ValueError,
        ("index", "expected one integer in [-2**63, 2**63)", "got [9223372036854775808]"),
        lambda: make()(torch.zeros(1, 3, 8, 8), index=[2**63], epoch=0),
    ),
    "weights without sum": (
        ValueError,
        ("weights", "positive sum", "got [0]"),
        lambda: make(choose="one", weights=[0]),
    ),
    "a mask combined with none": (
        TypeError,
        ("mask", "expected a mask", "got Constant"),
        lambda: Everywhere() & Constant(),  # type: ignore[operator]
    ),
    "textures of a wrong type": (
        TypeError,
        ("textures", "expected a TextureBank", "a folder", "got int"),
        lambda: anoaug.create("draem", textures=3),
    ),
    "textures of int64": (
        TypeError,
        ("images", "expected", "uint8", "got int64"),
        lambda: anoaug.create("draem", textures=OK.long()),
    ),
    "no textures in the tensor": (
        ValueError,
        ("images", "expected at least one", "got [0, 3, 20, 16]"),
        lambda: anoaug.create("draem", textures=OK[:0]),
    ),
}


@parametrise(OPTIONS | MAKING)
def test_making(error: type[Exception], words: tuple[str, ...], call: Callable[[], Any]) -> None:
    refused(error, words, call)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("missing", ("does not exist", "check the path")),
        ("empty", ("found none", ".png")),
        ("unreadable", ("cannot be read", "a.png")),
    ],
)
def test_folders(
    what: str, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("PIL")
    monkeypatch.setenv("ANOAUG_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "textures"
    if what != "missing":
        folder.mkdir()
    if what == "unreadable":
        (folder / "a.png").write_bytes(b"no picture")
    words = ("expected", str(folder), *words)
    refused(ValueError, words, lambda: anoaug.create("draem", textures=folder))


def test_an_unknown_backend_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOAUG_BACKEND", "cuda")
    refused(ValueError, ("ANOAUG_BACKEND", "expected one of", "triton", "got 'cuda'"), make)


class TestContent:
    """Values are looked at once, because looking would make the host wait for the device."""

    BAD = with_value(3.0)

    def test_only_on_the_first_call(self) -> None:
        synth = make(p=0.0)
        synth(FLOATS)
        assert torch.equal(synth(self.BAD).image, self.BAD)

    def test_on_every_call_with_validate(self) -> None:
        synth = make(validate=True)
        synth(FLOATS)
        refused(ValueError, ("images", "[0, 1]", "got"), lambda: synth(self.BAD))

    def test_again_after_a_refusal(self) -> None:
        synth = make()
        for _ in range(2):
            refused(ValueError, ("images", "[0, 1]", "got"), lambda: synth(self.BAD))

    def test_not_where_every_value_is_right(self) -> None:
        for image in (OK, OK.to(torch.uint16), FLOATS + 1):
            assert make(validate=True)(image).label.all()
