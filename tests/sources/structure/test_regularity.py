"""Threads: the repeat that is found, what is broken, images without a repeat."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import anoaug
from anoaug import sources
from anoaug.sources.structure.regularity import repeats
from tests.drawing import drawn, expect_uniform, painted, some
from tests.scenes import ground


def stripes(period: int, width: int, size: tuple[int, int] = (96, 96), rows: int = 2) -> Any:
    """Dark threads of a width that stand upright on a light ground, slightly noisy."""
    images = ground(rows, size).int() // 8 + 190
    thread = torch.arange(size[1]) % period < width
    return torch.where(thread, images - 150, images).to(torch.uint8)


@pytest.mark.slow
@some
@given(period=st.integers(6, 28), turned=st.booleans())
def test_the_repeat_of_stripes_is_found(period: int, turned: bool) -> None:
    images = stripes(period, max(period // 3, 2)).float() / 255
    images = images.transpose(2, 3) if turned else images
    repeat, found = repeats(images)
    assert found.all()
    along, across = (repeat[:, 1], repeat[:, 0]) if turned else (repeat[:, 0], repeat[:, 1])
    assert (across.abs() == period).all() and (along.abs() <= 2).all()


def test_noise_and_plain_images_have_none() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(4, 3, 90, 70, generator=generator)
    plain = torch.full((4, 3, 90, 70), 0.5)
    slope = torch.linspace(0, 1, 70).expand(4, 3, 90, 70)
    for images in (noise, plain, slope):
        assert not repeats(images)[1].any()
    out = painted(sources.Thread(), label_rule="changed")(plain, index=range(4), epoch=0)
    assert torch.equal(out.image, plain) and not out.label.any()


def test_a_thread_is_missing_or_there_is_one_more() -> None:
    images = stripes(16, 5, rows=20)
    synth = painted(sources.Thread(length=0.5, repeat=(0, 16)), label_rule="changed", tolerance=0.2)
    out = synth(images, index=range(20), epoch=0)
    assert out.label.all()
    dark = (images[:, 0] < 120).sum((1, 2)), (out.image[:, 0] < 120).sum((1, 2))
    gone, more = (dark[1] < dark[0]).sum(), (dark[1] > dark[0]).sum()
    assert gone > 0 and more > 0 and gone + more == 20
    # Half of 96 pixels long, unless the image's edge cuts it, and no wider than a repeat.
    rows, columns = out.mask[:, 0].any(2).sum(1), out.mask[:, 0].any(1).sum(1)
    assert rows.max() <= 49 and rows.float().median() > 40 and columns.max() <= 16


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "wider"), [("thinned", False), ("thickened", True)])
def test_a_thread_is_thinner_or_thicker(fault: str, wider: bool) -> None:
    """Where the middle of the place is a thread; where it is ground, the ground is."""
    images = stripes(16, 6, rows=1).expand(200, -1, -1, -1)
    source = sources.Thread(fault, 0.5, (0, 16), tries=1)
    synth = painted(source, label_rule="changed", tolerance=0.2)
    out = synth(images, index=range(200), epoch=0)
    cx = drawn(synth, (96, 96), 200)[0]["cx"]
    middle = (np.abs((cx - 2.5 + 8) % 16 - 8) < 1.0) & (cx > 10) & (cx < 86)
    assert middle.sum() > 5
    for n in np.flatnonzero(middle):
        before, after = (images[n, 0] < 120).sum(), (out.image[n, 0] < 120).sum()
        assert (after > before) == wider


def test_length_and_places_are_uniform() -> None:
    found, _ = drawn(painted(sources.Thread(length=(0.2, 0.6), tries=3)), (60, 90), 2000)
    expect_uniform((found["half"].astype(np.float64) / 30).clip(0.2, 0.6), 0.2, 0.6)
    expect_uniform(found["cy"].astype(np.float64).ravel().clip(0, 59), 0, 59)
    expect_uniform(found["cx"].astype(np.float64).ravel().clip(0, 89), 0, 89)


def test_in_the_foreground_where_there_is_one() -> None:
    images, left = stripes(12, 4, rows=6), torch.zeros(6, 1, 96, 96, dtype=torch.uint8)
    left[..., :40] = 1
    synth = painted(sources.Thread(tries=16), label_rule="changed", tolerance=0.2)
    out = synth(images, index=range(6), epoch=0, foreground=left)
    assert out.label.all() and not (out.mask * (1 - left)).any()


def test_a_sample_is_the_same_in_any_batch() -> None:
    images = stripes(12, 4, rows=6)
    synth = painted(sources.Thread(), label_rule="changed")
    whole = synth(images, index=range(6), epoch=0)
    assert torch.equal(synth(images[[4]], index=[4], epoch=0).image, whole.image[[4]])


@pytest.mark.slow
def test_the_method_names_the_kinds() -> None:
    synth = anoaug.create("thread", seed=0, p=1.0)
    out = synth(stripes(14, 5, rows=40), index=range(40), epoch=0)
    assert synth.kinds[1:4] == ("thread_missing", "thread_thinned", "thread_thickened")
    assert out.label.float().mean() > 0.9 and set(out.kind.tolist()) >= {1, 2, 3}


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ({"fault": "torn"}, "fault: expected"),
        ({"repeat": (0.5, 0.5)}, "repeat: expected .rows, columns. at least 2 pixels long"),
        ({"repeat": (1.0, 2.0, 3.0)}, "repeat: expected"),
        ({"tries": 0}, "tries: expected an integer from 1 to 32"),
        ({"length": -1.0}, "length: expected values within"),
    ],
)
def test_bad_settings_are_refused(law: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sources.Thread(**law)
