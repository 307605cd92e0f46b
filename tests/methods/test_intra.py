"""InTra: one hidden patch in a random window of 7 x 7."""

from __future__ import annotations

import pytest
import torch

import anoaug
from anoaug.methods import intra

IMAGES = torch.full((300, 1, 320, 320), 200, dtype=torch.uint8)


@pytest.mark.slow
def test_one_patch_of_16_pixels_lies_in_its_window() -> None:
    synth = anoaug.create("intra", seed=2)
    out = synth(IMAGES, index=range(300), epoch=0)
    boxes, windows = out.boxes(), intra.windows(synth, out)
    assert (boxes[:, 2:] - boxes[:, :2] == 16).all() and (boxes % 16 == 0).all()
    assert (windows[:, 2:] - windows[:, :2] == 112).all() and (windows % 16 == 0).all()
    assert (boxes[:, :2] >= windows[:, :2]).all() and (boxes[:, 2:] <= windows[:, 2:]).all()
    assert windows.min() == 0 and windows.max() == 320
    hidden = out.mask > 0
    assert not out.image[hidden].any() and (out.image[~hidden] == 200).all()


def test_a_window_cut_out_has_one_patch_hidden() -> None:
    synth = anoaug.create("intra", seed=2, side=4, window=3)
    images = torch.full((6, 3, 40, 52), 200, dtype=torch.uint8)
    out = synth(images)
    for image, (x0, y0, x1, y1) in zip(out.image, intra.windows(synth, out), strict=True):
        tokens = image[:, y0:y1, x0:x1].unflatten(2, (3, 4)).unflatten(1, (3, 4)).amax((0, 2, 4))
        assert sorted(tokens.flatten().tolist()) == [0] + [200] * 8


def test_only_what_has_windows_tells_them() -> None:
    synth = anoaug.create("cutout", seed=2)
    with pytest.raises(ValueError, match=r"synth: expected one with masks\.Patch"):
        intra.windows(synth, synth(IMAGES[:1]))
