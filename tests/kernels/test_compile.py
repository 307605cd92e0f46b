"""The kernels compile for GPUs that are not here, to the machine code they are meant to become."""

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

FLOAT_CASES = ("draem-fp32", "union-fp32", "field")


@pytest.fixture(scope="module")
def cases() -> dict[str, dict[str, Any]]:
    """The report of a process in which Triton compiles instead of interpreting."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.compile_report"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)["cases"]


def test_every_target_was_compiled(cases: dict[str, dict[str, Any]]) -> None:
    assert {"draem-u8", "draem-u8-sm80", "draem-u8-sm100", "layers-u8", "field"} <= set(cases)
    assert {"gather-nhwc-u8", "gather-nhwc-u8-sm80", "gather-nhwc-u8-sm100"} <= set(cases)
    assert {"guidance-mixed-u8", "guidance-mixed-sm80", "paste-u8"} <= set(cases)
    assert all(case["instructions"] > 100 for case in cases.values())


def test_nothing_spills_to_local_memory(cases: dict[str, dict[str, Any]]) -> None:
    used = {n: (c["local"], c["stack"], c["local_accesses"]) for n, c in cases.items()}
    assert used == dict.fromkeys(cases, (0, 0, 0))


def test_no_multiply_and_add_is_fused(cases: dict[str, dict[str, Any]]) -> None:
    # A fused one rounds once where the reference rounds twice.
    assert {name: case["ffma"] for name, case in cases.items()} == dict.fromkeys(cases, 0)


def test_no_transcendental_instruction(cases: dict[str, dict[str, Any]]) -> None:
    # RCP stands in the division of the program number by the number of tiles, exact by correction.
    parity = [c for name, c in cases.items() if name != "layers-u8"]
    assert {op for case in parity for op in case["mufu"]} <= {"MUFU.RCP"}


@pytest.mark.parametrize("name", FLOAT_CASES)
def test_float_planes_are_stored_16_bytes_wide(cases: dict[str, dict[str, Any]], name: str) -> None:
    # 8-byte stores are label and kind, one each per sample.
    wide = [s for s in cases[name]["stores"] if s != "STG.E.64"]
    assert set(wide) == {"STG.E.128"}


@pytest.mark.parametrize(
    ("name", "width"),
    [("gather-nhwc-u8", "STG.E"), ("gather-nchw-u8", "STG.E"), ("gather-nhwc-fp32", "STG.E.128")],
)
def test_gathered_planes_are_stored_4_pixels_at_a_time(
    cases: dict[str, dict[str, Any]], name: str, width: str
) -> None:
    assert cases[name]["stores"] == [width] * 3
    # 64 Ki registers, 128 threads a block: 16 blocks fill a multiprocessor's 2048 threads.
    assert cases[name]["registers"] <= 32


def test_byte_planes_are_stored_4_pixels_at_a_time(cases: dict[str, dict[str, Any]]) -> None:
    assert not [s for s in cases["draem-u8"]["stores"] if s in ("STG.E.U8", "STG.E.U16")]


def test_registers_leave_room_for_three_blocks(cases: dict[str, dict[str, Any]]) -> None:
    # 64 Ki registers per multiprocessor, 128 threads per block: 3 blocks need at most 168.
    draem = {n: c["registers"] for n, c in cases.items() if n.startswith("draem")}
    assert max(draem.values()) <= 168, draem
