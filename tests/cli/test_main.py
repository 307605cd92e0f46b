"""What all commands share: bad input, interrupts, tracebacks, ``python -m anoaug``."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from anoaug import methods

pillow = pytest.importorskip("PIL.Image")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        ("", "COMMAND"),
        ("previw", "choose from"),
        ("methods --family exernal", "did you mean external?"),
        ("methods --json --markdown", "not allowed with"),
        ("methods DRAEM", "did you mean draem?"),
        ("methods draem --markdown", "'draem' alone or with --json"),
        ("methods draem --family external", "'draem' alone or with --json"),
        ("preview", "or --demo"),
        ("preview normal --demo", "give one of the two"),
        ("preview normal -m dream", "did you mean draem?"),
        ("preview normal -m draem,", "known: "),
        ("preview nowhere", "'nowhere' does not exist"),
        ("preview empty", "found none"),
        ("preview bad.png", "bad.png (no image that Pillow knows)"),
        ("preview broken", "broken/bad.png"),
        ("preview normal -o out.jpg", "ends in .png"),
        ("preview normal -o nowhere/out.png", "folder that exists"),
        ("preview normal --size 3", "whole number from 16"),
        ("preview normal --size 64.5", "whole number"),
        ("preview normal -n 0", "whole number from 1"),
        ("preview normal --p 1.5", "--p: expected a number in [0, 1]"),
        ("preview normal --p nan", "--p: expected a number in [0, 1]"),
        ("preview normal --resize fit", "'stretch', 'crop'"),
        ("preview normal --textures nowhere", "does not exist"),
        ("preview normal --device quantum", "anoaug doctor"),
        ("preview normal --device meta", "anoaug doctor"),
        ("preview normal --backend tritn", "did you mean triton?"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(run, folder: Path, tmp_path: Path, argv: str, hint: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    for path in (tmp_path / "bad.png", tmp_path / "broken/bad.png"):
        path.write_bytes(b"no picture")
    before = sorted(tmp_path.rglob("*"))
    result = run(*argv.split())
    assert result.code == 2
    assert result.out == ""
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith("anoaug: error: ") and hint in result.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_extra_is_named(run, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    result = run("preview", folder)
    assert result.code == 2
    assert "pip install 'anoaug[images]'" in result.err


def test_debug_shows_the_traceback(run):
    with pytest.raises(ValueError, match="does not exist"):
        run("preview", "nowhere", "--debug")


def test_an_interrupt_exits_130_without_a_file(run, folder: Path, tmp_path: Path, monkeypatch):
    def interrupted(self, stream, **_):
        stream.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pillow.Image, "save", interrupted)
    result = run("preview", folder, "-m", "cutpaste", "--size", 32)
    assert (result.code, result.err) == (130, "anoaug: interrupted\n")
    assert [path for path in tmp_path.iterdir() if path != folder] == []


def test_a_bug_is_not_passed_off_as_bad_input(run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(methods, "list_methods", lambda family: {}["oops"])
    with pytest.raises(KeyError):
        run("methods")


def test_python_m_anoaug_is_the_command(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(sys, "argv", ["anoaug", "methods", "--family", "none"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("anoaug", run_name="__main__")
    assert stop.value.code == 2
    assert "anoaug: error: family" in capsys.readouterr().err
