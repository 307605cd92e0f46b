"""Fixtures of the command line's tests: the command in this process, a folder of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anoaug import cli
from anoaug.cli import preview

pillow = pytest.importorskip("PIL.Image")

SIZE = 64


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preview, "SECONDS", 0.0)

    def called(*argv: object) -> Result:
        code = cli.main([str(word) for word in argv])
        return Result(code, *capsys.readouterr())

    return called


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, small and all different."""
    path = tmp_path / "normal"
    path.mkdir()
    draw = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        pixels = draw.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        pillow.fromarray(pixels).save(path / f"{name}.png")
    return path
