"""PNG files: the pixels come back, and nobody sees half a file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anoaug import viz


def test_png_gives_the_pixels_back(tmp_path, images: torch.Tensor):
    pillow = pytest.importorskip("PIL.Image")
    path = viz.save_png(images[0], tmp_path / "a.png")
    with pillow.open(path) as image:
        assert np.array_equal(np.asarray(image), images[0].permute(1, 2, 0))
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_an_interrupt_keeps_the_old_file(tmp_path, images: torch.Tensor, monkeypatch):
    pillow = pytest.importorskip("PIL.Image")
    path = viz.save_png(images[0], tmp_path / "a.png")
    old = path.read_bytes()

    def interrupted(self, stream, **_):
        stream.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pillow.Image, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        viz.save_png(images[1], path)
    assert path.read_bytes() == old
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("name", "hint"), [("a.jpg", "ends in .png"), ("no/a.png", "folder that exists"), ("f.png", "")]
)
def test_png_refuses_a_path_it_cannot_write(tmp_path, name: str, hint: str, images: torch.Tensor):
    (tmp_path / "f.png").mkdir()
    with pytest.raises(ValueError, match=hint or "got the folder"):
        viz.save_png(images[0], tmp_path / name)
