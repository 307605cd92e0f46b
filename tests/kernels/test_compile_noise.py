"""The noise kernels compile for GPUs that are not here: no spills, wide accesses, known traffic."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from tests.conftest import ROOT

pytest.importorskip("triton")
pytestmark = pytest.mark.slow

Cases = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def cases() -> Cases:
    """The report of a process in which Triton compiles instead of interpreting."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.noise_report"],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)["cases"]


def test_every_kernel_is_compiled_for_three_generations(cases: Cases) -> None:
    for kernel in ("noise", "copies"):
        for order in ("maps", "rows"):
            assert {f"{kernel}-{order}{arch}" for arch in ("", "-sm80", "-sm100")} <= set(cases)


def test_nothing_spills_and_nothing_keeps_a_table(cases: Cases) -> None:
    used = {n: (c["local"], c["stack"], c["local_accesses"]) for n, c in cases.items()}
    assert used == dict.fromkeys(cases, (0, 0, 0))
    # Only square root and reciprocal: no slow path of a cosine.
    assert {op for case in cases.values() for op in case["mufu"]} <= {"MUFU.SQRT", "MUFU.RCP"}


def test_no_multiply_and_add_is_fused(cases: Cases) -> None:
    # Masks are equal bit for bit only so.
    assert {name: case["ffma"] for name, case in cases.items()} == dict.fromkeys(cases, 0)


def test_registers_leave_room_for_three_blocks(cases: Cases) -> None:
    # 64 Ki a multiprocessor, 128 threads a block: 3 blocks need at most 168 registers a thread.
    assert max(case["registers"] for case in cases.values()) <= 168


def vectors(case: dict[str, Any], kind: str) -> int:
    """Bytes of features that a thread moves, by 16-byte and (of 16-bit maps) 8-byte accesses."""
    counts = Counter(case[kind])
    prefix = "LDG" if kind == "loads" else "STG"
    # In the kernel of copies two 8-byte stores are the labels.
    labels = 2 if kind == "stores" and "STG.E.64" in counts else 0
    return 16 * counts[f"{prefix}.E.128"] + 8 * max(counts[f"{prefix}.E.64"] - labels, 0)


@pytest.mark.parametrize(
    "name", ["noise-maps", "noise-rows", "noise-rows-sm80", "noise-maps-sm100"]
)
def test_noise_reads_once_and_writes_once(cases: Cases, name: str) -> None:
    case = cases[name]
    assert case["stores"] == ["STG.E.128"] * 4 and case["loads"].count("LDG.E.128") == 4
    # The rest are the two words of the key.
    assert len(case["loads"]) == 6


@pytest.mark.parametrize("suffix", ["", "-sm80", "-sm100", "-raw"])
@pytest.mark.parametrize("order", ["maps", "rows"])
def test_copies_read_once_and_write_twice(cases: Cases, order: str, suffix: str) -> None:
    case = cases[f"copies-{order}{suffix}"]
    inputs = 2 if suffix == "-raw" else 1
    # 16 float32 values a thread: 64 bytes of every tensor, and both copies written.
    assert vectors(case, "loads") == 64 * inputs
    assert vectors(case, "stores") == 2 * 64 * inputs
    # At 32 x 1536 x 64 x 64 that is the floor: 2.4 GB, with raw features 4.8 GB.
    elements = 32 * 1536 * 64 * 64
    moved = (vectors(case, "loads") + vectors(case, "stores")) / 16 * elements / 1e9
    assert moved == pytest.approx(2.4159 * inputs, rel=1e-3)


def test_16_bit_copies_move_half(cases: Cases) -> None:
    for order in ("maps", "rows"):
        case = cases[f"copies-{order}-bf16"]
        assert (vectors(case, "loads"), vectors(case, "stores")) == (32, 64)
