"""The same bytes whatever happens: processes, interrupts, kills, full disks, other arguments."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import anoaug
from anoaug.generate import journal, worker
from tests.generate.making import make

# ---- the same bytes ------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path, tree):
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        make(folder, tmp_path / name, seed=seed)
    first, again, other = (tree(tmp_path / name) for name in ("first", "again", "other"))
    assert first == again
    assert not {*first.values()} & {*other.values()}


def test_more_images_leave_the_first_as_they_were(folder: Path, tmp_path: Path, tree):
    make(folder, tmp_path / "few", 4)
    make(folder, tmp_path / "many", 8)
    few, many = tree(tmp_path / "few"), tree(tmp_path / "many")
    del few["manifest.jsonl"]
    assert len(few) == 8
    assert all(many[name] == content for name, content in few.items())


@pytest.mark.slow  # two processes import all anew
def test_jobs_do_not_show(folder: Path, tmp_path: Path, textures, tree):
    for jobs in (1, 2):
        make(folder, tmp_path / str(jobs), 6, ("draem", "cutpaste"), textures=textures, jobs=jobs)
    assert tree(tmp_path / "1") == tree(tmp_path / "2")


# ---- going on ------------------------------------------------------------------------------------


def stopped(folder: Path, out: Path, after: int, error: BaseException, monkeypatch, **more) -> None:
    """A run that an error ends when it has written so many files."""
    real, left = journal.write, [after]

    def failing(out: Path, name: str, content: bytes) -> str:
        if name.endswith("g") and name.startswith("normal/"):
            left[0] -= 1
            if left[0] < 0:
                raise error
        return real(out, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "write", failing)
        with pytest.raises(type(error), match="run the same command again to go on"):
            make(folder, out, **more)


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1, 4, 11, 16])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    folder: Path, tmp_path: Path, tree, monkeypatch, after: int
):
    make(folder, tmp_path / "whole", normals=True)
    stopped(folder, tmp_path / "out", after, KeyboardInterrupt(), monkeypatch, normals=True)
    assert (tmp_path / "out/.unfinished").is_dir()
    assert not (tmp_path / "out/manifest.jsonl").exists()
    there = min(after, 12) // 2 + max(0, after - 12)
    assert make(folder, tmp_path / "out", normals=True).kept == there
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_an_interrupt_says_how_far_it_came(folder: Path, tmp_path: Path, monkeypatch):
    with pytest.raises(KeyboardInterrupt, match="^2 of 6 images are in .*out; run the same"):
        calls = []
        real = worker.Maker.__call__

        def interrupted(self, number: int) -> str:
            calls.append(number)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return real(self, number)

        monkeypatch.setattr(worker.Maker, "__call__", interrupted)
        make(folder, tmp_path / "out")


def test_half_a_line_and_a_lost_file_are_made_up_for(
    folder: Path, tmp_path: Path, tree, monkeypatch
):
    make(folder, tmp_path / "whole")
    stopped(folder, tmp_path / "out", 8, KeyboardInterrupt(), monkeypatch)
    place = tmp_path / "out/.unfinished/journal.jsonl"
    place.write_bytes(place.read_bytes()[:-100])
    (tmp_path / "out/normal/test/cutpaste/000.png").unlink()
    (tmp_path / "out/.unfinished/1-2.tmp").write_bytes(b"half an image")
    assert make(folder, tmp_path / "out").kept == 2
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def alive(group: int) -> bool:
    """Whether a process of the group runs; one that ended may wait for its parent's notice."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, pgrp = path.read_text().rpartition(")")[2].split()[:3]
            if int(pgrp) == group and state != "Z":
                return True
    return False


@pytest.mark.slow
def test_a_killed_process_is_named():
    with pytest.raises(ChildProcessError, match="a process was killed, perhaps for want of memory"):
        list(worker.lines(os._exit, [1, 2], jobs=2))  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(folder: Path, tmp_path: Path, tree):
    out, place = tmp_path / "out", tmp_path / "out/.unfinished/journal.jsonl"
    command = [sys.executable, "-m", "anoaug", "generate", folder, "-o", out, "-n", 200, "-j", 2,
               "-m", "cutpaste,cutpaste_scar"]  # fmt: skip
    root = Path(anoaug.__file__).parents[1]
    words, quiet = [str(word) for word in command], subprocess.DEVNULL
    running = subprocess.Popen(words, cwd=root, stdout=quiet, stderr=quiet, start_new_session=True)
    end = time.monotonic() + 60
    while time.monotonic() < end and running.poll() is None:
        if place.exists() and place.read_bytes().count(b"\n") > 5:
            break
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    while time.monotonic() < end and alive(running.pid):  # its processes end by themselves
        time.sleep(0.01)
    assert not alive(running.pid)
    assert 5 <= make(folder, out, 200).kept < 200
    make(folder, tmp_path / "whole", 200)
    assert tree(out) == tree(tmp_path / "whole")


