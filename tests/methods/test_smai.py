"""SMAI: random superpixels hidden."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import anoaug
from anoaug import prepare


def test_superpixels_of_real_images_are_hidden_as_a_whole(data_dir: Path) -> None:
    paths = sorted(p for p in (data_dir / "bsd_pitting" / "train").rglob("*") if p.is_file())[:2]
    opened = [Image.open(path).convert("RGB").resize((160, 128)) for path in paths]
    images = torch.stack([torch.from_numpy(np.array(one)).permute(2, 0, 1) for one in opened])
    out = anoaug.create("smai", seed=1)(images, index=range(2), epoch=0)
    labels = prepare.Superpixels(200)(images)
    for mask, label in zip(out.mask > 0, labels, strict=True):
        hidden = label[mask].unique()
        assert torch.equal(torch.isin(label, hidden), mask)
        assert 0.05 < len(hidden) / len(label.unique()) < 0.4
    assert not out.image[(out.mask > 0).expand_as(images)].any()


@pytest.mark.slow
def test_superpixels_may_be_kept_by_index() -> None:
    images = torch.randint(
        0, 256, (4, 3, 40, 40), generator=torch.Generator().manual_seed(1)
    ).byte()
    kept = prepare.CachedLabels(prepare.Superpixels(50), 4)
    ours = anoaug.create("smai", seed=1, superpixels=kept)
    plain = anoaug.create("smai", seed=1, count=50)
    for epoch in range(2):
        first, second = (synth(images, index=range(4), epoch=epoch) for synth in (ours, plain))
        assert torch.equal(first.image, second.image)
    assert kept.known == 4


def test_labels_given_at_the_call_come_first() -> None:
    images = torch.full((3, 3, 20, 20), 9, dtype=torch.uint8)
    halves = (torch.arange(20) // 10).expand(3, 1, 20, 20)
    out = anoaug.create("smai", seed=1, share=0.5, min_area=1)(
        images, slots={"superpixels": halves}
    )
    assert set(out.mask.mean((1, 2, 3)).tolist()) <= {0.0, 0.5, 1.0}
