"""Further modalities: where the image's anomalies are, each with its own look, bit for bit."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import anoaug
from anoaug import Layer, Synthesizer, TextureBank, modalities, ops
from anoaug.blends import Feather, Hard, Opacity
from anoaug.masks import Given, Perlin, Rectangle
from anoaug.masks.patches import ObjectPatch
from anoaug.modalities import Depth, Infrared, Modality, XRay
from anoaug.sources import BatchDonor, Constant, Noise, Own, Texture
from tests.recipes import (
    DTYPES,
    LAYOUTS,
    RECIPES,
    assert_same,
    bits,
    calls,
    channels_last,
    pictures,
    small_box,
)

BATCH = 6
IMAGES = pictures(batch=BATCH)
BANK = TextureBank.from_tensors(pictures(batch=4, size=(24, 31)))
LOOKS = {
    "rgb": Modality(),
    "noise": Modality(Noise(), Opacity((0.2, 0.9))),
    "uv": Modality(Constant((0.5, 1.0)), Feather(0.2, 1.0, "add")),
}


def sensors(batch: int = BATCH, size: Any = IMAGES.shape[2:]) -> dict[str, Tensor]:
    """A tensor of every kind for the known names and for LOOKS."""
    return {
        "depth": 0.2 + 0.5 * pictures(torch.float32, batch, 1, size),
        "ir": (pictures(torch.uint16, batch, 1, size).to(torch.int32) // 2).to(torch.uint16),
        "xray": 20 + pictures(torch.uint8, batch, 2, size) // 2,
        "rgb": pictures(torch.uint8, batch, 3, size),
        "noise": channels_last(pictures(torch.float16, batch, 4, size)),
        "uv": pictures(torch.bfloat16, batch, 1, size) / 4,
    }


EXTRA = sensors()


def make(name: str = "layers", **keywords: Any) -> Synthesizer:
    keywords = {"p": 0.8, "seed": 5, "modalities": LOOKS, **keywords}
    return Synthesizer(*RECIPES[name](3), **keywords)


def painted(look: Any, value: Tensor, mask: Any = None, **keywords: Any) -> Any:
    """What a look makes of a tensor under rectangles, and the batch."""
    batch, _, *size = value.shape
    layer = Layer(small_box() if mask is None else mask, Noise())
    synth = Synthesizer(layer, p=1.0, seed=1, modalities={"it": look}, **keywords)
    out = synth(pictures(batch=batch, size=size), extra={"it": value})
    return out.extras["it"], out


def changed(after: Tensor, before: Tensor) -> Tensor:
    """Where some channel's bits differ, bool ``[B, 1, H, W]``."""
    return (bits(after) != bits(before)).any(1, keepdim=True)


def same(first: anoaug.AnomalyBatch, second: anoaug.AnomalyBatch) -> bool:
    return first.extras.keys() == second.extras.keys() and all(
        torch.equal(bits(first.extras[name]), bits(second.extras[name])) for name in first.extras
    )


# ---- geometry ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_the_image_is_as_without(name: str) -> None:
    alone = make(name, clean="output")(IMAGES, index=range(BATCH), epoch=0, **calls(name, IMAGES))
    more = make(name, clean="output")(
        IMAGES, index=range(BATCH), epoch=0, extra=EXTRA, **calls(name, IMAGES)
    )
    assert_same(more, alone)
    assert torch.equal(bits(more.params.table), bits(alone.params.table))


@pytest.mark.parametrize("name", RECIPES)
def test_changes_lie_in_the_mask(name: str) -> None:
    out = make(name)(IMAGES, extra=EXTRA, **calls(name, IMAGES))
    assert out.label.any()
    for one, before in EXTRA.items():
        after = out.extras[one]
        assert after.shape == before.shape and after.dtype == before.dtype
        moved = changed(after, before)
        assert moved.any()
        if one != "ir":
            assert not (moved & (out.mask == 0)).any()
        else:
            assert not moved[out.label == 0].any()


