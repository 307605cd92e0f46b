"""Further modalities: where the image's anomalies are, each with its own look, bit for bit."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch

import anoaug
from anoaug import Layer, Synthesizer, modalities
from anoaug.blends import Feather, Hard
from anoaug.masks import Given, Perlin, Rectangle
from anoaug.masks.patches import ObjectPatch
from anoaug.modalities import Depth, Infrared, Modality, XRay
from anoaug.sources import BatchDonor, Constant, Noise, Own
from tests.modalities.sensors import (
    BANK,
    BATCH,
    EXTRA,
    IMAGES,
    changed,
    make,
    painted,
    same,
    sensors,
)
from tests.recipes import (
    RECIPES,
    assert_same,
    bits,
    calls,
    pictures,
    small_box,
)

# ---- geometry ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_the_image_is_as_without(name: str) -> None:
    alone = make(name, clean="output")(IMAGES, index=range(BATCH), epoch=0, **calls(name, IMAGES))
    more = make(name, clean="output")(
        IMAGES, index=range(BATCH), epoch=0, extra=EXTRA, **calls(name, IMAGES)
    )
    assert_same(more, alone)
    assert torch.equal(bits(more.params.table), bits(alone.params.table))


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cutpaste", "draem", "donor", "batch donor", "layers"])
def test_together_is_the_same_anomaly(name: str) -> None:
    """A second image equal to the first becomes what the first becomes."""
    out = make(name, modalities={"twin": Modality(together=True)})(IMAGES, extra={"twin": IMAGES})
    apart = make(name, modalities={"twin": Modality()})(IMAGES, extra={"twin": IMAGES})
    assert torch.equal(out.extras["twin"], out.image)
    assert not torch.equal(apart.extras["twin"], out.image)


@pytest.mark.slow
def test_samples_do_not_depend_on_their_batch() -> None:
    whole = make()(IMAGES, index=range(BATCH), epoch=3, extra=EXTRA)
    for rows in ([4], [5, 2], [0, 1, 3]):
        part = {name: value[rows] for name, value in EXTRA.items()}
        some = make()(IMAGES[rows], index=rows, epoch=3, extra=part)
        for name in EXTRA:
            assert torch.equal(bits(some.extras[name]), bits(whole.extras[name][rows]))


@pytest.mark.slow
def test_p_is_the_share_that_shows() -> None:
    size = (400, 1, 16, 16)
    synth = Synthesizer(
        Layer(Rectangle(), Constant()), p=1.0, seed=0, modalities={"it": XRay(p=0.3, kind="dense")}
    )
    out = synth(torch.zeros(size, dtype=torch.uint8), extra={"it": torch.ones(size)})
    shown = changed(out.extras["it"], torch.ones(size)).flatten(1).any(1)
    assert out.label.all() and 0.2 < shown.float().mean() < 0.4


# ---- replay --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_replay() -> None:
    synth = make()
    out = synth(IMAGES, extra=EXTRA)
    assert same(synth(IMAGES, extra=EXTRA, params=out.params), out)
    rows = [4, 1]
    part = {name: value[rows] for name, value in EXTRA.items()}
    some = synth.eval()(IMAGES[rows], extra=part, params=out.params.take(rows).to("cpu"))
    for name in EXTRA:
        assert torch.equal(bits(some.extras[name]), bits(out.extras[name][rows]))


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
