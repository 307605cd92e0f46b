"""What is written of a data set: files in one step, a journal to go on from, the manifest at last.

While a run is unfinished, ``OUT/.unfinished`` holds the journal (the header, then a line per
finished image, in the order they were finished) and files that have no name yet. When all images
are there, the lines become ``OUT/manifest.jsonl``, in the order of their numbers, and the folder
goes. Nothing here knows of images.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .. import files
from ..banks import cachefile

MANIFEST = "manifest.jsonl"
UNFINISHED = ".unfinished"
GO_ON = "run the same command again to go on"
_JOURNAL = "journal.jsonl"
_NAMED = 3  # differences named in the refusal


def plain(value: Any) -> str:
    """One line of JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(", ", ": "))


def write(out: Path, name: str, content: bytes) -> str:
    """Write a file of the data set in one step, as others see it.

    Args:
        out: The data set; its folders exist.
        name: Relative POSIX name.
        content: The bytes.

    Returns:
        Their SHA-256 in hexadecimal.

    Raises:
        OSError: The disk is full, or the folder may not be written; the message is one sentence.
    """
    try:
        with files.replaced(out / name, out / UNFINISHED) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise explained(out / name, error) from error
    return hashlib.sha256(content).hexdigest()


def explained(path: Path, error: OSError) -> OSError:
    """What to tell of a file or folder that could not be written."""
    reason = error.strerror or str(error)
    return OSError(f"cannot write {str(path)!r}: {reason}; mend that and {GO_ON}")


class Journal:
    """The lines of a data set, finished or not; a context manager around the writing.

    Args:
        out: The data set's folder; need not exist.
        header: What all images depend on, as plain data.

    Raises:
        ValueError: The folder holds the images of another header, or anything else.
    """

    def __init__(self, out: Path, header: dict[str, Any]) -> None:
        self._out, self._place = out, out / UNFINISHED
        self._header = plain(header)
        self._lines: dict[int, str] = {}
        self._stream: BinaryIO | None = None
        self._anew = False
        if out.exists() and not out.is_dir():
            raise ValueError(f"out: expected a folder, got the file {str(out)!r}; change the name")
        found = [path for path in (out / MANIFEST, self._place / _JOURNAL) if path.is_file()]
        if found:
            head, *lines = found[0].read_text(encoding="utf-8", errors="replace").split("\n")
            there = _parsed(head)
            # A run that failed before its first image binds nobody, nor does what a power cut left.
            self._anew = found[0].name == _JOURNAL and (there is None or not self._has_files())
            if not self._anew:
                self._compare(there or {}, json.loads(self._header))
                self._keep_sound(lines)
        elif out.is_dir() and any(path.name != UNFINISHED for path in out.iterdir()):
            raise ValueError(
                f"out: expected a new or empty folder, got {str(out)!r}, which holds other files; "
                "choose another"
            )

    @property
    def numbers(self) -> set[int]:
        """Numbers of the images that are there whole."""
        return set(self._lines)

    @property
    def finished(self) -> bool:
        """Whether the manifest is there and the journal gone."""
        return (self._out / MANIFEST).is_file() and not self._place.exists()

    def __enter__(self) -> Journal:
        try:
            self._place.mkdir(parents=True, exist_ok=True)
            for path in self._place.glob("*.tmp"):  # of a run that was killed
                path.unlink()
            if self._anew:  # a folder without images would pass for a kind of defect
                for path in sorted(self._folders(), reverse=True):
                    if not any(path.iterdir()):
                        path.rmdir()
        except OSError as error:
            raise explained(self._place, error) from error
        # Anew and in one step: what was left of a killed run may end in half a line.
        write(self._out, f"{UNFINISHED}/{_JOURNAL}", self._text())
        self._stream = open(self._place / _JOURNAL, "ab")  # noqa: SIM115 - closed by __exit__
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def add(self, number: int, entry: str) -> None:
        """Note a finished image.

        Raises:
            OSError: The disk is full.
        """
        self._lines[number] = entry
        try:
            self._stream.write(f"{entry}\n".encode())  # type: ignore[union-attr]
            self._stream.flush()  # type: ignore[union-attr]
        except OSError as error:
            raise explained(self._place / _JOURNAL, error) from error

    def finish(self) -> Path:
        """Write the manifest and remove the journal."""
        self._stream.close()  # type: ignore[union-attr]
        write(self._out, MANIFEST, self._text())
        shutil.rmtree(self._place)
        return self._out / MANIFEST

    def _folders(self) -> list[Path]:
        """Every folder of images, a folder before those in it."""
        inside = (path for path in self._out.iterdir() if path.name != UNFINISHED)
        tops = sorted(path for path in inside if path.is_dir() and not path.is_symlink())
        return [path for top in tops for path in (top, *top.rglob("*")) if path.is_dir()]

    def _has_files(self) -> bool:
        return any(path.is_file() for top in self._folders() for path in top.iterdir())

    def _text(self) -> bytes:
        lines = [self._header, *(self._lines[number] for number in sorted(self._lines))]
        return "".join(f"{line}\n" for line in lines).encode()

    def _compare(self, there: dict[str, Any], here: dict[str, Any]) -> None:
        old, new = dict(_leaves(there)), dict(_leaves(here))
        differing = [key for key in {**new, **old} if old.get(key) != new.get(key)]
        if differing:
            # What is told of the methods follows from the settings.
            differing = [key for key in differing if not key.startswith("methods.")] or differing
            told = [
                f"{key.removeprefix('settings.')} was {old.get(key)!r}, is {new.get(key)!r}"
                for key in differing
            ]
            more = f" and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
            raise ValueError(
                f"out: {str(self._out)!r} holds images that were made otherwise: "
                f"{'; '.join(told[:_NAMED])}{more}; go on with what they were made with, or choose "
                "another folder"
            )

    def _keep_sound(self, lines: list[str]) -> None:
        """Keep the lines whose files are there, byte for byte."""
        entries = [(line, entry) for line in lines if (entry := _parsed(line)) is not None]
        sound = cachefile.ordered(self._is_sound, (e for _, e in entries), cachefile.threads())
        for (line, entry), good in zip(entries, sound, strict=True):
            if good:
                self._lines[entry["number"]] = line

    def _is_sound(self, entry: dict[str, Any]) -> bool:
        try:
            return all(
                hashlib.sha256((self._out / entry[what]).read_bytes()).hexdigest() == wanted
                for what, wanted in entry["sha256"].items()
            )
        except (OSError, KeyError):
            return False


def read(out: Path) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """Header and entries of a finished data set.

    Raises:
        ValueError: There is no manifest.
    """
    path = out / MANIFEST
    if not path.is_file():
        raise ValueError(f"out: expected a finished data set, but {str(path)!r} does not exist")
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    return json.loads(head), (json.loads(line) for line in lines)


def _parsed(line: str) -> dict[str, Any] | None:
    """A line as data, or None for half a line."""
    try:
        data = json.loads(line)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _leaves(data: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield above + key, value
