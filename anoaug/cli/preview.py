"""``anoaug preview``: a picture of clean images beside what methods make of them."""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__, checks, doctor, methods, viz
from ..banks import Bank, DonorBank, TextureBank, imagefolder
from ..synthesizer import Synthesizer
from .arguments import DEFAULT_METHODS, Commands, listed, setting, whole
from .pictures import DEMO_IMAGES, bar, demo_images, device_of, found, read

# Of a thousand the one whose anomalies are easiest to see at the size of a thumbnail.
DEMO_SEED = 840

SECONDS = 2.0  # how long the throughput of each method is measured
BATCH = 32
_MEASURED_SIZE = 256
_DONORS = 32  # at most, from each folder
_MET = ("textures", "donors")  # needs of methods that can be met here
# Keywords that the command has options for, or gives itself.
_OPTIONS = ("p", "seed", "backend", "textures", "donors")


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    add = commands("preview", run, "Draw clean images beside their anomalies").add_argument
    add("paths", nargs="*", metavar="FOLDER|IMAGE", type=Path, help="normal images")
    add("--demo", action="store_true", help="scikit-image's images; measure the throughput too")
    add("-m", "--method", metavar="NAME[,NAME...]", type=listed, default=DEFAULT_METHODS,
        help="%(default)s")  # fmt: skip
    add("-o", "--out", metavar="FILE.png", type=Path, default=Path("preview.png"),
        help="%(default)s")  # fmt: skip
    add("-n", metavar="N", type=whole(1, 1000), default=4, help="images from each folder, spread "
        "over it (%(default)s)")  # fmt: skip
    add("--size", metavar="PIXELS", type=whole(16, 4096), default=256,
        help="side that images are brought to (%(default)s)")  # fmt: skip
    add("--resize", metavar="RULE", default="stretch",
        help="stretch, or crop to the centre (%(default)s)")  # fmt: skip
    add("--textures", metavar="FOLDER", type=Path, help="texture images; procedural without")
    add("--set", metavar="[METHOD.]KEY=VALUE", action="append", default=[], type=setting,
        help="a keyword of the methods, such as control=\"{'size': 0.02}\"; may be repeated",
        )  # fmt: skip
    add("--p", metavar="P", type=float, default=1.0, help="P(anomalous) (%(default)s)")
    add("--seed", metavar="SEED", type=int, help=f"0; {DEMO_SEED} with --demo")
    add("--device", metavar="DEVICE", default="auto", help="cuda where there is one, else cpu")
    add("--backend", metavar="NAME", help="auto, triton or torch; ANOAUG_BACKEND, else auto")


def run(arguments: argparse.Namespace) -> int:
    """``anoaug preview``."""
    # Everything that can be refused is refused before the work begins.
    out = viz.png_path(arguments.out)
    checks.probability("--p", arguments.p)
    if arguments.seed is None:
        arguments.seed = DEMO_SEED if arguments.demo else 0
    names = arguments.method
    for name in names:
        _suppliable(methods.get(name))
    _check_settings(names, arguments.set)
    device, backend = device_of(arguments.device, arguments.backend)
    if arguments.demo == bool(arguments.paths):
        raise ValueError("preview: expected a folder or images, or --demo; give one of the two")
    rule = imagefolder.Rule((arguments.size, arguments.size), 3, arguments.resize)
    if arguments.demo:
        labels, images = list(DEMO_IMAGES), demo_images(arguments.size)
    else:
        labels, images = read(found(arguments.paths, arguments.n), rule)
    images = images.to(device)
    banks: dict[str, Bank] = {"textures": _textures(arguments.textures, arguments.size)}
    borrowing = [name for name in names if "donors" in methods.get(name).needs]
    if borrowing:
        banks["donors"] = _donors(arguments, rule, borrowing)

    drawn = []
    for name in bar(names, "method"):
        synth = _synth(name, banks, arguments, p=arguments.p)
        drawn.append((synth, synth(images, index=range(len(images)), epoch=0)))
    where = _device_name(device)
    facts = [
        f"seed {arguments.seed}",
        where,
        doctor.BACKEND_NAMES[backend],
        f"{arguments.size} x {arguments.size} pixels",
    ]
    if any("textures" in methods.get(name).needs for name in names):
        folder = arguments.textures
        facts.append(f"textures: {folder.name}" if folder else "procedural textures")
    if borrowing:
        facts.append("donors: the images themselves")
    title = f"anoaug {__version__}"
    sheet = viz.comparison(labels, images, drawn, title=title, subtitle="  ·  ".join(facts))
    viz.save_png(sheet, out)
    print(f"{out}: {len(images)} images, {', '.join(names)}; {sheet.width} x {sheet.height} pixels")
    if arguments.demo:
        print(_throughput_line(names, banks, arguments, device, where))
    return 0


