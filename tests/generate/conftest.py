"""Fixtures of the generator's tests: folders of small normal images, trees of bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pillow = pytest.importorskip("PIL.Image")

Save = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOAUG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write an image of noise; returns its path."""

    def saved(name: str, size: tuple[int, int] = (40, 48), mode: str = "RGB", **options) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(len(list(path.parent.iterdir())))
        noise = draw.integers(0, 256, (*size, 3), dtype=np.uint8)
        pillow.fromarray(noise).convert(mode).save(path, **options)
        return path

    return saved


@pytest.fixture
def folder(tmp_path: Path, save: Save) -> Path:
    """Five normal images of 40 x 48 pixels."""
    for name in "abcde":
        save(f"normal/{name}.png")
    return tmp_path / "normal"


@pytest.fixture
def textures(tmp_path: Path, save: Save) -> Path:
    """Two textures."""
    for name in ("brick", "sand"):
        save(f"textures/{name}.png", (32, 32))
    return tmp_path / "textures"


@pytest.fixture
def tree() -> Callable[[Path], dict[str, bytes]]:
    """Every file below a folder with its bytes."""

    def read(folder: Path) -> dict[str, bytes]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    return read


@pytest.fixture
def pixels() -> Callable[[Path], np.ndarray]:
    """An image file's pixels."""

    def read(path: Path) -> np.ndarray:
        with pillow.open(path) as image:
            return np.asarray(image)

    return read
