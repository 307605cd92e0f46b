"""Masks from tensors: scores above a threshold, random regions of a label map."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import anoaug
from anoaug import masks, prepare, sources
from anoaug.masks import FromScore, Superpixels
from tests.drawing import needs_triton, some

PAINT = sources.Constant(0.0)
IMAGES = torch.full((4, 3, 30, 26), 200, dtype=torch.uint8)
SCORE = torch.rand(4, 1, 30, 26, generator=torch.Generator().manual_seed(3))
LABELS = torch.arange(30 * 26).view(1, 1, 30, 26).div(13, rounding_mode="floor").repeat(4, 1, 1, 1)


def synth_of(mask: masks.Mask, **more: Any) -> anoaug.Synthesizer:
    return anoaug.Synthesizer(anoaug.Layer(mask, PAINT), **{"p": 1.0, "seed": 0, **more})


def inside(mask: masks.Mask, **slots: torch.Tensor) -> torch.Tensor:
    images = IMAGES[: len(next(iter(slots.values())))]
    return synth_of(mask)(images, index=range(len(images)), epoch=0, slots=slots).mask > 0


# ---- scores --------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [0.5, 1.0, -0.3])
def test_mean_and_sigma_are_the_sample_s_own(amount: float) -> None:
    score = SCORE * torch.tensor([1.0, 5.0, 0.1, 2.0]).view(4, 1, 1, 1) + 3
    numbers = score.numpy().astype(np.float64)
    axes = (1, 2, 3)
    bound = numbers.mean(axes, keepdims=True) + amount * numbers.std(axes, keepdims=True)
    assert np.array_equal(inside(FromScore(amount=amount), score=score).numpy(), numbers > bound)


@pytest.mark.parametrize(("amount", "kept"), [(0.9, 78), (0.5, 390), (0.0, 780), (0.999, 0)])
def test_a_quantile_leaves_the_upper_share(amount: float, kept: int) -> None:
    found = inside(FromScore(rule="quantile", amount=amount), score=SCORE)
    assert (found.sum((1, 2, 3)) == kept).all()
    for row, score in zip(found, SCORE, strict=True):
        assert not kept or score[row].min() > score[~row].max() if kept < 780 else row.all()


def test_a_quantile_of_one_hides_nothing() -> None:
    assert not inside(FromScore(rule="quantile", amount=1.0), score=SCORE).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8, torch.float64])
def test_a_threshold_is_that_of_any_dtype(dtype: torch.dtype) -> None:
    score = (SCORE * 200).to(dtype)
    found = inside(FromScore(rule="threshold", amount=90.5), score=score)
    assert torch.equal(found, score.double() > 90.5)


@pytest.mark.parametrize("rule", ["mean_sigma", "quantile"])
def test_equal_scores_hide_nothing(rule: str) -> None:
    out = synth_of(FromScore(rule=rule))(IMAGES, slots={"score": torch.full_like(SCORE, 0.1)})
    assert not out.label.any() and torch.equal(out.image, IMAGES)


def test_nan_is_outside() -> None:
    score = SCORE.clone()
    score[1, 0, 4, 5] = torch.nan
    found = inside(FromScore(rule="threshold"), score=score)
    assert not found[1, 0, 4, 5] and found[1].any()
    found = inside(FromScore(), score=score)
    assert not found[1].any() and found[0].any() and found[2].any()


def test_one_tensor_serves_several_rules() -> None:
    both = FromScore() & ~FromScore(rule="quantile", amount=0.8)
    synth = synth_of(both)
    assert synth.slots == ("score",)
    low = inside(FromScore(), score=SCORE)
    high = inside(FromScore(rule="quantile", amount=0.8), score=SCORE)
    assert torch.equal(inside(both, score=SCORE), low & ~high)


def test_an_anomaly_can_be_steered_to_where_a_network_is_unsure() -> None:
    steered = masks.Perlin() & FromScore("unsure", rule="quantile", amount=0.5)
    found = inside(steered, unsure=SCORE)
    assert found.any()
    assert not (found & ~inside(FromScore(rule="quantile", amount=0.5), score=SCORE)).any()


@pytest.mark.slow
@needs_triton
@pytest.mark.parametrize("mask", [FromScore(), FromScore(rule="quantile"), ~FromScore()])
def test_backends_agree_on_scores(mask: masks.Mask) -> None:
    true, *others = (
        synth_of(mask, backend=backend)(IMAGES, slots={"score": SCORE})
        for backend in ("torch", "auto", "triton")
    )
    for out in others:
        assert torch.equal(out.image, true.image) and torch.equal(out.mask, true.mask)


def test_scores_are_found_alone_as_in_a_batch() -> None:
    whole = inside(FromScore(), score=SCORE)
    assert torch.equal(inside(FromScore(), score=SCORE[:1]), whole[:1])


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ({"rule": "median"}, "rule: expected one of"),
        ({"rule": "quantile", "amount": 1.5}, "amount: expected values within"),
        ({"amount": (0, 1)}, "amount: expected one number"),
    ],
)
def test_bad_rules_are_refused(law: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FromScore(**law)


def test_a_score_that_does_not_fit_is_refused_by_its_name() -> None:
    with pytest.raises(ValueError, match=r"score: expected shape \[4, 1, 30, 26\]"):
        synth_of(FromScore())(IMAGES, slots={"score": SCORE[:, :, ::2]})
    with pytest.raises(ValueError, match="score: this recipe needs it"):
        synth_of(FromScore())(IMAGES)


# ---- labels --------------------------------------------------------------------------------------


def test_a_label_is_inside_as_a_whole_and_by_chance() -> None:
    labels = torch.arange(900).view(1, 1, 30, 30).repeat(200, 1, 1, 1) // 3
    images = torch.full((200, 1, 30, 30), 9, dtype=torch.uint8)
    out = synth_of(Superpixels(share=0.3))(images, slots={"superpixels": labels})
    found = (out.mask > 0).flatten(1).view(200, 300, 3)
    assert torch.equal(found.all(2), found.any(2))
    hit = found[:, :, 0]
    assert stats.binomtest(int(hit.sum()), hit.numel(), 0.3).pvalue > 1e-3
    # Neighbours are independent, and so are samples.
    for alike in (hit[:, 1:] & hit[:, :-1], hit[1:] & hit[:-1]):
        assert stats.binomtest(int(alike.sum()), alike.numel(), 0.09).pvalue > 1e-3


@pytest.mark.slow
def test_each_sample_draws_its_share() -> None:
    labels = torch.arange(2500).view(1, 1, 50, 50).repeat(300, 1, 1, 1)
    images = torch.full((300, 1, 50, 50), 9, dtype=torch.uint8)
    area = synth_of(Superpixels(share=(0.1, 0.6)))(images, slots={"superpixels": labels}).mask
    share = area.mean((1, 2, 3)).numpy()
    assert stats.kstest((share - 0.1) / 0.5, "uniform").statistic < 0.1


@some
@given(dtype=st.sampled_from([torch.uint8, torch.int16, torch.int32, torch.int64, torch.float32]))
def test_labels_of_any_dtype_are_the_same(dtype: torch.dtype) -> None:
    first = inside(Superpixels(share=0.5), superpixels=LABELS)
    assert torch.equal(inside(Superpixels(share=0.5), superpixels=LABELS.to(dtype)), first)
    assert 0.3 < first.float().mean() < 0.7


def test_a_label_below_0_is_never_inside() -> None:
    labels = LABELS.clone()
    labels[:, :, :7] = -1
    found = inside(Superpixels(share=1.0), superpixels=labels)
    assert not found[:, :, :7].any() and found[:, :, 7:].all()


@pytest.mark.slow
@needs_triton
def test_backends_agree_on_labels() -> None:
    labels = torch.randint(-1, 50, (4, 1, 30, 26), generator=torch.Generator().manual_seed(1))
    large = labels * 4001 + 2**21
    for one in (labels, large, labels.to(torch.float32)):
        true, *others = (
            synth_of(Superpixels(share=0.5) & ~masks.Rectangle(), backend=backend)(
                IMAGES, slots={"superpixels": one}
            )
            for backend in ("torch", "auto", "triton")
        )
        assert true.label.all()
        for out in others:
            assert torch.equal(out.image, true.image) and torch.equal(out.mask, true.mask)


@pytest.mark.slow
def test_the_compiled_backend_agrees() -> None:
    pytest.importorskip("numba")
    labels = torch.randint(-1, 50, (4, 1, 30, 26), generator=torch.Generator().manual_seed(1))
    slots = {"superpixels": labels * 4001, "score": SCORE}
    layers = [
        anoaug.Layer(Superpixels(share=0.5), sources.Noise()),
        anoaug.Layer(FromScore(), PAINT),
    ]
    ours, true = (
        anoaug.Synthesizer(*layers, p=1.0, seed=0, backend=backend)(IMAGES, slots=slots)
        for backend in ("compiled", "torch")
    )
    assert torch.equal(ours.image, true.image) and torch.equal(ours.mask, true.mask)


# ---- labels that the synthesizer finds -----------------------------------------------------------


class Columns:
    """Labels by columns of three pixels, and what was asked for."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(images))
        across = torch.arange(images.shape[3], device=images.device) // 3
        return across.expand(len(images), 1, images.shape[2], -1)


