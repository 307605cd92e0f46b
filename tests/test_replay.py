"""Replay: params make the same batch again, and nothing but that recipe takes them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import anoaug
from anoaug import AnomalyBatch, DonorBank, Layer, Params, Synthesizer, TextureBank
from anoaug.blends import Feather, Hard, Opacity
from anoaug.masks import Foreground, Given, Perlin, Rectangle
from anoaug.photometric import ColorJitter, RandomOps
from anoaug.sources import BatchDonor, Constant, Donor, Noise, Own, Texture


def pictures(dtype: torch.dtype = torch.uint8, batch: int = 4, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    values = torch.rand(batch, channels, 63, 50, generator=generator)
    return values.to(dtype) if dtype.is_floating_point else (values * 255).to(dtype)


TEXTURES = TextureBank.from_tensors(pictures(batch=5))
DONORS = DonorBank.from_tensors(pictures(batch=6), categories=["a", "b", "c"] * 2)

RECIPES: dict[str, Callable[[], list[Layer]]] = {
    "draem": lambda: [Layer(Perlin(), Texture(TEXTURES, RandomOps.draem()), Opacity())],
    "cutpaste": lambda: [Layer(Rectangle(), Own(photometric=ColorJitter(0.3, 0.3, 0.3, 0.3)))],
    "donors": lambda: [
        Layer(Rectangle(), Donor(DONORS), Feather()),
        Layer(Rectangle(), BatchDonor(), count=(0, 2)),
    ],
    "given": lambda: [Layer(Given("spot") & ~Foreground(), Noise(), Hard())],
}


def make(name: str, **keywords: Any) -> Synthesizer:
    return Synthesizer(*RECIPES[name](), **{"p": 0.7, "seed": 0, **keywords})


def given_to(name: str, image: Tensor) -> dict[str, Any]:
    if name != "given":
        return {}
    spot = torch.rand(len(image), 1, 63, 50, generator=torch.Generator().manual_seed(0))
    return {"slots": {"spot": spot}, "foreground": spot > 0.9}


def same(first: AnomalyBatch, second: AnomalyBatch) -> bool:
    pairs = zip(first[:5], second[:5], strict=True)
    tables = torch.equal(
        first.params.table.view(torch.int32), second.params.table.view(torch.int32)
    )
    return tables and all(torch.equal(a, b) for a, b in pairs)  # type: ignore[arg-type]


class TestBitForBit:
    @pytest.mark.slow
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16], ids=str)
    @pytest.mark.parametrize("name", RECIPES)
    def test_any_recipe(self, name: str, dtype: torch.dtype) -> None:
        image, synth = pictures(dtype), make(name)
        extra = given_to(name, image)
        out = synth(image, **extra)
        assert out.label.any()
        synth(image, **extra)  # other draws in between
        assert same(synth(image, params=out.params, **extra), out)

    @pytest.mark.parametrize("view", [False, True])
    def test_views(self, view: bool) -> None:
        image = pictures()
        synth = anoaug.create("cutpaste_union", views=view, seed=0)
        out = synth(image)
        again = synth(image, params=out.params)
        assert same(again, out)
        assert again.extras.keys() == out.extras.keys()

    def test_normalised_outputs(self) -> None:
        image, synth = pictures(), make("draem", mean=[0.5], std=[0.2], clean="output")
        out = synth(image)
        assert same(synth(image, params=out.params), out)

    def test_real_defects_are_united_again(self) -> None:
        image, real = pictures(), torch.zeros(4, 1, 63, 50)
        real[0, :, 3:9, 3:9] = 1
        synth = make("draem", p=0.5)
        out = synth(image, mask=real)
        assert same(synth(image, params=out.params, mask=real), out)

    def test_clean_images_of_a_normal_transform(self) -> None:
        """Params say what the anomaly was; the image it fell on is ``clean``."""
        synth = make("cutpaste", normal_transform=lambda x: x.flip(3))
        out = synth(pictures())
        assert same(synth(out.clean, params=out.params), out)

    def test_on_another_synthesizer_with_the_same_recipe(self) -> None:
        """p, seed, epoch and counter are not part of what was drawn."""
        image = pictures()
        out = make("draem")(image, index=range(4), epoch=9)
        for other in (make("draem", p=0.0, seed=5), make("draem", p=1.0)):
            assert same(other(image, params=out.params), out)

    def test_on_another_backend(self) -> None:
        image = pictures()
        out = make("draem", backend="torch")(image)
        assert same(make("draem", backend="auto")(image, params=out.params), out)

    def test_after_storing(self) -> None:
        """Colour tables read as floats contain NaN: their bits have to survive."""
        image, synth = pictures(), make("draem", p=1.0)
        out = synth(image)
        stored = io.BytesIO()
        torch.save(tuple(out.params), stored)
        stored.seek(0)
        again = Params(*torch.load(stored, weights_only=True))
        assert same(synth(image, params=again), out)

    def test_in_another_order(self) -> None:
        """Rows are independent, so that a manifest may hold samples one by one."""
        image, synth = pictures(), make("draem")
        out = synth(image)
        order = [2, 0, 3]
        params = out.params._replace(table=out.params.table[order])
        again = synth(image[order], params=params)
        assert torch.equal(again.image, out.image[order])
        assert torch.equal(again.mask, out.mask[order])

    def test_on_other_images(self) -> None:
        """The same shapes on another picture: masks stay."""
        synth = make("draem", p=1.0)
        out = synth(pictures())
        other = synth(255 - pictures(), params=out.params)
        assert torch.equal(other.mask, out.mask) and not torch.equal(other.image, out.image)

    def test_empty_batch(self) -> None:
        image, synth = pictures(batch=0), make("draem")
        out = synth(image)
        assert same(synth(image, params=out.params), out)

    def test_params_are_not_modified(self) -> None:
        image, synth = pictures(), make("draem")
        params = synth(image).params
        before = params.table.clone().view(torch.int32)
        synth(image, params=params)
        assert torch.equal(params.table.view(torch.int32), before)


class TestRefusal:
    def refused(self, params: Params, synth: Synthesizer, image: Tensor, *words: str) -> None:
        with pytest.raises(ValueError) as caught:
            synth(image, params=params)
        for word in ("params", "expected", "got", *words):
            assert word in str(caught.value)

    def test_another_recipe(self) -> None:
        image = pictures()
        params = make("draem")(image).params
        self.refused(params, make("cutpaste"), image, "recipe", "replay them with")

    def test_the_same_parts_in_another_order(self) -> None:
        image = pictures()
        first, second = Layer(Rectangle(), Own()), Layer(Rectangle(), Constant())
        params = Synthesizer(first, second, seed=0)(image).params
        self.refused(params, Synthesizer(second, first, seed=0), image)

    def test_another_channel_count(self) -> None:
        params = make("cutpaste")(pictures()).params
        self.refused(params, make("cutpaste"), pictures(channels=1), "channels")

    def test_another_white_level(self) -> None:
        params = make("cutpaste")(pictures()).params
        self.refused(params, make("cutpaste"), pictures(torch.float32), "dtype")

    def test_another_number_of_rows(self) -> None:
        params = make("cutpaste")(pictures()).params
        self.refused(params, make("cutpaste"), pictures(batch=3), "3 rows", "got 4")

    def test_another_bank(self) -> None:
        """Row numbers point into the bank: into a smaller one they would read beyond its end."""
        image = pictures(batch=16)
        params = make("draem", p=1.0)(image).params
        smaller = TextureBank.from_tensors(TEXTURES.data[:1, :, :20, :20])
        layer = Layer(Perlin(), Texture(smaller, RandomOps.draem()), Opacity())
        self.refused(params, Synthesizer(layer, p=1.0, seed=0), image, "bank")

    def test_another_version_of_the_specification(self) -> None:
        image = pictures()
        params = make("cutpaste")(image).params
        newer = Params(params.table, params.layout.replace('"version":1', '"version":99'))
        assert newer.layout != params.layout
        self.refused(newer, make("cutpaste"), image)