@pytest.mark.parametrize("mask", [Perlin((1, 3), 0.1), small_box() | ~Perlin(), Rectangle()])
def test_masks_are_equal_bit_for_bit(mask: Any) -> None:
    """Feathered white on black shows the very level of the mask."""
    layer = Layer(mask, Constant(1.0), Feather(2.0))
    synth = Synthesizer(
        layer, p=1.0, seed=0, label="soft", modalities={"it": Modality(Constant(1.0))}
    )
    out = synth(IMAGES, extra={"it": torch.zeros(BATCH, 1, *IMAGES.shape[2:])})
    assert 0.0 < out.mask.mean() < 1.0
    assert torch.equal(bits(out.extras["it"]), bits(out.mask))


def test_a_dent_fills_the_mask() -> None:
    before = torch.full((BATCH, 1, 40, 50), 0.5)
    after, out = painted(Depth(0.3, "dent"), before)
    assert torch.equal(after > before, out.mask > 0)


def test_heat_ends_some_way_beyond_the_mask() -> None:
    before = torch.zeros(BATCH, 1, 80, 80)
    after, out = painted(Infrared(0.5, spread=(4, 6)), before)
    reach = 3 * 6  # three boxes of radius 6 at most
    near = torch.nn.functional.max_pool2d(out.mask, 2 * reach + 1, 1, reach) > 0
    assert not (changed(after, before) & ~near).any()
    assert (changed(after, before) & (out.mask == 0)).flatten(1).any(1).all()


@pytest.mark.parametrize(
    "rule", [{"min_area": 200}, {"label_rule": "changed", "tolerance": 0.5, "min_area": 100}]
)
def test_what_does_not_count_in_the_image_is_in_no_modality(rule: Any) -> None:
    out = make("cutpaste", **rule)(IMAGES, extra=EXTRA)
    assert 0 < out.label.sum() < BATCH
    for name, before in EXTRA.items():
        moved = changed(out.extras[name], before)
        assert not moved[out.label == 0].any() and moved.any()
        assert name == "ir" or not (moved & (out.mask == 0)).any()


def test_foreground_confines() -> None:
    inside = torch.zeros(BATCH, 1, *IMAGES.shape[2:], dtype=torch.bool)
    inside[..., 10:40, 10:30] = True
    out = make()(IMAGES, extra={"depth": EXTRA["depth"]}, foreground=inside)
    moved = changed(out.extras["depth"], EXTRA["depth"])
    assert moved.any() and not (moved & ~inside).any()