def test_a_journal_without_content_begins_anew(folder: Path, tmp_path: Path, tree, monkeypatch):
    make(folder, tmp_path / "whole")
    stopped(folder, tmp_path / "out", 8, KeyboardInterrupt(), monkeypatch)
    (tmp_path / "out/.unfinished/journal.jsonl").write_bytes(b"")
    assert make(folder, tmp_path / "out").kept == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_run_that_failed_without_an_image_binds_nobody(
    folder: Path, tmp_path: Path, tree, monkeypatch
):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(worker.Maker, "drawn", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make(folder, out, 3, "draem", keywords={"min_area": 1.0})
    assert (out / "normal/test/draem").is_dir()
    assert make(folder, out).kept == 0
    make(folder, tmp_path / "whole")
    assert tree(out) == tree(tmp_path / "whole")
    assert sorted(path.name for path in (out / "normal/test").iterdir()) == [
        "cutpaste", "cutpaste_scar",
    ]  # fmt: skip


def test_keywords_that_are_left_out_are_named(folder: Path, tmp_path: Path):
    make(folder, tmp_path / "out", keywords={"area": 0.1})
    with pytest.raises(ValueError, match=r"otherwise: keywords\.area was 0\.1, is None; go on"):
        make(folder, tmp_path / "out")


def test_a_finished_run_is_left_alone_and_mended(folder: Path, tmp_path: Path, tree, monkeypatch):
    out = tmp_path / "out"
    make(folder, out)
    before = tree(out)
    (out / "normal/ground_truth/cutpaste/001_mask.png").write_bytes(b"")
    assert make(folder, out).kept == 5
    assert tree(out) == before
    (out / ".unfinished").mkdir()  # killed at the very end
    assert make(folder, out).kept == 6
    assert tree(out) == before and not (out / ".unfinished").exists()
    monkeypatch.setattr(worker, "lines", None)
    assert make(folder, out).kept == 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 1}, "seed was 0, is 1"),
        ({"n": 8}, "n was 6, is 8"),
        ({"size": 32}, "size was None, is [32, 32]"),
        ({"methods": ("cutpaste",)}, "methods was ['cutpaste', 'cutpaste_scar'], is"),
        ({"keywords": {"area": 0.1}}, "keywords.area was None, is 0.1"),
        ({"format": "bmp"}, "format was 'png', is 'bmp'"),
        ({"normals": True}, "normals was False, is True"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_other_arguments_are_refused_by_name(
    folder: Path, tmp_path: Path, tree, monkeypatch, change: dict[str, Any], told: str, finished
):
    out = tmp_path / "out"
    if finished:
        make(folder, out)
    else:
        stopped(folder, out, 4, KeyboardInterrupt(), monkeypatch)
    before = tree(out)
    with pytest.raises(ValueError) as refusal:
        make(folder, out, **change)
    assert told in str(refusal.value)
    assert tree(out) == before


def test_other_images_and_textures_are_refused(folder: Path, tmp_path: Path, textures):
    make(folder, tmp_path / "out", 1, "draem", textures=textures)
    with pytest.raises(ValueError, match=r"banks.textures.folder was 'textures', is 'normal'"):
        make(folder, tmp_path / "out", 1, "draem", textures=folder)
    (folder / "e.png").unlink()
    with pytest.raises(ValueError, match=r"sources.images was 5, is 4; sources.sha256 was"):
        make(folder, tmp_path / "out", 1, "draem", textures=textures)


def test_a_full_disk_is_one_sentence_and_can_be_gone_on_from(
    folder: Path, tmp_path: Path, tree, monkeypatch
):
    make(folder, tmp_path / "whole")
    real = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if list(tmp_path.glob("out/normal/test/*/001.png")):
            real(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError) as failure:
            make(folder, tmp_path / "out")
    text = str(failure.value)
    assert text.startswith("cannot write '") and "No space left on device; mend that" in text
    assert not list((tmp_path / "out").rglob("*.tmp"))
    make(folder, tmp_path / "out")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
