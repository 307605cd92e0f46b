"""One truth on the CPU: its driver and the kernels' interpreter equal the torch reference."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import anoaug
from anoaug import AnomalyBatch, DonorBank, Layer, Synthesizer, TextureBank, ops
from anoaug.blends import Feather, Hard, Opacity
from anoaug.functional import field
from anoaug.masks import Everywhere, Foreground, Given, Perlin, Rectangle
from anoaug.photometric import ColorJitter, RandomOps
from anoaug.sources import BatchDonor, Constant, Donor, Noise, Own, Texture

DTYPES = (torch.uint8, torch.uint16, torch.float16, torch.bfloat16, torch.float32)
SIZE = (63, 50)

# ---- inputs --------------------------------------------------------------------------------------


def pictures(
    dtype: torch.dtype = torch.uint8, batch: int = 3, channels: int = 3, size: Any = SIZE
) -> Tensor:
    generator = torch.Generator().manual_seed(batch + channels)
    shape = (batch, channels, *size)
    if dtype.is_floating_point:
        return torch.rand(shape, generator=generator).to(dtype)
    top = 1 << (8 * dtype.itemsize)
    return torch.randint(0, top, shape, generator=generator, dtype=torch.int32).to(dtype)


def channels_last(image: Tensor) -> Tensor:
    return image.contiguous(memory_format=torch.channels_last)


def sliced(image: Tensor) -> Tensor:
    """Every other column of something wider that begins elsewhere."""
    batch, channels, height, width = image.shape
    wide = torch.zeros(batch + 1, channels, height + 3, 2 * width + 1, dtype=image.dtype)
    view = wide[1:, :, 2:-1, 1::2]
    return view.copy_(image)


def transposed(image: Tensor) -> Tensor:
    """Stored column by column."""
    return image.transpose(2, 3).contiguous().transpose(2, 3)


def shuffled(image: Tensor) -> Tensor:
    """Stored with the batch innermost."""
    return image.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "planar": torch.clone,
    "channels_last": channels_last,
    "sliced": sliced,
    "transposed": transposed,
    "shuffled": shuffled,
}


@functools.cache
def textures(channels: int) -> TextureBank:
    return TextureBank.from_tensors(pictures(batch=4, channels=channels, size=(24, 31)))


@functools.cache
def donors(channels: int) -> DonorBank:
    bank = pictures(batch=5, channels=channels, size=(40, 29))
    return DonorBank.from_tensors(bank, categories=["a", "b", "a", "b", "b"])


# ---- recipes -------------------------------------------------------------------------------------


def small_box(**keywords: Any) -> Rectangle:
    return Rectangle(height=(1, 30), width=(1, 30), rotation=(-90, 90), **keywords)


def layered(c: int) -> list[Layer]:
    """Four layers: noise, donor, and two copies of a constant, over one another."""
    return [
        Layer(Perlin((1, 3), 0.1) & ~Rectangle(), Noise(0.1, 0.8), Opacity(), kind="noise"),
        Layer(Rectangle() | Perlin((0, 2)), Donor(donors(c)), Feather(0.2), kind="donor"),
        Layer(small_box(), Constant((0, 1)), Opacity((0.3, 0.9), "multiply"), count=(0, 2)),
    ]


RECIPES: dict[str, Callable[[int], list[Layer]]] = {
    "draem": lambda c: [
        Layer(Perlin((0, 4), 0.3), Texture(textures(c), RandomOps.draem()), Opacity())
    ],
    "octaves": lambda c: [
        Layer(
            Perlin(cells=((0.7, 9.0), 3.3), threshold=0.1, rotation_fill="continue", octaves=3),
            Texture(textures(1), None, (-90, 90), "nearest", "border"),
            Opacity((0.1, 0.9), "add"),
        )
    ],
    "cutpaste": lambda c: [
        Layer(Rectangle(), Own(photometric=ColorJitter(0.4, 0.4, 0.4, 0.4)), Hard())
    ],
    "scar": lambda c: [Layer(small_box(), Own(interpolation="bilinear"), Hard())],
    "feather": lambda c: [Layer(small_box(), Texture(textures(c)), Feather((1, 9), (0.2, 1)))],
    "donor": lambda c: [
        Layer(Rectangle(), Donor(donors(c), "same", ColorJitter(0.3, 0.3)), Opacity())
    ],
    "batch donor": lambda c: [Layer(small_box(), BatchDonor(), Hard("multiply"))],
    "layers": layered,
    "given": lambda c: [
        Layer(Given("spot") & Foreground(), Noise(), Hard(), kind="spot"),
        Layer(Foreground() & small_box(), Constant(0.9), Opacity(0.5)),
    ],
}


def calls(name: str, image: Tensor, given_as: torch.dtype = torch.bool) -> dict[str, Any]:
    """The tensors that a recipe wants beside the images."""
    if name != "given":
        return {}
    batch, _, height, width = image.shape
    generator = torch.Generator().manual_seed(height)
    spot, fore = torch.rand(2, batch, 1, height, width, generator=generator)
    if given_as.is_floating_point:
        return {"slots": {"spot": spot.to(given_as)}, "foreground": fore.to(given_as)}
    cut = [
        (plane > 0.4).to(given_as) * (1 if given_as == torch.bool else 7) for plane in (spot, fore)
    ]
    return {"slots": {"spot": cut[0].to(given_as)}, "foreground": cut[1].to(given_as)}


def make(name: str, channels: int = 3, backend: str = "auto", **keywords: Any) -> Synthesizer:
    keywords = {"p": 0.8, "seed": 5, "clean": "output", **keywords}
    return Synthesizer(*RECIPES[name](channels), backend=backend, **keywords)


def bits(values: Tensor) -> Tensor:
    """The same memory as integers, so that -0.0 is not 0.0."""
    return values.view({1: torch.uint8, 2: torch.int16, 4: torch.int32}[values.dtype.itemsize])


def assert_same(fast: AnomalyBatch, true: AnomalyBatch) -> None:
    """Equal bits, dtypes and memory order."""
    assert torch.equal(bits(fast.mask), bits(true.mask))
    assert torch.equal(fast.label, true.label) and torch.equal(fast.kind, true.kind)
    for ours, theirs in ((fast.image, true.image), (fast.clean, true.clean)):
        assert ours is not None and theirs is not None
        assert ours.dtype == theirs.dtype and ours.stride() == theirs.stride()
        assert torch.equal(bits(ours), bits(theirs))


def check(
    name: str, image: Tensor, backend: str = "auto", given_as: torch.dtype = torch.bool, **kw: Any
) -> AnomalyBatch:
    """Run a backend and the reference on the same samples; returns what both gave."""
    channels = image.shape[1]
    extra = calls(name, image, given_as)
    out = make(name, channels, backend, **kw)(image, **extra)
    assert_same(out, make(name, channels, "torch", **kw)(image, **extra))
    return out


# ---- the CPU's driver ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_and_dtype(name: str, dtype: torch.dtype) -> None:
    out = check(name, pictures(dtype))
    # Guards the comparison itself: something must have been synthesised.
    assert out.label.any() and not torch.equal(out.image, out.clean)


@pytest.mark.parametrize("channels", [1, 4, 5])
@pytest.mark.parametrize("name", ["draem", "cutpaste", "layers"])
def test_channels(name: str, channels: int) -> None:
    assert check(name, pictures(channels=channels)).label.any()


@pytest.mark.parametrize("size", [(225, 17), (2, 2), (24, 31), (40, 29)], ids=str)
@pytest.mark.parametrize("name", RECIPES)
def test_sizes(name: str, size: tuple[int, int]) -> None:
    """Thin, least, and those of the banks, where every place is a whole pixel."""
    check(name, pictures(size=size, batch=3), p=1.0)


@pytest.mark.parametrize("name", ["draem", "layers"])
def test_a_large_image(name: str) -> None:
    assert check(name, pictures(size=(1000, 700), batch=1), p=1.0).label.all()


@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("name", ["draem", "cutpaste", "layers", "given"])
def test_batch_sizes(name: str, batch: int) -> None:
    assert len(check(name, pictures(batch=batch)).image) == batch


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["draem", "cutpaste"])
def test_memory_layouts_change_nothing(name: str, dtype: torch.dtype, layout: str) -> None:
    image = pictures(dtype)
    out = check(name, LAYOUTS[layout](image))
    plain = make(name)(image)
    assert torch.equal(out.image, plain.image) and torch.equal(out.mask, plain.mask)


@pytest.mark.parametrize(
    "given_as", [torch.bool, torch.uint8, torch.float32, torch.float16], ids=str
)
def test_given_tensors(given_as: torch.dtype) -> None:
    assert check("given", pictures(), given_as=given_as).label.any()


@pytest.mark.parametrize("name", ["draem", "layers", "feather"])
def test_foreground_confines(name: str) -> None:
    image = pictures()
    inside = torch.zeros(3, 1, *SIZE, dtype=torch.bool)
    inside[..., 20:] = True
    fast = make(name)(image, foreground=inside)
    assert_same(fast, make(name, backend="torch")(image, foreground=inside))
    assert fast.label.any() and not fast.mask[~inside].any()


RULES: list[dict[str, Any]] = [
    {"label_rule": "changed", "tolerance": 0.2},
    {"label_rule": "changed", "tolerance": 0.3, "min_area": 200},
    {"min_area": 700},
    {"min_area": 0.1},
    {"label": "soft"},
    {"label": "soft", "label_rule": "changed", "tolerance": 0.1},
]


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["feather", "layers"])
def test_label_rules(name: str, dtype: torch.dtype, rule: dict[str, Any]) -> None:
    check(name, pictures(dtype, batch=6), p=1.0, **rule)


STATISTICS = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@pytest.mark.parametrize("made", [torch.float32, torch.float16, torch.bfloat16, None], ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("statistics", [STATISTICS, {}], ids=["normalised", "as is"])
def test_outputs(dtype: torch.dtype, made: torch.dtype | None, statistics: dict[str, Any]) -> None:
    check("draem", pictures(dtype), dtype=made, memory_format="channels_last", **statistics)


def test_gaussian_noise_within_its_stated_tolerance() -> None:
    """A named exception: log, cos and sin may round differently in other places of a vector."""
    layer = Layer(Perlin((0, 3), 0.0), Noise(0.5, 0.1, "gaussian"))
    image = pictures(torch.float32)
    fast = Synthesizer(layer, p=1.0, seed=0)(image)
    true = Synthesizer(layer, p=1.0, seed=0, backend="torch")(image)
    assert torch.equal(fast.mask, true.mask)
    torch.testing.assert_close(fast.image, true.image, rtol=0, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(RECIPES)),
    dtype=st.sampled_from(DTYPES),
    channels=st.sampled_from([1, 3, 4, 5]),
    batch=st.integers(2, 4),
    size=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    layout=st.sampled_from(sorted(LAYOUTS)),
    rule=st.sampled_from([{}, *RULES]),
    seed=st.integers(-(2**63), 2**63 - 1),
)
def test_any_combination(
    name: str, dtype: torch.dtype, channels: int, batch: int, size: tuple[int, int], layout: str,
    rule: dict[str, Any], seed: int,
) -> None:  # fmt: skip
    image = LAYOUTS[layout](pictures(dtype, batch, channels, size))
    check(name, image, seed=seed, **rule)


@pytest.mark.parametrize(
    "mask",
    [
        Perlin((0, 1)),
        Perlin((5, 6)),
        Perlin((0, 5), rotation_fill="continue"),
        Perlin(octaves=4, persistence=0.7),
        Perlin((2, 3)) & ~Rectangle(),
        Everywhere(),
    ],
    ids=["coarse", "finer than pixels", "continued", "octaves", "expression", "everywhere"],
)
def test_field(mask: Any) -> None:
    """The level itself, not only its sign."""
    size, rows = (41, 67), [0, 7, 2**40]
    assert torch.equal(field(mask, size, rows), field(mask, size, rows, backend="torch"))


# ---- the kernels' interpreter --------------------------------------------------------------------


@pytest.fixture
def interpreter(poisoned: None) -> None:
    if ops.triton_trouble() is not None:
        pytest.skip(f"{ops.triton_trouble()}")
    if not ops.interpreting():
        pytest.skip("TRITON_INTERPRET is not 1: the GPU suite compares the compiled kernels")


# Each interpreted program costs tens of milliseconds, so a case is two images in one tile each.
INTERPRETED: dict[str, tuple[str, Tensor, dict[str, Any]]] = {
    "draem": ("draem", pictures(batch=2), STATISTICS),
    "draem, 16 bits": ("draem", pictures(torch.uint16, 2), {"dtype": torch.float16, **STATISTICS}),
    "draem, half": ("draem", channels_last(pictures(torch.float16, 2)), {}),
    "draem, five channels": ("draem", channels_last(pictures(batch=2, channels=5)), {}),
    "octaves, float": ("octaves", pictures(torch.float32, 2), {"label": "soft"}),
    "cutpaste": ("cutpaste", pictures(batch=2), {"memory_format": "channels_last"}),
    "cutpaste, float": ("cutpaste", sliced(pictures(torch.float32, 2)), {}),
    "scar, grey": ("scar", transposed(pictures(batch=2, channels=1, size=(225, 17))), {}),
    "feather": ("feather", pictures(batch=2), {"label": "soft", "min_area": 300}),
    "feather, changed": ("feather", pictures(batch=2), RULES[0]),
    "donor": ("donor", pictures(torch.uint16, 2), {}),
    "batch donor": ("batch donor", pictures(batch=2), {}),
    "layers": ("layers", pictures(batch=2), {"label_rule": "changed", "tolerance": 0.1}),
    "layers, four channels": ("layers", pictures(torch.float16, 2, 4), {"label": "soft"}),
    "tiny": ("layers", pictures(batch=2, size=(2, 2)), {}),
    "given": ("given", pictures(batch=2), {}),
    "empty": ("layers", pictures(batch=0), {}),
}


@pytest.mark.triton_interpreter
@pytest.mark.parametrize("case", INTERPRETED)
def test_interpreter(case: str, interpreter: None) -> None:
    name, image, keywords = INTERPRETED[case]
    check(name, image, "triton", p=1.0, **keywords)


@pytest.mark.triton_interpreter
@pytest.mark.parametrize("given_as", [torch.uint8, torch.float32, torch.bfloat16], ids=str)
def test_interpreter_given_tensors(given_as: torch.dtype, interpreter: None) -> None:
    assert check("given", pictures(batch=2), "triton", given_as, p=1.0).label.any()


@pytest.mark.triton_interpreter
@pytest.mark.parametrize("rule", ["footprint", "changed"])
def test_interpreter_over_several_tiles(
    rule: str, interpreter: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Area, label and the way back to normal cross the tiles of an image."""
    monkeypatch.setattr(ops, "INTERPRETED_TILE", 1024)
    keywords: dict[str, Any] = {"p": 1.0, "label_rule": rule, "tolerance": 0.2}
    areas = make("feather", **keywords)(pictures()).mask.flatten(1).sum(1)
    least = float(areas.median())
    out = check("feather", pictures(), "triton", min_area=least, **keywords)
    assert torch.equal(out.label, (areas >= least).long()) and 0 < out.label.sum() < 3


