"""Images from a folder: found, decoded to uint8 of one size and channel count, and cached.

What a file becomes (:func:`decode`), in order:

* the first frame is taken, and turned as its EXIF orientation says;
* 16-bit grey becomes 8-bit by ``v >> 8`` (16-bit colour likewise, by Pillow); floating point pixels
  have no agreed range and are refused;
* an alpha channel is dropped, as ``cv2.imread`` and Pillow's ``convert`` do, so that a bank holds
  what a Dataset reading the same file would see; palettes are looked up; CMYK, YCbCr, HSV and LAB
  become RGB by Pillow's conversion, without colour profiles;
* the result is resized, bilinear and with anti-aliasing: ``"stretch"`` ignores the aspect ratio
  (DRAEM and most of the literature), ``"crop"`` takes the largest centred box of the wanted aspect;
* grey becomes three equal channels, colour becomes one channel by the integer luma of :func:`luma`.

The cache: the file's name is a hash of the sorted relative names and the SHA-256 of each file's
bytes, with size, channels, resize rule, Pillow's version and the format version. To spare reading
every byte each time, a manifest maps the folder's path and each file's (name, size, mtime, ctime)
to that hash of contents; a touched, edited or moved file misses it and is read again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from anoaug.banks import cachefile
from anoaug.checks import nearest, require

if TYPE_CHECKING:
    from PIL.Image import Image

Bytes = npt.NDArray[np.uint8]

FORMAT = 1  # raised whenever decode() gives other pixels, or a file another layout
RESIZE = ("stretch", "crop")
_STUBS = {"BUFR", "GRIB", "HDF5", "MPEG"}  # Pillow names these formats but cannot decode them
_OF_TESTS = {"test", "ground_truth"}  # MVTec's folders of images with defects, and of masks
_ABNORMAL = {"abnormal", "anomaly", "bad", "defect", "defective", "ground_truth", "test"}
_LISTED = 10  # broken files named in the warning


@dataclass(frozen=True)
class Rule:
    """How every image of a folder is brought to one shape.

    Attributes:
        size: Height and width in pixels.
        channels: 1 or 3.
        resize: ``"stretch"`` or ``"crop"``.
    """

    size: tuple[int, int]
    channels: int = 3
    resize: str = "stretch"

    def __post_init__(self) -> None:
        if not all(isinstance(side, int) and side > 0 for side in self.size):
            raise ValueError(
                f"size: expected a positive integer or a pair (height, width), got {self.size!r}"
            )
        if self.channels not in (1, 3):
            raise ValueError(
                f"channels: expected 1 (luma) or 3 (RGB) for images from files, "
                f"got {self.channels!r}; other counts can be given with from_tensors"
            )
        if self.resize not in RESIZE:
            hint = nearest(str(self.resize), RESIZE)
            raise ValueError(f"resize: expected one of {RESIZE}, got {self.resize!r}; {hint}")


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width from a side or a pair."""
    sides = (size, size) if isinstance(size, int) else size
    if not isinstance(sides, Sequence) or len(sides) != 2:
        raise ValueError(f"size: expected an integer or a pair (height, width), got {size!r}")
    return sides[0], sides[1]


@dataclass(frozen=True)
class Loaded:
    """Decoded images.

    Attributes:
        data: uint8 ``[N, C, h, w]`` on the CPU; a map of ``path`` when there is one.
        names: Relative POSIX names of the images, sorted.
        digests: 16 hexadecimal digits of the SHA-256 of each image's pixels.
        path: The cache file, or None.
    """

    data: torch.Tensor
    names: tuple[str, ...]
    digests: tuple[str, ...]
    path: Path | None


