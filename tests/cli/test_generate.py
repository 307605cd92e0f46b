"""``anoaug generate``: its arguments reach the generator, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anoaug.cli import generate as command
from anoaug.generate import Written


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """What the generator is called with, in place of its work."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def recorded(*arguments: Any, **keywords: Any) -> Written:
        calls.append((arguments, keywords))
        return Written(Path("out/manifest.jsonl"), {"draem": 2, "good": 3}, 3, 1)

    monkeypatch.setattr(command, "generate", recorded)
    return calls


def test_it_writes_a_data_set_and_says_so(run, folder: Path, tmp_path: Path):
    result = run("generate", folder, "-o", "out", "-n", 4, "-m", "cutpaste,cutpaste_scar")
    assert result.code == 0
    assert result.out == (
        "out/manifest.jsonl: 4 images (2 cutpaste, 2 cutpaste_scar) from 3 normal ones\n"
    )
    header, *lines = (tmp_path / "out/manifest.jsonl").read_text().splitlines()
    assert json.loads(header)["settings"]["methods"] == ["cutpaste", "cutpaste_scar"]
    assert len(lines) == 4


@pytest.mark.parametrize("given", [False, True])
def test_donors_are_the_normal_images_and_it_says_so(run, folder: Path, monkeypatch, given: bool):
    monkeypatch.setenv("ANOAUG_CACHE", str(folder.parent / "cache"))
    more = ("--donors", folder) if given else ()
    result = run("generate", folder, "-o", "out", "-m", "nsa,fpi,pii", "-n", 3, *more)
    assert (result.code, result.err) == (0, "")
    assert ("; donors: the normal images" in result.out) is not given


def test_every_option_arrives(run, called):
    line = (
        "generate in -o out -n 7 -m draem,cutpaste --set area=0.05,0.2 --set draem.opacity=0.5 "
        "--set aspect_law=split --size 64x96 --resize crop --textures t --texture-size 128 "
        "--donors d --foreground f --with-normals --format bmp --seed -4 -j 3"
    )
    run(*line.split())
    ((arguments, keywords),) = called
    assert arguments == (Path("in"), Path("out"), 7, ["draem", "cutpaste"])
    assert keywords == {
        "seed": -4,
        "size": (64, 96),
        "resize": "crop",
        "textures": Path("t"),
        "texture_size": 128,
        "donors": Path("d"),
        "foreground": Path("f"),
        "keywords": {"area": (0.05, 0.2), "draem.opacity": 0.5, "aspect_law": "split"},
        "normals": True,
        "format": "bmp",
        "jobs": 3,
    }


def test_few_images_are_made_in_one_process(run, called, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command.cachefile, "threads", lambda: 8)
    for count in (1, 99, 100, 10_000):
        run("generate", "in", "-o", "out", "-n", count)
    assert [keywords["jobs"] for _, keywords in called] == [1, 1, 2, 8]


def test_what_was_there_is_told(run, called):
    assert run("generate", "in", "-o", "out").out == (
        "out/manifest.jsonl: 5 images (2 draem, 3 good) from 3 normal ones; 1 were there already\n"
    )


def test_an_interrupt_says_how_to_go_on(run, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: Any, **__: Any) -> Written:
        raise KeyboardInterrupt("3 of 4 images are in out; run the same command again to go on")

    monkeypatch.setattr(command, "generate", interrupted)
    result = run("generate", "in", "-o", "out")
    assert (result.code, result.err) == (
        130,
        "anoaug: interrupted: 3 of 4 images are in out; run the same command again to go on\n",
    )


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        ("generate normal", "required: -o/--out"),
        ("generate nowhere -o out", "does not exist"),
        ("generate normal -o out -m dream", "did you mean draem?"),
        ("generate normal -o out -n 0", "whole number from 1"),
        ("generate normal -o out --seed x", "expected a whole number, got 'x'"),
        ("generate normal -o out --size 9", "whole number from 16"),
        ("generate normal -o out --size 32x32x3", "PIXELS or HEIGHTxWIDTH"),
        ("generate normal -o out --set area", "expected KEY=VALUE, got 'area'"),
        ("generate normal -o out --set aera=1", "did you mean area?"),
        ("generate normal -o out -m cutpaste --set area=1,0.5", "area"),
        ("generate normal -o out -m cutpaste --set area=big", "area"),
        ("generate normal -o out --resize fit", "'stretch', 'crop'"),
        ("generate normal -o out --format jpeg", "'png', 'bmp'"),
        ("generate normal -o normal/out", "a folder outside of 'normal'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(run, folder, tmp_path, argv: str, hint: str):
    before = sorted(tmp_path.rglob("*"))
    result = run(*argv.split())
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith("anoaug: error: ") and hint in result.err
    assert sorted(tmp_path.rglob("*")) == before