@pytest.mark.parametrize("views", [True, 2])
def test_views(views: Any) -> None:
    extra = {name: EXTRA[name] for name in ("depth", "rgb")}
    out = make("layers", views=views)(IMAGES, extra=extra)
    for name, before in extra.items():
        each = before.repeat(len(out.image) // BATCH, 1, 1, 1)
        assert torch.equal(each[out.label == 0], out.extras[name][out.label == 0])
        moved = changed(out.extras[name], each)
        assert moved.any() and not (moved & (out.mask == 0)).any()
    assert torch.equal(out.extras["source_row"] % BATCH, out.extras["source_row"])


# ---- streams -------------------------------------------------------------------------------------


def test_one_modality_more_moves_nothing() -> None:
    whole = make()(IMAGES, extra=EXTRA)
    for name in EXTRA:
        alone = make()(IMAGES, extra={name: EXTRA[name]})
        assert torch.equal(bits(alone.extras[name]), bits(whole.extras[name]))


def test_another_name_draws_anew() -> None:
    layer, look = Layer(Rectangle(), Noise()), Depth(kind="dent")
    synth = Synthesizer(layer, p=1.0, seed=0, modalities={"a": look, "b": look})
    tables = synth(IMAGES, extra=dict.fromkeys("ab", EXTRA["depth"])).params.modalities
    assert tables is not None and not (tables["a"].table[:, 1:2] == tables["b"].table[:, 1:2]).any()


@pytest.mark.parametrize("name", ["cutpaste", "draem", "donor", "batch donor", "layers"])
def test_together_is_the_same_anomaly(name: str) -> None:
    """A second image equal to the first becomes what the first becomes."""
    out = make(name, modalities={"twin": Modality(together=True)})(IMAGES, extra={"twin": IMAGES})
    apart = make(name, modalities={"twin": Modality()})(IMAGES, extra={"twin": IMAGES})
    assert torch.equal(out.extras["twin"], out.image)
    assert not torch.equal(apart.extras["twin"], out.image)


def test_samples_do_not_depend_on_their_batch() -> None:
    whole = make()(IMAGES, index=range(BATCH), epoch=3, extra=EXTRA)
    for rows in ([4], [5, 2], [0, 1, 3]):
        part = {name: value[rows] for name, value in EXTRA.items()}
        some = make()(IMAGES[rows], index=rows, epoch=3, extra=part)
        for name in EXTRA:
            assert torch.equal(bits(some.extras[name]), bits(whole.extras[name][rows]))


def test_p_is_the_share_that_shows() -> None:
    size = (400, 1, 16, 16)
    synth = Synthesizer(
        Layer(Rectangle(), Constant()), p=1.0, seed=0, modalities={"it": XRay(p=0.3, kind="dense")}
    )
    out = synth(torch.zeros(size, dtype=torch.uint8), extra={"it": torch.ones(size)})
    shown = changed(out.extras["it"], torch.ones(size)).flatten(1).any(1)
    assert out.label.all() and 0.2 < shown.float().mean() < 0.4


# ---- replay --------------------------------------------------------------------------------------


def test_replay() -> None:
    synth = make()
    out = synth(IMAGES, extra=EXTRA)
    assert same(synth(IMAGES, extra=EXTRA, params=out.params), out)
    rows = [4, 1]
    part = {name: value[rows] for name, value in EXTRA.items()}
    some = synth.eval()(IMAGES[rows], extra=part, params=out.params.take(rows).to("cpu"))
    for name in EXTRA:
        assert torch.equal(bits(some.extras[name]), bits(out.extras[name][rows]))


def test_params_survive_a_file_and_fewer_modalities() -> None:
    out, file = make()(IMAGES, extra=EXTRA), io.BytesIO()
    torch.save(out.params, file)
    file.seek(0)
    params = torch.load(file)
    again = make(seed=99)(IMAGES, extra={"ir": EXTRA["ir"]}, params=params)
    assert torch.equal(bits(again.extras["ir"]), bits(out.extras["ir"]))
    assert torch.equal(again.image, out.image) and set(again.extras) == {"ir"}


def test_replay_refuses() -> None:
    synth = make()
    params = synth(IMAGES, extra={"depth": EXTRA["depth"]}).params
    with pytest.raises(ValueError, match="sampled with, .'depth'., got 'ir'; sample anew"):
        synth(IMAGES, extra={"ir": EXTRA["ir"]}, params=params)
    with pytest.raises(ValueError, match="params: expected those of a synthesizer with this rec"):
        synth(IMAGES, extra={"depth": EXTRA["ir"]}, params=params)
    bare = synth(IMAGES).params
    assert bare.modalities is None and bare.take([0]).modalities is None
    with pytest.raises(ValueError, match="sample anew"):
        synth(IMAGES, extra={"depth": EXTRA["depth"]}, params=bare)


def test_copies_and_eval() -> None:
    synth = make()
    other = copy.deepcopy(synth)
    assert same(synth(IMAGES, extra=EXTRA), other(IMAGES, extra=EXTRA))
    quiet = synth.eval()(IMAGES, extra=EXTRA)
    assert quiet.extras.keys() == EXTRA.keys() and not quiet.label.any()
    assert all(torch.equal(bits(quiet.extras[n]), bits(EXTRA[n])) for n in EXTRA)


def test_inputs_stay_and_empty_batches_pass() -> None:
    before = {name: value.clone() for name, value in EXTRA.items()}
    make()(IMAGES, extra=EXTRA)
    assert all(torch.equal(bits(before[n]), bits(EXTRA[n])) for n in EXTRA)
    none = make()(IMAGES[:0], extra={name: value[:0] for name, value in EXTRA.items()})
    assert all(none.extras[n].shape == EXTRA[n][:0].shape for n in EXTRA)


# ---- looks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "signs"), [("dent", {1.0}), ("bump", {-1.0}), ("both", {1.0, -1.0})]
)
def test_depth_is_in_units_of_the_range(kind: str, signs: set[float]) -> None:
    """From 400 to 800 mm, 5 to 10 % are 20 to 40 mm at the deepest pixel."""
    before = torch.full((60, 1, 24, 24), 600.0)
    after, _ = painted(Depth((0.05, 0.1), kind, range=(400, 800)), before)
    moved = (after - before).flatten(1)
    deepest = moved.abs().amax(1)
    assert 20 - 1e-3 <= deepest.min() < 23 and 37 < deepest.max() <= 40 + 1e-3
    assert {float(s) for s in torch.where(moved.sum(1) > 0, 1.0, -1.0).unique()} == signs