def find(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the image files below a folder: relative, POSIX, sorted by code point.

    Every extension that Pillow (with its plugins) can read counts, in any case. Files and folders
    whose name begins with a dot are passed over, links to folders are followed, each once.

    Raises:
        ValueError: The folder does not exist, is a file, or holds no image.
    """
    root = Path(folder).expanduser()
    if not root.exists():
        raise ValueError(
            f"expected a folder of images, but {str(root)!r} does not exist "
            f"(working directory: {os.getcwd()!r}); check the path"
        )
    if not root.is_dir():
        raise ValueError(
            f"expected a folder of images, got the file {str(root)!r}; give its folder"
        )
    pillow = require("PIL.Image", "images")
    extensions = {
        extension
        for extension, kind in pillow.registered_extensions().items()
        if kind not in _STUBS and (kind in pillow.OPEN or kind == "MPO")
    }
    found: list[str] = []
    seen: set[str] = set()
    for here, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(here).relative_to(root)
        found += [
            (inside / name).as_posix()
            for name in files
            if not name.startswith(".") and PurePosixPath(name).suffix.lower() in extensions
        ]
    if not found:
        raise ValueError(
            f"expected images (.png, .jpg, .bmp, .tif, ...) in {str(root)!r} or below, found none"
        )
    return sorted(found)


def by_folder(names: Sequence[str]) -> dict[str, str]:
    """The category of each name: its first folder, ``""`` for none."""
    return {name: name.split("/")[0] if "/" in name else "" for name in names}


def all_by_folder(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Every name with its category; warns of a dataset whose test images are among them."""
    parts = [name.split("/")[:-1] for name in names]
    tests = sorted({part for path in parts for part in path if part.lower() in _OF_TESTS})
    if tests and any(pair == ("train", "good") for path in parts for pair in _pairs(path)):
        warnings.warn(
            f"expected a folder of images for a bank, got the dataset {str(folder)!r}: its "
            f"{' and '.join(tests)} images are taken too; give a folder such as train/good",
            stacklevel=4,
        )
    return by_folder(names)


def defect_part(folder: Path) -> str | None:
    """``"test"`` or ``"ground_truth"`` if an MVTec category's folder of that name is given.

    Or one below it, other than ``good``, where the category's ``train`` or ``ground_truth`` can be
    seen. None for any other folder.
    """
    folder = folder.resolve()
    if folder.name.lower() in _OF_TESTS:
        return folder.name
    above = folder.parent
    if above.name.lower() not in _OF_TESTS or folder.name == "good":
        return None
    known = any((above.parent / name).is_dir() for name in ("train", "ground_truth"))
    return f"{above.name}/{folder.name}" if known else None


def normal_only(folder: Path) -> None:
    """Refuse a folder of test images or masks.

    Raises:
        ValueError: :func:`defect_part` knows it.
    """
    part = defect_part(folder)
    if part is not None:
        raise ValueError(
            f"expected a folder of normal images, got {part} of an MVTec layout in "
            f"{str(folder)!r}, which holds defects or masks; give the category's train/good"
        )


def normal_by_folder(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """The normal images among the names, each with its category, ``""`` for none.

    MVTec layout (``<category>/train/good/*``, from which nothing else is taken), else one folder
    per category, else all images directly in the folder.

    Raises:
        ValueError: Folders named like abnormal or test images, or images beside category folders.
    """
    labels: dict[str, str] = {}
    for name in names:
        parts = name.split("/")[:-1]
        for at, pair in enumerate(_pairs(parts)):
            if pair == ("train", "good"):
                labels[name] = "/".join(parts[:at]) or folder.resolve().name
                break
    if labels:
        return labels
    folders = {part for name in names for part in name.split("/")[:-1]}
    suspects = sorted(part for part in folders if part.lower() in _ABNORMAL)
    if suspects:
        raise ValueError(
            f"expected normal images in {str(folder)!r}, but found folders named "
            f"{', '.join(suspects)} and no train/good; give a folder of normal images"
        )
    labels = by_folder(names)
    loose = [name for name, label in labels.items() if not label]
    if loose and len(loose) < len(labels):
        raise ValueError(
            f"expected images in category folders, or all of them directly in {str(folder)!r}, "
            f"got both ({loose[0]} is in no category); move {len(loose)} files into a folder"
        )
    return labels


def masked_by_folder(folder: Path, names: Sequence[str]) -> dict[str, tuple[str, str | None]]:
    """The test images of an MVTec layout: category and mask file of each, None for a normal one.

    The mask of ``<category>/test/<defect>/<stem>.*`` is ``<stem>_mask.*`` or ``<stem>.*`` in
    ``<category>/ground_truth/<defect>``; images in ``test/good`` are normal.

    Raises:
        ValueError: No test images, or one with a defect and no mask.
    """
    stems = {name.rpartition(".")[0]: name for name in names}
    found: dict[str, tuple[str, str | None]] = {}
    for name in names:
        parts = name.rpartition(".")[0].split("/")
        if "test" not in parts[:-2]:
            continue
        at = parts.index("test")
        category = "/".join(parts[:at]) or folder.resolve().name
        truth = "/".join([*parts[:at], "ground_truth", *parts[at + 1 :]])
        mask = None if parts[at + 1] == "good" else stems.get(truth + "_mask", stems.get(truth))
        if mask is None and parts[at + 1] != "good":
            raise ValueError(
                f"expected a mask for each image with a defect in {str(folder)!r}, but {name} has "
                f"no {truth}_mask.*; add it, or move the image to test/good if it is normal"
            )
        found[name] = category, mask
    if not found:
        raise ValueError(
            f"expected test images (<category>/test/<defect>/*) in {str(folder)!r}, found none; "
            "give an MVTec category or a folder of them"
        )
    return found


def _pairs(parts: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(parts, parts[1:], strict=False))


def luma(rgb: Bytes) -> Bytes:
    """uint8 ``[3, h, w]`` to ``[1, h, w]`` by ``(299 R + 587 G + 114 B + 500) // 1000``."""
    red, green, blue = rgb.astype(np.uint32)
    grey = (299 * red + 587 * green + 114 * blue + 500) // 1000
    return grey.astype(np.uint8)[None]


def decode(content: bytes, rule: Rule) -> Bytes:
    """Decode one image file's bytes to uint8 ``[C, h, w]`` as the module's page says.

    Raises:
        Exception: Whatever Pillow raises on a damaged or unsupported file.
    """
    pillow = require("PIL.Image", "images")
    operations = require("PIL.ImageOps", "images")
    height, width = rule.size
    with pillow.open(io.BytesIO(content)) as opened:
        # A JPEG four times too large or more is decoded at a fraction of its size, much faster.
        opened.draft(None, (2 * max(height, width),) * 2)
        image = _eight_bits(operations.exif_transpose(opened))
    box = _centred(image.size, width / height) if rule.resize == "crop" else None
    image = image.resize((width, height), pillow.Resampling.BILINEAR, box=box)
    pixels: Bytes = np.asarray(image)
    if pixels.ndim == 2:
        return np.repeat(pixels[None], rule.channels, axis=0)
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return planes if rule.channels == 3 else luma(planes)


def load(
    folder: str | os.PathLike[str],
    names: Sequence[str],
    rule: Rule,
    cache: bool = True,
    progress: bool = True,
    workers: int | None = None,
) -> Loaded:
    """Decode the named files of a folder once, or map what was decoded before.

    Args:
        folder: Where the names begin.
        names: Sorted relative names, as from :func:`find`.
        rule: The shape to bring them to.
        cache: Keep the result in a file and map it; False decodes into memory.
        progress: Show a bar on a terminal while decoding.
        workers: Threads; all processors when None.

    Raises:
        ValueError: None of the files can be read as an image.
        OSError: The cache folder cannot be written.
    """
    root = Path(folder).expanduser()
    workers = workers or cachefile.threads()
    if not cache:
        memory = _Memory(rule, len(names))
        kept, digests, broken, _ = _decode_into(memory, root, names, rule, progress, workers)
        _report(root, broken, len(kept))
        with torch.inference_mode(False):
            return Loaded(torch.from_numpy(memory.finished()), kept, digests, None)

    place = cachefile.directory()
    stamp = _stamp(root, names)
    manifest = place / f"{stamp}.manifest"
    content = _known(manifest)
    if content is None:
        content = _content(names, cachefile.ordered(_file_digest, _paths(root, names), workers))
    found = cachefile.read(place / f"{_key(content, rule)}.rows")
    if found is None:
        with cachefile.Writer(place) as writer:
            kept, digests, broken, content = _decode_into(
                writer, root, names, rule, progress, workers
            )
            if not kept:
                _report(root, broken, 0)
            path = place / f"{_key(content, rule)}.rows"
            found = writer.finish(path, {"names": kept, "broken": broken})
    # A file edited while it was being read must not be remembered under its new date.
    if stamp == _stamp(root, names) and _known(manifest) != content:
        cachefile.write_text(manifest, content)
    kept = tuple(found.note["names"])
    _report(root, [(name, reason) for name, reason in found.note["broken"]], len(kept))
    return Loaded(found.data, kept, found.digests, found.path)


class _Memory:
    """The writer of ``cache=False``: rows into one array."""

    def __init__(self, rule: Rule, count: int) -> None:
        self._rows = np.empty((count, rule.channels, *rule.size), dtype=np.uint8)
        self._count = 0

    def append(self, row: Bytes, digest: str) -> None:
        self._rows[self._count] = row
        self._count += 1

    def finished(self) -> Bytes:
        whole = self._count == len(self._rows)
        return self._rows if whole else self._rows[: self._count].copy()


def _decode_into(
    target: cachefile.Writer | _Memory,
    root: Path,
    names: Sequence[str],
    rule: Rule,
    progress: bool,
    workers: int,
) -> tuple[tuple[str, ...], tuple[str, ...], list[tuple[str, str]], str]:
    """Names and digests of what was decoded, what was not and why, hash of the bytes read."""
    bar = require("tqdm", "images").tqdm

    def one(path: Path) -> tuple[str, Bytes | None, str]:
        try:
            content = path.read_bytes()
        except OSError as error:
            return _unreadable(error), None, why(error)
        of_file = hashlib.sha256(content).hexdigest()
        try:
            row = decode(content, rule)
        except MemoryError:
            raise
        except Exception as error:  # Pillow's plugins raise many types on damaged files
            return of_file, None, why(error)
        return of_file, row, cachefile.row_digest(row)

    kept: list[str] = []
    digests: list[str] = []
    of_files: list[str] = []
    broken: list[tuple[str, str]] = []
    shown = bar(cachefile.ordered(one, _paths(root, names), workers), desc="decoding", unit="image",
                total=len(names), disable=None if progress else True)  # fmt: skip
    for name, (of_file, row, text) in zip(names, shown, strict=True):
        of_files.append(of_file)
        if row is None:
            broken.append((name, text))
        else:
            target.append(row, text)
            kept.append(name)
            digests.append(text)
    return tuple(kept), tuple(digests), broken, _content(names, of_files)


def why(error: Exception) -> str:
    """Why an image file could not be read, in a few words."""
    # Pillow names the buffer it was given, by its address.
    if isinstance(error, require("PIL", "images").UnidentifiedImageError):
        return "no image that Pillow knows"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


def _eight_bits(image: Image) -> Image:
    pillow = require("PIL.Image", "images")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        return pillow.fromarray((values.clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating point pixels have no agreed range; save it with 8 or 16 bits")
    return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")


def _centred(size: tuple[int, int], aspect: float) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the largest centred box with this width / height."""
    width, height = size
    inner_width, inner_height = min(width, height * aspect), min(height, width / aspect)
    left, top = (width - inner_width) / 2, (height - inner_height) / 2
    return left, top, left + inner_width, top + inner_height


def _paths(root: Path, names: Sequence[str]) -> list[Path]:
    return [root / name for name in names]


def _file_digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return _unreadable(error)


def _unreadable(error: OSError) -> str:
    return f"unreadable ({error.errno})"


def _content(names: Sequence[str], digests: Any) -> str:
    pairs = [[name, digest] for name, digest in zip(names, digests, strict=True)]
    return hashlib.sha256(json.dumps(pairs).encode("ascii")).hexdigest()


def _key(content: str, rule: Rule) -> str:
    version = require("PIL", "images").__version__
    facts = [FORMAT, version, content, *rule.size, rule.channels, rule.resize]
    return hashlib.sha256(json.dumps(facts).encode("ascii")).hexdigest()[:32]


def _stamp(root: Path, names: Sequence[str]) -> str:
    facts: list[Any] = [FORMAT, os.path.realpath(root)]
    for path, name in zip(_paths(root, names), names, strict=True):
        try:
            status = path.stat()
        except OSError as error:
            facts.append([name, _unreadable(error)])
        else:
            facts.append([name, status.st_size, status.st_mtime_ns, status.st_ctime_ns])
    return hashlib.sha256(json.dumps(facts).encode("ascii")).hexdigest()[:32]


def _known(manifest: Path) -> str | None:
    try:
        content = manifest.read_text(encoding="ascii")
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None
    whole = len(content) == 64 and set(content) <= set("0123456789abcdef")
    return content if whole else None


def _report(root: Path, broken: Sequence[tuple[str, str]], readable: int) -> None:
    """Name the files that were passed over, in one warning; refuse a folder without a good one."""
    if not broken:
        return
    listed = "; ".join(f"{name} ({reason})" for name, reason in broken[:_LISTED])
    more = f"; and {len(broken) - _LISTED} more" if len(broken) > _LISTED else ""
    what = f"{len(broken)} of {len(broken) + readable} image files in {str(root)!r} cannot be read"
    if readable == 0:
        raise ValueError(f"expected images, but {what}: {listed}{more}")
    warnings.warn(f"{what} and are left out: {listed}{more}", stacklevel=4)
