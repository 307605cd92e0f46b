"""What a call promises: which pixels change, what the mask, label, kind and clean image say."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import anoaug
from anoaug import AnomalyBatch, DonorBank, Layer, Synthesizer, TextureBank
from anoaug.blends import Feather, Hard, Opacity
from anoaug.masks import Everywhere, Foreground, Given, Perlin, Rectangle
from anoaug.sources import BatchDonor, Constant, Donor, Own, Texture

DTYPES = (torch.uint8, torch.uint16, torch.float16, torch.bfloat16, torch.float32)
WHITE = Layer(Rectangle(), Constant(1.0), kind="white")
SPOT = Layer(Given("spot"), Constant(1.0), kind="spot")


def pictures(dtype: torch.dtype = torch.uint8, batch: int = 6, channels: int = 3) -> Tensor:
    """Darker than white, so that a white patch always shows."""
    generator = torch.Generator().manual_seed(batch)
    values = torch.rand(batch, channels, 63, 50, generator=generator) * 0.9
    if dtype.is_floating_point:
        return values.to(dtype)
    return (values * (1 << 8 * dtype.itemsize)).to(torch.int32).to(dtype)


def textures() -> TextureBank:
    return TextureBank.from_tensors(pictures(batch=3))


def white(**keywords: Any) -> Synthesizer:
    return Synthesizer(WHITE, **{"seed": 0, **keywords})


def spots(size: int = 10, batch: int = 6) -> Tensor:
    """A square of ``size ** 2`` pixels in the middle of each image."""
    mask = torch.zeros(batch, 1, 63, 50, dtype=torch.bool)
    mask[..., 20 : 20 + size, 20 : 20 + size] = True
    return mask


def assert_identity(out: AnomalyBatch, image: Tensor) -> None:
    assert out.image.dtype == image.dtype and torch.equal(out.image, image)
    assert not out.mask.any() and not out.label.any() and not out.kind.any()


class TestNormalSamples:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_are_the_input_bit_for_bit(self, dtype: torch.dtype) -> None:
        image = pictures(dtype, batch=12)
        out = anoaug.create("draem", textures=textures(), seed=0)(image)
        normal = out.label == 0
        assert 0 < normal.sum() < 12
        keep = [k for k in range(12) if normal[k]]
        assert all(torch.equal(out.image[k], image[k]) for k in keep)
        assert not out.mask[normal].any() and not out.kind[normal].any()

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_so_are_the_pixels_outside_the_mask(self, dtype: torch.dtype) -> None:
        image = pictures(dtype)
        out = white(p=1.0)(image)
        change = (out.image.double() != image.double()).any(1, keepdim=True)
        assert torch.equal(change, out.mask > 0)

    @pytest.mark.parametrize("mode", ["train", "eval"])
    def test_inputs_are_never_modified(self, mode: str) -> None:
        image, real = pictures(), torch.ones(6, dtype=torch.int64)
        mask, inside = spots(), spots(20)
        copies = [each.clone() for each in (image, real, mask, inside)]
        synth = white(p=1.0, views=True)
        synth.train(mode == "train")
        synth(image, foreground=inside, mask=mask, label=real)
        for now, before in zip((image, real, mask, inside), copies, strict=True):
            assert torch.equal(now, before)

    def test_output_is_no_view_of_the_input(self) -> None:
        image = pictures()
        out = white(p=0.0)(image)
        out.image.zero_()
        assert image.any()


class TestEval:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_is_the_identity(self, dtype: torch.dtype) -> None:
        image = pictures(dtype)
        assert_identity(white(p=1.0).eval()(image), image)

    def test_leaves_views_and_normal_transform_out(self) -> None:
        image = pictures()
        synth = white(views=True, normal_transform=lambda x: 255 - x).eval()
        out = synth(image)
        assert_identity(out, image)
        assert out.clean is image and out.extras["source_row"].tolist() == list(range(6))

    @pytest.mark.parametrize("made", [torch.float32, torch.float16], ids=str)
    def test_still_normalises(self, made: torch.dtype) -> None:
        image = pictures()
        mean, std = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
        out = white(p=1.0, mean=mean, std=std, dtype=made).eval()(image)
        expected = (
            image.double() / 255 - torch.tensor(mean).double().view(3, 1, 1)
        ) / torch.tensor(std).double().view(3, 1, 1)
        assert out.image.dtype == made
        tolerance = 2e-6 if made == torch.float32 else 2e-3
        torch.testing.assert_close(out.image.double(), expected, rtol=tolerance, atol=tolerance)
        assert not out.mask.any()

    def test_active_always_ignores_the_mode(self) -> None:
        image, call = pictures(batch=12), {"index": range(12), "epoch": 0}
        synth = white(p=0.5, active="always")
        trained, evaluated = synth(image, **call), synth.eval()(image, **call)
        assert 0 < trained.label.sum() < 12
        assert torch.equal(trained.image, evaluated.image)

    def test_active_always_holds_for_a_normal_transform_too(self) -> None:
        """A validation set must show the normal images that training showed."""
        image, call = pictures(), {"index": range(6), "epoch": 0}
        synth = white(p=0.0, active="always", normal_transform=white(p=1.0, seed=1))
        trained, evaluated = synth(image, **call), synth.eval()(image, **call)
        assert torch.equal(trained.image, evaluated.image)


class TestProbability:
    def test_zero_and_one(self) -> None:
        image = pictures()
        assert_identity(white(p=0.0)(image), image)
        out = white(p=1.0)(image)
        assert out.label.all() and (out.kind == 1).all() and out.mask.flatten(1).any(1).all()

    @pytest.mark.slow
    @pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
    def test_rate(self, p: float) -> None:
        count = 2000
        synth = Synthesizer(Layer(Everywhere(), Constant()), p=p, seed=3)
        hits = int(synth(torch.ones(count, 1, 2, 2, dtype=torch.uint8)).label.sum())
        assert abs(hits - p * count) < 4 * math.sqrt(p * (1 - p) * count)

    def test_may_be_set_later(self) -> None:
        synth = white(p=0.0)
        synth.p = 1.0
        assert synth.p == 1.0 and synth(pictures()).label.all()

    @given(low=st.floats(0, 1), high=st.floats(0, 1))
    @settings(max_examples=20, deadline=None)
    def test_a_larger_p_only_adds_anomalies(self, low: float, high: float) -> None:
        """So that a curriculum on p never takes back what it showed."""
        low, high = min(low, high), max(low, high)
        few, more = (white(p=p)(pictures()).label for p in (low, high))
        assert (few <= more).all()


class TestClean:
    def test_input_is_the_tensor_that_was_given(self) -> None:
        image = pictures()
        assert white(clean="input", dtype=torch.float16)(image).clean is image

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16], ids=str)
    def test_output_is_in_the_outputs_dtype_and_normalisation(self, dtype: torch.dtype) -> None:
        image = pictures(dtype)
        keywords: dict[str, Any] = {"clean": "output", "mean": [0.4], "std": [0.2]}
        out = white(p=0.5, dtype=torch.float32, **keywords)(image)
        plain = white(dtype=torch.float32, **keywords).eval()(image)
        assert out.clean is not None and torch.equal(out.clean, plain.image)
        assert not torch.equal(out.clean, out.image)

    def test_none(self) -> None:
        assert white(clean=None)(pictures()).clean is None


class TestOutputFormat:
    def test_integers_become_unit_floats(self) -> None:
        image = pictures(torch.uint16)
        out = white(p=0.0, dtype=torch.float32)(image)
        expected = (image.double() / 65535).float()
        torch.testing.assert_close(out.image, expected, rtol=0, atol=1e-7)

    def test_one_synthesizer_serves_several_channel_counts(self) -> None:
        synth = white(p=0.0, dtype=torch.float32)
        for channels in (3, 1, 4):
            image = pictures(channels=channels)
            expected = (image.double() / 255).float()
            torch.testing.assert_close(synth(image).image, expected, rtol=0, atol=1e-7)

    @pytest.mark.parametrize("views", [False, True])
    def test_memory_format_follows_the_input(self, views: bool) -> None:
        image = pictures().contiguous(memory_format=torch.channels_last)
        out = white(views=views)(image)
        assert out.image.is_contiguous(memory_format=torch.channels_last)

    @pytest.mark.parametrize(
        ("name", "stored"),
        [("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)],
    )
    def test_memory_format_on_request(self, name: str, stored: torch.memory_format) -> None:
        for image in (pictures(), pictures().contiguous(memory_format=torch.channels_last)):
            out = white(memory_format=name, clean="output")(image)
            assert out.clean is not None
            assert out.image.is_contiguous(memory_format=stored)
            assert out.clean.is_contiguous(memory_format=stored)


class TestLabel:
    def test_an_empty_mask_is_a_normal_sample(self) -> None:
        image = pictures()
        layer = Layer(Perlin(threshold=9.0), Constant(1.0))
        assert_identity(Synthesizer(layer, p=1.0, seed=0)(image), image)

    def test_an_empty_foreground_is_a_normal_sample(self) -> None:
        image = pictures()
        inside = torch.zeros(6, 1, 63, 50)
        assert_identity(white(p=1.0)(image, foreground=inside), image)
        within = Layer(Rectangle() & Foreground(), Constant(1.0))
        assert_identity(Synthesizer(within, p=1.0, seed=0)(image, foreground=inside), image)

    def test_foreground_cuts_the_mask_and_moves_nothing(self) -> None:
        image, inside = pictures(), torch.zeros(6, 1, 63, 50)
        inside[..., :25] = 1
        whole, cut = white(p=1.0)(image), white(p=1.0)(image, foreground=inside)
        assert torch.equal(cut.mask, whole.mask * inside)

    @pytest.mark.parametrize(
        ("min_area", "kept"),
        [(0, True), (100, True), (101, False), (100 / 3150, True), (101 / 3150, False)],
    )
    def test_min_area_in_pixels_or_as_a_share(self, min_area: float, kept: bool) -> None:
        image = pictures()
        out = Synthesizer(SPOT, p=1.0, seed=0, min_area=min_area)(image, slots={"spot": spots()})
        if kept:
            assert out.label.all() and out.mask.sum() == 600
        else:
            assert_identity(out, image)

    def test_changed_leaves_out_what_did_not_move(self) -> None:
        image = pictures()
        image[:, :, 20:25] = 255  # white on white does not show
        out = Synthesizer(SPOT, p=1.0, seed=0, label_rule="changed")(image, slots={"spot": spots()})
        moved = spots()
        moved[..., 20:25, :] = False
        assert torch.equal(out.mask, moved.float()) and out.label.all()

    def test_changed_by_nothing_is_a_normal_sample(self) -> None:
        image = torch.full((6, 3, 63, 50), 255, dtype=torch.uint8)
        synth = Synthesizer(SPOT, p=1.0, seed=0, label_rule="changed")
        assert_identity(synth(image, slots={"spot": spots()}), image)

    @pytest.mark.parametrize(("tolerance", "moved"), [(9.5 / 255, True), (10.5 / 255, False)])
    def test_tolerance(self, tolerance: float, moved: bool) -> None:
        image = torch.full((6, 3, 63, 50), 245, dtype=torch.uint8)
        synth = Synthesizer(SPOT, p=1.0, seed=0, label_rule="changed", tolerance=tolerance)
        assert bool(synth(image, slots={"spot": spots()}).label.all()) is moved

    def test_a_soft_mask_is_the_weight(self) -> None:
        """Levels are given, so that weights and colours are known in closed form."""
        image, level = pictures(torch.float32), torch.rand(6, 1, 63, 50)
        layer = Layer(Given("spot"), Constant(1.0), Feather(width=0.25, opacity=0.5))
        out = Synthesizer(layer, p=1.0, seed=0, label="soft")(image, slots={"spot": level})
        weight = ((level - 0.5) / 0.25).clamp(0, 1) * 0.5
        torch.testing.assert_close(out.mask, weight, rtol=0, atol=1e-6)
        torch.testing.assert_close(out.image, weight + (1 - weight) * image, rtol=0, atol=1e-6)

    def test_a_hard_mask_is_where_the_weight_is(self) -> None:
        image, level = pictures(), torch.rand(6, 1, 63, 50)
        layer = Layer(Given("spot"), Constant(1.0), Feather(width=0.25))
        out = Synthesizer(layer, p=1.0, seed=0)(image, slots={"spot": level})
        assert torch.equal(out.mask, (level > 0.5).float())

    def test_layers_are_folded_in_order_over_one_original(self) -> None:
        """The second layer reads the image, not what the first left, and lies above it."""
        image = pictures(torch.float32)
        whole = torch.ones(6, 1, 63, 50)
        half = whole.clone()
        half[..., 25:] = 0
        layers = (
            Layer(Given("whole"), Constant(1.0), Opacity(0.5)),
            Layer(Given("half"), Own("same"), Hard()),
        )
        out = Synthesizer(*layers, p=1.0, seed=0)(image, slots={"whole": whole, "half": half})
        assert torch.equal(out.image[..., :25], image[..., :25])
        expected = 0.5 + 0.5 * image[..., 25:]
        torch.testing.assert_close(out.image[..., 25:], expected, rtol=0, atol=1e-6)


class TestRealDefects:
    def test_masks_are_united(self) -> None:
        image, real = pictures(), spots()
        plain, both = white(p=0.5)(image), white(p=0.5)(image, mask=real)
        assert torch.equal(both.mask, torch.maximum(plain.mask, real.float()))
        assert torch.equal(both.image, plain.image) and both.label.all()
        given_only = plain.label == 0
        assert given_only.any() and not given_only.all()
        names = [white().kinds[k] for k in both.kind]
        assert names == ["given" if only else "white" for only in given_only]

    @pytest.mark.parametrize("as_type", [torch.bool, torch.uint8, torch.float32], ids=str)
    def test_an_empty_real_mask_adds_nothing(self, as_type: torch.dtype) -> None:
        image = pictures()
        nothing = torch.zeros(6, 1, 63, 50, dtype=as_type)
        assert_identity(white(p=0.0)(image, mask=nothing), image)

    def test_labels_without_masks(self) -> None:
        known = torch.tensor([0, 1, 0, 1, 2, 0])
        out = white(p=0.0)(pictures(), label=known)
        assert out.label.tolist() == [0, 1, 0, 1, 1, 0]
        assert out.kind.tolist() == [2 * int(v > 0) for v in known]
        assert not out.mask.any()

    def test_in_eval_they_are_all_there_is(self) -> None:
        image, real = pictures(), spots()
        out = white(p=1.0).eval()(image, mask=real)
        assert torch.equal(out.image, image) and torch.equal(out.mask, real.float())
        assert (out.kind == 2).all()


class TestNormalTransform:
    def test_a_callable_comes_before_the_anomaly(self) -> None:
        image = pictures()
        call: dict[str, Any] = {"index": range(6), "epoch": 0}
        out = white(normal_transform=lambda x: x.flip(3))(image, **call)
        by_hand = white()(image.flip(3), **call)
        assert torch.equal(out.image, by_hand.image)
        assert out.clean is not None and torch.equal(out.clean, image.flip(3))

    def test_a_synthesizer_is_given_the_same_sample_numbers(self) -> None:
        image = pictures()
        first = Synthesizer(Layer(Everywhere(), Constant((0, 0.5))), p=0.7, seed=9)
        out = white(normal_transform=first)(image, index=range(6), epoch=2)
        clean = first(image, index=range(6), epoch=2).image
        assert out.clean is not None and torch.equal(out.clean, clean)
        assert torch.equal(out.image, white()(clean, index=range(6), epoch=2).image)

    def test_a_transform_may_have_one_itself(self) -> None:
        image, call = pictures(), {"index": range(6), "epoch": 2}
        first = Synthesizer(Layer(Everywhere(), Constant((0, 0.5))), p=0.7, seed=9)
        second = Synthesizer(Layer(Rectangle(), Constant(0.2)), p=0.7, seed=8)
        by_hand = white()(second(first(image, **call).image, **call).image, **call)
        second.normal_transform = first
        out = white(normal_transform=second)(image, **call)
        assert torch.equal(out.image, by_hand.image)


class TestViews:
    def test_rows_come_view_by_view(self) -> None:
        image = pictures(batch=3)
        out = anoaug.create("cutpaste_union", views=True, seed=0)(image)
        assert out.kind.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert out.extras["source_row"].tolist() == [0, 1, 2] * 3
        assert torch.equal(out.image[:3], image)
        assert out.clean is not None and torch.equal(out.clean, image.repeat(3, 1, 1, 1))

    def test_a_view_is_its_layer_alone_on_every_image(self) -> None:
        image = pictures(batch=3)
        other = Layer(Perlin((1, 2), -0.5), Constant(0.0), kind="black")
        out = Synthesizer(WHITE, other, views=True, seed=0)(image)
        for view, layer in enumerate((WHITE, other), start=1):
            alone = Synthesizer(layer, p=1.0, seed=0)(image)
            assert torch.equal(out.image[3 * view : 3 * view + 3], alone.image)

    def test_given_tensors_follow_the_views(self) -> None:
        real, inside = spots(batch=3), spots(30, batch=3)
        real[1:], inside[2:] = False, False
        known = torch.tensor([0, 0, 1])
        synth = Synthesizer(WHITE, views=True, seed=0)
        out = synth(pictures(batch=3), mask=real, label=known, foreground=inside)
        assert not out.mask[5].any() and out.label.tolist()[2::3] == [1, 1]
        assert torch.equal(out.mask[0], real[0].float()) and out.mask[3][real[0]].all()

    def test_a_batch_donor_is_never_the_image_itself(self) -> None:
        """Each image is one grey, so that a patch of its own changes nothing."""
        image = torch.tensor([10, 90, 200], dtype=torch.uint8).view(3, 1, 1, 1)
        image = image.expand(3, 3, 63, 50)
        synth = Synthesizer(
            Layer(Rectangle(), BatchDonor()), views=True, seed=0, label_rule="changed"
        )
        for _ in range(4):
            assert synth(image).label.tolist() == [0, 0, 0, 1, 1, 1]


class TestDonors:
    @pytest.fixture
    def bank(self) -> DonorBank:
        """Category "dark" is 50, category "light" is 200."""
        grey = torch.tensor([50, 200, 50, 200], dtype=torch.uint8).view(4, 1, 1, 1)
        names = ["dark", "light", "dark", "light"]
        return DonorBank.from_tensors(grey.expand(4, 3, 40, 40), categories=names)

    @pytest.mark.parametrize(
        "category",
        [
            ["dark", "light", "light", "dark", "dark", "light"],
            [0, 1, 1, 0, 0, 1],
            torch.tensor([0, 1, 1, 0, 0, 1]),
            ("dark", 1, "light", 0, "dark", "light"),
        ],
        ids=["names", "numbers", "tensor", "mixed"],
    )
    def test_come_from_the_samples_category(self, bank: DonorBank, category: Any) -> None:
        synth = Synthesizer(Layer(Rectangle(), Donor(bank)), p=1.0, seed=0)
        assert synth.categories == ("dark", "light")
        out = synth(pictures(), category=category)
        greys = [int(out.image[k, 0][out.mask[k, 0] > 0].float().mean()) for k in range(6)]
        assert greys == [50, 200, 200, 50, 50, 200]
        # Every pixel of the patch, not only their mean.
        expected = torch.tensor(greys, dtype=torch.uint8).view(6, 1, 1, 1)
        assert torch.where(out.mask > 0, out.image == expected, True).all()

    def test_one_category_for_all_and_none(self, bank: DonorBank) -> None:
        synth = Synthesizer(Layer(Everywhere(), Donor(bank)), p=1.0, seed=0)
        assert (synth(pictures(), category="light").image == 200).all()
        assert (synth(pictures(), category=0).image == 50).all()
        assert synth(pictures(batch=12)).image.unique().tolist() == [50, 200]

    def test_textures_know_no_category(self) -> None:
        bank = TextureBank.from_tensors(pictures(batch=3), categories=["a", "b", "c"])
        synth = Synthesizer(Layer(Rectangle(), Texture(bank)), p=1.0, seed=0)
        call: dict[str, Any] = {"index": range(6), "epoch": 0}
        assert torch.equal(
            synth(pictures(), category="a", **call).image, synth(pictures(), **call).image
        )
