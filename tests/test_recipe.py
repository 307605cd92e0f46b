"""Recipes: columns and streams, laws as text, header and gates."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import anoaug
from anoaug import blends, masks, parts, photometric, recipe, sources

SIZE = (40, 56)


def bank(kind: Any = anoaug.TextureBank, n: int = 6, **keywords: Any) -> Any:
    generator = torch.Generator().manual_seed(n)
    pixels = torch.randint(0, 256, (n, 3, 24, 20), dtype=torch.uint8, generator=generator)
    return kind.from_tensors(pixels, **keywords)


TEXTURES = bank()
DONORS = bank(anoaug.DonorBank, 5, categories=["nut", "nut", "pill", "pill", "pill"])
PERLIN = anoaug.Layer(masks.Perlin(threshold=(0.1, 0.6)), sources.Texture(TEXTURES))
PATCH = anoaug.Layer(masks.Rectangle(rotation=(-45, 45)), sources.Own(), blends.Feather((2, 5)))
GREY = anoaug.Layer(masks.Everywhere(), sources.Constant((0, 1)), blends.Opacity())
SYNTHESIZERS = {
    "draem": anoaug.create("draem", textures=TEXTURES, seed=3),
    "union": anoaug.create("cutpaste_union", seed=3),
    "views": anoaug.create("cutpaste_union", views=True, seed=3),
    "counts": anoaug.Synthesizer(
        replace(PERLIN, count=(0, 2)),
        replace(PATCH, source=sources.Donor(DONORS), count=(1, 2)),
        seed=3,
    ),
    "four": anoaug.Synthesizer(
        replace(PERLIN, mask=PERLIN.mask & masks.Rectangle() | ~masks.Everywhere()),
        replace(PATCH, source=sources.Own(photometric=photometric.ColorJitter(0.1, 0.1, 0.1, 0.1))),
        replace(GREY, source=sources.Noise(0.2, 0.6)),
        GREY,
        seed=3,
    ),
}


def table_of(
    synth: anoaug.Synthesizer, index: Any, category: Any = None, **keywords: Any
) -> np.ndarray:
    """The parameter table of some samples of blank images."""
    blank = torch.zeros(1, 3, *SIZE, dtype=torch.uint8).expand(len(index), -1, -1, -1)
    rows = torch.tensor(list(index), dtype=torch.int64)
    keywords = {"epoch": 0, **keywords}
    return synth.sample(blank, index=rows, category=category, **keywords).numpy()


def columns_of(synth: anoaug.Synthesizer, index: Any, **keywords: Any) -> dict[str, np.ndarray]:
    """The table's columns by name."""
    return recipe.recipe(synth.laws(3)).describe(table_of(synth, index, **keywords))


def part_columns(synth: anoaug.Synthesizer, name: str) -> dict[str, np.ndarray]:
    """The columns of a part, without the number of its layer; bits, so that NaN equals NaN."""
    columns = columns_of(synth, range(8), epoch=2)
    return {
        column.split(".", 2)[2]: values.view(np.int32)
        for column, values in columns.items()
        if column.count(".") > 1 and column.split(".")[2] == name
    }


# ---- a row is a function of seed, epoch and index ------------------------------------------------

indices = st.lists(st.integers(0, 2**47 - 1), min_size=1, max_size=6)
few = settings(max_examples=12, deadline=None)


@pytest.mark.slow
@few
@pytest.mark.parametrize("name", ["draem", "union", "counts", "four"])
@given(index=indices, epoch=st.integers(0, 2**32 - 1), data=st.data())
def test_a_row_does_not_depend_on_batch_order_or_split(
    name: str, index: list[int], epoch: int, data: st.DataObject
) -> None:
    synth = SYNTHESIZERS[name]
    whole = table_of(synth, index, epoch=epoch).view(np.int32)
    order = data.draw(st.permutations(range(len(index))))
    moved = table_of(synth, np.array(index)[order], epoch=epoch).view(np.int32)
    assert np.array_equal(whole[order], moved)
    world = data.draw(st.integers(1, 3))
    for rank in range(world):
        share = table_of(synth, index[rank::world], epoch=epoch).view(np.int32)
        assert np.array_equal(whole[rank::world], share)


@few
@given(index=indices)
def test_views_of_a_row_do_not_depend_on_the_batch(index: list[int]) -> None:
    synth = SYNTHESIZERS["views"]
    whole = table_of(synth, index).view(np.int32).reshape(3, len(index), -1)
    for row, number in enumerate(index):
        assert np.array_equal(whole[:, row], table_of(synth, [number]).view(np.int32))