def test_xray_multiplies() -> None:
    before = torch.full((60, 1, 24, 24), 0.5)
    after, _ = painted(XRay((0.2, 0.4), "dense", width=1), before)
    ratio = (after / before).flatten(1).amin(1)
    assert 0.6 - 1e-5 <= ratio.min() < 0.63 and 0.77 < ratio.max() <= 0.8 + 1e-5
    after, _ = painted(XRay(0.4, "void", width=1), before)
    assert torch.equal(after[after != 0.5], torch.full_like(after[after != 0.5], 0.7))


def test_infrared_is_hottest_in_the_mask() -> None:
    before = torch.zeros(20, 1, 64, 64, dtype=torch.uint16)
    after, out = painted(Infrared(0.5), before)
    heat = after.to(torch.float32).flatten(1)
    assert torch.allclose(heat.amax(1), torch.tensor(0.5 * 65535), atol=1.0)
    assert out.mask.flatten(1).gather(1, heat.argmax(1, keepdim=True)).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_untouched_pixels_keep_their_bits(dtype: torch.dtype) -> None:
    values = pictures(dtype, 4, 1, (40, 30))
    span = (-50.0, 0.9) if dtype.is_floating_point else (30, 200)
    after, out = painted(Depth(0.3, range=span), values)
    wide = values.to(torch.float32)
    apart = (wide < torch.tensor(span[0]).to(dtype)) | (wide > torch.tensor(span[1]).to(dtype))
    moved = changed(after, values)
    assert moved.any() and not (moved & ((out.mask == 0) | apart)).any()
    new = after.to(torch.float32)[moved]
    assert span[0] <= new.min() and new.max() <= span[1] + 4e-3


def test_holes_and_what_is_no_number_stay() -> None:
    values = torch.full((4, 1, 40, 40), 0.5)
    values[..., ::3, :] = 0.0
    values[..., 1::3, ::2] = float("nan")
    values[..., 5, :] = float("inf")
    after, out = painted(Depth(0.3), values, Perlin((0, 1), -9.0))
    plain = values == 0.5
    assert torch.equal(changed(after, values), plain & (out.mask > 0))
    assert torch.equal(bits(after[~plain]), bits(values[~plain]))


def test_twelve_bits() -> None:
    values = torch.randint(0, 4096, (8, 1, 32, 32), dtype=torch.int32).to(torch.uint16)
    after, _ = painted(XRay((0.9, 1.0), "void", range=(0, 4095)), values)
    moved = changed(after, values)
    assert moved.any() and int(after.to(torch.int32).max()) == 4095


