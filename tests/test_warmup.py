"""warmup: everything a kind of batch needs, without a draw."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import anoaug
from anoaug import masks, methods, sources
from tests.methods.test_registry import made


@pytest.mark.slow
@pytest.mark.parametrize("name", methods.list_methods())
def test_every_method_warms_up_and_draws_as_if_it_had_not(name: str) -> None:
    fresh, warm = made(name), made(name)
    warm.warmup((2, 3, 32, 32))
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    given: dict[str, Any] = {}
    if "foreground" in fresh.slots and fresh.foreground is None:
        given["foreground"] = torch.ones(2, 1, 32, 32)
    expected, found = fresh(images, **given), warm(images, **given)
    assert torch.equal(found.image, expected.image) and torch.equal(found.mask, expected.mask)
    assert warm.get_extra_state() == fresh.get_extra_state()


def test_tensors_that_a_call_would_bring_are_not_missed() -> None:
    layer = anoaug.Layer(masks.Given("region") & masks.Foreground(), sources.Given("what"))
    anoaug.Synthesizer(layer).warmup((1, 1, 16, 20), torch.float32)


def test_it_works_in_eval_mode_and_leaves_the_first_look_to_the_first_batch() -> None:
    synth = anoaug.create("cutpaste", p=1.0).eval()
    synth.warmup((1, 3, 16, 16), torch.float32)
    with pytest.raises(ValueError, match=r"floats in \[0, 1\]"):
        synth.train()(torch.full((1, 3, 16, 16), 3.0))


@pytest.mark.parametrize("several", ["one of", "by category"])
def test_several_warm_up(several: str) -> None:
    members = {"cutpaste": 1, "cdo": 1}
    synth = (
        anoaug.OneOf(members, seed=0)
        if several == "one of"
        else anoaug.ByCategory({"a": "cutpaste", "b": "cdo"}, p=1.0, seed=0)
    )
    synth.warmup((2, 3, 32, 32))


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="expected rank 4"):
        anoaug.create("cutpaste").warmup((3, 32, 32))


def test_a_foreground_by_category_needs_none() -> None:
    where = anoaug.prepare.ByCategory("realnet")
    anoaug.create("memseg", foreground=where, seed=0).warmup((1, 3, 32, 32))
