"""Metrics against brute force: pairs, thresholds one by one, regions by flood fill."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from anoaug.evaluation import (
    auroc,
    average_precision,
    image_auroc,
    pixel_auroc,
    pixel_average_precision,
    pro,
)

Array = npt.NDArray[np.int64]


@st.composite
def scored(draw: st.DrawFn) -> tuple[Array, Array]:
    """Few distinct integer scores, so that ties are the rule, and both classes."""
    count = draw(st.integers(2, 24))
    scores = draw(hnp.arrays(np.int64, count, elements=st.integers(-2, 3)))
    labels = draw(hnp.arrays(np.int64, count, elements=st.integers(0, 1)))
    assume(0 < labels.sum() < count)
    return scores, labels


@st.composite
def mapped(draw: st.DrawFn) -> tuple[Array, Array]:
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    scores = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 4)))
    masks = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 1)))
    assume(0 < masks.sum() < masks.size)
    return scores, masks


def auroc_by_pairs(scores: Array, labels: Array) -> Fraction:
    wins = Fraction(0)
    pairs = 0
    for positive in scores[labels == 1].tolist():
        for negative in scores[labels == 0].tolist():
            pairs += 1
            wins += Fraction(2 * (positive > negative) + (positive == negative), 2)
    return wins / pairs


def precision_by_thresholds(scores: Array, labels: Array) -> Fraction:
    total, before = Fraction(0), 0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        found = scores >= threshold
        true = int(labels[found].sum())
        total += Fraction(true, int(found.sum())) * (true - before)
        before = true
    return total / int(labels.sum())


def regions_by_flood(mask: Array) -> list[set[tuple[int, int]]]:
    left = {(int(y), int(x)) for y, x in np.argwhere(mask == 1)}
    regions = []
    while left:
        todo, region = [left.pop()], set()
        while todo:
            y, x = todo.pop()
            region.add((y, x))
            for near in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if near in left:
                    left.remove(near)
                    todo.append(near)
        regions.append(region)
    return regions


def pro_by_thresholds(scores: Array, masks: Array, limit: Fraction) -> Fraction:
    regions = [(n, r) for n, mask in enumerate(masks) for r in regions_by_flood(mask)]
    normals = int((masks == 0).sum())
    curve = [(Fraction(0), Fraction(0))]
    for threshold in sorted(set(scores.ravel().tolist()), reverse=True):
        found = scores >= threshold
        shares = [Fraction(sum(bool(found[n][p]) for p in r), len(r)) for n, r in regions]
        rate = Fraction(int((found & (masks == 0)).sum()), normals)
        curve.append((rate, sum(shares, Fraction(0)) / len(regions)))
    area = Fraction(0)
    for (x0, y0), (x1, y1) in zip(curve[:-1], curve[1:], strict=True):
        if x0 >= limit:
            break
        end = min(x1, limit)
        at_end = y1 if x1 == x0 else y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (y0 + at_end) / 2 * (end - x0)
    return area / limit


@pytest.mark.slow
@settings(deadline=None)
@given(scored())
def test_auroc_counts_pairs(pair: tuple[Array, Array]) -> None:
    assert auroc(*pair) == pytest.approx(float(auroc_by_pairs(*pair)), abs=1e-15)


@pytest.mark.slow
@settings(deadline=None)
@given(scored())
def test_average_precision_walks_the_thresholds(pair: tuple[Array, Array]) -> None:
    assert average_precision(*pair) == pytest.approx(float(precision_by_thresholds(*pair)))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(mapped(), st.sampled_from([(1, 10), (3, 10), (1, 2), (1, 1)]))
def test_pro_walks_the_thresholds(pair: tuple[Array, Array], limit: tuple[int, int]) -> None:
    expected = pro_by_thresholds(*pair, Fraction(*limit))
    assert pro(*pair, max_fpr=limit[0] / limit[1]) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.slow
@settings(deadline=None)
@given(scored())
def test_negated_scores_mirror_auroc(pair: tuple[Array, Array]) -> None:
    scores, labels = pair
    assert auroc(-scores, labels) == pytest.approx(1.0 - auroc(scores, labels), abs=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("metric", [auroc, average_precision])
@settings(deadline=None)
@given(pair=scored())
def test_only_the_order_counts(metric: object, pair: tuple[Array, Array]) -> None:
    scores, labels = pair
    assert metric(np.exp(scores), labels) == metric(scores, labels)  # type: ignore[operator]


def test_constant_scores_say_nothing() -> None:
    labels = torch.tensor([0, 1, 0, 0])
    assert auroc(torch.ones(4), labels) == 0.5
    assert average_precision(torch.ones(4), labels) == 0.25


@pytest.mark.parametrize("metric", [pixel_auroc, pixel_average_precision, pro])
def test_a_perfect_map_scores_one(metric: object) -> None:
    masks = torch.zeros(2, 1, 8, 8)
    masks[0, 0, 2:4, 2:4] = 1
    masks[1, 0, 6, 7] = 1
    assert metric(masks * 3.0 - 1.0, masks) == pytest.approx(1.0)  # type: ignore[operator]


def test_pro_gives_each_region_the_same_weight() -> None:
    masks = torch.zeros(1, 8, 8)
    masks[0, :4, :4] = 1  # 16 pixels, missed
    masks[0, 7, 7] = 1  # 1 pixel, found
    scores = torch.zeros(1, 8, 8)
    scores[0, 7, 7] = 1.0
    # from half of the regions at no false positive, straight to all of both at FPR 1
    assert pro(scores, masks, max_fpr=0.5) == pytest.approx((0.5 + 0.75) / 2)


def test_pro_joins_pixels_that_touch_at_a_corner() -> None:
    masks = torch.zeros(1, 4, 4)
    masks[0, 0, 0] = masks[0, 1, 1] = masks[0, 3, 3] = 1
    scores = torch.zeros(1, 4, 4)
    scores[0, 3, 3] = 1.0
    assert pro(scores, masks, max_fpr=1.0) == pytest.approx((0.5 + 1.0) / 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.uint8])
def test_the_dtype_of_the_scores_does_not_matter(dtype: torch.dtype) -> None:
    scores = torch.tensor([[[0, 1, 2, 2], [3, 1, 0, 5]]])
    masks = torch.tensor([[[0, 0, 1, 0], [1, 0, 0, 1]]])
    assert pro(scores.to(dtype), masks) == pro(scores.double(), masks)
    assert pixel_auroc(scores.to(dtype), masks) == pixel_auroc(scores.double(), masks)


def test_arrays_and_tensors_agree() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((2, 8, 8)).astype(np.float32)
    masks = rng.random((2, 8, 8)) > 0.7
    assert pro(scores, masks) == pro(torch.from_numpy(scores), torch.from_numpy(masks))


def test_image_auroc_takes_the_maximum_of_a_map() -> None:
    scores = torch.zeros(3, 1, 4, 4)
    scores[0, 0, 1, 1] = 0.9  # one hot pixel
    scores[1] = 0.5  # a higher mean, a lower maximum
    masks = torch.zeros(3, 1, 4, 4)
    masks[0, 0, 1, 1] = 1
    assert image_auroc(scores, masks) == 1.0
    assert image_auroc(scores, torch.tensor([0, 1, 0])) == 0.5


@pytest.mark.parametrize(
    ("scores", "labels", "error", "message"),
    [
        (torch.zeros(3), torch.zeros(4), ValueError, "expected the shape"),
        (torch.tensor([0.0, float("nan")]), torch.tensor([0, 1]), ValueError, "finite"),
        (torch.zeros(2), torch.tensor([0, 255]), ValueError, "only 0 and 1"),
        (torch.zeros(2), torch.tensor([0.0, float("nan")]), ValueError, "only 0 and 1"),
        (torch.zeros(2), torch.tensor([1, 1]), ValueError, "both 0 and 1"),
        (torch.tensor([True, False]), torch.tensor([0, 1]), TypeError, "real numbers"),
        ([0.1, 0.2], torch.tensor([0, 1]), TypeError, "torch tensor or a NumPy array"),
    ],
    ids=["shape", "nan", "byte-mask", "nan-label", "one-class", "bool", "list"],
)
@pytest.mark.parametrize("metric", [auroc, average_precision])
def test_bad_input_is_refused(
    metric: object, scores: object, labels: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        metric(scores, labels)  # type: ignore[operator]


def test_maps_without_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(N, H, W\)"):
        pixel_auroc(torch.zeros(4, 4), torch.zeros(4, 4))


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.1, float("nan")])
def test_pro_refuses_a_limit_outside_its_range(limit: float) -> None:
    with pytest.raises(ValueError, match="max_fpr"):
        pro(torch.zeros(1, 2, 2), torch.tensor([[[0, 1], [0, 0]]]), max_fpr=limit)