def test_channels() -> None:
    points = torch.rand(4, 3, 32, 32) * 2 - 0.5
    after, out = painted(Depth(0.2, range=(-0.5, 1.5), channels=(2,)), points)
    assert torch.equal(bits(after[:, :2].contiguous()), bits(points[:, :2].contiguous()))
    assert torch.equal(after[:, 2:] != points[:, 2:], out.mask > 0)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 8, 16])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16], ids=str)
def test_any_number_of_channels(channels: int, dtype: torch.dtype) -> None:
    """In the image, and in a modality, on the CPU's driver as in the reference."""
    images = pictures(dtype, 3, channels, (30, 40))
    layers = [Layer(small_box(), Own(place="elsewhere")), Layer(Perlin(), Noise(), Opacity())]
    both = []
    for backend in ("auto", "torch"):
        synth = Synthesizer(
            *layers, p=1.0, seed=2, backend=backend, clean="output", modalities={"it": Modality()}
        )
        both.append(synth(images, extra={"it": images.flip(1), "xray": images}))
    assert_same(*both)
    assert same(*both) and changed(both[0].image, images).any()
    assert changed(both[0].extras["it"], images.flip(1)).any()


@pytest.mark.parametrize("name", LAYOUTS)
def test_memory_formats(name: str) -> None:
    extra = {one: LAYOUTS[name](EXTRA[one]) for one in ("depth", "rgb", "noise")}
    out, plain = make()(IMAGES, extra=extra), make()(IMAGES, extra=EXTRA)
    for one in extra:
        assert torch.equal(bits(out.extras[one].contiguous()), bits(plain.extras[one].contiguous()))
    last = name == "channels_last"
    assert out.extras["rgb"].is_contiguous(memory_format=torch.channels_last) == last


def test_a_bank_serves_grey_modalities() -> None:
    layer = Layer(Rectangle(), Texture(BANK), Hard())
    synth = Synthesizer(layer, p=1.0, seed=0, modalities={"grey": Modality()})
    before = pictures(batch=BATCH, channels=1)
    out = synth(IMAGES, extra={"grey": before})
    assert changed(out.extras["grey"], before).any()


def test_a_bank_of_the_image_may_not_fit_a_modality_that_does_not_read_it() -> None:
    layer = Layer(Rectangle(), Texture(BANK), Hard())
    synth = Synthesizer(layer, p=1.0, seed=0, modalities={"uv": Modality(Noise())})
    before = pictures(batch=BATCH, channels=5)
    assert changed(synth(IMAGES, extra={"uv": before}).extras["uv"], before).any()


def test_computed_sources() -> None:
    """A modality's picture is computed from the modality: a twin drawn together becomes equal."""
    kornia = pytest.importorskip("kornia.augmentation")
    blur = kornia.RandomGaussianBlur((5, 5), (2, 3), p=1.0)
    layer = Layer(small_box(), anoaug.sources.Kornia(blur))
    for together in (True, False):
        twin = {"twin": Modality(together=together)}
        synth = Synthesizer(layer, p=1.0, seed=0, modalities=twin)
        out = synth(IMAGES, extra={"twin": IMAGES})
        assert torch.equal(out.extras["twin"], out.image) == together
        moved = changed(out.extras["twin"], IMAGES)
        assert moved.any() and not (moved & (out.mask == 0)).any()
        again = synth(IMAGES, extra={"twin": IMAGES}, params=out.params)
        assert torch.equal(again.extras["twin"], out.extras["twin"])


# ---- backends ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_the_cpu_driver_equals_the_reference(name: str) -> None:
    more = calls(name, IMAGES)
    fast = make(name)(IMAGES, extra=EXTRA, **more)
    assert same(fast, make(name, backend="torch")(IMAGES, extra=EXTRA, **more))