@pytest.mark.triton_interpreter
@pytest.mark.parametrize("statistics", [STATISTICS, {}], ids=["normalised", "as is"])
def test_interpreter_bfloat16_within_one_unit(
    statistics: dict[str, Any], interpreter: None
) -> None:
    """The interpreter truncates float32 to bfloat16; hardware and torch round to nearest even."""
    image = pictures(torch.bfloat16, 2)
    ours = make("draem", backend="triton", p=1.0, **statistics)(image)
    true = make("draem", backend="torch", p=1.0, **statistics)(image)
    assert torch.equal(ours.mask, true.mask) and torch.equal(ours.label, true.label)
    assert ours.image.dtype == torch.bfloat16
    apart = ours.image.view(torch.int16).int() - true.image.view(torch.int16).int()
    assert apart.abs().max() <= 1


@pytest.mark.triton_interpreter
def test_interpreter_field(interpreter: None) -> None:
    mask = Perlin(octaves=2) | small_box()
    ours, true = (field(mask, (41, 67), [3, 9], backend=name) for name in ("triton", "torch"))
    assert torch.equal(ours, true)


def test_the_published_methods_agree() -> None:
    image = pictures(batch=4)
    for name in ("draem", "destseg", "cutpaste", "cutpaste_scar", "cutpaste_union"):
        keywords: dict[str, Any] = {"seed": 0, "p": 1.0, "clean": "output"}
        if "textures" in anoaug.describe(name)["needs"]:
            keywords["textures"] = textures(3)
        fast, true = (anoaug.create(name, backend=b, **keywords) for b in ("auto", "torch"))
        assert_same(fast(image), true(image))