@few
@given(rows=st.lists(st.tuples(st.integers(0, 99), st.sampled_from(["nut", "pill"])), min_size=1))
def test_a_row_depends_on_its_own_category_alone(rows: list[tuple[int, str]]) -> None:
    synth = SYNTHESIZERS["counts"]
    index, category = zip(*rows, strict=True)
    whole = table_of(synth, index, category).view(np.int32)
    for row, number, name in zip(whole, index, category, strict=True):
        assert np.array_equal(row, table_of(synth, [number], [name]).view(np.int32)[0])


@pytest.mark.parametrize("change", ["seed", "epoch", "index"])
def test_seed_epoch_and_index_each_change_the_row(change: str) -> None:
    synth, index, epoch = SYNTHESIZERS["draem"], np.arange(20), 0
    before = columns_of(synth, index)["layer0.mask.perlin.key"].view(np.int32)
    if change == "seed":
        synth = anoaug.create("draem", textures=TEXTURES, seed=4)
    after = columns_of(synth, index + 20 * (change == "index"), epoch=epoch + (change == "epoch"))
    assert (before != after["layer0.mask.perlin.key"].view(np.int32)).all()


def test_the_bits_are_those_of_this_version() -> None:
    """If these change, raise recipe.SPEC_VERSION and say so in the changelog."""
    assert recipe.SPEC_VERSION == 1
    tables = [table_of(SYNTHESIZERS["counts"], index, epoch=5) for index in (range(8), [2**46])]
    digests = [hashlib.sha256(table.tobytes()).hexdigest()[:16] for table in tables]
    assert digests == ["9e0dd4e680a90d7f", "db63f0aad7b4b827"]


# ---- a part keeps its numbers when others come or go ---------------------------------------------

COMPANIES = {
    "a mask before": [replace(PERLIN, mask=masks.Rectangle() & PERLIN.mask)],
    "a mask behind": [replace(PERLIN, mask=PERLIN.mask & ~masks.Everywhere())],
    "another blend": [replace(PERLIN, blend=blends.Feather((0.1, 0.2)))],
    "a layer in front": [PATCH, PERLIN],
    "a layer behind": [PERLIN, GREY],
    "three more layers": [GREY, PERLIN, PATCH, replace(GREY, source=sources.Noise())],
    "a range of counts": [PERLIN, replace(PATCH, count=(0, 2))],
    "a second copy": [replace(PERLIN, count=2)],
}


@pytest.mark.parametrize("part", ["perlin", "texture"])
@pytest.mark.parametrize("company", COMPANIES)
def test_a_part_s_columns_stay_when_others_come_or_go(company: str, part: str) -> None:
    alone = part_columns(anoaug.Synthesizer(PERLIN, seed=5), part)
    among = part_columns(anoaug.Synthesizer(*COMPANIES[company], seed=5), part)
    assert alone and all(np.array_equal(among[name], alone[name]) for name in alone)


def test_how_many_copies_a_sample_gets_stays_when_a_layer_comes_in_front() -> None:
    counted = replace(PATCH, count=(0, 2))
    alone = columns_of(anoaug.Synthesizer(counted, p=1.0, seed=5), range(60))
    among = columns_of(anoaug.Synthesizer(GREY, counted, p=1.0, seed=5), range(60))
    assert np.array_equal(alone["layer0.gate"], among["layer1.gate"])


def test_copies_of_a_part_have_numbers_of_their_own() -> None:
    columns = columns_of(anoaug.Synthesizer(replace(PERLIN, count=2), seed=5), range(50))
    first, second = (f"layer{n}.mask.perlin{n or ''}.key" for n in (0, 1))
    assert (columns[first].view(np.int32) != columns[second].view(np.int32)).all()


@pytest.mark.parametrize("name", SYNTHESIZERS)
def test_columns_partition_the_table(name: str) -> None:
    parsed = recipe.recipe(SYNTHESIZERS[name].laws(3))
    taken = [k for start, width in parsed.columns.values() for k in range(start, start + width)]
    assert sorted(taken) == list(range(parsed.width))


# ---- laws as text --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SYNTHESIZERS)
def test_laws_survive_json(name: str) -> None:
    text = SYNTHESIZERS[name].laws(3).split(" ", 2)[2]
    laws = parts.from_plain(json.loads(text))
    assert recipe.encode(laws) == text
    assert parts.from_plain(json.loads(recipe.encode(laws))) == laws


