"""``anoaug doctor``: what is installed, which backend will run, a self-test."""

from __future__ import annotations

import argparse
import json

from .. import doctor
from .arguments import Commands


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    add = commands("doctor", run, "Show what is installed and test it").add_argument
    add("--json", action="store_true", help="JSON")


def run(arguments: argparse.Namespace) -> int:
    """``anoaug doctor``."""
    facts = doctor.report()
    print(json.dumps(facts, indent=2) if arguments.json else doctor.text(facts))
    return 0 if facts["ok"] else 1
