"""Ellipses in patches: the formula, resized with the patch, cloned as OpenCV does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import anoaug
from anoaug import masks, sources
from tests.drawing import levels, needs_triton
from tests.masks.test_patches import IMAGES, SIDE, products, synthesizer
from tests.sources.test_seamless import cloned


def strewn(drawn: Any, origin: Any, published: bool, edge: float = 1.0) -> Any:
    """Ellipses in the pixels of a source's box, by the formula, bool ``[tall, wide]``."""
    tall, wide = (int(side) for side in origin[2:])
    x, y = np.arange(tall)[:, None], np.arange(wide)[None]
    inside = np.zeros((tall, wide), bool)
    for at_y, at_x, a, b, cos, sin in drawn.reshape(-1, 6).astype(float):
        dx, dy = x - np.floor(at_y * tall), y - np.floor(at_x * wide)
        second = dx * sin + dy * cos if published else dy * cos - dx * sin
        inside |= ((dx * cos + dy * sin) / a) ** 2 + (second / b) ** 2 < edge
    return inside


@pytest.mark.parametrize("published", [False, True])
def test_ellipses_are_the_formula_in_the_box_that_was_cut(published: bool) -> None:
    shapes = masks.Ellipses(3, published=published)
    synth = synthesizer(masks.ObjectPatch(resize=None, ring=0, min_object=0.3) & shapes)
    out = synth(IMAGES, index=range(12), epoch=0)
    described = anoaug.recipe.recipe(synth.laws(3)).describe(out.params.table.numpy())
    column = {name.split(".")[-1]: value for name, value in described.items()}
    seen = 0
    for n in range(12):
        if not out.label[n]:
            continue
        origin = [int(column[name][n]) for name in ("from_y", "from_x", "from_h", "from_w")]
        y, x = (
            int(column["cy"][n] - (origin[2] - 1) / 2),
            int(column["cx"][n] - (origin[3] - 1) / 2),
        )
        least, most = np.zeros((2, SIDE, SIDE), bool)
        for plane, edge in ((least, 0.999), (most, 1.001)):
            area = plane[y : y + origin[2], x : x + origin[3]]
            area[:] = strewn(column["drawn"][n], origin, published, edge)
        ours = out.mask[n, 0].numpy() > 0
        assert (least <= ours).all() and (ours <= most).all()
        seen += int(ours.sum() > 60)
    assert seen > 5


def test_ellipses_are_resized_with_the_patch() -> None:
    cv2 = pytest.importorskip("cv2")
    synth = anoaug.Synthesizer(
        anoaug.Layer(masks.CutPatch(ring=0, resize=(1.3, 1.3)) & masks.Ellipses(2), sources.Own()),
        p=1.0, seed=0,
    )  # fmt: skip
    images = torch.zeros(20, 1, 128, 128, dtype=torch.uint8)
    out = synth(images, index=range(20), epoch=0)
    described = anoaug.recipe.recipe(synth.laws(1)).describe(out.params.table.numpy())
    column = {name.split(".")[-1]: value for name, value in described.items()}
    agree = []
    for n in range(20):
        high, across = (int(2 * column[name][n]) for name in ("half_h", "half_w"))
        tall, wide = (round(float(column[k][n]) * s) for k, s in (("yy", high), ("xx", across)))
        y, x = int(column["cy"][n] - (high - 1) / 2), int(column["cx"][n] - (across - 1) / 2)
        small = strewn(column["drawn"][n], (0, 0, tall, wide), False).astype(np.uint8)
        true = cv2.resize(small, (across, high)) > 0
        ours = out.mask[n, 0, y : y + high, x : x + across].numpy() > 0
        agree.append((true == ours).mean())
    assert min(agree) > 0.9 and np.mean(agree) > 0.97


@pytest.mark.parametrize(
    "backend",
    [
        "torch",
        "compiled",
        pytest.param("triton", marks=needs_triton),
    ],
)
def test_backends_agree_on_ellipses(backend: str) -> None:
    if backend == "compiled":
        pytest.importorskip("numba")
    shapes = masks.CutPatch() & masks.Ellipses(4)
    true, ours = (levels(shapes, (40, 50), range(3), backend=name) for name in ("auto", backend))
    assert torch.equal(true, ours)


def test_a_clone_of_ellipses_is_opencv_s() -> None:
    """All that the solver changes is shown, on the rectangle around the ellipses."""
    shapes = masks.joined(masks.CutPatch(resize=None), masks.Ellipses(3), (0, 0, 1))
    bank = anoaug.DonorBank.from_tensors(products(1, 9))
    source = sources.Donor(bank)
    synth = anoaug.Synthesizer(
        anoaug.Layer(shapes, sources.Poisson(source, "normal", "box")), p=1.0, seed=3
    )
    bare = anoaug.Synthesizer(anoaug.Layer(shapes, source), p=1.0, seed=3)
    inner = anoaug.Synthesizer(
        anoaug.Layer(masks.CutPatch(resize=None) & masks.Ellipses(3), source), p=1.0, seed=3
    )
    outs = [one(IMAGES, index=range(12), epoch=0) for one in (synth, bare, inner)]
    assert torch.equal(outs[0].mask, outs[1].mask) and outs[0].mask.sum() > outs[2].mask.sum() > 0
    beyond = 0
    for n in range(12):
        inside = outs[2].mask[n, 0].numpy() > 0
        if inside.sum() < 80:
            continue
        true = cloned(IMAGES[n].numpy(), outs[1].image[n].numpy(), inside, "normal")
        ours = outs[0].image[n].numpy()
        assert np.abs(ours.astype(int) - true).max() <= 1
        beyond += int((ours != IMAGES[n].numpy()).any(0)[~inside].sum())
    assert beyond > 100


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a CutPatch"):
        levels(masks.Rectangle() & masks.Ellipses(), (32, 32), range(2))
    for wrong in ({"count": 0}, {"count": 17}, {"least": 0.6}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            masks.Ellipses(**wrong)  # type: ignore[arg-type]