@settings(max_examples=50, deadline=None)
@given(
    data=st.tuples(*[st.floats(-1e3, 1e3)] * 2).map(sorted),
    octaves=st.integers(1, 8),
    cells=st.none() | st.floats(0.01, 4000) | st.tuples(st.just(1.5), st.floats(1.5, 9)),
)
def test_any_float_survives_json(data: list[float], octaves: int, cells: Any) -> None:
    part = masks.Perlin(threshold=tuple(data), octaves=octaves, cells=cells)
    assert parts.from_plain(json.loads(json.dumps(parts.to_plain(part)))) == part


def test_equal_laws_give_the_same_recipe() -> None:
    twins = [anoaug.create("draem", textures=bank(), seed=seed) for seed in (1, 2)]
    first, second = (recipe.recipe(synth.laws(3)) for synth in twins)
    assert first is second


def test_other_laws_give_another_recipe_with_the_same_layout() -> None:
    half, all_of_them = (anoaug.create("draem", textures=TEXTURES, p=p) for p in (0.5, 1.0))
    assert half.laws(3) != all_of_them.laws(3)
    assert recipe.layout_of(half.laws(3)) == recipe.layout_of(all_of_them.laws(3))


def test_a_layout_says_what_its_recipe_says() -> None:
    synth = SYNTHESIZERS["four"]
    parsed = recipe.recipe(synth.laws(3, torch.uint16))
    layout = recipe.layout(parsed.layout)
    assert (layout.width, layout.channels, layout.peak) == (parsed.width, 3, 65535.0)
    for program, placed in zip(layout.layers, parsed.layers, strict=True):
        assert [step.name for step in program.mask] == [p.part.function for p in placed.mask]
        assert program.source.offset == placed.source.offset
        assert program.weight.offset == placed.blend.offset
        assert program.gate == placed.gate


def test_a_layout_of_another_spec_version_is_refused() -> None:
    data = json.loads(recipe.layout_of(SYNTHESIZERS["draem"].laws(3)))
    data["version"] += 1
    with pytest.raises(ValueError, match="expected spec version"):
        recipe.layout(json.dumps(data))


def test_laws_with_an_unknown_part_are_refused() -> None:
    with pytest.raises(ValueError, match="no part is called 'Nowhere'"):
        parts.from_plain({"$": "Nowhere"})


@pytest.mark.parametrize(
    "layers",
    [[GREY] * 5, [replace(GREY, count=(1, 3)), replace(PATCH, count=2)]],
    ids=["layers", "counts"],
)
def test_more_than_four_layers_are_refused_at_the_door(layers: list[anoaug.Layer]) -> None:
    with pytest.raises(ValueError, match="expected at most 4"):
        anoaug.Synthesizer(*layers)


def test_four_layers_are_the_most() -> None:
    four = anoaug.Synthesizer(replace(GREY, count=4), p=1.0)
    assert len(recipe.recipe(four.laws(3)).layers) == 4


def test_no_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one Layer"):
        anoaug.Synthesizer()


# ---- header and gates ----------------------------------------------------------------------------

MANY = range(6000)


def expect_shares(counts: Any, shares: Any) -> None:
    """Refuse counts that the shares give less often than once in ten thousand times."""
    if len(counts) == 1:
        return
    expected = np.asarray(shares, float) * np.sum(counts)
    assert stats.chisquare(counts, expected).pvalue > 1e-4


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_p_is_the_share_of_active_samples(p: float) -> None:
    columns = columns_of(anoaug.Synthesizer(GREY, p=p, seed=1), MANY)
    active = int(columns["active"].sum())
    assert stats.binomtest(active, len(MANY), p).pvalue > 1e-4
    assert np.array_equal(columns["layer0.gate"], columns["active"])


@pytest.mark.parametrize(("low", "high"), [(0, 1), (1, 3), (0, 4), (2, 2)])
def test_counts_gate_as_many_copies_each_equally_often(low: int, high: int) -> None:
    columns = columns_of(anoaug.Synthesizer(replace(GREY, count=(low, high)), p=1.0, seed=1), MANY)
    gates = np.stack([columns[f"layer{k}.gate"] for k in range(high)])
    # The copies that are on come first, so that a lower count is part of a higher one.
    assert (np.diff(gates, axis=0) <= 0).all()
    tally = np.bincount(gates.sum(0).astype(int), minlength=high + 1)
    assert (tally[:low] == 0).all()
    expect_shares(tally[low:], [1 / (high - low + 1)] * (high - low + 1))


