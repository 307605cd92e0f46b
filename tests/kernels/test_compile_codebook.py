"""The codebook kernel compiles for GPUs that are not here, in full float32 and without spills."""

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
        [sys.executable, "-m", "tests.kernels.codebook_report"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_nothing_spills_to_local_memory(cases: dict[str, dict[str, Any]]) -> None:
    assert {"fp32", "fp32-sm80", "fp32-sm100", "bf16"} == set(cases)
    used = {n: (c["local"], c["stack"], c["local_accesses"]) for n, c in cases.items()}
    assert used == dict.fromkeys(cases, (0, 0, 0))


def test_scores_are_full_float32(cases: dict[str, dict[str, Any]]) -> None:
    # Ranks depend on digits that TF32 drops.
    assert not any(case["tensor_cores"] for case in cases.values())
    assert all(case["ffma"] > 100 for case in cases.values())


def test_a_tile_fits_everywhere(cases: dict[str, dict[str, Any]]) -> None:
    # 256 threads a block: one has room if 64 Ki registers do; 48 KiB need no opt-in.
    assert all(case["registers"] <= 255 for case in cases.values())
    assert all(case["shared"] <= 48 << 10 for case in cases.values())