def test_labels_are_found_where_a_call_brings_none() -> None:
    find = Columns()
    synth = synth_of(Superpixels(share=0.5, of=find))
    out = synth(IMAGES, index=range(4), epoch=0)
    given = synth(IMAGES, index=range(4), epoch=0, slots={"superpixels": Columns()(IMAGES)})
    assert torch.equal(out.image, given.image) and find.calls == [4]
    again = synth(IMAGES, params=out.params)
    assert torch.equal(again.image, out.image)
    synth.eval()(IMAGES)
    assert find.calls == [4, 4]


def test_views_and_copies_share_what_was_found() -> None:
    find = Columns()
    layer = anoaug.Layer(Superpixels(share=0.5, of=find), PAINT)
    synth = anoaug.Synthesizer(layer, p=1.0, seed=0, views=2)
    for one in (synth, copy.deepcopy(synth), pickle.loads(pickle.dumps(synth))):
        out = one(IMAGES, index=range(4), epoch=0)
        assert torch.equal(out.mask[:4], out.mask[4:])
    assert find.calls == [4, 4]  # a pickled one has its own


def test_labels_by_index_need_one() -> None:
    kept = prepare.CachedLabels(Columns(), 6)
    synth = synth_of(Superpixels(share=0.5, of=kept))
    with pytest.raises(ValueError, match="index: expected one with of=CachedLabels"):
        synth(IMAGES)
    for epoch in range(2):
        synth(IMAGES, index=[5, 1, 2, 3], epoch=epoch)
    assert kept.known == 4 and kept.find.calls == [4]
    with pytest.raises(ValueError, match="of: expected one that looks at the image"):
        synth_of(Superpixels(of=kept), normal_transform=lambda images: images)