def _suppliable(method: methods.Method) -> None:
    lacking = [need for need in method.needs if need not in _MET]
    if lacking:
        raise ValueError(
            f"preview: {method.name} needs {' and '.join(lacking)}, which this command cannot "
            f"give; use anoaug.create({method.name!r}, ...) and anoaug.viz.comparison"
        )


def _check_settings(names: Sequence[str], settings: Sequence[tuple[str, Any]]) -> None:
    """Refuse keywords that none of the methods has, or that are options here."""
    for text, _ in settings:
        owner, _, keyword = text.rpartition(".")
        if keyword in _OPTIONS:
            raise ValueError(f"--set: {keyword} is an option here, --{keyword}")
        owners = [checks.one_of("--set", owner, names)] if owner else names
        known = {word for name in owners for word in _known(name)} - {*_OPTIONS}
        if keyword not in known:
            raise ValueError(
                f"--set: {keyword!r} is no keyword of {', '.join(owners)}; "
                f"{checks.nearest(keyword, sorted(known))}"
            )


def _known(name: str) -> set[str]:
    return {*methods.get(name).defaults(), *methods.common_keywords()}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _textures(folder: Path | None, size: int) -> TextureBank:
    if folder is None:
        return TextureBank.procedural(size=size)
    return TextureBank.from_folder(folder, size=size)


def _donors(
    arguments: argparse.Namespace, rule: imagefolder.Rule, borrowing: Sequence[str]
) -> DonorBank:
    """Images that methods may take patches from: those of the command."""
    if arguments.demo:
        return _demo_donors(arguments.size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the images shown were read with the same warnings
        names, images = read(found(arguments.paths, max(_DONORS, arguments.n)), rule)
    if len(images) == 1:
        warnings.warn(
            f"{', '.join(borrowing)} takes patches from other images, and here is one image alone: "
            "give its folder",
            stacklevel=2,
        )
    return DonorBank.from_tensors(images, names)


def _demo_donors(size: int) -> DonorBank:
    # Mirrored: an image's patch, laid over its own place, would show nothing.
    return DonorBank.from_tensors(demo_images(size).flip(3), DEMO_IMAGES)


def _synth(
    name: str, banks: Mapping[str, Bank], arguments: argparse.Namespace, p: float
) -> Synthesizer:
    keywords: dict[str, Any] = {"p": p, "seed": arguments.seed, "backend": arguments.backend}
    method = methods.get(name)
    if "textures" in method.defaults():
        keywords["textures"] = banks["textures"]
    if "donors" in method.needs:
        keywords["donors"] = banks["donors"]
    for text, value in arguments.set:
        owner, _, keyword = text.rpartition(".")
        if owner in ("", name) and keyword in _known(name):
            keywords[keyword] = value
    return methods.create(name, **keywords)


# ---- throughput ----------------------------------------------------------------------------------


def _throughput_line(
    names: Sequence[str],
    banks: Mapping[str, Bank],
    arguments: argparse.Namespace,
    device: torch.device,
    where: str,
) -> str:
    images = demo_images(_MEASURED_SIZE).repeat(-(-BATCH // len(DEMO_IMAGES)), 1, 1, 1)[:BATCH]
    if "donors" in banks:
        banks = {**banks, "donors": _demo_donors(_MEASURED_SIZE)}
    rates = []
    for name in names:
        synth = _synth(name, banks, arguments, p=1.0)
        rates.append(f"{name} {throughput(synth, images.to(device), SECONDS):,.0f} images/s")
    if device.type == "cpu":
        where = "cpu, one thread"
    return (
        f"throughput: {', '.join(rates)} ({where}; {_MEASURED_SIZE} x {_MEASURED_SIZE} uint8, "
        f"batch {BATCH}, every image anomalous, median over {SECONDS:g} s)"
    )


def throughput(synth: Synthesizer, images: Tensor, seconds: float) -> float:
    """Images per second of a synthesizer: the median over repeated calls.

    On the CPU one thread is measured, as in a DataLoader's worker: what several make of it depends
    on what else the machine does.

    Args:
        synth: The synthesizer.
        images: ``(B, C, H, W)`` on the device to measure.
        seconds: How long to measure; three calls are made at least.
    """
    cuda = images.device.type == "cuda"
    # On CUDA calls queue up as they do in training: one wait for several.
    calls = 10 if cuda else 1

    def timed() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            synth(images)
        if cuda:
            torch.cuda.synchronize(images.device)
        return (time.perf_counter() - start) / calls

    threads = torch.get_num_threads()
    taken: list[float] = []
    try:
        if images.device.type == "cpu":
            torch.set_num_threads(1)
        timed()
        end = time.perf_counter() + seconds
        while len(taken) < 3 or time.perf_counter() < end:
            taken.append(timed())
    finally:
        torch.set_num_threads(threads)
    return len(images) / statistics.median(taken)
