"""The command line: ``anoaug methods``, ``preview``, ``gallery``, ``generate`` and ``doctor``.

One module per command. Arguments, files and messages are dealt with there; what a command shows or
writes comes from elsewhere. Each command is a function of the parsed arguments that returns the
exit code: 0, 1 when a check failed, 2 for bad input (one line on standard error), 130 when
interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from .. import __version__
from . import doctor, gallery, generate, methods, preview
from .arguments import Parser, Run


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments without the program's name; those of the process when None.

    Returns:
        The exit code.
    """
    arguments = argparse.Namespace(debug=False)
    try:
        _parser().parse_args(argv, arguments)
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code: int = arguments.run(arguments)
            sys.stdout.flush()
            return code
    except KeyboardInterrupt as stop:
        print(f"anoaug: interrupted{f': {stop}' if stop.args else ''}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone; Python would complain once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ImportError, OSError, TypeError, ValueError) as error:
        if arguments.debug:
            raise
        print(f"anoaug: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = Parser(
        prog="anoaug", description="Anomaly synthesis on the device, once per batch."
    )
    parser.add_argument("--version", action="version", version=f"anoaug {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, run: Run, text: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = commands.add_parser(
            name, help=text, description=f"{text}.", parents=[common]
        )
        made.set_defaults(run=run)
        return made

    for module in (methods, preview, gallery, generate, doctor):
        module.register(command)
    return parser


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"anoaug: warning: {' '.join(str(message).split())}", file=sys.stderr)
