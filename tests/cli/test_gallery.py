"""``anoaug gallery``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from anoaug import gallery, methods
from anoaug.cli import gallery as command

pillow = pytest.importorskip("PIL.Image")


def names_in(path: Path) -> list[str]:
    return re.findall(r'<article id="(\w+)"', path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_every_method_is_on_the_page(run, tmp_path: Path):
    pytest.importorskip("skimage")
    result = run("gallery", "--demo", "--size", 64)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"gallery.html: {len(methods.list_methods())} methods on 4 images")
    page = tmp_path / "gallery.html"
    assert sorted(names_in(page)) == methods.list_methods()
    assert "Not drawn" not in page.read_text(encoding="utf-8")


def test_a_folder_gives_images_and_donors(run, folder: Path, tmp_path: Path):
    argv = ("gallery", folder, "-m", "nsa,cutout,fpi", "--size", 64, "-n", 2)
    result = run(*argv, "-o", "a.html")
    assert (result.code, result.err) == (0, "")
    assert names_in(tmp_path / "a.html") == ["nsa", "fpi", "cutout"]  # family by family
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert text.count("<figure>") == 6 and "Not drawn" not in text


@pytest.mark.slow
def test_the_same_arguments_give_the_same_bytes(run, folder: Path, tmp_path: Path):
    argv = ("gallery", folder, "-m", "cutpaste,draem", "--size", 32)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run(*argv, "--seed", seed, "-o", f"{name}.html").code == 0
    first, again, other = ((tmp_path / f"{name}.html").read_bytes() for name in "abc")
    assert first == again != other


@pytest.mark.slow
def test_methods_are_drawn_on_surfaces_that_they_suit(run, folder: Path, tmp_path: Path):
    argv = ("gallery", folder, "-m", "chip,cutout,thread", "--size", 32, "-n", 2)
    assert run(*argv, "--surface", "texture,regular texture").code == 0
    text = (tmp_path / "gallery.html").read_text(encoding="utf-8")
    assert "Not drawn: it suits object, which no image shows." in text
    assert text.count("<figure>") == 4 and "each method on the surfaces that it suits" in text


def test_one_family(run, folder: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(
        methods, "list_methods", lambda family=None: ["cdo", "cutout"] if family else []
    )
    assert run("gallery", folder, "--family", "inpainting", "--size", 32).code == 0
    assert names_in(tmp_path / "gallery.html") == ["cdo", "cutout"]


def test_one_image_alone_has_no_donors(run, folder: Path, tmp_path: Path):
    result = run("gallery", folder / "a.png", "-m", "fpi,cutout", "--size", 32)
    assert result.code == 0
    assert "is one image alone" in result.err
    text = (tmp_path / "gallery.html").read_text(encoding="utf-8")
    assert text.count("Not drawn: it needs donors") == 1 and text.count("<figure>") == 1


def test_donors_may_be_others(run, folder: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("ANOAUG_CACHE", str(tmp_path / "cache"))
    argv = ("gallery", folder / "a.png", "-m", "fpi", "--size", 32, "--donors", folder)
    result = run(*argv)
    assert (result.code, result.err) == (0, "")
    assert "donors: normal" in (tmp_path / "gallery.html").read_text(encoding="utf-8")


def test_an_unreadable_image_is_named_and_left_out(run, folder: Path):
    (folder / "a.png").write_bytes(b"no picture")
    result = run("gallery", folder, "-m", "cutout", "--size", 32)
    assert result.code == 0 and "on 2 images" in result.out
    assert str(folder / "a.png") in result.err


def test_a_folder_of_which_nothing_can_be_read_is_refused(run, folder: Path, tmp_path: Path):
    for path in folder.iterdir():
        path.write_bytes(b"no picture")
    result = run("gallery", folder, "-m", "cutout")
    assert result.code == 2 and "could not read" in result.err
    assert not (tmp_path / "gallery.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "expected a folder or images, or --demo"),
        (("normal", "--demo"), "give one of the two"),
        (("nowhere",), "does not exist"),
        (("normal", "-o", "g.png"), "ends in .html"),
        (("normal", "-o", "none/g.html"), "make it first"),
        (("normal", "-m", "draen"), "did you mean draem"),
        (("normal", "--family", "outer"), "family: expected one of"),
        (("normal", "--family", "external", "-m", "draem"), "give one of the two"),
        (("normal", "--size", "3"), "whole number from 16"),
        (("normal", "--surface", "textur"), "did you mean texture"),
        (("--demo", "--surface", "texture"), "expected --surface with images of yours"),
        (("normal", "--device", "tpu"), "--device: expected"),
        (("normal", "--resize", "tear"), "stretch"),
        (("normal", "--donors", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_is_one_line(run, folder: Path, tmp_path: Path, argv, said: str):
    result = run("gallery", *argv)
    assert result.code == 2 and result.out == ""
    assert said in result.err and len(result.err.splitlines()) == 1
    assert list(tmp_path.glob("*.html*")) == []


def test_an_interrupted_gallery_leaves_nothing(run, folder: Path, tmp_path: Path, monkeypatch):
    def stopped(*_, **__):
        yield gallery.Card("a", "external", "s", "p", {})
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "method_cards", stopped)
    (tmp_path / "gallery.html").write_text("old")
    assert run("gallery", folder, "--size", 32).code == 130
    assert (tmp_path / "gallery.html").read_text() == "old"
    assert list(tmp_path.glob(".*")) == []