@pytest.mark.triton_interpreter
@pytest.mark.parametrize("name", ["cutpaste", "feather", "layers"])
def test_the_interpreter_equals_the_reference(name: str, poisoned: None) -> None:
    if ops.triton_trouble() is not None or not ops.interpreting():
        pytest.skip("needs Triton's interpreter")
    images, extra = IMAGES[:2], sensors(2)
    extra.pop("uv")  # to bfloat16 it truncates
    ours = make(name, backend="triton", p=1.0)(images, extra=extra)
    assert same(ours, make(name, backend="torch", p=1.0)(images, extra=extra))


@pytest.mark.slow  # Numba takes some twenty seconds for each pair of dtypes, once
def test_the_compiled_driver_equals_the_reference() -> None:
    pytest.importorskip("numba")
    extra = {"depth": pictures(channels=1, batch=BATCH), "ir": pictures(batch=BATCH)}
    ours = make(backend="compiled")(IMAGES, extra=extra)
    assert same(ours, make(backend="torch")(IMAGES, extra=extra))


@pytest.fixture
def counter() -> Iterator[Any]:
    testing = pytest.importorskip("torch._dynamo.testing", exc_type=ImportError)
    torch._dynamo.reset()
    yield testing.CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()


@pytest.mark.slow
def test_compiles_into_one_graph(counter: Any) -> None:
    synth, eager = make(), make()
    ours = torch.compile(synth, fullgraph=True, backend=counter)
    for _ in range(3):
        assert same(ours(IMAGES, extra=EXTRA), eager(IMAGES, extra=EXTRA))
    assert counter.frame_count == 1


@pytest.mark.gpu
def test_the_device_equals_the_reference_and_does_not_wait() -> None:
    images, extra = IMAGES.cuda(), {name: value.cuda() for name, value in EXTRA.items()}
    index = {"index": range(BATCH), "epoch": 0}
    synth = make()
    synth(images, extra=extra, **index)  # looks at the values, and compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        ours = synth(images, extra=extra, **index)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    true = make(backend="torch")(IMAGES, extra=EXTRA, **index)
    for name in EXTRA:
        assert torch.equal(bits(ours.extras[name].cpu()), bits(true.extras[name]))


# ---- refusals ------------------------------------------------------------------------------------

WRONG_CALLS: dict[str, tuple[Any, str]] = {
    "a misspelt name": ({"dpeth": EXTRA["depth"]}, "did you mean depth?"),
    "an unknown name": ({"hyper": EXTRA["depth"]}, "modalities={'hyper'"),
    "another size": ({"depth": EXTRA["depth"][..., :20]}, "resize it to the images"),
    "another batch": ({"depth": EXTRA["depth"][:2]}, "B, H, W"),
    "three axes": ({"depth": EXTRA["depth"][:, 0]}, "adds C"),
    "an array": ({"depth": EXTRA["depth"].numpy()}, "expected a tensor"),
    "no mapping": (EXTRA["depth"], "tensors by name, got Tensor"),
    "double": ({"depth": EXTRA["depth"].double()}, r"use .float\(\)"),
    "a gradient": ({"depth": EXTRA["depth"].clone().requires_grad_()}, "detach"),
    "millimetres": ({"depth": EXTRA["depth"] * 1000}, r"floats in \[0, 1\].*range=\(low, high\)"),
}


@pytest.mark.parametrize("case", WRONG_CALLS)
def test_refused_calls(case: str) -> None:
    extra, message = WRONG_CALLS[case]
    synth = make()
    for _ in range(2):
        with pytest.raises((TypeError, ValueError), match=message):
            synth(IMAGES, extra=extra)


