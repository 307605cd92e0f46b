"""``anoaug methods``: the methods as a list, or one of them told in full."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from .. import methods
from .arguments import Commands


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    listing = commands("methods", run, "List the methods, or describe one")
    listing.add_argument("name", nargs="?", metavar="NAME", help="everything about this method")
    families = ", ".join(methods.FAMILIES)
    listing.epilog = (
        "auto, compiled, original: images/s at 256 x 256 on one CPU thread, every image anomalous, "
        "by backend='auto', backend='compiled' and, as far as it was measured, the public code"
    )
    listing.add_argument("--family", metavar="F", help=f"only one family: {families}")
    add = listing.add_mutually_exclusive_group().add_argument
    add("--markdown", action="store_true", help="a Markdown table")
    add("--json", action="store_true", help="JSON, with defaults and deviations")


def run(arguments: argparse.Namespace) -> int:
    """``anoaug methods``."""
    name = arguments.name
    if name is not None and (arguments.family or arguments.markdown):
        raise ValueError(f"methods: expected {name!r} alone or with --json; leave the rest out")
    found = [
        methods.get(each) for each in ([name] if name else methods.list_methods(arguments.family))
    ]
    if arguments.json:
        keys = ("name", "family", "paper", "matches", "deviations", "mask", "defects", "surfaces",
                "needs", "controls", "defaults", "categories")  # fmt: skip
        facts = [methods.describe(method.name) for method in found]
        print(json.dumps([{key: fact[key] for key in keys} for fact in facts], indent=2,
                         default=repr))  # fmt: skip
        return 0
    if name:
        print(_described(methods.describe(name)))
        return 0
    heads = (
        "name", "family", "mask", "needs", "auto", "compiled", "original", "surfaces", "defects",
        "paper",
    )  # fmt: skip
    speed = methods.figures()["methods"]
    rows = [
        (
            method.name,
            method.family,
            method.mask,
            ", ".join(method.needs) or "-",
            *(
                _rate(speed.get(method.name, {}).get(whose))
                for whose in ("anoaug", "anoaug-compiled", "original")
            ),
            ", ".join(method.surfaces),
            ", ".join(method.defects),
            method.paper,
        )
        for method in found
    ]
    if arguments.markdown:
        print(markdown(heads, rows))
    else:  # a terminal has no room for figures
        print(_aligned(heads[:4] + heads[7:], [row[:4] + row[7:] for row in rows]))
    return 0


def _rate(images: float | None) -> str:
    """Images a second, or a dash where nobody measured."""
    return "-" if images is None else f"{images:,.0f}"


def _described(fact: dict[str, Any]) -> str:
    """All of a method's description, wrapped for reading."""
    width = shutil.get_terminal_size((100, 0)).columns
    indent = " " * 13

    def entry(head: str, text: str) -> str:
        # Whole words: names, addresses and "2-D" are to be read, and found, in one piece.
        return textwrap.fill(
            text, width, initial_indent=f"{head:<13}", subsequent_indent=indent,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip

    lines = [entry(head, fact[head]) for head in ("name", "family", "paper", "matches")]
    for head in ("deviations", "mask", "defects", "surfaces", "needs"):
        parts = fact[head] or ["none"]
        if head == "mask":
            parts = [f"{fact[head]}: {methods.MASKS[fact[head]]}"]
        if head == "deviations":
            lines += [entry(head if n == 0 else "", f"- {p}") for n, p in enumerate(parts)]
        else:
            lines.append(entry(head, ", ".join(parts)))
    controls = [f"{name}: {text}" for name, text in fact["controls"].items()] or ["none"]
    lines += [entry("controls" if n == 0 else "", text) for n, text in enumerate(controls)]
    values = [f"{keyword}={value!r}" for keyword, value in fact["defaults"].items()]
    lines += [entry("defaults" if n == 0 else "", value) for n, value in enumerate(values)]
    if fact["categories"]:
        known = f"{', '.join(fact['categories'])} (see anoaug.ByCategory)"
        lines.append(entry("categories", known))
    others = [keyword for keyword in fact["common"] if keyword not in fact["defaults"]]
    return "\n".join([*lines, entry("also", f"{', '.join(others)} (see anoaug.Synthesizer)")])


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is set as code."""
    lines = [heads, ["---"] * len(heads), *([f"`{row[0]}`", *row[1:]] for row in rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |"
                     for line in lines)  # fmt: skip


def _aligned(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns for the terminal; the last three are wrapped to share what the others leave."""
    widths = [max(len(line[at]) for line in (heads, *rows)) for at in range(len(heads))]
    # A pipe has no width: one line per method suits grep.
    room = shutil.get_terminal_size((0, 0)).columns if sys.stdout.isatty() else 0
    if room:
        left = max(40, room - sum(widths[:-3]) - 2 * (len(widths) - 1))
        widths[-3] = min(widths[-3], left // 4)
        left -= widths[-3]
        widths[-2] = min(widths[-2], left // 2)
        widths[-1] = min(widths[-1], left - widths[-2])
    lines = []
    for line in (heads, *rows):
        cells = [
            textwrap.wrap(cell, width) or [""] for cell, width in zip(line, widths, strict=True)
        ]
        for at in range(max(len(cell) for cell in cells)):
            parts = (
                f"{cell[at] if at < len(cell) else '':<{width}}"
                for cell, width in zip(cells, widths, strict=True)
            )
            lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)