def test_one_name_has_one_finder() -> None:
    two = Superpixels(of=Columns()) | Superpixels(of=Columns())
    with pytest.raises(ValueError, match="superpixels: expected one of= for all"):
        synth_of(two)
    find = Columns()
    synth_of(Superpixels(of=find) | Superpixels(share=0.9, of=find))(IMAGES)
    assert find.calls == [4]


@pytest.mark.parametrize("wrong", [3, Columns, "otsu"])
def test_what_cannot_find_labels_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="of: expected a callable on images"):
        Superpixels(of=wrong)


@pytest.mark.slow
def test_a_call_that_finds_compiles_to_one_graph() -> None:
    torch._dynamo.reset()
    synth = synth_of(Superpixels(share=0.5, of=Columns()))
    compiled = torch.compile(synth, backend="eager", fullgraph=True)
    first, second = (one(IMAGES, index=torch.arange(4), epoch=0) for one in (synth, compiled))
    assert torch.equal(first.image, second.image)


def test_one_of_several_finds_for_its_rows_alone() -> None:
    find = Columns()
    synth = anoaug.OneOf({synth_of(Superpixels(share=0.5, of=find), name="regions"): 1.0,
                          synth_of(masks.Rectangle(), name="box"): 1.0}, seed=0)  # fmt: skip
    out = synth(IMAGES, index=range(4), epoch=0)
    regions = (out.params.choice == 0).sum()
    assert sum(find.calls) == regions and 0 < regions < 4
