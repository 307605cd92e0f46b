"""Compile the noise kernels for GPUs that are not here and print what came out, as JSON.

Run by ``test_compile_noise.py`` in a process of its own, see ``compile_report``.
"""

from __future__ import annotations

import json
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from anoaug import ops
from anoaug.features import masks
from anoaug.kernels.features import duplicates, noise
from tests.kernels.compile_report import report

# name: dtype, whether channels lie side by side, flags, arch; features [32, 4096, 1536]
NOISE_CASES: dict[str, tuple[str, bool, dict[str, Any], int]] = {
    "noise-maps": ("fp32", False, {}, 90),
    "noise-rows": ("fp32", True, {}, 90),
    "noise-mixture": ("fp32", True, {"MIXTURE": 3}, 90),
    "noise-masked-bf16": ("bf16", False, {"INSIDE": True}, 90),
    "noise-rows-bf16": ("bf16", True, {}, 90),
    "noise-stochastic": ("bf16", True, {"STOCHASTIC": True}, 90),
    "noise-maps-fp16": ("fp16", False, {"STOCHASTIC": True}, 90),
    "noise-maps-sm80": ("fp32", False, {}, 80),
    "noise-rows-sm80": ("fp32", True, {}, 80),
    "noise-maps-sm100": ("fp32", False, {}, 100),
    "noise-rows-sm100": ("fp32", True, {}, 100),
}
# The same, and whether masks are drawn by Perlin's noise.
DUPLICATE_CASES: dict[str, tuple[str, bool, dict[str, Any], int]] = {
    "copies-maps": ("fp32", False, {}, 90),
    "copies-maps-raw": ("fp32", False, {"RAW": True}, 90),
    "copies-maps-real": ("fp32", False, {"REAL": True, "BAD": False, "ALLOWED": True}, 90),
    "copies-maps-given": ("fp32", False, {"DRAWN": False}, 90),
    "copies-rows": ("fp32", True, {}, 90),
    "copies-rows-raw": ("fp32", True, {"RAW": True}, 90),
    "copies-maps-bf16": ("bf16", False, {}, 90),
    "copies-rows-bf16": ("bf16", True, {"STOCHASTIC": True}, 90),
    "copies-maps-sm80": ("fp32", False, {}, 80),
    "copies-rows-sm80": ("fp32", True, {}, 80),
    "copies-maps-sm100": ("fp32", False, {}, 100),
    "copies-rows-sm100": ("fp32", True, {}, 100),
}
POSITIONS, CHANNELS = 4096, 1536


def compiled(
    kernel: Any, constants: dict[str, Any], pointers: dict[str, Any], last: bool, arch: int
) -> Any:
    """Compile a kernel; strides along the contiguous axis are 1, all else divides by 16."""
    names = kernel.arg_names
    strides = [n for n in names if n.endswith(("_g", "_p", "_c"))]
    one = {n for n in strides if n.endswith("_c" if last else "_p")}
    constants = constants | dict.fromkeys(one, 1)
    types = pointers | {"sigma": "fp32", "growth": "fp32"}
    signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in names}
    aligned = [n for n in (*pointers, *strides, "P", "C", "W") if n in names and n not in constants]
    source = ASTSource(
        kernel,
        signature,
        {(names.index(n),): value for n, value in constants.items()},
        {(names.index(n),): [["tt.divisibility", 16]] for n in aligned if n != "banks"},
    )
    options = {"enable_fp_fusion": False, "num_warps": noise.WARPS}
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


def compiled_noise(dtype: str, last: bool, flags: dict[str, Any], arch: int) -> Any:
    """Compile the noise kernel."""
    rows, quads = noise.tile_of(POSITIONS, CHANNELS, last)
    constants = {
        "INSIDE": False, "GAIN": False, "SPREAD": False, "MIXTURE": 1, "STOCHASTIC": False,
        "LAST": last, "BP": rows, "BQ": quads, **flags,
    }  # fmt: skip
    pointers = dict.fromkeys(("features", "out"), f"*{dtype}")
    pointers |= {"keys": "*i64", "inside": "*u8", "gain": "*fp32", "spread": "*fp32"}
    return compiled(noise.noise_kernel, constants, pointers, last, arch)


def compiled_duplicates(dtype: str, last: bool, flags: dict[str, Any], arch: int) -> Any:
    """Compile the kernel of both copies, with SuperSimpleNet's mask on a grid of 64 x 64."""
    drawing = masks.perlin_drawing((64, 64), 0.2, (0, 5), 0.5)
    recipe = ops.kernel_constants(drawing.layout, -1, False, False)
    rows, quads, rounds = duplicates.tile_of(POSITIONS, CHANNELS, last)
    constants = {
        **{n: recipe[n] for n in ("MASKS", "MASK_OFFS", "MASK_OPTS", "DIGEST")},
        "END": recipe["SPANS"][1], "DRAWN": True, "FULL": False, "ALLOWED": False, "REAL": False,
        "OVERLAP": False, "BAD": True, "RAW": False, "STOCHASTIC": False, "LAST": last,
        "BP": rows, "BQ": quads, "ROUNDS": rounds, **flags,
    }  # fmt: skip
    pointers: dict[str, Any] = dict.fromkeys(("features", "raw", "out", "raw_out"), f"*{dtype}")
    pointers |= dict.fromkeys(("mask", "given", "allowed", "real"), "*u8")
    pointers |= dict.fromkeys(("label_out", "keys", "label"), "*i64")
    pointers |= {"table": "*fp32", "banks": ("*u8",)}
    return compiled(duplicates.duplicate_kernel, constants, pointers, last, arch)


def main() -> None:
    """Print the report of every case."""
    result = {name: report(compiled_noise(*case)) for name, case in NOISE_CASES.items()}
    result |= {name: report(compiled_duplicates(*case)) for name, case in DUPLICATE_CASES.items()}
    print(json.dumps({"triton": triton.__version__, "cases": result}))


if __name__ == "__main__":
    main()
