"""Data sets of synthetic anomalies on disk, in MVTec layout; ``anoaug generate`` is the command.

:func:`generate` writes one from a folder of normal images, :func:`replay` makes one of its images
again from the manifest. For training, anomalies made anew in every epoch (``AnomalyLoader``) serve
better; a data set on disk is for validation, for other people's code, and for looking at.

The layout, per category::

    OUT/manifest.jsonl                              a header, then a line per image
    OUT/<category>/test/<method>/000.png            an anomalous image
    OUT/<category>/ground_truth/<method>/000_mask.png   its mask, {0, 255}
    OUT/<category>/train/good/000.png               with normals=True: the normal images

Each image is a pure function of the settings, the normal images and its number: of neither the
number of processes nor interruptions, and, by methods and categories in turn, of ``n``.
"""

from __future__ import annotations

import contextlib
import operator
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import checks, methods, recipe
from ..banks import Bank, imagefolder
from ..batch import AnomalyBatch, Params
from . import survey, worker
from .journal import GO_ON, MANIFEST, Journal, explained, read
from .plan import FORMATS, Plan, Settings, banks, commonest_size, synthesizers
from .survey import Source

__all__ = ["FORMATS", "MANIFEST", "Written", "generate", "replay"]

_FORMAT = 2  # of the manifest

Folder = str | os.PathLike[str]


class Written(NamedTuple):
    """What :func:`generate` has done.

    Attributes:
        manifest: The manifest's path.
        counts: Images by method; ``"good"`` for normal ones.
        sources: Normal images that were found.
        kept: Images that were there already.
    """

    manifest: Path
    counts: dict[str, int]
    sources: int
    kept: int


@torch.no_grad()
def generate(
    folder: Folder,
    out: Folder,
    n: int = 100,
    methods: Sequence[str] = ("draem", "cutpaste"),
    *,
    seed: int = 0,
    size: int | tuple[int, int] | None = None,
    resize: str = "stretch",
    textures: Folder | None = None,
    texture_size: int = 256,
    donors: Folder | None = None,
    foreground: Folder | None = None,
    keywords: Mapping[str, Any] | None = None,
    normals: bool = False,
    format: str = "png",
    jobs: int = 1,
    progress: bool = True,
) -> Written:
    """Write a data set of synthetic anomalies in MVTec layout.

    Called again with the same arguments after an interruption it goes on where it was, and the
    result is the same to the byte; called with other arguments it refuses. Files are read as
    ``banks.imagefolder`` says (16 bits become 8); grey images stay grey. A draw whose mask is
    empty, or that changes no pixel, is drawn again with the next epoch; after 20 on one image the
    next image is taken.

    Args:
        folder: Normal images: directly in it, in folders by category, or an MVTec data set, of
            which ``train/good`` is taken. Best not those that the detector is trained on.
        out: Folder for the data set: new, empty, or of an unfinished run.
        n: Anomalous images, split evenly over methods and categories.
        methods: Names of methods, each once.
        seed: 64-bit seed.
        size: Side, or height and width, that images are brought to; None leaves each its own.
        resize: ``"stretch"``, or ``"crop"`` to the centre; matters with ``size``.
        textures: Folder of textures for methods that need them; None for procedural ones.
        texture_size: Side that textures are kept at; they are stretched over the image.
        donors: Folder of normal images for methods that take from other images; ``folder``
            itself when None. They are brought to ``size``, without it to the commonest size.
        foreground: Folder of masks under the images' relative names (any extension, or
            ``_mask`` before it): anomalies stay where they are set.
        keywords: Keywords of the methods and ``min_area``, ``label_rule`` and ``tolerance``, for
            every method that has them, or as ``"cutpaste.area"`` for one.
        normals: Write the normal images too, to ``train/good``, read and sized like the others.
        format: ``"png"`` or ``"bmp"`` (large, fast) for images; masks are PNG.
        jobs: Processes. With several the calling script needs
            ``if __name__ == "__main__":``, as always where processes are spawned.
        progress: Show a bar on a terminal.

    Returns:
        A :class:`Written`.

    Raises:
        ValueError, TypeError: An argument is refused, before anything is written.
        OSError: The disk is full, or a folder cannot be written or read.
        KeyboardInterrupt: Interrupted; the message says how to go on.

    Example:
        Two hundred images of each method from the good test images of a category::

            from anoaug.generate import generate

            generate("screw/test/good", "synthetic", 400, ("draem", "cutpaste_scar"))
    """
    jobs = _whole("jobs", jobs)
    if jobs < 1:
        raise ValueError(f"jobs: expected at least 1, got {jobs}")

    def here(maker: worker.Maker, missing: Sequence[int]) -> worker.Lines:
        return worker.lines(maker, missing, jobs)

    return written(
        here, folder, out, n, methods, seed=seed, size=size, resize=resize, textures=textures,
        texture_size=texture_size, donors=donors, foreground=foreground, keywords=keywords,
        normals=normals, format=format, progress=progress,
    )  # fmt: skip


