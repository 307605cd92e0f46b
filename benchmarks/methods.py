"""Every registered method by its published defaults: the whole call, and its parts.

``prepare`` (finding the product, superpixels) and ``finish`` (labels that need neighbourhoods) are
clocked within the very calls that are timed. On CUDA the kernels and copies of a call are counted
instead, because clocks on the host would say nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import anoaug
from anoaug import methods as registry
from benchmarks import providers, record, timing
from benchmarks.cases import Case
from benchmarks.data import Inputs
from benchmarks.timing import Timing, Work

PARTS = ("prepare", "finish")
FIGURES = Path(anoaug.__file__).parent / "methods" / "figures.json"


class Clocked:
    """A callable whose seconds are added up; ``turn`` gives them and starts anew."""

    def __init__(self, function: Callable[..., Any], spent: list[float]) -> None:
        self.function, self.spent = function, spent

    def __getattr__(self, name: str) -> Any:
        return getattr(self.function, name)

    def __call__(self, *values: Any, **keywords: Any) -> Any:
        begin = time.perf_counter()
        try:
            return self.function(*values, **keywords)
        finally:
            self.spent.append(time.perf_counter() - begin)


def clock(synth: Any) -> dict[str, list[float]]:
    """Put clocks around the parts of a synthesizer; returns the lists they write to."""
    spent: dict[str, list[float]] = {part: [] for part in PARTS}
    for finder in (synth.foreground, *synth._binding.finders.values()):
        if finder is not None:
            finder.find = Clocked(finder.find, spent["prepare"])
    if synth.finish is not None:
        synth.finish = Clocked(synth.finish, spent["finish"])
    return spent


def launches(work: Work) -> dict[str, int]:
    """Kernels and copies of one call on CUDA, as the profiler sees them."""
    work()
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        work()
        torch.cuda.synchronize()
    return counted((event.name, str(event.device_type)) for event in profile.events())


def counted(events: Iterable[tuple[str, str]]) -> dict[str, int]:
    """How many of the device's events, (name, device), are kernels, and copies."""
    names = [name.lower() for name, device in events if device.endswith("CUDA")]
    copies = sum(name.startswith("memcpy") for name in names)
    filled = sum(name.startswith("memset") for name in names)
    return {"kernels": len(names) - copies - filled, "copies": copies}


def run_case(
    case: Case, options: argparse.Namespace, size: int, batch: int, inputs: Inputs
) -> list[dict[str, Any]]:
    """Time one method on its backends and its peer, where it has one."""
    device = torch.device(options.device)
    names = [n for n in case.providers if not options.providers or n in options.providers]
    if device.type == "cuda":
        names = [name for name in names if name != "anoaug-compiled"]
    works: dict[str, Work] = {}
    spent: dict[str, dict[str, list[float]]] = {}
    for name in names:
        if name == "numpy":
            works[name] = providers.build_numpy(case, batch, device, inputs)
            continue
        synth = providers.synthesizer(case, providers.BACKENDS[name], inputs, device)
        if device.type == "cpu":
            spent[name] = clock(synth)
        works[name] = providers.calls(synth, name, batch, device, inputs)
    timings: dict[str, Timing] = {}
    if device.type == "cuda":
        ours = {name: work for name, work in works.items() if name != "numpy"}
        timings |= timing.compare_cuda(ours, seconds=options.seconds) if ours else {}
        peers = {name: work for name, work in works.items() if name not in ours}
        timings |= timing.compare_cpu(peers, seconds=options.seconds) if peers else {}
    elif works:
        timings = timing.compare_cpu(works, seconds=options.seconds, least=3)
    lines = []
    for name, measured in timings.items():
        parameters: dict[str, Any] = {
            "size": size, "batch": batch, "dtype": "uint8 -> uint8", "work": case.work,
            "method": case.method, "p": case.p,
        }  # fmt: skip
        if name == "numpy" and case.method in ("draem", "destseg", "dsr_image", "glass_las"):
            parameters["dtype"] = "uint8 -> float32"
        if case.note:
            parameters["note"] = case.note
        if case.original_ms is not None:
            parameters["original_ms_at_256"] = case.original_ms
            if size == 256:
                each = measured.median / batch * 1e3
                parameters["times_the_original"] = case.original_ms / each
        for part, seconds in spent.get(name, {}).items():
            # Warming up was clocked too, with as many entries a call; the last are those timed.
            runs = len(measured.wall)
            a_call = len(seconds) // (runs + timing.WARMING)
            shares = np.array(seconds[len(seconds) - a_call * runs :]).reshape(runs, -1).sum(1)
            parameters[f"{part}_s"] = float(np.median(shares))
        if device.type == "cuda" and name != "numpy":
            parameters |= launches(works[name])
        base = timings.get(case.baseline)
        lines.append(
            record.timing_entry(
                case.name, name, options.device if name != "numpy" else "cpu", parameters, measured,
                baseline=(case.baseline, base) if base else None,
            )
        )  # fmt: skip
    return lines


def write_figures(entry: dict[str, Any], path: Path = FIGURES) -> Path:
    """The figures that the table of methods shows, from a record of the suite.

    Lines of other sizes than 256 are left out; where there are several batches, the last counts.
    """
    figures: dict[str, dict[str, float]] = {}
    for line in entry["timings"]:
        if line["parameters"]["size"] != 256 or line["device"] != "cpu":
            continue
        # Of CPU time: others may have had the core.
        rate = line["parameters"]["batch"] / line["cpu_median"]
        figures.setdefault(line["case"], {})[line["provider"]] = round(rate, 1)
        original = line["parameters"].get("original_ms_at_256")
        if original is not None:
            figures[line["case"]]["original"] = round(1000.0 / original, 1)
    about = {
        "machine": entry["machine"]["cpu"], "threads": entry["threads"],
        "created": entry["created"], "rev": entry["commit"]["rev"],
        "what": "images per second of CPU time at 256 x 256, every image anomalous; "
        "original: the public code's own figure on one thread of a like machine",
    }  # fmt: skip
    missing = [name for name in registry.list_methods() if name not in figures]
    if missing:
        raise ValueError(
            f"figures: expected a line of every method, got none of {', '.join(missing)}; run the "
            "whole suite at --size 256"
        )
    text = json.dumps({"about": about, "methods": figures}, indent=1, allow_nan=False)
    record.write_text(path, text + "\n")
    return path
