"""The record: what the schema lets through, what it refuses, how it reaches the disk."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import record
from benchmarks.timing import Timing

pytest.importorskip("jsonschema")

Record = dict[str, Any]


@pytest.fixture(scope="module")
def good() -> Record:
    entry = record.header("draem", torch.device("cpu"), 1, "none", [0.1, 0.2, 0.3])
    parameters = {"size": 256, "batch": 32, "dtype": "uint8 -> uint8"}
    slow = Timing([0.4, 0.4, 0.6], cpu=[0.3, 0.3, 0.3])
    fast = Timing([0.1, 0.1, 0.2], cpu=[0.1, 0.1, 0.1])
    entry["timings"] = [
        record.timing_entry("draem", "numpy", "cpu", parameters, slow, ("numpy", slow)),
        record.timing_entry(
            "draem", "anoaug", "cpu", parameters, fast, ("numpy", slow), 10**7, bandwidth=1e9
        ),
    ]
    entry["scores"] = [
        {
            "case": "pitting",
            "provider": "numpy",
            "metric": "pixel_ap",
            "parameters": {},
            "seeds": [0],
            "values": [0.5],
            "mean": 0.5,
            "std": None,
        }
    ]
    return entry


def test_a_good_record_passes(good: Record) -> None:
    record.validate(good)


def test_derived_figures(good: Record) -> None:
    line = good["timings"][1]
    assert line["images_per_second"] == pytest.approx(320.0)
    assert line["ratio"] == pytest.approx(4.0)  # above 1 is faster than the baseline
    assert line["cpu_ratio"] == pytest.approx(3.0)
    assert line["gigabytes_per_second"] == pytest.approx(0.1)
    assert line["floor_fraction"] == pytest.approx(0.1)
    assert good["timings"][0]["ratio"] == 1.0


def _set(*path: Any, value: Any) -> Callable[[Record], None]:
    def change(entry: Record) -> None:
        for key in path[:-1]:
            entry = entry[key]
        entry[path[-1]] = value

    return change


def _drop(*path: Any) -> Callable[[Record], None]:
    def change(entry: Record) -> None:
        for key in path[:-1]:
            entry = entry[key]
        del entry[path[-1]]

    return change


@pytest.mark.parametrize(
    "change",
    [
        _drop("commit"),
        _drop("versions", "triton"),
        _drop("timings", 0, "iqr"),
        _drop("timings", 0, "parameters", "batch"),
        _set("schema", value=2),
        _set("threads", value=0),
        _set("timings", 0, "median", value=0.0),
        _set("timings", 0, "median", value="0.4 s"),
        _set("timings", 0, "unit", value="ms"),
        _set("timings", 0, "runs", value=0),
        _set("load", "before", value=[0.1]),
        _set("commit", "rev", value="main"),
        _set("created", value="yesterday"),
        _set("timings", 0, "comment", value="fast"),
        _set("scores", 0, "values", value=[]),
    ],
    ids=[
        "no-commit",
        "no-triton",
        "no-iqr",
        "no-batch",
        "other-schema",
        "no-thread",
        "zero-time",
        "text-time",
        "other-unit",
        "no-run",
        "short-load",
        "branch-for-rev",
        "bad-date",
        "unknown-key",
        "no-value",
    ],
)
def test_a_bad_record_is_refused(good: Record, change: Callable[[Record], None]) -> None:
    bad = copy.deepcopy(good)
    change(bad)
    with pytest.raises(ValueError, match="benchmark record"):
        record.validate(bad)


def test_the_message_names_the_place(good: Record) -> None:
    bad = copy.deepcopy(good)
    bad["timings"][1]["runs"] = -3
    with pytest.raises(ValueError, match=r"\$\.timings\[1\]\.runs"):
        record.validate(bad)


def test_a_written_record_reads_back(good: Record, tmp_path: Path) -> None:
    path = record.write(good, tmp_path / "results")
    assert json.loads(path.read_text()) == good
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no temporary file is left


def test_a_refused_record_leaves_the_old_one(good: Record, tmp_path: Path) -> None:
    path = record.write(good, tmp_path)
    bad = {**good, "threads": 0}
    with pytest.raises(ValueError, match="threads"):
        record.write(bad, tmp_path)
    assert json.loads(path.read_text()) == good


def test_a_failed_write_leaves_no_debris(tmp_path: Path) -> None:
    target = tmp_path / "record.json"
    target.mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(OSError):
        record.write_text(target, "text")
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    ("device", "name"),
    [
        (None, "draem--some-cpu-r-7b13-2-cores--cpu-1-threads.json"),
        ("NVIDIA H100 80GB", "draem--some-cpu-r-7b13-2-cores--nvidia-h100-80gb.json"),
    ],
    ids=["cpu", "cuda"],
)
def test_the_file_name(good: Record, device: str | None, name: str) -> None:
    about = {"cpu": "Some CPU(R) 7B13", "cores": 2, "device": device}
    assert record.file_name({**good, "machine": about}) == name


def test_committed_records_fit_the_schema() -> None:
    for path in sorted(record.RESULTS.glob("*.json")):
        record.validate(json.loads(path.read_text()))