@torch.no_grad()
def written(
    lines: Callable[[worker.Maker, Sequence[int]], worker.Lines],
    folder: Folder,
    out: Folder,
    n: int = 100,
    methods: Sequence[str] = ("draem", "cutpaste"),
    *,
    seed: int = 0,
    size: int | tuple[int, int] | None = None,
    resize: str = "stretch",
    textures: Folder | None = None,
    texture_size: int = 256,
    donors: Folder | None = None,
    foreground: Folder | None = None,
    keywords: Mapping[str, Any] | None = None,
    normals: bool = False,
    format: str = "png",
    progress: bool = True,
) -> Written:
    """What :func:`generate` does, by any way of making images from their numbers.

    Args:
        lines: From the maker and the numbers that are missing: each number with its line of the
            manifest, in any order.
        folder: As in :func:`generate`, likewise all that follow.
        out: See above.
        n: See above.
        methods: See above.
        seed: See above.
        size: See above.
        resize: See above.
        textures: See above.
        texture_size: See above.
        donors: See above.
        foreground: See above.
        keywords: See above.
        normals: See above.
        format: See above.
        progress: See above.
    """
    root, target = Path(folder).expanduser(), Path(out).expanduser()
    n, seed = _whole("n", n), _whole("seed", seed)
    chosen = (methods,) if isinstance(methods, str) else tuple(methods)
    settings = Settings(
        n,
        chosen,
        seed=seed,
        size=None if size is None else imagefolder.pair(size),
        resize=resize,
        texture_size=texture_size,
        format=format,
        normals=normals,
        keywords=dict(keywords or {}),
    )
    _check_apart(root, target)
    found = survey.sources(root, progress)
    settings = replace(settings, donor_size=settings.size or commonest_size(found))
    plan = Plan(settings, found)
    masks = None if foreground is None else Path(foreground).expanduser()
    mask_of = {} if masks is None else survey.foregrounds(masks, found)
    given = banks(settings, root, _path(textures), _path(donors), progress)
    synths = synthesizers(settings, given)
    _check_slots(synths, masks)
    _check_sizes(synths, plan)
    header = _header(plan, given, {"textures": _name(textures), "donors": _name(donors)})
    if masks is not None:
        header["foreground"] = survey.digest_of_files(masks, sorted(mask_of.values()))

    journal = Journal(target, header)
    kept = journal.numbers
    missing = [number for number in range(plan.total) if number not in kept]
    maker = worker.Maker(plan, root, target, synths, masks, mask_of)
    if missing or not journal.finished:
        bar = checks.require("tqdm", "images").tqdm
        try:
            with (
                journal,
                bar(desc="generating", unit="image", total=plan.total, initial=len(kept),
                    leave=False, disable=None if progress else True) as shown,
                contextlib.closing(lines(maker, missing)) as made,
            ):  # fmt: skip
                _make_folders(plan, target)
                for number, line in made:
                    journal.add(number, line)
                    shown.update()
                journal.finish()
        except KeyboardInterrupt:
            there = f"{len(journal.numbers)} of {plan.total} images are in {target}"
            raise KeyboardInterrupt(f"{there}; {GO_ON}") from None
    counts: dict[str, int] = {}
    for number in range(plan.total):
        method = plan.task(number).method
        counts[method] = counts.get(method, 0) + 1
    return Written(target / MANIFEST, counts, len(found), len(kept))


@torch.no_grad()
def replay(
    out: Folder,
    number: int,
    folder: Folder,
    *,
    textures: Folder | None = None,
    donors: Folder | None = None,
    foreground: Folder | None = None,
) -> AnomalyBatch:
    """Make an anomalous image of a data set again, from its line in the manifest.

    The parameters are read, not drawn: the pixels are the same with any NumPy, and with any anoaug
    of the same specification version.

    Args:
        out: The data set.
        number: The image's number.
        folder: The normal images; other arguments too as :func:`generate` had them.
        textures: Folder of textures.
        donors: Folder of donors.
        foreground: Folder of masks.

    Returns:
        A batch of one; image uint8 ``[1, C, h, w]``, mask ``[1, 1, h, w]``, ``clean`` the normal
        image.

    Raises:
        ValueError: No such image in the manifest, or other folders than it was made from.
    """
    root, masks = Path(folder).expanduser(), _path(foreground)
    header, entries = read(Path(out).expanduser())
    if header["format"] != _FORMAT:
        raise ValueError(
            f"out: expected a manifest of format {_FORMAT}, got {header['format']}; use the anoaug "
            f"that wrote it, {header['anoaug']}"
        )
    entry = next((each for each in entries if each["number"] == number), None)
    if entry is None or entry["method"] is None:
        raise ValueError(f"number: expected an anomalous image of the manifest, got {number}")
    settings = Settings.from_plain(header["settings"])
    height, width = entry["size"]
    source = Source(
        entry["source"], entry["category"], entry["source_sha256"], (height, width),
        entry["channels"],
    )  # fmt: skip
    synth = synthesizers(
        settings, banks(settings, root, _path(textures), _path(donors), progress=False)
    )[entry["method"]]
    images = survey.pixels(root, source, settings.rule(source))
    mask_of = {} if masks is None else survey.foregrounds(masks, [source])
    given, within = worker.call_keywords(synth, source, images, masks, mask_of, settings.resize)
    _check_within(entry, within, masks)
    layout = recipe.layout_of(synth.laws(entry["channels"], torch.uint8))
    table = worker.table_of(entry["table"])
    params = Params(table, layout, tuple(entry["banks"]), (height, width))
    if "within" in entry:  # where a control's location confines it
        region = torch.tensor([entry["within"]], dtype=torch.float64, device="cpu")
        params = params._replace(within=region)
    return synth(images, params=params, **given)


