"""Size, location, strength, shape, count and kind of synthesizers of one's own; per sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import anoaug
from anoaug import blends, masks, recipe, sources
from anoaug.control import settle
from anoaug.control.scope import polarities
from anoaug.masks import content
from anoaug.wanted import COLUMN
from tests.control.making import SIDE, B, areas, called, centres, everywhere, images, method

GREY = sources.Constant(0.1)
PERLIN = masks.Perlin(log2_cells=(1, 4))
FIELDS: dict[str, masks.Mask] = {
    "perlin": PERLIN,
    "simplex": masks.Simplex(),
    "either": PERLIN | masks.Simplex(),
    "both": PERLIN & masks.Simplex(threshold=0.2),
    "outside": ~PERLIN,
    "between": PERLIN & ~masks.Perlin(log2_cells=(2, 2)),
    "joined": masks.joined(PERLIN, PERLIN),
    "cut": PERLIN & masks.Rectangle(area=0.6, aspect=1.0),
    "given": PERLIN | masks.Given("where"),
    "octaves": masks.Perlin(octaves=3),
}


def one(mask: masks.Mask, **keywords: Any) -> anoaug.Synthesizer:
    layer = anoaug.Layer(mask, GREY, blends.Hard(), **keywords)
    return anoaug.Synthesizer(layer, p=1.0, seed=2, control=True)


# ---- size ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", FIELDS)
def test_thresholds_leave_the_size_that_is_asked_for(name: str) -> None:
    wanted = torch.linspace(0.02, 0.25, B)
    where = torch.zeros(B, 1, SIDE, SIDE, dtype=torch.uint8)
    where[:, :, :8, :8] = 1
    slots = {"where": where} if name == "given" else None
    out = called(one(FIELDS[name]), {"size": wanted}, slots=slots)
    # To the pixel, unless many pixels are equal.
    assert (areas(out) - wanted).abs().max() <= 1.5 / SIDE**2


def test_the_size_is_that_within_the_foreground() -> None:
    half = everywhere()
    half[..., 30:] = 0
    out = called(one(PERLIN), {"size": 0.2}, foreground=half)
    assert not out.mask[..., 30:].any()
    assert (areas(out) - 0.2).abs().max() <= 1.5 / SIDE**2
    # More than there is: all of it.
    whole = called(one(PERLIN), {"size": 0.9}, foreground=half)
    assert torch.equal(whole.mask, half.to(torch.float32))
    empty = called(one(PERLIN), {"size": 0.2}, foreground=torch.zeros_like(half))
    assert not empty.mask.any() and not empty.label.any()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["blob", "crack", "clump", "stain", "scratch"])
def test_shapes_have_the_size_that_is_asked_for(kind: str) -> None:
    bank = anoaug.ShapeBank.procedural(kind, n=4)
    synth = one(masks.Shape(bank, size=0.01, elastic=0.0, aspect=(0.8, 1.25)))
    wanted = torch.linspace(0.02, 0.025 if kind == "crack" else 0.06, B)
    assert (areas(called(synth, {"size": wanted})) / wanted - 1).abs().max() <= 0.1


def test_cells_have_it_to_the_cell() -> None:
    out = called(one(masks.Cells(k=8, share=0.5)), {"size": torch.linspace(0.1, 0.9, B)})
    assert (areas(out) - torch.linspace(0.1, 0.9, B)).abs().max() <= 0.5 / 144 + 1e-6
    assert "size" not in one(masks.Cells()).controls


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-6, 6), min_size=2, max_size=30), st.data())
def test_the_shift_is_the_quantile_and_ties_go_to_the_nearer(
    values: list[int], data: st.DataObject
) -> None:
    level = torch.tensor([values], dtype=torch.float32)
    fixed = data.draw(
        st.lists(st.sampled_from([0, 1, -1]), min_size=len(values), max_size=len(values))
    )
    marks = torch.tensor([fixed])
    level = torch.where(marks > 0, torch.inf, torch.where(marks < 0, -torch.inf, level))
    count = data.draw(st.integers(1, len(values)))
    inside = (level + settle.shifts(level, torch.tensor([count]))[:, None] > 0).sum()
    cuts = [v for v in level[0].tolist() if abs(v) < 1e9]
    least = int((level == torch.inf).sum())
    reached = [least, *(least + sum(1 for v in cuts if v >= cut) for cut in cuts)]
    assert abs(int(inside) - count) == min(abs(n - count) for n in reached)


def test_signs_follow_complements_through_any_nesting() -> None:
    a, b = PERLIN, masks.Simplex()
    assert polarities((a & ~b).steps()) == [1, -1, 0, 0]
    assert polarities((~(a & ~b)).steps()) == [-1, 1, 0, 0, 0]
    assert polarities((~~a | b).steps()) == [1, 0, 0, 1, 0]


# ---- location ------------------------------------------------------------------------------------


def test_each_sample_has_its_own_point_and_nan_leaves_it_free() -> None:
    synth = method("cutpaste")
    points = torch.rand(B, 2, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.25
    points[3] = torch.nan
    out, free = called(synth, {"location": points, "size": 0.02}), called(synth, {"size": 0.02})
    there = torch.arange(B) != 3
    assert (centres(out) - points)[there].abs().max() <= 0.011
    assert torch.equal(out.image[3], free.image[3])
    # What is pasted is what would have been: the patch moves, its origin does not.
    laws = recipe.recipe(synth.laws(3)).columns
    assert "layer0.source.own.row" in laws


@pytest.mark.slow
def test_a_map_s_pixels_are_drawn_by_their_weight() -> None:
    weights = torch.zeros(1, 1, SIDE, SIDE)
    weights[0, 0, 30, 20], weights[0, 0, 60, 70] = 1.0, 3.0
    synth = one(masks.Rectangle(side=(3, 3.5)))
    many = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8).expand(400, -1, -1, -1)
    out = synth(many, index=range(400), epoch=0, control={"location": weights})
    y = out.boxes()[:, 1] + 1
    assert set(y.tolist()) == {30, 60}
    assert 0.7 <= (y == 60).to(torch.float32).mean() <= 0.8


def test_copies_draw_points_of_their_own() -> None:
    weights = torch.zeros(1, 1, SIDE, SIDE)
    weights[..., 20:70, 20:70] = 1.0
    synth = one(masks.Rectangle(side=(3, 3.5)), count=3)
    table = called(synth, {"location": weights, "count": 3}).params.table
    laws = recipe.recipe(synth.laws(3)).columns
    rows = [table[:, at] for name, (at, _) in laws.items() if name.endswith(".cy")]
    assert not torch.equal(rows[0], rows[1]) and not torch.equal(rows[1], rows[2])


def test_a_disc_about_a_point_has_room_for_the_size() -> None:
    out = called(one(PERLIN), {"location": (0.02, 0.02), "size": 0.05})
    assert (areas(out) - 0.05).abs().max() <= 1.5 / SIDE**2
    y, x = torch.nonzero((out.mask > 0).any(0)[0]).T
    assert ((y + 0.5) ** 2 + (x + 0.5) ** 2).max() < (0.25 * SIDE + 4) ** 2 * 1.2


SOUGHT = [(0.3, 0.7), (0.05, 0.5), (0.55, 0.1, 0.75, 0.3)]


@pytest.mark.slow
@pytest.mark.parametrize("where", SOUGHT)
@pytest.mark.parametrize("name", ["draem", "glass_las", "smai"])
def test_where_a_place_is_asked_for_there_is_an_anomaly(name: str, where: Any) -> None:
    """As drawn where the noise covers enough of it, else as much as it covers of an image."""
    # Superpixels take their time, and cover enough of nearly every place.
    many, free, forced = images().repeat(2 if name == "smai" else 4, 1, 1, 1), 0, 0
    call: dict[str, Any] = {"index": range(len(many)), "epoch": 0}
    out = method(name)(many, control={"location": where}, **call)
    plain = method(name)(many, **call).mask > 0
    assert out.label.all()
    y, x = (torch.arange(SIDE) + 0.5)[:, None], torch.arange(SIDE) + 0.5
    if len(where) == 2:
        inside = (y - where[0] * SIDE) ** 2 + (x - where[1] * SIDE) ** 2 <= 0.1 * SIDE**2 / torch.pi
    else:
        inside = content.boxed(torch.tensor([where], dtype=torch.float64), (SIDE, SIDE))[0]
    least = 0.05 * inside.sum()
    for mask, drawn in zip(out.mask[:, 0] > 0, plain[:, 0] & inside, strict=True):
        assert mask.sum() >= 0.9 * least
        if drawn.sum() > 1.2 * least:
            free += 1
            assert (mask != drawn).sum() <= 8  # of the place's edge
        elif drawn.sum() < 0.8 * least:
            forced += 1
            assert mask.sum() > drawn.sum() and not mask[~inside].sum() > 8
    assert free and (forced or name == "smai")
    again = method(name)(many, params=out.params)
    assert torch.equal(again.image, out.image) and torch.equal(again.mask, out.mask)


@pytest.mark.slow
def test_a_location_outside_the_foreground_leaves_samples_clean() -> None:
    left = everywhere()
    left[..., 48:] = 0
    for name in ("draem", "pei", "missing"):
        out = called(method(name), {"location": (0.2, 0.7, 0.6, 0.95)}, foreground=left)
        assert not out.label.any() and torch.equal(out.image, images())


def test_nsa_lays_patches_of_the_object_where_it_is_asked_to() -> None:
    thing = everywhere()
    thing[:, :, :20], thing[..., 80:] = 0, 0
    synth = method("nsa", preset="hazelnut", finish=None)
    out = called(synth, {"location": (0.6, 0.4), "size": 0.03, "count": 1}, foreground=thing)
    there = out.label > 0
    assert there.sum() >= B // 2
    assert (centres(out)[there] - torch.tensor([0.6, 0.4])).abs().max() <= 0.02
    assert (areas(out)[there] / 0.03 - 1).abs().max() <= 0.1


def test_layers_of_both_kinds_are_confined_together() -> None:
    synth = anoaug.Synthesizer(
        anoaug.Layer(PERLIN, GREY), anoaug.Layer(masks.Rectangle(), GREY), p=1.0, seed=1
    )
    assert "for all layers" in synth.controls["location"]
    out = called(synth, {"location": (0.25, 0.25, 0.5, 0.5)})
    assert out.mask[:, :, 24:48, 24:48].any()
    out.mask[:, :, 24:48, 24:48] = 0
    assert not out.mask.any()


# ---- strength ------------------------------------------------------------------------------------


def test_strength_in_units_of_the_product_s_variation() -> None:
    std = torch.full((1, 1, SIDE, SIDE), 0.02)
    std[..., 48:] = 0.06
    synth = one(masks.Rectangle(side=(16, 16.5)))
    halves = torch.tensor([[0.5, 0.25], [0.5, 0.75]]).repeat(B // 2, 1)
    control = {"location": halves, "strength": 2.0, "unit": "sigma"}
    out = called(synth, {**control, "variation": anoaug.prepare.Variation(std)})
    apart = (out.image.float() - images().float()).abs().mean(1, keepdim=True) / 255
    got = (apart * out.mask).sum((1, 2, 3)) / out.mask.sum((1, 2, 3))
    wanted = torch.tensor([0.04, 0.12]).repeat(B // 2)
    assert (got / wanted - 1).abs().max() <= 0.1
    flat = called(synth, {**control, "variation": 0.02})
    apart = (flat.image.float() - images().float()).abs().mean(1, keepdim=True) / 255
    got = (apart * flat.mask).sum((1, 2, 3)) / flat.mask.sum((1, 2, 3))
    assert (got / 0.04 - 1).abs().max() <= 0.1


def test_a_difference_beyond_the_whole_weight_is_the_whole_weight() -> None:
    synth = one(masks.Rectangle())
    assert torch.equal(
        called(synth, {"strength": 0.99, "unit": "difference"}).image, called(synth).image
    )


@pytest.mark.slow
def test_feathers_and_overlapping_layers_reach_it_too() -> None:
    layers = [
        anoaug.Layer(masks.Rectangle(area=0.1), GREY, blends.Feather(6.0)),
        anoaug.Layer(masks.Rectangle(area=0.2), sources.Noise(), blends.Opacity(), count=2),
    ]
    synth = anoaug.Synthesizer(*layers, p=1.0, seed=1, control=True)
    out = called(synth, {"strength": 0.05, "unit": "difference"})
    apart = (out.image.float() - images().float()).abs().mean(1, keepdim=True) / 255
    got = (apart * out.mask).sum((1, 2, 3)) / out.mask.sum((1, 2, 3))
    assert (got / 0.05 - 1).abs().max() <= 0.1


# ---- shape, count, kind --------------------------------------------------------------------------


@pytest.mark.slow
def test_shapes_of_a_kind() -> None:
    bank = anoaug.ShapeBank.procedural(("blob", "crack", "scratch"), n=9)
    synth = one(masks.Shape(bank))
    assert synth.shapes == ("blob", "crack", "scratch")
    column = next(
        at for name, (at, _) in recipe.recipe(synth.laws(3)).columns.items()
        if name.endswith("shape.image")
    )  # fmt: skip

    def kinds(**control: Any) -> list[str]:
        drawn = called(synth, control).params.table.view(torch.int32)[:, column]
        return [bank.kinds[n] for n in drawn.tolist()]

    assert set(kinds(shape="crack")) == {"crack"}
    assert set(kinds(shape=("blob", "scratch"))) == {"blob", "scratch"}
    each = torch.arange(B) % 3
    assert kinds(shape=each) == [synth.shapes[n] for n in each]
    named = np.array(["crack", ""] * (B // 2))
    assert kinds(shape=named)[::2] == ["crack"] * (B // 2)
    with pytest.raises(ValueError, match="'hole' is unknown"):
        called(synth, {"shape": "hole"})


def test_a_kind_chooses_among_layers_that_are_all_laid() -> None:
    layers = [
        anoaug.Layer(PERLIN, GREY, kind="rust"),
        anoaug.Layer(masks.Rectangle(), GREY, count=2, kind="chip"),
    ]
    synth = anoaug.Synthesizer(*layers, p=1.0, seed=1)
    gates = [layer.gate for layer in recipe.recipe(synth.laws(3)).layers]
    on = called(synth, {"kind": "chip", "count": 1}).params.table[:, gates] > 0
    assert on.tolist() == [[False, True, False]] * B


def test_ranges_draw_from_streams_of_their_own() -> None:
    """Each copy its own number, the same in any batch; what is not controlled stays."""
    synth = method("cdo")
    columns = recipe.recipe(synth.laws(3)).columns
    whole = called(synth, {"size": (0.01, 0.05), "count": (1, 3)})
    areas_ = []
    for copy in range(4):
        half_h, half_w = (
            whole.params.table[:, columns[f"layer{copy}.mask.rectangle{copy or ''}.{side}"][0]]
            for side in ("half_h", "half_w")
        )
        areas_.append(4 * half_h * half_w / SIDE**2)
    shares = torch.stack(areas_)
    assert shares.min() >= 0.009 and shares.max() <= 0.056 and shares.std() > 0.005
    part = synth(
        images()[4:6], index=[4, 5], epoch=0, control={"size": (0.01, 0.05), "count": (1, 3)}
    )
    assert torch.equal(part.params.table, whole.params.table[4:6])
    noise = [at for name, (at, _) in columns.items() if ".noise" in name]
    assert torch.equal(
        called(synth).params.table[:, noise].view(torch.int32),
        whole.params.table[:, noise].view(torch.int32),
    )


# ---- whatever runs it ----------------------------------------------------------------------------


BACKENDS = [
    "torch",
    pytest.param("triton", marks=[pytest.mark.triton_interpreter, pytest.mark.slow]),
]


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_give_the_same_bits(backend: str) -> None:
    if backend == "triton":
        pytest.importorskip("triton")
    control = {"size": 0.08, "location": (0.3, 0.6), "strength": 0.1, "unit": "difference"}
    made = []
    for name in ("draem", "cutpaste"):
        for chosen in ("auto", backend):
            synth = method(name, backend=chosen)
            few = images()[:2, :, :40, :48].contiguous()
            made.append(synth(few, index=range(2), epoch=0, control=control))
    for first, second in (made[:2], made[2:]):
        assert first.label.all() and torch.equal(first.image, second.image)
        assert torch.equal(first.mask, second.mask)


@pytest.mark.slow
def test_the_compiled_backend_gives_the_same_bits() -> None:
    pytest.importorskip("numba")
    control = {"size": 0.08, "location": (0.3, 0.6), "strength": 0.1, "unit": "difference"}
    first, second = (called(method("draem", backend=one), control) for one in ("auto", "compiled"))
    assert torch.equal(first.image, second.image) and torch.equal(first.mask, second.mask)


@pytest.mark.parametrize("name", ["draem", "cutpaste", "missing", "nsa"])
def test_an_empty_batch_stays_empty(name: str) -> None:
    synth = method(name)
    none = torch.zeros(0, 3, SIDE, SIDE, dtype=torch.uint8)
    control: dict[str, Any] = {"location": torch.zeros(0, 2), "strength": 0.1, "unit": "difference"}
    if "size" in synth.controls:
        control["size"] = torch.zeros(0)
    out = synth(none, index=[], epoch=0, control=control)
    assert out.image.shape == none.shape and len(out.label) == 0


@pytest.mark.slow
def test_views_are_controlled_alike() -> None:
    synth = method("cutpaste_union", views=True)
    out = called(synth, {"size": 0.05, "location": (0.5, 0.5)})
    assert (areas(out)[B:] / 0.05 - 1).abs().max() <= 0.1 and not out.mask[:B].any()
    hidden = called(method("riad"), {"location": (0.25, 0.25, 0.75, 0.75)})
    assert torch.equal(
        hidden.mask.unflatten(0, (3, B)).sum(0)[:, 0, 24:72, 24:72].unique(), torch.ones(1)
    )


def test_grey_floats_and_wide_integers_reach_a_difference() -> None:
    synth = method("cutpaste")
    control = {"strength": 0.05, "unit": "difference"}
    wide = (images().to(torch.int32) * 257).to(torch.uint16)
    for batch, peak in ((images() / 255, 1.0), (wide, 65535.0), (images()[:, :1], 255.0)):
        out = synth(batch, index=range(B), epoch=0, control=control)
        apart = (out.image.double() - batch.double()).abs().mean(1, keepdim=True) / peak
        got = (apart * out.mask).sum((1, 2, 3)) / out.mask.sum((1, 2, 3))
        assert (got / 0.05 - 1).abs().max() <= 0.1


def test_modalities_follow() -> None:
    synth = method("cutpaste")
    depth = torch.full((B, 1, SIDE, SIDE), 0.5)
    out = called(synth, {"size": 0.04, "location": (0.3, 0.6)}, extra={"depth": depth})
    moved = (out.extras["depth"] != depth).to(torch.float32)
    assert moved.any() and not (moved * (out.mask == 0)).any()


def test_a_synthesizer_before_the_synthesizer_has_its_own_control() -> None:
    before = method("draem", control={"size": 0.05, "strength": 1.0})
    out = called(method("cutpaste", normal_transform=before, p=0.0), foreground=None)
    touched = (out.clean != images()).any(1).to(torch.float32).mean((1, 2))  # type: ignore[union-attr]
    assert (touched - 0.05).abs().max() < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cutpaste", "draem"])
def test_what_needs_no_pixels_compiles_whole(name: str) -> None:
    control: dict[str, Any] = {"strength": (0.3, 0.6), "location": (0.1, 0.2, 0.6, 0.7)}
    if name == "cutpaste":
        control["size"] = (0.02, 0.05)
    synth = method(name, control=control)
    compiled = torch.compile(synth, fullgraph=True, backend="eager")
    index = torch.arange(B)
    plain = synth(images(), index=index, epoch=0)
    traced = compiled(images(), index=index, epoch=0)
    assert torch.equal(plain.image, traced.image) and torch.equal(plain.mask, traced.mask)


@pytest.mark.slow
@pytest.mark.parametrize("point", [True, False])
def test_noise_that_is_sought_in_a_place_compiles_whole(point: bool) -> None:
    where = torch.tensor([[0.3, 0.7], [0.1, 0.1]]).repeat(B // 2, 1)
    where = where if point else torch.cat([where, where + 0.1], 1)
    where[1] = torch.nan
    synth = method("glass_las", control=None)

    def call(batch: torch.Tensor, place: torch.Tensor) -> anoaug.AnomalyBatch:
        return synth(batch, index=torch.arange(B), epoch=0, control=anoaug.Control(location=place))

    plain = call(images(), where)
    traced = torch.compile(call, fullgraph=True, backend="eager")(images(), where)
    assert torch.equal(plain.image, traced.image) and torch.equal(plain.mask, traced.mask)


@pytest.mark.slow
def test_values_per_sample_compile_whole_too() -> None:
    synth = method("cutpaste")
    sizes, points = torch.linspace(0.02, 0.08, B), torch.full((B, 2), 0.4)

    def call(batch: torch.Tensor, size: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        control = anoaug.Control(size=size, location=where)
        return synth(batch, index=torch.arange(B), epoch=0, control=control).image

    compiled = torch.compile(call, fullgraph=True, backend="eager")
    assert torch.equal(call(images(), sizes, points), compiled(images(), sizes, points))


def test_the_op_s_schema_holds() -> None:
    synth = method("cutpaste")
    binding = synth._binding
    tensors, histograms = binding.tensors(torch.device("cpu"), 3)
    matrix = torch.full((2, 4, len(COLUMN)), 0.1, dtype=torch.float64)
    arguments = (
        torch.arange(2), torch.tensor([1, 2]), torch.full((2,), -1), tensors, histograms,
        binding.numbers, synth.laws(3), 32, 32, False, matrix,
    )  # fmt: skip
    # Keys read as numbers may be NaN, which equals nothing: values are not compared.
    static = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.anoaug.sample.default, arguments, test_utils=static)


@pytest.mark.slow
def test_a_dict_at_a_call_compiles_whole_too() -> None:
    synth, control = method("draem"), {"location": (0.1, 0.2, 0.6, 0.7)}
    compiled = torch.compile(synth, fullgraph=True, backend="eager")
    plain = synth(images(), index=torch.arange(B), epoch=0, control=control)
    traced = compiled(images(), index=torch.arange(B), epoch=0, control=control)
    assert torch.equal(plain.image, traced.image) and torch.equal(plain.mask, traced.mask)
