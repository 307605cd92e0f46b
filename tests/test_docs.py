"""The programs in the documentation run, in the order of the page, on small pictures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import anoaug

PAGES = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def names(tmp_path: Path) -> dict[str, Any]:
    """What the pages take as given."""
    pillow = pytest.importorskip("PIL.Image")
    pictures = anoaug.TextureBank.procedural(12, 48, seed=3).data.permute(0, 2, 3, 1).numpy()
    for folder, some in (("normal", pictures[:8]), ("textures", pictures[8:])):
        (tmp_path / folder).mkdir()
        for number, one in enumerate(some):
            pillow.fromarray(one).save(tmp_path / folder / f"{number}.png")

    def network(images: Tensor) -> Tensor:
        return images.float().mean((2, 3)) if images.dim() == 4 else images

    return {
        "normal_paths": sorted((tmp_path / "normal").glob("*.png")),
        "normal_folder": tmp_path / "normal",
        "texture_folder": tmp_path / "textures",
        "device": "cpu",
        "images": torch.from_numpy(pictures[:8]).permute(0, 3, 1, 2).contiguous(),
        "network": network,
        "l2": lambda made, wanted: (made.mean() - wanted.mean()) ** 2,
        "focal": lambda mask: mask.mean(),
        "cross_entropy": functional.cross_entropy,
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_runs(
    page: Path, names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert blocks
    monkeypatch.chdir(tmp_path)  # what a page writes goes there
    for block in blocks:
        exec(compile(block, page.name, "exec"), names)
