"""What the commands share: the parser whose errors are one line, types of arguments."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

DEFAULT_METHODS = "draem,cutpaste"

Run = Callable[[argparse.Namespace], int]


class Commands(Protocol):
    """What a command adds itself by: its name, its function and a line of help."""

    def __call__(self, name: str, run: Run, text: str) -> argparse.ArgumentParser:
        """Make the command's parser."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise ValueError."""
        raise ValueError(f"{message} (see {self.prog} --help)")


def whole(low: int, high: int) -> Callable[[str], int]:
    """Type of a whole number from ``low`` to ``high``."""

    def parse(text: str) -> int:
        if not (text.isdecimal() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {low} to {high}, got {text!r}"
            )
        return int(text)

    return parse


def listed(text: str) -> list[str]:
    """Type of names with commas between them."""
    return [name.strip() for name in text.split(",")]


def setting(text: str) -> tuple[str, Any]:
    """Type of KEY=VALUE: the value a number, a tuple, a dict or a word."""
    name, sign, value = text.partition("=")
    if not sign or not name.strip() or not value.strip():
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    try:
        return name.strip(), ast.literal_eval(value.strip())
    except (SyntaxError, ValueError):  # a word
        return name.strip(), value.strip()
