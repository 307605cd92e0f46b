"""Masks on a grid: cells dealt out fairly, and a patch in a window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import anoaug
from anoaug import masks, ops, sources
from anoaug.masks import Cells, Patch
from tests.drawing import levels, mask_columns, needs_triton, some

PAINT = sources.Constant(0.0)
MANY = 3000


def dealt(cells: Cells, size: tuple[int, int], rows: int) -> np.ndarray:
    """The masks of each image's views, bool ``[n, rows, H, W]``, by the reference: it is fast."""
    images = torch.full((rows, 1, *size), 255, dtype=torch.uint8)
    layer = anoaug.Layer(cells, PAINT)
    synth = anoaug.Synthesizer(layer, p=1.0, seed=1, views=cells.n, backend="torch")
    out = synth(images, index=range(rows), epoch=0)
    assert torch.equal(out.image == 0, out.mask > 0)
    return (out.mask[:, 0] > 0).view(cells.n, rows, *size).numpy()


def cell_masks(masks: np.ndarray, k: int) -> np.ndarray:
    """One value per cell, after checking that a cell is inside as a whole."""
    low = masks[..., ::k, ::k]
    height, width = masks.shape[-2:]
    again = low.repeat(k, -2).repeat(k, -1)[..., :height, :width]
    assert np.array_equal(again, masks)
    return low.reshape(*masks.shape[:-2], -1)


# ---- cells ---------------------------------------------------------------------------------------