def _whole(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {value!r}; round it") from None


def _path(folder: Folder | None) -> Path | None:
    return None if folder is None else Path(folder).expanduser()


def _name(folder: Folder | None) -> str | None:
    return None if folder is None else Path(folder).expanduser().resolve().name


def _check_apart(folder: Path, out: Path) -> None:
    """Refuse an output among the inputs: the next run would read it."""
    inside, here = Path(os.path.realpath(out)), Path(os.path.realpath(folder))
    if inside == here or here in inside.parents:
        raise ValueError(
            f"out: expected a folder outside of {str(folder)!r}, whose images are read, got "
            f"{str(out)!r}; choose another"
        )


def _check_slots(synths: Mapping[str, Any], masks: Path | None) -> None:
    for name, synth in synths.items():
        wanted = [slot for slot in synth.slots if slot not in synth._binding.finders]
        there = masks is not None or synth.foreground is not None
        lacking = [slot for slot in wanted if slot != "foreground" or not there]
        if lacking:
            mend = "give foreground" if lacking == ["foreground"] else "call it from Python"
            raise ValueError(f"methods: {name} needs {' and '.join(lacking)}; {mend}")


def _check_sizes(synths: Mapping[str, Any], plan: Plan) -> None:
    """Refuse images of several sizes to methods whose donors must have the image's."""
    size = plan.settings.donor_size
    others = [one for one in map(plan.settings.rule, plan.sources) if one.size != size]
    borrowing = [name for name in synths if "donors" in methods.get(name).needs]
    for name in borrowing if others else ():
        like = torch.empty((1, others[0].channels, *others[0].size), dtype=torch.uint8)
        try:
            synths[name].sample(like, index=[0], epoch=0)
            fits = not synths[name]._binding.seeking
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"size: expected one for {name}, whose donors have the images' size, and those are "
                f"of {size} pixels, of {others[0].size} and perhaps more; give size"
            )


def _check_within(entry: Mapping[str, Any], within: str | None, masks: Path | None) -> None:
    """Refuse to replay with a foreground other than an image was made with."""
    wanted = entry["foreground_sha256"]
    if within == wanted:
        return
    found = "none" if masks is None else f"another for {entry['source']} in {str(masks)!r}"
    mend = "leave it out" if wanted is None else "give the folder that generate() had"
    made = "no foreground" if wanted is None else "the foreground"
    raise ValueError(
        f"foreground: expected {made} that the image was made with, got {found}; {mend}"
    )


def _make_folders(plan: Plan, out: Path) -> None:
    for name in plan.folders():
        try:
            (out / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explained(out / name, error) from error


def _header(
    plan: Plan, given: Mapping[str, Bank], folders: Mapping[str, str | None]
) -> dict[str, Any]:
    """What all images depend on; no paths, so that data sets can be compared and given away.

    A bank's folder is its name; None for procedural textures and for donors from the images.
    """
    pillow = checks.require("PIL", "images")
    told = {}
    for name in plan.settings.methods:
        fact = methods.describe(name)
        told[name] = {
            "paper": fact["paper"],
            "matches": fact["matches"],
            "deviations": fact["deviations"],
            "defaults": {key: _plain(value) for key, value in fact["defaults"].items()},
            "keywords": {k: _plain(v) for k, v in plan.settings.keywords_of(name).items()},
        }
    from .. import __version__  # not there yet while the package imports this module

    return {
        "format": _FORMAT,
        "anoaug": __version__,
        "spec": recipe.SPEC_VERSION,
        "versions": {
            "numpy": np.__version__,
            "torch": torch.__version__,
            "Pillow": pillow.__version__,
            "zlib": zlib.ZLIB_RUNTIME_VERSION,
        },
        "settings": plan.settings.plain(),
        "sources": {
            "images": len(plan.sources),
            "categories": list(plan.categories),
            "sha256": survey.digest(plan.sources),
        },
        "banks": {
            name: {
                "folder": folders[name],
                "images": len(bank),
                "digest": bank.digest(),
            }
            for name, bank in given.items()
        },
        "methods": told,
    }


def _plain(value: Any) -> Any:
    """A keyword's value as JSON has it."""
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)
