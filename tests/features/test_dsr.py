"""DSR: masks and their blocky truth, what is quantised, two levels and their coins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anoaug import features
from anoaug.features import DSRLevels, fitted
from anoaug.features.methods.dsr import DSR


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


CODES = drawn(64, 4, seed=7)


def made(**keywords: Any) -> DSR:
    return features.create("dsr", **{"seed": 0, "codebook": CODES, "p": 1.0, **keywords})


def test_the_mask_is_max_pooled_and_its_truth_is_blocky() -> None:
    perturb, maps = made(), drawn(6, 4, 8, 16)
    out = perturb(maps, index=range(6), epoch=0)
    truth = out.extras["ground_truth"]
    assert truth.shape == (6, 1, 256, 256) and 0 < truth.mean() < 1
    blocks = truth.view(6, 1, 8, 32, 16, 16)
    assert (blocks.amax((3, 5)) == blocks.amin((3, 5))).all()
    assert torch.equal(blocks.amax((3, 5)), out.mask)
    fine = perturb(drawn(6, 4, 256, 256), index=range(6), epoch=0).mask
    # A position is anomalous where any of its pixels is.
    assert torch.equal(nn.functional.max_pool2d(fine, (32, 16)), out.mask)


def test_layers_have_masks_of_their_own() -> None:
    perturb, maps = made(), drawn(6, 4, 8, 16)
    alone, one, other = (
        perturb(maps, index=range(6), epoch=0, layer=layer).mask for layer in ("", "a", "b")
    )
    assert not torch.equal(alone, one) and not torch.equal(one, other)


@pytest.mark.slow
def test_half_of_the_images_are_emptied() -> None:
    perturb = made(p=0.5, image=(64, 64))
    out = perturb(drawn(400, 4, 16, 16), index=range(400), epoch=0)
    # Of the others about 5 % have an empty mask.
    assert 0.5 * 0.95 - 0.1 < out.label.float().mean() < 0.5 + 0.06


def test_a_grid_that_does_not_divide_the_image() -> None:
    out = made()(drawn(3, 4, 7, 5), index=range(3), epoch=0)
    assert out.mask.shape == (3, 1, 7, 5)
    assert out.extras["ground_truth"].shape == (3, 1, 256, 256)


def test_quantising_gives_the_rest_its_nearest_codes() -> None:
    maps = drawn(4, 4, 16, 16)
    plain, out = (made(quantise=q)(maps, index=range(4), epoch=0) for q in (False, True))
    nearest, _ = fitted.Codebook().load_codebook(CODES).quantise(maps)
    inside = out.mask.bool().expand_as(maps)
    assert torch.equal(out.features[~inside], nearest[~inside])
    assert torch.equal(plain.features[~inside], maps[~inside])
    assert torch.equal(out.features[inside], plain.features[inside])
    quantised = out.extras["quantised"].transpose(1, 2).unflatten(2, (16, 16))
    assert torch.equal(quantised, nearest)
    swapped = out.extras["code"] >= 0
    assert torch.equal(swapped, out.mask.flatten(1) > 0)
    moved = out.features.flatten(2).transpose(1, 2)[swapped]
    assert torch.equal(moved, CODES[out.extras["code"][swapped]])


def test_a_mask_of_ones_own() -> None:
    anomaly = torch.zeros(2, 1, 8, 8)
    anomaly[1, 0, 2:4, 3] = 1
    out = made()(drawn(2, 4, 8, 8), anomaly=anomaly, index=range(2), epoch=0)
    assert torch.equal(out.mask, anomaly) and out.label.tolist() == [0, 1]
    with pytest.raises(ValueError, match="anomaly: expected shape"):
        made()(drawn(2, 4, 8, 8), anomaly=anomaly[:, :, :4])


def test_any_backbone_by_a_fit() -> None:
    perturb = features.create("dsr", codebook=30, seed=0, p=1.0)
    with pytest.raises(RuntimeError, match="codebook.fit"):
        perturb(drawn(2, 4, 8, 8))
    perturb.codebook.fit([drawn(4, 4, 8, 8)], progress=False)
    out = perturb(drawn(2, 4, 8, 8))
    assert out.features.isfinite().all()
    fresh = features.create("dsr", codebook=30, seed=1, p=1.0)
    fresh.load_state_dict(perturb.state_dict())
    assert torch.equal(fresh.codebook.codes, perturb.codebook.codes)


def test_nothing_reaches_the_backbone() -> None:
    maps = drawn(2, 4, 8, 8).requires_grad_()
    assert not made()(maps).features.requires_grad


# ---- two levels ----------------------------------------------------------------------------------

COARSE, FINE = drawn(64, 4, seed=8), drawn(96, 3, seed=9)


def rebuilt(lo: Tensor) -> Tensor:
    """Fine features of coarse ones."""
    return nn.functional.interpolate(lo[:, :3] * 2.0, scale_factor=2.0)


def levels(**keywords: Any) -> DSRLevels:
    return DSRLevels(COARSE, FINE, **{"seed": 0, "p": 1.0, **keywords})


@pytest.mark.slow
def test_both_levels_in_half_of_the_images() -> None:
    pair, count = levels(image=(32, 32)), 1200
    out = pair(drawn(count, 4, 4, 4), drawn(count, 3, 8, 8), index=range(count), epoch=0)
    shares = torch.bincount(out.choice, minlength=3) / count
    # Five standard deviations.
    assert (shares - torch.tensor([0.5, 0.25, 0.25])).abs().max() < 0.075
    lo, hi = out.lo.label.bool(), out.hi.label.bool()
    assert not (lo & (out.choice == 2)).any() and not (hi & (out.choice == 1)).any()
    some = out.label.bool()
    assert lo[some & (out.choice < 2)].all() and hi[some & (out.choice != 1)].all()


def test_levels_share_the_mask_and_the_truth_is_of_the_coarse_one() -> None:
    out = levels()(drawn(40, 4, 4, 4), drawn(40, 3, 8, 8), index=range(40), epoch=0)
    both = out.choice == 0
    pooled = nn.functional.max_pool2d(out.hi.mask[both], 2)
    assert torch.equal(pooled, out.lo.mask[both]) and pooled.any()
    up = nn.functional.interpolate
    expected = torch.where(
        (out.choice == 2)[:, None, None, None], up(out.hi.mask, 256), up(out.lo.mask, 256)
    )
    assert torch.equal(out.ground_truth, expected)


def test_the_fine_level_is_rebuilt_of_the_swapped_coarse_one() -> None:
    lo = drawn(40, 4, 4, 4)
    hi = rebuilt(levels().lo.quantise(lo)[0])
    pair = levels(rebuild=rebuilt)
    out = pair(lo, hi, index=range(40), epoch=0)
    moved = out.lo.label.bool()
    base = torch.where(moved[:, None, None, None], rebuilt(out.lo.features), hi)
    expected, _ = pair.hi.quantise(base)
    outside = ~out.hi.mask.bool().expand_as(hi)
    assert torch.equal(out.hi.features[outside], expected[outside])
    alone = out.choice == 1
    assert (out.hi.features[alone] != pair.hi.quantise(hi)[0][alone]).any()
    # What is to be restored are the clean codes; clean features are those given.
    assert torch.equal(out.hi.extras["quantised"], pair.hi.quantise(hi)[0])
    assert torch.equal(out.lo.extras["quantised"], pair.lo.quantise(lo)[0])
    assert out.hi.clean is hi and out.lo.clean is lo


def test_ranks_of_both_levels_lie_in_their_windows() -> None:
    lo, hi = drawn(60, 4, 4, 4), drawn(60, 3, 8, 8)
    out = levels()(lo, hi, index=range(60), epoch=0)
    for batch, given, codes in ((out.lo, lo, COARSE), (out.hi, hi, FINE)):
        tokens = given.flatten(2).transpose(1, 2)
        order = torch.cdist(tokens, codes).argsort(2).argsort(2)
        inside = batch.extras["code"] >= 0
        ranks = order.gather(2, batch.extras["code"].clamp(min=0)[..., None])[..., 0][inside]
        assert ranks.min() >= int(0.05 * len(codes)) and ranks.max() < len(codes) - 1


def test_a_call_is_a_function_of_seed_epoch_and_index() -> None:
    lo, hi, pair = drawn(6, 4, 4, 4), drawn(6, 3, 8, 8), levels()
    whole = pair(lo, hi, index=range(6), epoch=2)
    part = pair(lo[[4, 1]], hi[[4, 1]], index=[4, 1], epoch=2)
    assert torch.equal(part.lo.features, whole.lo.features[[4, 1]])
    assert torch.equal(part.hi.features, whole.hi.features[[4, 1]])
    assert torch.equal(part.choice, whole.choice[[4, 1]])
    other = levels()
    other.load_state_dict(pair.state_dict())
    assert torch.equal(other(lo, hi).hi.features, pair(lo, hi).hi.features)
    where = (torch.zeros(6, 1, 4, 4), torch.ones(6, 1, 8, 8))
    out = pair(lo, hi, where=where, index=range(6), epoch=2)
    assert not out.lo.mask.any() and torch.equal(out.hi.mask, whole.hi.mask)


def test_eval_mode_hands_both_through() -> None:
    lo, hi = drawn(6, 4, 4, 4), drawn(6, 3, 8, 8)
    out = levels().eval()(lo, hi, index=range(6), epoch=0)
    assert torch.equal(out.lo.features, lo) and torch.equal(out.hi.features, hi)
    assert not out.label.any() and not out.ground_truth.any()
    empty = levels()(lo[:0], hi[:0])
    assert empty.ground_truth.shape == (0, 1, 256, 256) and empty.choice.shape == (0,)


@pytest.mark.parametrize("quantise", [True, False])
@pytest.mark.parametrize("rebuild", [rebuilt, None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_eval_mode_of_levels_has_the_extras_of_training(
    quantise: bool, rebuild: Any, dtype: torch.dtype
) -> None:
    lo, hi = drawn(6, 4, 4, 4).to(dtype), drawn(6, 3, 8, 8).to(dtype)
    pair = levels(rebuild=rebuild, quantise=quantise)
    there = pair(lo, hi, index=range(6), epoch=0)
    idle = pair.eval()(lo, hi, index=range(6), epoch=0)
    assert torch.equal(idle.choice, there.choice)
    for given, one, other in ((lo, there.lo, idle.lo), (hi, there.hi, idle.hi)):
        assert (
            set(one.extras)
            == set(other.extras)
            == ({"code", "quantised"} if quantise else {"code"})
        )
        for name, value in other.extras.items():
            shape, kind = one.extras[name].shape, one.extras[name].dtype
            assert value.shape == shape and value.dtype == kind, name
        # As if nothing had been done to them: no code in their place, the features themselves.
        assert torch.equal(other.extras["code"], torch.full((6, given[0, 0].numel()), -1))
        assert torch.equal(one.extras["code"] >= 0, one.mask.flatten(1) > 0)
        if quantise:
            assert torch.equal(other.extras["quantised"], given)
            assert not other.extras["quantised"].requires_grad
        assert one.clean is given and other.clean is given


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_codes_of_levels_are_what_stands_in_the_features(dtype: torch.dtype) -> None:
    lo, hi = drawn(6, 4, 4, 4).to(dtype), drawn(6, 3, 8, 8).to(dtype)
    pair = levels(rebuild=rebuilt)
    out = pair(lo, hi, index=range(6), epoch=0)
    for batch, given, codebook, codes in (
        (out.lo, lo, pair.lo, COARSE), (out.hi, hi, pair.hi, FINE)
    ):  # fmt: skip
        code, moved = batch.extras["code"], batch.features.flatten(2).transpose(1, 2)
        assert torch.equal(moved[code >= 0], codes[code[code >= 0]].to(dtype))
        # Clean ones are quantised, rounded once to the features' dtype.
        near = codebook.quantise(given.float())[0].to(dtype)
        assert torch.equal(batch.extras["quantised"], near)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="take more codes"):
        made(codebook=CODES[:1])
    with pytest.raises(ValueError, match="enough codes for ranks"):
        made(skip=0.5)
    with pytest.raises(ValueError, match="size: expected height and width of the 6 positions"):
        made()(drawn(2, 6, 4))
    with pytest.raises(ValueError, match="for features of 5 channels"):
        made()(drawn(2, 5, 8, 8))
    with pytest.raises(ValueError, match="hi: expected 3 images"):
        levels()(drawn(3, 4, 4, 4), drawn(2, 3, 8, 8))
    with pytest.raises(ValueError, match="rebuild: expected"):
        levels(rebuild=lambda lo: lo)(drawn(2, 4, 4, 4), drawn(2, 3, 8, 8))
    with pytest.raises(RuntimeError, match="expected a fitted one"):
        DSRLevels(16, 16)(drawn(2, 4, 4, 4), drawn(2, 3, 8, 8))