WRONG_LOOKS: dict[str, Any] = {
    "low > high": lambda: Depth(range=(2, 1)),
    "no extent": lambda: Depth(range=(1, 1)),
    "amount above 1": lambda: Depth(1.5),
    "attenuation above 1": lambda: XRay((0.2, 1.2)),
    "negative gain": lambda: Infrared(-0.1),
    "kind": lambda: Depth(kind="hot"),
    "no width": lambda: XRay(width=0),
    "a channel twice": lambda: Depth(channels=(1, 1)),
    "p": lambda: Depth(p=1.2),
    "a bank as a source": lambda: Modality(BANK),
    "no look": lambda: make(modalities={"depth": "dent"}),
    "a name that is taken": lambda: make(modalities={"source_row": Depth()}),
    "a given picture": lambda: make(modalities={"it": Modality(anoaug.sources.Given("it"))}),
}


@pytest.mark.parametrize("case", WRONG_LOOKS)
def test_refused_looks(case: str) -> None:
    with pytest.raises((TypeError, ValueError), match="expected"):
        WRONG_LOOKS[case]()


def test_other_refusals() -> None:
    with pytest.raises(ValueError, match="within the range .* units"):
        make(modalities={"depth": Depth(range=(400, 800))})(IMAGES, extra={"depth": EXTRA["depth"]})
    with pytest.raises(ValueError, match="channel 2 to be there, got 1"):
        painted(Depth(channels=(2,)), EXTRA["depth"])
    with pytest.raises(ValueError, match="extra: expected none together with normal_transform"):
        make(normal_transform=lambda x: x.flip(3))(IMAGES, extra=EXTRA)
    with pytest.raises(ValueError, match="expected none with a OneOf"):
        anoaug.OneOf({"cutpaste": 1})(IMAGES, extra={"depth": EXTRA["depth"]})


@pytest.mark.parametrize(
    "name", ["draem", "cutpaste_union", "cutpaste_scar", "fractal", "rdpp", "riad"]
)
def test_methods_take_the_known_ones(name: str) -> None:
    textures = {"textures": BANK} if "textures" in anoaug.describe(name)["defaults"] else {}
    synth = anoaug.create(name, p=1.0, seed=0, **textures)
    extra = {one: EXTRA[one] for one in modalities.appearances.WELL_KNOWN}
    out = synth(IMAGES, extra=extra)
    marked = out.label > 0
    assert marked.any()
    for one in extra:
        before = extra[one].repeat(len(marked) // BATCH, 1, 1, 1)
        there = changed(out.extras[one], before).flatten(1).any(1)
        assert torch.equal(there, marked)


def test_masks_and_donors_that_come_with_the_call() -> None:
    spot = torch.zeros(BATCH, 1, *IMAGES.shape[2:], dtype=torch.bool)
    spot[..., 20:30, 20:30] = True
    layer = Layer(Given("spot"), BatchDonor(), Hard())
    synth = Synthesizer(layer, p=1.0, seed=0, modalities={"rgb": Modality()})
    out = synth(IMAGES, extra={"rgb": EXTRA["rgb"]}, slots={"spot": spot})
    moved = changed(out.extras["rgb"], EXTRA["rgb"])
    assert moved.any() and not (moved & ~spot).any()


def test_a_mask_that_seeks_its_place() -> None:
    """What the image's table says once the mask has settled, modalities read."""
    images, every = pictures(batch=BATCH, size=(128, 128)), sensors(BATCH, (128, 128))
    extra = {"depth": every["depth"], "ir": every["ir"]}
    inside = torch.zeros(BATCH, 1, 128, 128, dtype=torch.bool)
    inside[..., 10:120, 15:115] = True
    layer = Layer(ObjectPatch(), Own())
    synth = Synthesizer(layer, p=1.0, seed=0)
    out = synth(images, extra=extra, foreground=inside)
    moved = changed(out.extras["depth"], extra["depth"])
    assert moved.any() and torch.equal(moved, out.mask > 0)
    assert same(synth(images, extra=extra, foreground=inside, params=out.params), out)
    with pytest.raises(ValueError, match="seeks its place"):
        Synthesizer(layer, modalities={"it": Modality()})
