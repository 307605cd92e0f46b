"""The command line: cases fit together, the table keeps losses, a run leaves a valid record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

for _name in ("cv2", "PIL", "jsonschema", "tqdm"):
    pytest.importorskip(_name)

from benchmarks import cases, data, providers, record, run  # noqa: E402
from benchmarks.timing import Timing  # noqa: E402


def test_case_names_are_unique_within_a_suite() -> None:
    named = [(case.suite, case.name) for case in cases.CASES]
    assert len(named) == len(set(named))


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: f"{case.suite}-{case.name}")
def test_a_case_is_held_against_one_of_its_providers(case: cases.Case) -> None:
    assert case.baseline in case.providers
    assert case.suite in cases.SUITES


def test_least_traffic_of_a_pixel() -> None:
    assert {case.name: case.bytes_per_pixel() for case in cases.select("draem")} == {
        "draem": 3 + 3 + 4,
        "draem-float32": 3 + 12 + 4,
        "draem-every": 3 + 12 + 4,
    }


def test_an_unknown_suite_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of"):
        cases.select("poisson")


def test_an_unknown_provider_is_refused() -> None:
    inputs = data.Inputs(data.generated(2, 32, 0), data.generated(2, 32, 1), "generated")
    with pytest.raises(ValueError, match="provider"):
        providers.build("imgaug", cases.CASES[0], 2, torch.device("cpu"), inputs)


def test_the_table_names_a_loss() -> None:
    parameters = {"size": 64, "batch": 4, "dtype": "uint8 -> uint8"}
    base, slow = Timing([0.1]), Timing([0.2])
    lines = [
        record.timing_entry("c", "base", "cpu", parameters, base, ("base", base)),
        record.timing_entry("c", "slow", "cpu", parameters, slow, ("base", base)),
    ]
    rows = run.table(lines).splitlines()
    assert "slower" not in rows[1]
    assert rows[2].rstrip().endswith("0.50 (slower)")


def test_only_whole_batches_are_used() -> None:
    images = data.generated(5, 8, 0)
    assert [len(part) for part in providers.batches(images, 2)] == [2, 2]


@pytest.mark.parametrize("arguments", [["--size", "0"], ["--batch", "-1"], ["--suite", "x"]])
def test_bad_options_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        run.arguments(arguments)


COMPILING = ("draem", "cutpaste", "render")  # Numba takes its time, once


@pytest.mark.slow
@pytest.mark.parametrize(
    "suite", ["peers", *(pytest.param(name, id=f"compiled-{name}") for name in COMPILING)]
)
def test_a_small_run_leaves_a_valid_record(
    suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data, "data_root", lambda: None)
    options = ["--suite", suite, "--size", "64", "--batch", "2", "--seconds", "0.01"]
    (path,) = run.main([*options, "--out", str(tmp_path)])
    found = json.loads(path.read_text())
    record.validate(found)
    expected = [(case.name, name) for case in cases.select(suite) for name in case.providers]
    assert [(line["case"], line["provider"]) for line in found["timings"]] == expected
    assert found["inputs"].startswith("generated")
    assert "images/s" in capsys.readouterr().out


@pytest.mark.gpu
def test_a_small_run_on_cuda_tells_device_from_host(tmp_path: Path) -> None:
    options = ["--suite", "all", "--size", "64", "--batch", "4", "--seconds", "0.01"]
    paths = run.main([*options, "--device", "cuda", "--out", str(tmp_path)])
    names = set()
    for path in paths:
        found = json.loads(path.read_text())
        record.validate(found)
        assert found["machine"]["device"]
        names |= {line["provider"] for line in found["timings"]}
    assert {"anoaug", "anoaug host", "anoaug graph", "anoaug-capture", "numpy", "pil"} <= names
