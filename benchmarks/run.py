"""Time the suites and write their records: ``python -m benchmarks.run --suite draem``.

One table with ratios is printed, losses included; one JSON file per suite goes to
``benchmarks/results/``. On CUDA the figures are device times (events behind a queued delay), with
more lines per anoaug case: ``host``, the wall time per call of a queue of calls;
``anoaug-capture``, the call through ``synth.capture``; ``graph``, the replay of given parameters in
a CUDA graph.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from anoaug.checks import require
from benchmarks import cases, data, loader, methods, providers, record, timing
from benchmarks.timing import Timing, Work

_CACHE_MULTIPLE = 3  # inputs rotate over this many times the device's L2 cache
_GRAPH_CALLS = 64
_COLUMNS = "case provider size batch ms iqr cpu-ms images/s GB/s floor original cpu-ratio ratio"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--suite", choices=(*cases.SUITES, "all"), default="all")
    parser.add_argument("--size", type=int, nargs="+", default=[256], help="image sides, pixels")
    parser.add_argument("--batch", type=int, nargs="+", default=[32])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--providers", nargs="+", help="only these")
    parser.add_argument("--seconds", type=float, default=3.0, help="per provider and case")
    parser.add_argument("--out", type=Path, default=record.RESULTS, help="folder of the records")
    parser.add_argument(
        "--figures",
        action="store_true",
        help="of suite methods: write what the table of methods shows",
    )
    chosen = parser.parse_args(argv)
    if chosen.figures and chosen.suite != "methods":
        parser.error("--figures: expected --suite methods with it")
    for name in ("size", "batch"):
        if min(getattr(chosen, name)) < 1:
            parser.error(f"--{name}: expected positive integers, got {getattr(chosen, name)}")
    return chosen


def input_count(batch: int, size: int, device: torch.device) -> int:
    """How many decoded images to rotate over: 4 batches, on CUDA more than the L2 cache holds."""
    if device.type != "cuda":
        return 4 * batch
    cache: int = torch.cuda.get_device_properties(device).L2_cache_size
    return batch * max(4, _CACHE_MULTIPLE * cache // (batch * size * size * 3) + 1)


def host_timing(work: Work, calls: int = 50, rounds: int = 7) -> Timing:
    """Wall seconds per call of a queue of calls that ends in a synchronisation."""
    work()
    torch.cuda.synchronize()
    spent = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(calls):
            work()
        torch.cuda.synchronize()
        spent.append((time.perf_counter() - begin) / calls)
    return Timing(spent)


def graph_timing(work: Work) -> Timing:
    """Device seconds per call inside one replayed CUDA graph."""
    graph, calls = timing.graph_of(work, _GRAPH_CALLS)
    whole = timing.compare_cuda({"graph": graph.replay})["graph"]
    return Timing([seconds / calls for seconds in whole.wall])


def run_case(
    case: cases.Case,
    options: argparse.Namespace,
    size: int,
    batch: int,
    inputs: data.Inputs,
    bandwidth: float | None,
) -> list[dict[str, Any]]:
    """Time the providers of one case and return their lines."""
    device = torch.device(options.device)
    batch = 1 if case.work == "stage" else batch
    names = [n for n in case.providers if not options.providers or n in options.providers]
    if device.type == "cuda":
        names = [name for name in names if name != "anoaug-compiled"]  # of the CPU alone
        if case.work == "call" and "anoaug" in names:
            names.append("anoaug-capture")
    works = {name: providers.build(name, case, batch, device, inputs) for name in names}
    ours = {name: work for name, work in works.items() if name.startswith("anoaug")}
    timings: dict[str, Timing] = {}
    if device.type == "cuda":
        peers = {name: work for name, work in works.items() if name not in ours}
        timings |= timing.compare_cuda(ours, seconds=options.seconds) if ours else {}
        timings |= {f"{name} host": host_timing(work) for name, work in ours.items()}
        if case.work == "replay" and "anoaug" in ours:
            timings["anoaug graph"] = graph_timing(ours["anoaug"])
        timings |= timing.compare_cpu(peers, seconds=options.seconds) if peers else {}
    elif works:
        timings = timing.compare_cpu(works, seconds=options.seconds)
    pixel = case.bytes_per_pixel()
    lines = []
    for name, measured in timings.items():
        mine = name.startswith("anoaug")
        same = mine or case.suite in ("cutpaste", "blend")
        parameters: dict[str, Any] = {
            "size": size,
            "batch": batch,
            "dtype": f"uint8 -> {case.out if same else 'float32'}",
            "work": case.work,
            "method": case.method,
            "p": case.p,
        }
        if case.original_ms is not None:
            parameters["original_ms_at_256"] = case.original_ms
        if case.note:
            parameters["note"] = case.note
        base = timings.get(case.baseline)
        lines.append(
            record.timing_entry(
                case.name,
                name,
                options.device if mine else "cpu",
                parameters,
                measured,
                baseline=(case.baseline, base) if base else None,
                traffic=pixel * batch * size * size if pixel and mine else None,
                bandwidth=bandwidth,
            )
        )
    return lines


def table(lines: list[dict[str, Any]]) -> str:
    """The lines as text, every ratio shown, those below 1 named as losses.

    ``floor`` is the share of a plain device copy's speed that is reached; ``original`` the public
    code's milliseconds at 256 pixels, for the peers; suite ``loader`` has a column for each part
    of an epoch.
    """
    known = (*loader.PARTS, *methods.PARTS)
    parts = [p for p in known if any(f"{p}_s" in line["parameters"] for line in lines)]
    *columns, last = _COLUMNS.split()
    rows = [[*columns, *(f"{part}-ms" for part in parts), last]]
    for line in lines:
        ratio, rate, cpu = line["ratio"], line["gigabytes_per_second"], line["cpu_median"]
        rows.append(
            [
                line["case"],
                line["provider"],
                str(line["parameters"]["size"]),
                str(line["parameters"]["batch"]),
                f"{line['median'] * 1e3:.3f}",
                f"{line['iqr'] * 1e3:.3f}",
                f"{cpu * 1e3:.3f}" if cpu else "-",
                f"{line['images_per_second']:.0f}",
                f"{rate:.2f}" if rate else "-",
                f"{line['floor_fraction']:.0%}" if line["floor_fraction"] else "-",
                str(line["parameters"].get("original_ms_at_256", "-")),
                f"{line['cpu_ratio']:.2f}" if line["cpu_ratio"] else "-",
                *(_milliseconds(line["parameters"].get(f"{part}_s")) for part in parts),
                "-" if ratio is None else f"{ratio:.2f}" + (" (slower)" if ratio < 0.995 else ""),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = {0, 1, len(rows[0]) - 1}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.3f}"


def main(argv: list[str] | None = None) -> list[Path]:
    """Run, print, write; returns the paths of the records."""
    options = arguments(argv)
    device = torch.device(options.device)
    tqdm = require("tqdm", "bench").tqdm
    suites = cases.SUITES if options.suite == "all" else (options.suite,)
    bandwidth = timing.copy_bandwidth(device) if device.type == "cuda" else None
    written = []
    for suite in suites:
        before = timing.load_average()
        lines: list[dict[str, Any]] = []
        about = ""
        with timing.threads(options.threads):
            jobs = [
                (case, size, batch)
                for size in options.size
                for batch in (options.batch if suite != "peers" else [1])
                for case in cases.select(suite)
            ]
            for case, size, batch in tqdm(jobs, desc=suite):
                if case.work == "epoch":
                    found, about = loader.run_case(case, options, size, batch)
                    lines += found
                    continue
                inputs = data.inputs(size, input_count(batch, size, device))
                about = inputs.about
                if case.work == "method":
                    lines += methods.run_case(case, options, size, batch, inputs)
                    continue
                lines += run_case(case, options, size, batch, inputs, bandwidth)
        entry = record.header(suite, device, options.threads, about, before)
        entry["timings"] = lines
        entry["load"]["after"] = timing.load_average()
        if bandwidth:
            entry["machine"]["copy_gigabytes_per_second"] = bandwidth / 1e9
        written.append(record.write(entry, options.out))
        print(f"\n{suite}: {options.threads} thread(s), {about}, load {entry['load']}")
        print(table(lines))
        print(f"written: {written[-1]}")
        if options.figures:
            print(f"written: {methods.write_figures(entry)}")
    return written


if __name__ == "__main__":
    main()