@pytest.mark.parametrize("weights", [None, (1, 2, 5), (0.0, 1.0, 0.0)])
def test_one_layer_is_chosen_as_often_as_its_weight_says(weights: Any) -> None:
    layers = [replace(GREY, kind=name) for name in "abc"]
    synth = anoaug.Synthesizer(*layers, p=0.8, seed=1, choose="one", weights=weights)
    columns = columns_of(synth, MANY)
    gates = np.stack([columns[f"layer{k}.gate"] for k in range(3)])
    assert np.array_equal(gates.sum(0), columns["active"])
    kind = columns["kind"].view(np.int32)
    assert np.array_equal(kind, (gates * np.array([[1], [2], [3]])).sum(0))
    odds = np.array(weights or (1, 1, 1), float)
    tally = np.bincount(kind, minlength=4)[1:]
    assert (tally[odds == 0] == 0).all()
    expect_shares(tally[odds > 0], (odds / odds.sum())[odds > 0])


def test_a_choice_does_not_hang_together_with_activity() -> None:
    synth = anoaug.Synthesizer(GREY, PATCH, p=0.5, seed=1, choose="one")
    columns = columns_of(synth, MANY)
    tally = np.bincount(columns["layer0.gate"][columns["active"] > 0].astype(int), minlength=2)
    expect_shares(tally, [0.5, 0.5])


def test_the_kind_is_that_of_a_layer_that_is_there() -> None:
    layers = [replace(GREY, kind="a", count=(0, 1)), replace(PATCH, kind="b")]
    columns = columns_of(anoaug.Synthesizer(*layers, p=1.0, seed=1), range(60))
    missing = columns["layer0.gate"] == 0
    assert 0 < missing.sum() < 60
    assert set(columns["kind"].view(np.int32)[missing]) == {2}


def test_the_first_view_is_untouched_and_each_other_one_layer() -> None:
    columns = columns_of(SYNTHESIZERS["views"], range(9))
    by_view = {name: values.reshape(3, 9, *values.shape[1:]) for name, values in columns.items()}
    assert by_view["active"].tolist() == [[0.0] * 9, [1.0] * 9, [1.0] * 9]
    assert by_view["layer0.gate"].tolist() == [[0.0] * 9, [1.0] * 9, [0.0] * 9]
    assert by_view["layer1.gate"].tolist() == [[0.0] * 9, [0.0] * 9, [1.0] * 9]
    kind = columns["kind"].view(np.int32).reshape(3, 9)
    assert kind.tolist() == [[0] * 9, [1] * 9, [2] * 9]


# Columns that are made only for samples that get the layer, because they cost the most.
COLOURS = ("stages", "luts", "matrices")


def test_views_of_a_sample_share_their_draws() -> None:
    columns = columns_of(SYNTHESIZERS["views"], range(9))
    for name, values in columns.items():
        if name.count(".") > 1:
            views = values.view(np.int32).reshape(3, 9, -1)
            if name.split(".")[-1] in COLOURS:
                layer = 1 + int(name.removeprefix("layer").split(".")[0])
                assert not np.delete(views, layer, axis=0).any(), "made for rows without the layer"
                continue
            assert np.array_equal(views[0], views[1]) and np.array_equal(views[0], views[2])


@pytest.mark.parametrize(("given", "pixels"), [(0, 1), (1, 1), (37, 37), (0.25, 560)])
def test_a_least_area_below_one_is_a_share_of_the_image(given: float, pixels: float) -> None:
    columns = columns_of(anoaug.Synthesizer(GREY, min_area=given), [0])
    assert columns["min_area"].tolist() == [pixels]


@pytest.mark.parametrize(("dtype", "peak"), [(torch.uint8, 255), (torch.uint16, 65535)])
def test_the_tolerance_is_in_image_units(dtype: torch.dtype, peak: float) -> None:
    synth = anoaug.Synthesizer(GREY, tolerance=0.25)
    table = synth.sample(torch.zeros(1, 3, 4, 4, dtype=dtype), index=[0], epoch=0)
    assert float(table[0, recipe.TOLERANCE]) == 0.25 * peak


@pytest.mark.slow
def test_integers_are_stored_bit_cast_and_bytes_as_they_are() -> None:
    columns = columns_of(SYNTHESIZERS["draem"], MANY)
    image = columns["layer0.source.texture.image"].view(np.int32)
    assert set(image) == set(range(6))
    assert columns["layer0.source.texture.h"].view(np.int32).tolist() == [24] * len(MANY)
    tables = columns["layer0.source.texture.luts"].view(np.uint8).reshape(-1, 9, 256)
    stages = columns["layer0.source.texture.stages"].view(np.int32)
    active = columns["layer0.gate"] > 0
    assert active.any() and not tables[~active].any()
    # A stage that is not in use changes nothing.
    assert (tables[active & (stages < 3)][:, 6:] == np.arange(256)).all()
