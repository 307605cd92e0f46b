"""Layers bound to banks and given tensors: numbering, sharing, categories, what a layer refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from anoaug import DonorBank, Layer, Synthesizer, TextureBank, parts, recipe
from anoaug.binding import Binding
from anoaug.blends import Hard, Opacity
from anoaug.masks import Everywhere, Foreground, Given, Perlin, Rectangle
from anoaug.photometric import RandomOps
from anoaug.sources import Constant, Donor, Noise, Own, Texture


def grey(*values: int, channels: int = 3) -> Tensor:
    """One flat image per value, 8 x 10."""
    levels = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1)
    return levels.expand(-1, channels, 8, 10).contiguous()


def bind(*layers: Layer) -> Binding:
    return Binding(layers, ("normal", "anomaly", "given"), "anomaly")


class TestLayer:
    @pytest.mark.parametrize(
        ("parts", "words"),
        [
            ((Constant(), Constant()), ("mask", "anoaug.masks", "Constant")),
            ((Rectangle(), Rectangle()), ("source", "anoaug.sources", "Rectangle")),
            ((Rectangle(), Constant(), Rectangle()), ("blend", "anoaug.blends", "Rectangle")),
            ((torch.zeros(1), Constant()), ("mask", "Tensor")),
        ],
    )
    def test_refuses_parts_in_the_wrong_place(self, parts: Any, words: tuple[str, ...]) -> None:
        with pytest.raises(TypeError) as caught:
            Layer(*parts)
        assert all(word in str(caught.value) for word in ("expected", "got", *words))

    @pytest.mark.parametrize("count", [0, (0, 0), 5, (1, 5), 1.5, (2, 1), -1])
    def test_refuses_counts_that_are_none(self, count: Any) -> None:
        with pytest.raises(ValueError, match=r"count.*expected.*got"):
            Layer(Rectangle(), Constant(), count=count)

    def test_refuses_more_copies_than_registers_hold(self) -> None:
        layers = [Layer(Rectangle(), Constant(), count=k) for k in (3, (0, 2))]
        with pytest.raises(ValueError, match=r"at most 4.*got 5.*lower the counts"):
            Synthesizer(*layers)

    @pytest.mark.parametrize("kind", ["normal", "given"])
    def test_refuses_the_kinds_that_mean_something_else(self, kind: str) -> None:
        """An anomaly of kind "normal" would be counted as kind 0."""
        with pytest.raises(ValueError, match=kind):
            Synthesizer(Layer(Rectangle(), Constant(), kind=kind))
        with pytest.raises(ValueError, match=kind):
            Synthesizer(Layer(Rectangle(), Constant()), name=kind)

    @pytest.mark.slow
    def test_count_draws_how_many(self) -> None:
        """Copies draw on their own: up to three pixels of one row each."""
        layer = Layer(Rectangle(height=1, width=1), Constant(1.0), count=(0, 3))
        out = Synthesizer(layer, p=1.0, seed=0)(torch.zeros(400, 1, 40, 40, dtype=torch.uint8))
        sizes = out.mask.flatten(1).sum(1).long().bincount(minlength=4) / 400
        assert len(sizes) == 4 and (sizes - 0.25).abs().max() < 0.08
        assert torch.equal(out.label, (out.mask.flatten(1).sum(1) > 0).long())

    def test_a_fixed_count_is_that_many(self) -> None:
        layer = Layer(Rectangle(height=1, width=1), Constant(1.0), count=4)
        out = Synthesizer(layer, p=1.0, seed=0)(torch.zeros(50, 1, 200, 200, dtype=torch.uint8))
        assert (out.mask.flatten(1).sum(1) >= 3).all() and out.mask.sum() > 196


class TestBanks:
    def test_one_bank_in_two_layers_is_one_tensor(self) -> None:
        bank, other = TextureBank.from_tensors(grey(1, 2)), TextureBank.from_tensors(grey(3))
        layers = [Layer(Rectangle(), Texture(b)) for b in (bank, other, bank)]
        binding = bind(*layers)
        assert binding.banks == (bank, other)
        assert [law.source.bank for law in binding.laws] == [0, 1, 0]  # type: ignore[attr-defined]

    def test_each_layer_reads_its_own_bank(self) -> None:
        dark, light = TextureBank.from_tensors(grey(40)), TextureBank.from_tensors(grey(220))
        top, bottom = Given("top"), Given("bottom")
        synth = Synthesizer(Layer(top, Texture(dark)), Layer(bottom, Texture(light)), p=1.0, seed=0)
        half = torch.zeros(2, 1, 8, 10, dtype=torch.bool)
        half[:, :, :5] = True
        image = torch.zeros(2, 3, 8, 10, dtype=torch.uint8)
        out = synth(image, slots={"top": half, "bottom": ~half})
        assert (out.image[:, :, :5] == 40).all() and (out.image[:, :, 5:] == 220).all()

    def test_tensors_are_made_once_per_device_and_channels(self) -> None:
        binding = bind(Layer(Rectangle(), Texture(TextureBank.from_tensors(grey(1, 2)))))
        device = torch.device("cpu")
        first, again = binding.tensors(device, 3), binding.tensors(device, 3)
        assert first[0][0] is again[0][0]
        assert binding.tensors(device, 1)[0][0].shape[1] == 1

    def test_an_unsharpened_bank_is_not_copied(self) -> None:
        bank = TextureBank.from_tensors(grey(1, 2))
        data = bind(Layer(Rectangle(), Texture(bank))).tensors(torch.device("cpu"), 3)[0]
        assert data[0].data_ptr() == bank.data.data_ptr()

    def test_sharpening_brings_the_smoothed_twins_only_where_it_is_drawn(self) -> None:
        """Two tensors per bank; the second is the first again where no op sharpens."""
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (2, 3, 8, 10), dtype=torch.uint8, generator=generator)
        plain, sharp = TextureBank.from_tensors(pixels), TextureBank.from_tensors(pixels)
        device = torch.device("cpu")
        images, twins = bind(Layer(Rectangle(), Texture(plain))).tensors(device, 3)[0]
        assert images.data_ptr() == twins.data_ptr() == plain.data.data_ptr()
        layer = Layer(Rectangle(), Texture(sharp, RandomOps.draem()))
        images, twins = bind(layer).tensors(device, 3)[0]
        assert torch.equal(images, pixels) and torch.equal(twins, sharp.smooth)

    @pytest.mark.parametrize("size", [(8, 10), (4, 5), (12, 9), (40, 50)], ids=str)
    @pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
    def test_a_flat_texture_stays_flat_at_any_size(
        self, size: tuple[int, int], interpolation: str
    ) -> None:
        """Zero is what lies beyond a *turned* texture: stretching must not draw a dark frame."""
        source = Texture(TextureBank.from_tensors(grey(77)), interpolation=interpolation)
        synth = Synthesizer(Layer(Everywhere(), source), p=1.0, seed=0)
        assert (synth(torch.zeros(2, 3, *size, dtype=torch.uint8)).image == 77).all()

    def test_grey_banks_serve_any_channel_count(self) -> None:
        bank = TextureBank.from_tensors(grey(77, channels=1))
        synth = Synthesizer(Layer(Everywhere(), Texture(bank)), p=1.0, seed=0)
        for channels in (1, 3, 4):
            image = torch.zeros(2, channels, 8, 10, dtype=torch.uint8)
            assert (synth(image).image == 77).all()

    def test_colour_banks_are_read_as_luma_by_grey_images(self) -> None:
        colour = torch.tensor([100, 50, 200], dtype=torch.uint8).view(1, 3, 1, 1)
        bank = TextureBank.from_tensors(colour.expand(1, 3, 8, 10))
        synth = Synthesizer(Layer(Everywhere(), Texture(bank)), p=1.0, seed=0)
        luma = (299 * 100 + 587 * 50 + 114 * 200 + 500) // 1000
        assert (synth(torch.zeros(2, 1, 8, 10, dtype=torch.uint8)).image == luma).all()

    @pytest.mark.parametrize(
        ("dtype", "white"), [(torch.uint8, 255), (torch.uint16, 65535), (torch.float32, 1)], ids=str
    )
    def test_bytes_are_scaled_to_the_images_white(self, dtype: torch.dtype, white: int) -> None:
        bank = TextureBank.from_tensors(grey(255))
        synth = Synthesizer(Layer(Everywhere(), Texture(bank)), p=1.0, seed=0)
        image = torch.zeros(2, 3, 8, 10).to(dtype)
        assert (synth(image).image.double() == white).all()


class TestCategories:
    def test_are_the_union_of_the_banks_names(self) -> None:
        """Banks number their categories on their own; the recipe has one numbering."""
        first = DonorBank.from_tensors(grey(10, 20), categories=["nut", "bolt"])
        second = DonorBank.from_tensors(grey(30, 40), categories=["screw", "nut"])
        top, bottom = Layer(Given("top"), Donor(first)), Layer(~Given("top"), Donor(second))
        synth = Synthesizer(top, bottom, p=1.0, seed=0)
        assert synth.categories == ("bolt", "nut", "screw")
        half = torch.zeros(2, 1, 12, 9, dtype=torch.bool)
        half[:, :, :6] = True
        image = torch.zeros(2, 3, 12, 9, dtype=torch.uint8)
        out = synth(image, slots={"top": half}, category="nut")
        assert (out.image[:, :, :6] == 10).all() and (out.image[:, :, 6:] == 40).all()

    def test_a_bank_without_the_samples_category_is_named(self) -> None:
        first = DonorBank.from_tensors(grey(10, 20), categories=["nut", "bolt"])
        second = DonorBank.from_tensors(grey(30), categories=["screw"])
        layers = [Layer(Rectangle(), Donor(bank)) for bank in (first, second)]
        synth = Synthesizer(*layers, p=1.0, seed=0)
        with pytest.raises(ValueError, match=r"category.*no image"):
            synth(torch.zeros(2, 3, 12, 9, dtype=torch.uint8), category="screw")

    def test_without_categories_in_any_bank_they_are_ignored(self) -> None:
        """So that a loader may always hand its category on."""
        synth = Synthesizer(Layer(Rectangle(), Own()), p=1.0, seed=0)
        image = torch.zeros(2, 3, 12, 9, dtype=torch.uint8)
        assert synth.categories == ()
        assert torch.equal(synth(image, category="nut").label, torch.ones(2, dtype=torch.int64))


class TestSlots:
    def test_are_numbered_in_order_of_appearance(self) -> None:
        binding = bind(
            Layer(Given("b") & Given("a"), Constant()), Layer(Given("b") | Foreground(), Constant())
        )
        assert binding.slots == ("b", "a", "foreground")

    def test_a_foreground_part_replaces_the_confinement(self) -> None:
        image = torch.zeros(2, 3, 12, 9, dtype=torch.uint8)
        inside = torch.zeros(2, 1, 12, 9)
        inside[..., :4] = 1
        outside = Synthesizer(Layer(~Foreground(), Constant(1.0)), p=1.0, seed=0)
        assert torch.equal(outside(image, foreground=inside).mask, 1 - inside)
        confined = Synthesizer(Layer(Everywhere(), Constant(1.0)), p=1.0, seed=0)
        assert torch.equal(confined(image, foreground=inside).mask, inside)

    def test_a_plane_may_come_without_its_channel_axis(self) -> None:
        image = torch.zeros(2, 3, 12, 9, dtype=torch.uint8)
        spot = torch.zeros(2, 12, 9, dtype=torch.bool)
        spot[:, 3] = True
        synth = Synthesizer(Layer(Given("spot"), Constant(1.0)), p=1.0, seed=0)
        assert torch.equal(synth(image, slots={"spot": spot}).mask[:, 0], spot.float())

    @pytest.mark.parametrize(
        ("values", "inside"),
        [
            (torch.tensor([0, 1, 255], dtype=torch.uint8), [0, 1, 1]),
            (torch.tensor([False, True, True]), [0, 1, 1]),
            (torch.tensor([0.5, 0.51, 1.0]), [0, 1, 1]),
            (torch.tensor([0.5, 0.75, 1.0], dtype=torch.float64), [0, 1, 1]),
            (torch.tensor([0.0, 0.5, 0.75], dtype=torch.bfloat16), [0, 0, 1]),
        ],
        ids=["uint8", "bool", "float32", "float64", "bfloat16"],
    )
    def test_what_counts_as_inside(self, values: Tensor, inside: list[int]) -> None:
        image = torch.zeros(3, 1, 4, 5, dtype=torch.uint8)
        plane = values.view(3, 1, 1, 1).expand(3, 1, 4, 5)
        expected = torch.tensor(inside).float().view(3, 1, 1, 1).expand(3, 1, 4, 5)
        part = Synthesizer(Layer(Given("spot"), Constant(1.0)), p=1.0, seed=0)
        whole = Synthesizer(Layer(Everywhere(), Constant(1.0)), p=1.0, seed=0)
        assert torch.equal(part(image, slots={"spot": plane}).mask, expected)
        assert torch.equal(whole(image, foreground=plane).mask, expected)
        assert torch.equal(whole.eval()(image, mask=plane).mask, expected)


class TestChoice:
    @pytest.mark.slow
    def test_one_layer_per_sample_by_its_odds(self) -> None:
        layers = [Layer(Everywhere(), Constant(v / 255), kind=str(v)) for v in (10, 20, 30)]
        synth = Synthesizer(*layers, p=1.0, seed=0, choose="one", weights=[1, 2, 1])
        out = synth(torch.zeros(600, 1, 2, 2, dtype=torch.uint8))
        assert torch.equal(out.image[:, 0, 0, 0].long(), out.kind * 10)
        shares = out.kind.bincount(minlength=4)[1:] / 600
        assert (shares - torch.tensor([0.25, 0.5, 0.25])).abs().max() < 0.07

    def test_an_odd_of_zero_is_never_drawn_and_may_change(self) -> None:
        layers = [Layer(Everywhere(), Constant(1.0), kind=kind) for kind in "ab"]
        synth = Synthesizer(*layers, p=1.0, seed=0, choose="one", weights=[0, 1])
        image = torch.zeros(50, 1, 2, 2, dtype=torch.uint8)
        assert (synth(image).kind == 2).all()
        synth.weights = (1, 0)
        assert (synth(image).kind == 1).all()

    def test_layers_of_one_kind_share_its_number(self) -> None:
        layers = [Layer(Everywhere(), Constant(1.0), kind=kind) for kind in ("a", "b", "a")]
        synth = Synthesizer(*layers, seed=0, choose="one")
        assert synth.kinds == ("normal", "a", "b", "given")
        unnamed = Synthesizer(Layer(Rectangle(), Noise(), Hard()), name="noise")
        assert unnamed.kinds == ("normal", "noise", "given")


class TestRefusals:
    """Expected, got, mend."""

    IMAGE = torch.zeros(4, 3, 8, 10, dtype=torch.uint8)
    PLANE = torch.zeros(4, 1, 8, 10)

    def refused(self, layer: Layer, words: tuple[str, ...], **call: Any) -> None:
        with pytest.raises(ValueError) as caught:
            Synthesizer(layer, p=1.0, seed=0)(self.IMAGE, **call)
        missing = [word for word in words if word not in str(caught.value)]
        assert not missing, f"{missing} not in: {caught.value}"

    def test_a_missing_slot(self) -> None:
        words = ("spot", "slots={'spot': tensor}", "(B, 1, H, W)")
        self.refused(Layer(Given("spot"), Constant()), words)

    def test_a_missing_foreground(self) -> None:
        self.refused(Layer(~Foreground(), Constant()), ("foreground", "pass foreground="))

    def test_an_unknown_slot(self) -> None:
        words = ("slots", "expected", "['spot']", "got ['spott']", "masks.Given")
        slots = {"spot": self.PLANE, "spott": self.PLANE}
        self.refused(Layer(Given("spot"), Constant()), words, slots=slots)

    def test_a_slot_of_another_size(self) -> None:
        words = ("spot", "expected shape [4, 1, 8, 10]", "got [4, 1, 8, 9]", "resize")
        slots = {"spot": self.PLANE[..., 1:]}
        self.refused(Layer(Given("spot"), Constant()), words, slots=slots)

    @pytest.mark.parametrize(
        ("category", "words"),
        [
            ("botle", ("'botle'", "did you mean bottle")),
            ([0, 1, 2, 0], ("expected", "below 2", "got")),
            ([0, 1, -2, 0], ("expected", "got -2")),
            ([0, 1, 1], ("expected one number per sample", "[4]", "got [3]")),
            (torch.zeros(4, dtype=torch.int64, device="meta"), ("expected", "CPU", "got", "meta")),
        ],
        ids=["name", "number", "negative", "length", "device"],
    )
    def test_a_category(self, category: Any, words: tuple[str, ...]) -> None:
        bank = DonorBank.from_tensors(self.IMAGE, categories=["bottle", "cable"] * 2)
        layer = Layer(Rectangle(), Donor(bank))
        self.refused(layer, ("category", *words), category=category)

    def test_a_bank_with_other_channels(self) -> None:
        bank = TextureBank.from_tensors(torch.zeros(2, 4, 8, 10, dtype=torch.uint8))
        words = ("bank", "expected", "1 or 3 channels", "got 4", "from_tensors")
        self.refused(Layer(Rectangle(), Texture(bank)), words)

    def test_a_tensor_where_a_bank_belongs(self) -> None:
        layer = Layer(Rectangle(), Texture(self.IMAGE))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"bank.*expected a bank.*got Tensor.*from_folder"):
            Synthesizer(layer)

    def test_a_part_where_a_layer_belongs(self) -> None:
        with pytest.raises(TypeError, match=r"layers.*expected anoaug.Layer.*got Rectangle"):
            Synthesizer(Rectangle())  # type: ignore[arg-type]


def test_laws_survive_their_text() -> None:
    """What the op is told is the recipe, to the last field."""
    bank = TextureBank.from_tensors(grey(1, 2))
    mask = (Perlin((1, 4), (0.2, 0.6), octaves=2) & ~Rectangle(rotation=(-5, 5))) | Given("x")
    binding = bind(Layer(mask, Texture(bank, RandomOps.draem(), (-9, 9)), Opacity((0.1, 0.4))))
    laws = recipe.Laws(binding.laws, 0.25, (), False, 0.5, 0.125)
    assert parts.from_plain(parts.to_plain(laws)) == laws
    parsed = recipe.recipe(recipe.specialise(recipe.encode(laws), 3, 255.0)).laws
    assert parsed.layers == binding.laws and parsed.channels == 3
