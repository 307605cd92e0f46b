"""What every feature-space method promises, asked of each registered one."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor

from anoaug.features import methods

from . import making
from .making import NAMES, NUMBER, B, C, H, W, case, clean, every, made


@pytest.fixture
def maps() -> Tensor:
    return making.maps()


@every
def test_something_is_perturbed_and_the_input_stays(name: str, maps: Tensor) -> None:
    before = maps.clone()
    out = made(name)(maps, **NUMBER)
    times = len(out.features) // B
    assert torch.equal(maps, before)
    assert not torch.equal(out.features, maps.repeat(times, 1, 1, 1))
    assert torch.equal(clean(out), maps.repeat(times, 1, 1, 1))
    assert out.features.isfinite().all()


@every
def test_masks_and_labels_are_of_the_features(name: str, maps: Tensor) -> None:
    out = made(name)(maps, **NUMBER)
    rows = len(out.features)
    assert out.features.shape[1:] == maps.shape[1:] and rows in (B, 2 * B)
    assert out.mask.shape == (rows, 1, H, W) and out.mask.dtype == torch.float32
    assert out.mask.unique().tolist() in ([0.0], [1.0], [0.0, 1.0])
    assert out.label.dtype == torch.int64
    if not (out.label > 1).any():
        assert torch.equal(out.label, out.mask.flatten(1).any(1).long())


@every
def test_positions_outside_the_mask_keep_their_bits(name: str, maps: Tensor) -> None:
    if methods.get(name).family == "appearance":
        return
    out = made(name)(maps, **NUMBER)
    outside = (out.mask == 0).expand_as(out.features)
    assert torch.equal(out.features[outside], clean(out)[outside])


@pytest.mark.slow
@every
def test_a_call_can_be_repeated(name: str, maps: Tensor) -> None:
    first, second = made(name), made(name)
    second(maps)  # moves its counter, which an index does not ask
    expected = first(maps, **NUMBER)
    found = second(maps, **NUMBER)
    for one, other in zip(expected[:4], found[:4], strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
@every
def test_calls_without_an_index_follow_the_seed(name: str, maps: Tensor) -> None:
    one, other = made(name), made(name)
    assert torch.equal(one(maps).features, other(maps).features)
    state = one.state_dict()
    expected = one(maps).features
    other.load_state_dict(state)
    assert torch.equal(other(maps).features, expected)
    assert torch.equal(pickle.loads(pickle.dumps(other))(maps).features, one(maps).features)


@every
def test_a_sample_gets_the_same_in_any_batch(name: str, maps: Tensor) -> None:
    if case(name).coupled:
        return
    perturb = made(name)
    whole = perturb(maps, **NUMBER)
    order = [2, 0]
    part = perturb(maps[order], index=NUMBER["index"][order], epoch=1)
    times = len(whole.features) // B
    rows = [r + B * t for t in range(times) for r in order]
    assert torch.equal(part.features, whole.features[rows])
    assert torch.equal(part.mask, whole.mask[rows])


@pytest.mark.slow
@every
def test_maps_tokens_and_rows_get_the_same(name: str, maps: Tensor) -> None:
    perturb = made(name)
    whole = perturb(maps, **NUMBER)
    expected = whole.features.flatten(2).transpose(1, 2)
    tokens = maps.flatten(2).transpose(1, 2)
    size = {"size": (H, W)} if case(name).size else {}
    found = perturb(tokens, **NUMBER, **size)
    assert torch.equal(found.features, expected)
    assert torch.equal(found.mask, whole.mask.flatten(1))
    nhwc = made(name, layout="nhwc")(maps.permute(0, 2, 3, 1), **NUMBER)
    assert torch.equal(nhwc.features.flatten(1, 2), expected)
    last = perturb(maps.contiguous(memory_format=torch.channels_last), **NUMBER).features
    assert torch.equal(last, whole.features)
    assert last.is_contiguous(memory_format=torch.channels_last)
    if case(name).flat:
        rows = perturb(tokens.flatten(0, 1), **NUMBER, **size)
        assert torch.equal(rows.features, expected.flatten(0, 1))


@every
def test_prefix_tokens_stay(name: str, maps: Tensor) -> None:
    tokens = torch.cat((torch.ones(B, 2, C), maps.flatten(2).transpose(1, 2)), 1)
    size = {"size": (H, W)} if case(name).size else {}
    out = made(name, prefix=2)(tokens, **NUMBER, **size)
    times = len(out.features) // B
    assert torch.equal(out.features[:, :2], torch.ones(B * times, 2, C))
    expected = made(name)(maps, **NUMBER).features.flatten(2).transpose(1, 2)
    assert torch.equal(out.features[:, 2:], expected)


@pytest.mark.slow
@every
def test_eval_mode_hands_features_through(name: str, maps: Tensor) -> None:
    out = made(name).eval()(maps, **NUMBER)
    assert torch.equal(out.features, maps) and not out.mask.any() and not out.label.any()
    always = made(name, active="always").eval()(maps, **NUMBER)
    assert torch.equal(always.features, made(name)(maps, **NUMBER).features)


# Keywords and what a call passes beside features, where these make extras that others lack.
MORE: list[tuple[str, dict[str, Any], bool]] = [
    *((name, {}, False) for name in NAMES),
    ("simplenet", {"mixture": 3}, False),
    ("supersimplenet", {}, True),
    ("dsr", {"quantise": True}, False),
    ("glass", {"mining": False}, False),
]


@pytest.mark.parametrize(("name", "keywords", "raw"), MORE)
def test_eval_mode_has_the_extras_of_training(
    name: str, keywords: dict[str, Any], raw: bool, maps: Tensor
) -> None:
    perturb = made(name, **keywords)
    beside = {"raw": maps.flip(0)} if raw else {}
    there = perturb(maps, **NUMBER, **beside)
    idle = perturb.eval()(maps, **NUMBER, **beside)
    assert set(idle.extras) == set(there.extras)
    times = len(there.features) // B
    for key, value in idle.extras.items():
        expected = there.extras[key]
        assert value.dtype == expected.dtype and value.isfinite().all(), key
        if times == 1:
            assert value.shape == expected.shape, key
        else:
            assert value.shape == (B, *expected.shape[1:]), key
    assert torch.equal(clean(idle), maps)
    if raw:
        assert torch.equal(idle.extras["raw"], beside["raw"])


def test_eval_mode_says_that_nothing_was_done(maps: Tensor) -> None:
    def idle(name: str, **keywords: Any) -> dict[str, Tensor]:
        return made(name, **keywords).eval()(maps, **NUMBER).extras

    rows = torch.arange(B)
    assert torch.equal(idle("supersimplenet")["source_row"], rows)
    assert torch.equal(idle("manifold_mixup")["partner"], rows)
    assert idle("mixstyle")["weight"].tolist() == [1.0] * B
    assert not idle("manifold_mixup")["soft"].any() and not idle("aminet")["hidden"].any()
    assert (idle("cras")["scale"] == 1).all() and not idle("vos")["distance"].any()
    found = idle("dsr", quantise=True)
    assert (found["code"] == -1).all() and not found["ground_truth"].any()
    assert torch.equal(found["quantised"], maps.flatten(2).transpose(1, 2))


@pytest.mark.slow
@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_stay_and_are_rounded_once(name: str, dtype: torch.dtype, maps: Tensor) -> None:
    narrow = maps.to(dtype)
    perturb = made(name)
    out = perturb(narrow, **NUMBER)
    assert out.features.dtype == dtype and out.clean.dtype == dtype
    if dtype != torch.float64:
        wide = perturb(narrow.float(), **NUMBER)
        assert torch.equal(out.features, wide.features.to(dtype))
        with torch.autocast("cpu", torch.bfloat16):
            cast = perturb(narrow, **NUMBER)
        assert torch.equal(cast.features, out.features)


@every
def test_an_empty_batch_stays_empty(name: str) -> None:
    out = made(name)(torch.zeros(0, C, H, W))
    assert out.features.shape == (0, C, H, W)
    assert out.mask.shape == (0, 1, H, W) and out.label.shape == (0,)


@every
def test_zeros_give_no_nan(name: str) -> None:
    zeros = torch.zeros(B, C, H, W, requires_grad=True)
    out = made(name)(zeros, **NUMBER)
    assert out.features.isfinite().all()
    if out.features.requires_grad:
        out.features.square().sum().backward()
        assert zeros.grad is not None and zeros.grad.isfinite().all()


@every
def test_gradients_reach_the_features(name: str, maps: Tensor) -> None:
    maps.requires_grad_()
    out = made(name)(maps, **NUMBER)
    assert out.features.requires_grad == case(name).gradient
    if case(name).gradient:
        out.features.sum().backward()
        assert maps.grad is not None and maps.grad.isfinite().all() and maps.grad.any()


@pytest.mark.slow
@every
def test_gradients_under_checkpointing_are_those_without(name: str, maps: Tensor) -> None:
    if case(name).inner or not case(name).gradient:
        return
    perturb = made(name)

    def loss(x: Tensor) -> Tensor:
        return perturb(x, **NUMBER).features.square().sum()

    maps.requires_grad_()
    (expected,) = torch.autograd.grad(loss(maps), maps)
    again = torch.utils.checkpoint.checkpoint(loss, maps, use_reentrant=False)
    (found,) = torch.autograd.grad(again, maps)
    assert torch.equal(found, expected)


@pytest.mark.slow
@every
def test_no_global_generator_is_moved(name: str, maps: Tensor) -> None:
    perturb = made(name)
    before = torch.get_rng_state()
    perturb(maps, **NUMBER)
    perturb(maps)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
@every
def test_real_defects_are_united(name: str, maps: Tensor) -> None:
    real = torch.zeros(B, 1, H, W)
    real[1, 0, 2, 3] = 1
    perturb = made(name)
    bare = perturb(maps, **NUMBER)
    out = perturb(maps, mask=real, **NUMBER)
    assert (out.mask.view(-1, B, 1, H, W)[:, 1, 0, 2, 3] == 1).all()
    rest = real.repeat(len(out.mask) // B, 1, 1, 1) == 0
    assert (out.mask[rest] <= bare.mask[rest]).all()
    told = perturb(maps, label=torch.tensor([1, 0, 0]), **NUMBER)
    assert told.label.view(-1, B)[:, 0].bool().all()


@every
def test_where_confines(name: str, maps: Tensor) -> None:
    if methods.get(name).family == "appearance":
        return
    where = torch.zeros(B, 1, H, W, dtype=torch.bool)
    where[:, :, :2] = True
    out = made(name)(maps, where=where, **NUMBER)
    assert torch.equal(out.features[:, :, 2:], clean(out)[:, :, 2:])
    assert not out.mask[:, :, 2:].any()
