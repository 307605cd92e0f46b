"""``anoaug generate``: a data set of synthetic anomalies in MVTec layout."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import methods
from ..banks import cachefile, imagefolder
from ..generate import FORMATS, generate
from .arguments import DEFAULT_METHODS, Commands, listed, setting, whole

_PER_JOB = 100  # fewer images are made sooner than another process starts


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    add = commands(
        "generate", run, "Write a data set of anomalies in MVTec layout; run again to go on"
    ).add_argument
    add("folder", metavar="FOLDER", type=Path,
        help="normal images, in it or in folders by category, or an MVTec data set")  # fmt: skip
    add("-o", "--out", metavar="FOLDER", type=Path, required=True, help="where to write it")
    add("-n", metavar="N", type=whole(1, 10**7), default=100,
        help="anomalous images, split evenly over methods and categories (%(default)s)",
        )  # fmt: skip
    add("-m", "--method", metavar="NAME[,NAME...]", type=listed, default=DEFAULT_METHODS,
        help="%(default)s")  # fmt: skip
    add("--set", metavar="[METHOD.]KEY=VALUE", action="append", default=[], type=setting,
        help="a keyword of the methods, such as area=0.05,0.2; may be repeated")  # fmt: skip
    add("--size", metavar="PIXELS|HxW", type=_size,
        help="what images are brought to; each keeps its own without")  # fmt: skip
    add("--resize", metavar="RULE", default="stretch",
        help=f"{', or '.join(imagefolder.RESIZE)} to the centre (%(default)s)")  # fmt: skip
    add("--textures", metavar="FOLDER", type=Path, help="texture images; procedural without")
    add("--texture-size", metavar="PIXELS", type=whole(16, 4096), default=256,
        help="side that textures are kept at (%(default)s)")  # fmt: skip
    add("--donors", metavar="FOLDER", type=Path,
        help="normal images that methods take patches from; the given ones without")  # fmt: skip
    add("--foreground", metavar="FOLDER", type=Path,
        help="masks under the images' names: anomalies stay where they are set")  # fmt: skip
    add("--with-normals", action="store_true", help="write the normal images too, to train/good")
    add("--format", metavar="KIND", default="png", help=f"{' or '.join(FORMATS)} (%(default)s)")
    add("--seed", metavar="SEED", type=_seed, default=0, help="%(default)s")
    add("-j", "--jobs", metavar="N", type=whole(1, 256),
        help="processes; the result does not depend on it")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """``anoaug generate``."""
    written = generate(
        arguments.folder,
        arguments.out,
        arguments.n,
        arguments.method,
        seed=arguments.seed,
        size=arguments.size,
        resize=arguments.resize,
        textures=arguments.textures,
        texture_size=arguments.texture_size,
        donors=arguments.donors,
        foreground=arguments.foreground,
        keywords=dict(arguments.set),
        normals=arguments.with_normals,
        format=arguments.format,
        jobs=arguments.jobs or min(cachefile.threads(), 1 + arguments.n // _PER_JOB),
    )
    borrowing = any("donors" in methods.get(name).needs for name in arguments.method)
    donors = "; donors: the normal images" if borrowing and arguments.donors is None else ""
    counts = ", ".join(f"{count} {method}" for method, count in written.counts.items())
    kept = f"; {written.kept} were there already" if written.kept else ""
    total = sum(written.counts.values())
    done = f"{total} images ({counts}) from {written.sources} normal ones"
    print(f"{written.manifest}: {done}{donors}{kept}")
    return 0


def _size(text: str) -> int | tuple[int, int]:
    words = text.lower().split("x")
    if len(words) > 2:
        raise argparse.ArgumentTypeError(f"expected PIXELS or HEIGHTxWIDTH, got {text!r}")
    height, *rest = (whole(16, 16384)(word) for word in words)
    return (height, rest[0]) if rest else height


def _seed(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None
