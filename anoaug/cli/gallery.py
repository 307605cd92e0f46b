"""``anoaug gallery``: one HTML page with every method's pictures, parameters and facts."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from .. import __version__, checks, methods
from ..banks import Bank, DonorBank, TextureBank, imagefolder
from ..gallery.cards import GAIN, method_cards
from ..gallery.page import html_path, page, write
from .arguments import Commands, listed, whole
from .pictures import (
    DEMO_IMAGES,
    DEMO_SURFACES,
    bar,
    demo_crops,
    demo_images,
    device_of,
    found,
    read,
)

_DONORS = 32  # at most, from each folder


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    add = commands(
        "gallery", run, "Write an HTML page with every method's pictures and parameters"
    ).add_argument
    add("paths", nargs="*", metavar="FOLDER|IMAGE", type=Path, help="normal images")
    add("--demo", action="store_true", help="scikit-image's images")
    add("-m", "--method", metavar="NAME[,NAME...]", type=listed, help="all methods without")
    add("--family", metavar="F", help=f"only one family: {', '.join(methods.FAMILIES)}")
    add("-o", "--out", metavar="FILE.html", type=Path, default=Path("gallery.html"),
        help="%(default)s; the pictures are in it")  # fmt: skip
    add("-n", metavar="N", type=whole(1, 100), default=4, help="images from each folder, spread "
        "over it (%(default)s)")  # fmt: skip
    add("--size", metavar="PIXELS", type=whole(16, 4096), default=256,
        help="side that images are brought to (%(default)s)")  # fmt: skip
    add("--resize", metavar="RULE", default="stretch",
        help="stretch, or crop to the centre (%(default)s)")  # fmt: skip
    add("--surface", metavar="NAME[,NAME...]", type=listed,
        help="what the images show, so that only methods that suit it are drawn; of "
        f"{', '.join(methods.SURFACES)}")  # fmt: skip
    add("--textures", metavar="FOLDER", type=Path, help="texture images; procedural without")
    add("--donors", metavar="FOLDER", type=Path,
        help="normal images that methods take patches from; the given ones without")  # fmt: skip
    add("--seed", metavar="SEED", type=int, default=0, help="%(default)s")
    add("--device", metavar="DEVICE", default="auto", help="cuda where there is one, else cpu")
    add("--backend", metavar="NAME",
        help="auto, triton, torch or compiled; ANOAUG_BACKEND, else auto")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """``anoaug gallery``."""
    # Everything that can be refused is refused before the work begins.
    out = html_path(arguments.out)
    names = _names(arguments)
    device, _ = device_of(arguments.device, arguments.backend)
    if arguments.demo == bool(arguments.paths):
        raise ValueError("gallery: expected a folder or images, or --demo; give one of the two")
    surfaces = arguments.surface
    for surface in surfaces or ():
        checks.one_of("--surface", surface, methods.SURFACES)
    if arguments.demo and surfaces:
        raise ValueError("gallery: expected --surface with images of yours, got it with --demo")
    rule = imagefolder.Rule((arguments.size, arguments.size), 3, arguments.resize)
    if arguments.demo:
        labels, images = list(DEMO_IMAGES), demo_images(arguments.size)
        categories = labels
    else:
        labels, images = read(found(arguments.paths, arguments.n), rule)
        categories = None
    banks: dict[str, Bank] = {"textures": _textures(arguments.textures, arguments.size)}
    donors = _donors(arguments, rule)
    if donors is not None:
        banks["donors"] = donors
    if arguments.donors is not None:
        categories = None

    known = DEMO_SURFACES if arguments.demo else surfaces and [surfaces] * len(images)
    facts = [
        f"seed {arguments.seed}",
        f"{arguments.size} x {arguments.size} pixels",
        f"textures: {arguments.textures.name}" if arguments.textures else "procedural textures",
        f"donors: {_whose(arguments)}",
        "every image anomalous, else with published defaults",
        *(["each method on the surfaces that it suits"] if known else []),
        f"difference: of the channel that differs most, times {GAIN}",
    ]
    cards = list(
        bar(
            method_cards(
                names, images.to(device), labels, banks, seed=arguments.seed,
                categories=categories, surfaces=known, backend=arguments.backend,
            ),
            "method",
            len(names),
        )
    )  # fmt: skip
    text = page(cards, title=f"anoaug {__version__}: methods", facts=facts)
    write(out, text)
    megabytes = len(text.encode()) / 1e6
    shown = f"{len(cards)} method{'s' * (len(cards) != 1)}"
    print(f"{out}: {shown} on {len(images)} images; {megabytes:.1f} MB")
    return 0


def _whose(arguments: argparse.Namespace) -> str:
    if arguments.donors is not None:
        return str(arguments.donors.name)
    return "other parts of the same pictures" if arguments.demo else "the images themselves"


def _names(arguments: argparse.Namespace) -> list[str]:
    """The methods to show, family by family."""
    if arguments.method is not None and arguments.family is not None:
        raise ValueError("gallery: expected --method or --family; give one of the two")
    if arguments.family is not None:
        return methods.list_methods(arguments.family)
    names = arguments.method or methods.list_methods()
    chosen = [methods.get(name) for name in dict.fromkeys(names)]
    return [one.name for one in sorted(chosen, key=lambda one: methods.FAMILIES.index(one.family))]


def _textures(folder: Path | None, size: int) -> TextureBank:
    if folder is None:
        return TextureBank.procedural(size=size)
    return TextureBank.from_folder(folder, size=size)


def _donors(arguments: argparse.Namespace, rule: imagefolder.Rule) -> DonorBank | None:
    """Images that methods may take patches from, or None where there is no second one."""
    if arguments.donors is not None:
        return DonorBank.from_folder(arguments.donors, size=arguments.size, resize=arguments.resize)
    if arguments.demo:
        # Other places of the same surfaces: with its own kind an image's patches go well.
        crops, names = demo_crops(arguments.size)
        return DonorBank.from_tensors(crops, [f"{n} {k}" for k, n in enumerate(names)], names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the images shown were read with the same warnings
        names, images = read(found(arguments.paths, max(_DONORS, arguments.n)), rule)
    return DonorBank.from_tensors(images, names) if _several(images, names) else None


def _several(images: Tensor, names: Sequence[str]) -> bool:
    """Whether there are donors; of one image alone, it is said that there are none."""
    if len(images) > 1:
        return True
    warnings.warn(
        f"{names[0]} is one image alone, and methods that take patches from others are not drawn: "
        "give its folder, or --donors",
        stacklevel=2,
    )
    return False
