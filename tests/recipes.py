"""What the tests of backends share: recipes of every kind, images of every kind, one comparison."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from anoaug import AnomalyBatch, DonorBank, Layer, ShapeBank, Synthesizer, TextureBank
from anoaug.blends import Feather, Hard, Opacity
from anoaug.masks import Everywhere, Foreground, Given, Perlin, Rectangle, Shape, joined
from anoaug.photometric import ColorJitter, RandomOps
from anoaug.sources import BatchDonor, Constant, Donor, Noise, Own, Shuffled, Texture

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


@functools.cache
def shapes(kind: str) -> ShapeBank:
    return ShapeBank.procedural(kind, n=6, size=48, seed=len(kind))


# ---- recipes -------------------------------------------------------------------------------------

PLAIN_OPS = RandomOps(("gamma", "hue_saturation", "invert", "rotate"), 2)


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
    "shuffled": lambda c: [
        Layer(
            joined(Perlin((0, 3), 0.0), Rectangle()),
            Shuffled((3, 5), PLAIN_OPS),
            Opacity((0.3, 0.9), std=0.2),
        )
    ],
    "feather": lambda c: [Layer(small_box(), Texture(textures(c)), Feather((1, 9), (0.2, 1)))],
    "shapes": lambda c: [
        Layer(Shape(shapes("blob"), elastic=0.1), Own(), Feather((0.1, 3))),
        Layer(
            Shape(shapes("crack"), of="box", place="anywhere", elastic=0.0) | Shape(shapes("blob")),
            Texture(textures(c)),
            Opacity(),
        ),
    ],
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
    return values.view(
        {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[values.dtype.itemsize]
    )


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


RULES: list[dict[str, Any]] = [
    {"label_rule": "changed", "tolerance": 0.2},
    {"label_rule": "changed", "tolerance": 0.3, "min_area": 200},
    {"min_area": 700},
    {"min_area": 0.1},
    {"label": "soft"},
    {"label": "soft", "label_rule": "changed", "tolerance": 0.1},
]

STATISTICS = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}

FIELDS = {
    "coarse": Perlin((0, 1)),
    "finer than pixels": Perlin((5, 6)),
    "continued": Perlin((0, 5), rotation_fill="continue"),
    "octaves": Perlin(octaves=4, persistence=0.7),
    "expression": Perlin((2, 3)) & ~Rectangle(),
    "everywhere": Everywhere(),
}