@pytest.mark.slow
@some
@given(
    size=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    k=st.integers(1, 9),
    n=st.integers(2, 6),
)
def test_sets_are_disjoint_cover_the_image_and_are_equal(
    size: tuple[int, int], k: int, n: int
) -> None:
    sets = cell_masks(dealt(Cells(k, n), size, 3), k)
    assert (sets.sum(0) == 1).all()
    counts = sets.sum(-1)
    assert counts.max() - counts.min() <= 1
    assert sets.shape[-1] == -(-size[0] // k) * -(-size[1] // k)


def test_every_way_of_dealing_is_as_likely() -> None:
    sets = cell_masks(dealt(Cells(1, 3), (2, 3), 9000), 1)
    code = (sets.argmax(0) * 3 ** np.arange(6)).sum(-1)
    tally = np.unique(code, return_counts=True)[1]
    assert len(tally) == 90  # 6! / (2! 2! 2!)
    assert stats.chisquare(tally).pvalue > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("step", [(0, 1), (1, 0), (1, 1), (0, 16), (16, 0), (31, 31)])
def test_cells_apart_are_alike_as_often_as_by_chance(step: tuple[int, int]) -> None:
    drawn = dealt(Cells(1, 3), (32, 32), 200)[0]
    dy, dx = step
    alike = drawn[:, : 32 - dy, : 32 - dx] & drawn[:, dy:, dx:]
    # Of 1024 cells the first set has 341.
    chance = (341 / 1024) * (340 / 1023)
    error = np.sqrt(chance * (1 - chance) / alike.size)
    assert abs(alike.mean() - chance) < 5 * error


def test_sides_are_drawn_evenly_for_each_sample() -> None:
    scale = mask_columns(Cells((2, 4, 8, 16)), (64, 64), MANY)["scale"]
    side, tally = np.unique(1 / scale, return_counts=True)
    assert side.tolist() == [2, 4, 8, 16] and stats.chisquare(tally).pvalue > 1e-4


def test_without_views_one_of_the_sets_is_drawn() -> None:
    drawn = levels(Cells(4, 3), (12, 12), range(MANY), backend="torch") > 0
    area = drawn.sum((1, 2))
    assert (area == 48).all()
    hit = drawn[:, ::4, ::4].flatten(1).sum(0)
    assert stats.chisquare(hit.numpy()).pvalue > 1e-4


def test_a_share_is_met_to_the_cell() -> None:
    drawn = levels(Cells(5, share=0.4), (50, 50), range(20)) > 0
    assert (drawn.sum((1, 2)) == 40 * 25).all()


@pytest.mark.slow
def test_a_range_of_shares_is_that_of_tokens() -> None:
    """AMI-Net hides floor(N u) of its N tokens."""
    drawn = levels(Cells(2, share=(0, 1)), (32, 32), range(MANY), backend="torch") > 0
    count = drawn[:, ::2, ::2].sum((1, 2)).numpy()
    assert count.min() < 5 and 250 < count.max() < 256
    assert stats.kstest((count + 0.5) / 256, "uniform").statistic < 0.04


@pytest.mark.slow
@needs_triton
@pytest.mark.parametrize("size", [(33, 50), (7, 3), (64, 64)])
@pytest.mark.parametrize("cells", [Cells((2, 3, 16)), Cells(1, 2), Cells(5, share=(0, 1))])
def test_backends_agree(cells: Cells, size: tuple[int, int]) -> None:
    true = levels(cells, size, range(3), backend="torch")
    assert torch.equal(true, levels(cells, size, range(3)))
    assert torch.equal(true, levels(cells, size, range(3), backend="triton"))


@pytest.mark.slow
def test_the_compiled_backend_agrees() -> None:
    pytest.importorskip("numba")
    images = torch.randint(0, 256, (3, 3, 63, 50), dtype=torch.uint8)
    layers = [
        anoaug.Layer(Cells((2, 3, 16)) & ~masks.Rectangle(), sources.Noise()),
        anoaug.Layer(Cells(5, share=(0, 1)) | Patch(7, 3), PAINT),
    ]
    ours, true = (
        anoaug.Synthesizer(*layers, p=1.0, seed=3, backend=backend, views=3)(images)
        for backend in ("compiled", "torch")
    )
    assert true.label.all()
    assert torch.equal(ours.image, true.image) and torch.equal(ours.mask, true.mask)


def test_cells_hold_on_wide_images() -> None:
    """A pixel's cell comes from a product that is rounded."""
    for k in (3, 5, 7, 11, 4095):
        drawn = (levels(Cells(k, 2), (2, 70001), [0]) > 0).numpy()
        changes = np.flatnonzero(np.diff(drawn[0, 0].astype(int))) + 1
        assert len(changes) and (changes % k == 0).all()


def test_as_many_views_as_sets_are_wanted() -> None:
    synth = anoaug.Synthesizer(anoaug.Layer(Cells(n=3), PAINT), views=4, seed=0)
    with pytest.raises(ValueError, match="views: expected 3, one for each set of Cells, got 4"):
        synth(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ({"k": ()}, "k: expected whole pixels"),
        ({"k": 0}, "k: expected whole pixels"),
        ({"k": (2, 2.5)}, "k: expected whole pixels"),
        ({"n": 1}, "n: expected 2 sets or more"),
        ({"share": 1.2}, "share: expected values within"),
    ],
)
def test_bad_cells_are_refused(law: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Cells(**law)


# ---- a patch in a window -------------------------------------------------------------------------


def test_a_patch_lies_on_the_grid_and_is_any_of_its_window() -> None:
    box = mask_columns(Patch(16, 7), (320, 320), MANY)
    top, left = box["cy"] - box["half_h"] + 0.5, box["cx"] - box["half_w"] + 0.5
    for first, start in ((top, box["top"]), (left, box["left"])):
        assert (first % 16 == 0).all() and (start % 16 == 0).all()
        # 20 patches hold 14 windows of 7.
        tally = np.bincount((start // 16).astype(int))
        assert len(tally) == 14 and stats.chisquare(tally).pvalue > 1e-4
        place = np.bincount(((first - start) // 16).astype(int))
        assert len(place) == 7 and stats.chisquare(place).pvalue > 1e-4
    assert (box["height"] == 112).all() and (box["width"] == 112).all()


def test_the_patch_is_drawn_where_its_columns_say() -> None:
    drawn = levels(Patch(16, 7), (160, 130), range(40)) > 0
    box = mask_columns(Patch(16, 7), (160, 130), 40)
    for n in range(40):
        expected = torch.zeros(160, 130, dtype=torch.bool)
        top, left = int(box["cy"][n] - 7.5), int(box["cx"][n] - 7.5)
        expected[top : top + 16, left : left + 16] = True
        assert torch.equal(drawn[n], expected)


@pytest.mark.parametrize(("size", "side"), [((20, 40), 16), ((9, 40), 9)])
def test_in_a_small_image_window_and_patch_shrink(size: tuple[int, int], side: int) -> None:
    box = mask_columns(Patch(16, 7), size, 200)
    assert (box["half_h"] * 2 == side).all() and (box["height"] == side).all()
    assert (box["width"] == min(7, size[1] // side) * side).all()
    assert (levels(Patch(16, 7), size, range(50)) > 0).sum((1, 2)).eq(side**2).all()


@pytest.mark.parametrize("law", [{"side": 0}, {"window": 0}, {"side": 1.5}])
def test_bad_patches_are_refused(law: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(law))}: expected a whole number"):
        Patch(**law)


# ---- views ---------------------------------------------------------------------------------------


def test_views_come_one_after_the_other_with_the_same_draws() -> None:
    images = torch.randint(0, 256, (4, 3, 20, 24), dtype=torch.uint8)
    layer = anoaug.Layer(Cells(4, 3), sources.Noise())
    synth = anoaug.Synthesizer(layer, p=1.0, seed=2, views=3)
    out = synth(images, index=range(4), epoch=0)
    assert out.extras["source_row"].tolist() == [0, 1, 2, 3] * 3
    assert out.clean is not None and torch.equal(out.clean, images.repeat(3, 1, 1, 1))
    table = out.params.table.view(torch.int32).view(3, 4, -1)
    same = (table == table[:1]).all(0).all(0)
    columns = anoaug.recipe.recipe(synth.laws(3)).columns
    differing = {n for n, (at, w) in columns.items() if not same[at : at + w].all()}
    assert differing == {"layer0.mask.cells.first", "layer0.mask.cells.last"}


@pytest.mark.slow
def test_an_image_is_hidden_in_all_views_or_in_none() -> None:
    images = torch.full((300, 1, 12, 12), 255, dtype=torch.uint8)
    synth = anoaug.Synthesizer(anoaug.Layer(Cells(4, 3), PAINT), p=0.3, seed=2, views=3)
    label = synth(images, index=range(300), epoch=0).label.view(3, 300)
    assert torch.equal(label[0], label[1]) and torch.equal(label[0], label[2])
    assert stats.binomtest(int(label[0].sum()), 300, 0.3).pvalue > 1e-3


def test_views_of_an_image_are_the_same_in_any_batch_and_replay() -> None:
    images = torch.randint(0, 256, (5, 1, 20, 24), dtype=torch.uint8)
    synth = anoaug.create("riad", seed=3)
    whole = synth(images, index=range(5), epoch=1)
    alone = synth(images[3:4], index=[3], epoch=1)
    assert torch.equal(alone.image, whole.image[3::5])
    assert torch.equal(synth(images, params=whole.params).image, whole.image)


@pytest.mark.parametrize("views", [1, 0.5, "yes", -2])
def test_bad_views_are_refused(views: Any) -> None:
    with pytest.raises(ValueError, match="views: expected True, False or a number from 2 on"):
        anoaug.Synthesizer(anoaug.Layer(Cells(), PAINT), views=views)


@pytest.mark.slow
def test_views_compile_to_one_graph() -> None:
    torch._dynamo.reset()
    synth = anoaug.create("riad", seed=3)
    images = torch.randint(0, 256, (2, 3, 24, 20), dtype=torch.uint8)
    compiled = torch.compile(synth, backend="eager", fullgraph=True)
    index = torch.arange(2)
    first, second = (one(images, index=index, epoch=0) for one in (synth, compiled))
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.extras["source_row"], second.extras["source_row"])


@pytest.mark.slow
@pytest.mark.skipif(ops.triton_trouble() is not None, reason="needs Triton")
def test_views_on_every_backend() -> None:
    images = torch.randint(0, 256, (2, 3, 24, 20), dtype=torch.uint8)
    true, fast, kernel = (
        anoaug.create("riad", seed=3, backend=backend)(images, index=range(2), epoch=0)
        for backend in ("torch", "auto", "triton")
    )
    for out in (fast, kernel):
        assert torch.equal(out.image, true.image) and torch.equal(out.mask, true.mask)
