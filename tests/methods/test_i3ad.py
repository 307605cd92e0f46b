"""I3AD: random boxes in training, an anomaly score's mask, again and again, at test."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

import anoaug
from anoaug.methods import i3ad

MANY = 400


@pytest.mark.slow
def test_one_to_four_boxes_are_hidden() -> None:
    images = torch.full((MANY, 1, 100, 100), 200, dtype=torch.uint8)
    synth = anoaug.create("i3ad", seed=2)
    out = synth(images, index=range(MANY), epoch=0)
    assert out.label.all() and not out.image[out.mask > 0].any()
    columns = anoaug.recipe.recipe(synth.laws(1)).describe(out.params.table.numpy())
    gates = np.stack([columns[f"layer{n}.gate"] for n in range(4)])
    assert np.unique(gates.sum(0)).tolist() == [1, 2, 3, 4]
    for side in ("half_h", "half_w"):
        sides = 2 * columns[f"layer0.mask.rectangle.{side}"]
        assert sides.min() == 5 and sides.max() == 29


def blurred(images: torch.Tensor) -> torch.Tensor:
    return functional.avg_pool2d(images, 9, 1, 4, count_include_pad=False)


def inpainted(images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Hidden pixels from the shown ones around them, as far as there are any."""
    shown = images * (1 - mask)
    return functional.avg_pool2d(shown, 17, 1, 8) / functional.avg_pool2d(
        1 - mask, 17, 1, 8
    ).clamp_min(1e-6)


def difference(images: torch.Tensor, restored: torch.Tensor) -> torch.Tensor:
    return (images - restored).abs().amax(1, keepdim=True)


def test_passes_close_in_on_the_defect_and_mend_it() -> None:
    generator = torch.Generator().manual_seed(0)
    normal = 0.5 + 0.01 * torch.rand(2, 3, 64, 64, generator=generator)
    images = normal.clone()
    images[:, :, 20:28, 30:40] = 1.0
    defect = (images != normal).any(1, keepdim=True)
    synth = anoaug.create("i3ad", adaptive=True, active="always", seed=0).eval()
    first, _ = i3ad.refined(synth, images, blurred(images), inpainted, difference, passes=1)
    last, restored = i3ad.refined(synth, images, blurred(images), inpainted, difference, passes=4)

    def agreement(mask: torch.Tensor) -> float:
        return float(((mask > 0) & defect).sum() / ((mask > 0) | defect).sum())

    assert agreement(last.mask) > 0.99 > agreement(first.mask)
    assert (restored - normal).abs().max() < 0.02
    assert torch.equal(restored[~defect.expand_as(images)], images[~defect.expand_as(images)])


def test_no_pass_is_refused() -> None:
    synth = anoaug.create("i3ad", adaptive=True)
    images = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match="passes: expected 1 or more"):
        i3ad.refined(synth, images, images, inpainted, difference, passes=0)
