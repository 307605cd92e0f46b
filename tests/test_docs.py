"""The programs in the documentation run, in the order of the page, on small pictures."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import anoaug

PAGES = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))
# What a block may import beside us and torch; where it is missing the block is left out.
OPTIONAL = ("anomalib", "kornia", "lightning", "nvidia.dali", "ray", "torchdata", "torchvision")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def names(tmp_path: Path) -> dict[str, Any]:
    """What the pages take as given."""
    pillow = pytest.importorskip("PIL.Image")
    pictures = anoaug.TextureBank.procedural(12, 48, seed=3).data.permute(0, 2, 3, 1).numpy()
    product = "mvtec/bottle/train/good"
    for folder, some in (
        ("normal", pictures[:8]), ("textures", pictures[8:]), (product, pictures[:8])
    ):  # fmt: skip
        (tmp_path / folder).mkdir(parents=True)
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


def missing(block: str) -> bool:
    """Whether a block imports an optional package that nobody has installed."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    wanted = [one for one in OPTIONAL if any(f"{name}.".startswith(f"{one}.") for name in names)]
    return not all(present(one) for one in wanted)


def present(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the namespace above it
        return False


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_runs(
    page: Path, names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert blocks
    monkeypatch.chdir(tmp_path)  # what a page writes goes there
    monkeypatch.setenv("ANOAUG_CACHE", str(tmp_path / "cache"))
    for block in blocks:
        if not missing(block):
            exec(compile(block, page.name, "exec"), names)
