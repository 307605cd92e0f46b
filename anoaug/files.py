"""Files that others see whole or not at all, and the paths that they may be written to."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replaced(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """A new name to write a file under, which takes the place of ``path`` where all goes well.

    Args:
        path: The file.
        folder: Where the new name is: a folder on the same disk; None for that of ``path``.

    Raises:
        OSError: The folder cannot be written.
    """
    temporary = (folder or path.parent) / f".{os.getpid()}-{uuid.uuid4().hex}.tmp"
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def to_write(path: str | os.PathLike[str], *endings: str) -> Path:
    """Refuse a path that no file could be written to; nothing is created.

    Args:
        path: As a user gives it.
        endings: What its name may end in, such as ``".png"``.

    Raises:
        ValueError: Another ending, a folder, or in a folder that does not exist.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in endings:
        raise ValueError(f"expected a name that ends in {endings[0]}, got {str(path)!r}; change it")
    if path.is_dir():
        raise ValueError(f"expected a file to write, got the folder {str(path)!r}; add a name")
    if not path.parent.is_dir():
        raise ValueError(f"expected a folder that exists, got {str(path.parent)!r}; make it first")
    return path
