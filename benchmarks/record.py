"""The record of a run: machine, code, figures; validated, then written atomically."""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import anoaug
from anoaug import files
from anoaug.checks import require
from benchmarks.timing import Timing

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
SCHEMA_VERSION = 1


def cpu_name() -> str:
    """The processor's model name, else its architecture."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), flags=re.MULTILINE)
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()


def machine(device: torch.device) -> dict[str, Any]:
    """Processor, cores and, off the CPU, the accelerator's name."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {"cpu": cpu_name(), "cores": os.cpu_count() or 1, "device": name}


def versions() -> dict[str, str | None]:
    """Versions of everything a figure depends on; None for what is not installed."""
    found: dict[str, str | None] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "anoaug": anoaug.__version__,
    }
    for name in ("triton", "cv2", "PIL"):
        try:
            found[name] = str(importlib.import_module(name).__version__)
        except ModuleNotFoundError:
            found[name] = None
    return found


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ("git", *arguments), cwd=ROOT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def commit() -> dict[str, str | bool | None]:
    """The checkout's revision and whether files other than results differ from it."""
    status = _git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    return {"rev": _git("rev-parse", "HEAD"), "dirty": None if status is None else status != ""}


def header(
    suite: str, device: torch.device, threads: int, inputs: str, before: list[float] | None
) -> dict[str, Any]:
    """Everything of a record but its figures and the load afterwards."""
    module = Path(sys.argv[0]).stem
    return {
        "schema": SCHEMA_VERSION,
        "suite": suite,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": shlex.join(("python", "-m", f"benchmarks.{module}", *sys.argv[1:])),
        "machine": machine(device),
        "versions": versions(),
        "commit": commit(),
        "load": {"before": before, "after": None},
        "threads": threads,
        "inputs": inputs,
        "timings": [],
        "scores": [],
    }


def timing_entry(
    case: str,
    provider: str,
    device: str,
    parameters: dict[str, Any],
    timing: Timing,
    baseline: tuple[str, Timing] | None = None,
    traffic: int | None = None,
    bandwidth: float | None = None,
) -> dict[str, Any]:
    """One line of ``timings``.

    Args:
        case: Name of the case.
        provider: Who did the work.
        device: Where, for example ``"cpu"``.
        parameters: At least size, batch and dtype.
        timing: Seconds per batch.
        baseline: The provider of the same case it is held against, with its timing.
        traffic: Least bytes to be moved for one batch, where that is meaningful.
        bandwidth: Bytes per second of a device copy, where measured.
    """
    median, cpu = timing.median, timing.cpu_median
    base_cpu = baseline[1].cpu_median if baseline else None
    return {
        "case": case,
        "provider": provider,
        "device": device,
        "parameters": parameters,
        "unit": "s",
        "median": median,
        "iqr": timing.iqr,
        "min": timing.min,
        "cpu_median": cpu,
        "runs": len(timing.wall),
        "images_per_second": parameters["batch"] / median,
        "baseline": baseline[0] if baseline else None,
        "ratio": baseline[1].median / median if baseline else None,
        "cpu_ratio": base_cpu / cpu if base_cpu and cpu else None,
        "bytes": traffic,
        "gigabytes_per_second": traffic / median / 1e9 if traffic else None,
        "floor_fraction": traffic / bandwidth / median if traffic and bandwidth else None,
    }


def validate(record: dict[str, Any]) -> None:
    """Check a record against ``schema.json``.

    Raises:
        ValueError: It does not fit; the message names the place.
    """
    jsonschema = require("jsonschema", "bench")
    schema = json.loads((Path(__file__).parent / "schema.json").read_text())
    errors = sorted(
        jsonschema.Draft202012Validator(schema).iter_errors(record), key=lambda e: e.json_path
    )
    if errors:
        first = errors[0]
        raise ValueError(
            f"benchmark record: expected what schema.json says, got at {first.json_path}: "
            f"{first.message} ({len(errors)} in all); mend the writer or raise the schema"
        )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unknown"


def file_name(record: dict[str, Any]) -> str:
    """``<suite>--<machine>--<device>.json``, in lower case."""
    about = record["machine"]
    place = _slug(about["device"]) if about["device"] else f"cpu-{record['threads']}-threads"
    return f"{record['suite']}--{_slug(about['cpu'])}-{about['cores']}-cores--{place}.json"


def write(record: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Validate and write a record; a reader sees the old file or the new one, never half of it.

    Raises:
        ValueError: The record does not fit the schema; nothing is written.
    """
    validate(record)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(record)
    write_text(path, json.dumps(record, indent=1, allow_nan=False) + "\n")
    return path


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step: a temporary file beside it, then a rename."""
    with files.replaced(path) as temporary:
        temporary.write_text(text)
