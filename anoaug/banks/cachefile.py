"""Cache files of uint8 rows: written whole or not at all, checked when opened, memory-mapped.

A file is the rows, a JSON footer, and 16 bytes: the footer's length, its CRC-32 and a magic word.
The rows come first so that a map of the file is a map of the tensor. Nothing here knows of images;
what is kept, and under which key, is the business of :mod:`.imagefolder` and
:mod:`anoaug.banks`. The files may be deleted at any time: they are made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import time
import uuid
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from .. import files

Bytes = npt.NDArray[np.uint8]

_MAGIC = b"ANOROWS1"
_TAIL = struct.Struct("<II8s")  # footer length, footer CRC-32, magic
_STALE_S = 24 * 3600.0  # an abandoned temporary file this old has no living writer
_UNWRITABLE = (
    "anoaug cannot write its cache in {}: {}; set ANOAUG_CACHE to a writable folder, or cache=False"
)

T = TypeVar("T")
R = TypeVar("R")


def directory() -> Path:
    """``ANOAUG_CACHE``, else ``$XDG_CACHE_HOME/anoaug``, else ``~/.cache/anoaug``."""
    named = os.environ.get("ANOAUG_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "anoaug"


def threads() -> int:
    """Processors this process may use, at most 32."""
    affinity = getattr(os, "sched_getaffinity", None)
    return min(32, len(affinity(0)) if affinity else os.cpu_count() or 1)


def ordered(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """``map`` on threads, in order, with a bounded number of results waiting in memory."""
    pool = ThreadPoolExecutor(workers)
    try:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 4 * workers:
                yield waiting.popleft().result()
        for future in waiting:
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def row_digest(row: Bytes) -> str:
    """16 hexadecimal digits of the SHA-256 of a contiguous row."""
    return hashlib.sha256(row.data).hexdigest()[:16]


@dataclass(frozen=True)
class Rows:
    """An open cache file.

    Attributes:
        data: uint8 ``[N, *shape]``, a private map: pages are shared between processes through the
            page cache, and a write by mistake stays in the process that made it.
        digests: SHA-256 of each row, 16 hexadecimal digits.
        note: What the writer stored beside the rows.
        path: The file.
    """

    data: torch.Tensor
    digests: tuple[str, ...]
    note: dict[str, Any]
    path: Path


class Writer:
    """Context manager that streams rows to a temporary file; :meth:`finish` gives it its name.

    Leaving the block without :meth:`finish`, by an error or an interrupt, removes the file. Two
    writers of one name do the work twice and the last one wins; a reader never sees half a file.

    Raises:
        OSError: The cache folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._digests: list[str] = []
        self._shape: tuple[int, ...] | None = None
        self._temporary = folder / f".{os.getpid()}-{uuid.uuid4().hex}.tmp"
        with _explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _sweep(folder)
            self._stream = open(self._temporary, "xb")  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()
        self._temporary.unlink(missing_ok=True)

    def append(self, row: Bytes, digest: str) -> None:
        """Append one row (all rows have one shape) with its :func:`row_digest`."""
        if self._shape not in (None, row.shape):
            raise ValueError(f"expected rows of shape {self._shape}, got {row.shape}")
        self._shape = row.shape
        self._digests.append(digest)
        with _explained(self._temporary.parent):
            self._stream.write(row.data)

    def finish(self, path: Path, note: dict[str, Any]) -> Rows:
        """Write the footer, move the file to ``path`` in one step as others see it, and open it."""
        if self._shape is None:
            raise ValueError("expected at least one row, got none")
        facts = {"shape": self._shape, "rows": self._digests, "note": note}
        footer = json.dumps(facts).encode("ascii")
        with _explained(path.parent):
            self._stream.write(footer + _TAIL.pack(len(footer), zlib.crc32(footer), _MAGIC))
            self._stream.close()
            try:
                os.replace(self._temporary, path)
            except PermissionError:
                # Windows refuses to replace a file another process has mapped: theirs is as good.
                if read(path) is None:
                    raise
            return _open(path, check=False)


def read(path: Path, check: bool = True) -> Rows | None:
    """Open a cache file.

    Args:
        path: The file.
        check: Compare every row with its digest (about 1 s per GiB and thread). A file that this
            process or its parent has checked already needs it no more.

    Returns:
        The rows, or None when the file is absent or damaged; a damaged one is named in a warning.
    """
    try:
        return _open(path, check)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, struct.error) as error:
        warnings.warn(f"cache file {path} is damaged ({error}) and is made again", stacklevel=2)
        return None


def once(path: Path, rows: Iterable[Bytes]) -> Rows:
    """Open a cache file, made of ``rows`` first if there is no sound one.

    Raises:
        OSError: The cache folder cannot be written.
    """
    found = read(path)
    if found is not None:
        return found
    with Writer(path.parent) as writer:
        for row in rows:
            writer.append(row, row_digest(row))
        return writer.finish(path, {})


def write_text(path: Path, text: str) -> None:
    """Write a small file in one step, as others see it."""
    with _explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replaced(path) as temporary:
            temporary.write_text(text, encoding="ascii")


@torch.inference_mode(False)
def _open(path: Path, check: bool) -> Rows:
    with open(path, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _TAIL.size))
        length, crc, magic = _TAIL.unpack(stream.read())
        if magic != _MAGIC or length > size - _TAIL.size:
            raise ValueError("its end is missing")
        stream.seek(size - _TAIL.size - length)
        footer = stream.read(length)
    if zlib.crc32(footer) != crc:
        raise ValueError("its footer is corrupt")
    facts = json.loads(footer)
    shape, digests = tuple(facts["shape"]), tuple(facts["rows"])
    elements = len(digests) * int(np.prod(shape, dtype=np.int64))
    if elements != size - _TAIL.size - length:
        raise ValueError(f"{elements} bytes of rows were expected")
    # shared=False maps copy-on-write from a file opened for reading: no write ever reaches it.
    flat = torch.from_file(str(path), shared=False, size=elements, dtype=torch.uint8, device="cpu")
    data = flat.view(len(digests), *shape)
    if check:
        for index, digest in enumerate(ordered(row_digest, iter(data.numpy()), threads())):
            if digest != digests[index]:
                raise ValueError(f"row {index} is corrupt")
    return Rows(data, digests, facts["note"], path)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise type(error)(error.errno, _UNWRITABLE.format(folder, reason)) from error


def _sweep(folder: Path) -> None:
    """Remove what killed writers left behind."""
    oldest = time.time() - _STALE_S
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()
