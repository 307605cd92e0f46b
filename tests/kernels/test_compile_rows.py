"""The row laws' kernel compiles for GPUs that are not here, to wide accesses and no spills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT

pytest.importorskip("triton")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cases() -> dict[str, dict[str, Any]]:
    """The report of a process in which Triton compiles instead of interpreting."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.row_report"],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)["cases"]


def test_every_law_was_compiled(cases: dict[str, dict[str, Any]]) -> None:
    from anoaug.reference.features.laws import LAWS

    assert set(LAWS) <= set(cases)
    assert {"jitter-sm80", "sphere-sm100", "project-backward", "lengths-noise"} <= set(cases)


def test_nothing_spills_to_local_memory(cases: dict[str, dict[str, Any]]) -> None:
    used = {n: (c["local"], c["stack"], c["local_accesses"]) for n, c in cases.items()}
    assert used == dict.fromkeys(cases, (0, 0, 0))


def test_rows_and_maps_are_read_and_written_16_bytes_wide(
    cases: dict[str, dict[str, Any]],
) -> None:
    for name, case in cases.items():
        if not name.startswith("lengths"):
            # Narrower ones are those of rows of no direction, which are rare.
            wide = case["stores"].count("STG.E.128")
            assert wide >= (4 if "bf16" not in name else 2), name
            assert "STG.E" not in case["stores"] or name.startswith(("push", "project")), name
        if name != "lengths-noise":
            assert "LDG.E.128" in case["loads"], name


def test_simple_laws_take_few_registers(cases: dict[str, dict[str, Any]]) -> None:
    # 64 Ki a multiprocessor, 128 threads a block: 8 blocks need at most 64 registers a thread.
    for name in ("ascend", "ascend-sm100", "jitter"):
        assert cases[name]["registers"] <= 64, name
    assert max(case["registers"] for case in cases.values()) <= 128
