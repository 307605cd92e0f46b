"""Files are written whole or not at all, and never where they cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from anoaug import files


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_file_takes_the_place_of_the_old_one_at_the_end(tmp_path: Path, elsewhere: bool) -> None:
    path, folder = tmp_path / "a.txt", tmp_path / "beside"
    folder.mkdir()
    path.write_text("old")
    with files.replaced(path, folder if elsewhere else None) as temporary:
        temporary.write_text("new")
        assert temporary.parent == (folder if elsewhere else tmp_path)
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert sorted(one.name for one in tmp_path.rglob("*")) == ["a.txt", "beside"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), files.replaced(path) as temporary:
        temporary.write_text("half")
        raise error
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError),
        files.replaced(tmp_path / "no" / "a.txt") as temporary,
    ):
        temporary.write_text("new")


def test_what_may_be_written_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert files.to_write(str(tmp_path / "a.HTM"), ".html", ".htm") == tmp_path / "a.HTM"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.to_write("~/a.png", ".png") == tmp_path / "a.png"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("a.jpg", "expected a name that ends in .png, got '.*a.jpg'; change it"),
        ("no/a.png", "expected a folder that exists, got '.*no'; make it first"),
        ("f.png", "expected a file to write, got the folder '.*f.png'; add a name"),
    ],
)
def test_what_may_not_is_refused(tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / "f.png").mkdir()
    with pytest.raises(ValueError, match=hint):
        files.to_write(tmp_path / name, ".png")
