"""Compile the row laws' kernel for GPUs that are not here and print what came out, as JSON.

Run by ``test_compile_rows.py`` in a process of its own, see ``compile_report``.
"""

from __future__ import annotations

import json
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from anoaug.kernels.features import laws, rows
from tests.kernels.compile_report import report

# name: law, backward, dtype, channels, whether they lie side by side, arch
CASES: dict[str, tuple[str, bool, str, int, bool, int]] = {
    **{law: (law, False, "fp32", 768, True, 90) for law in laws.LAWS},
    "jitter-backward": ("jitter", True, "fp32", 768, True, 90),
    "project-backward": ("project", True, "fp32", 768, True, 90),
    "sphere-backward": ("sphere", True, "fp32", 768, True, 90),
    "jitter-maps": ("jitter", False, "fp32", 768, False, 90),
    "project-maps": ("project", False, "fp32", 768, False, 90),
    "ascend-4096": ("ascend", False, "fp32", 4096, True, 90),
    "jitter-bf16": ("jitter", False, "bf16", 768, True, 90),
    "jitter-sm80": ("jitter", False, "fp32", 768, True, 80),
    "project-sm80": ("project", False, "fp32", 768, True, 80),
    "ascend-sm100": ("ascend", False, "fp32", 768, True, 100),
    "sphere-sm100": ("sphere", False, "fp32", 768, True, 100),
}
LENGTHS = {"lengths-features": (True, 90), "lengths-noise": (False, 90)}


def steps(together: bool) -> tuple[str, str, str]:
    """Types of strides: that of the contiguous axis is known to be 1."""
    return ("i64", "i32", "constexpr") if together else ("i64", "constexpr", "i32")


def ones(names: list[str], stepped: dict[str, int]) -> dict[tuple[int, ...], int]:
    """The strides of 1 as constants, by their paths."""
    return {(names.index(name), axis): 1 for name, axis in stepped.items()}


def compiled(law: str, backward: bool, dtype: str, channels: int, together: bool, arch: int) -> Any:
    """Compile a law for features ``[8, 784, C]``."""
    chosen = laws.LAWS[law]
    shape = rows.tile_shape(784, channels, together, rows.TILE)
    warps = shape.pop("num_warps")
    constants: dict[str, Any] = {
        "WEIGH": chosen.backward if backward else chosen.weigh, "MOVE": chosen.move,
        "BACKWARD": backward, "VECTOR": chosen.vector,
        "SUMS": chosen.sums or (backward and chosen.moves),
        "MOVES": chosen.returns if backward else chosen.moves, "ACROSS": chosen.across,
        "LOST": chosen.lost, "COLUMNS": 0, "INDEXED": False, "GIVEN": False, "MASKED": True,
        "SLOPES": backward and law == "project", "WHOLE": channels <= shape["BLOCK"], "DIGEST": "",
        **shape,
    }  # fmt: skip
    kernel = rows.rows_kernel
    names = kernel.arg_names
    if backward:
        # As the launcher has sizes of 1.
        constants["G"] = 1
    pointers = {
        **dict.fromkeys(("x", "o", "noise", "grad", "out"), f"*{dtype}"),
        **dict.fromkeys(("index", "keys"), "*i64"), "inside": "*u8",
        **dict.fromkeys(("columns", "slopes"), "*fp32"),
        **dict.fromkeys(("n0", "n1", "n2"), "fp32"),
        **dict.fromkeys(("x_steps", "o_steps", "noise_steps", "grad_steps", "out_steps"),
                        steps(together)),
        "inside_steps": ("i32", "constexpr"), "column_steps": ("i32", "i32", "i32"),
    }  # fmt: skip
    signature = {n: "constexpr" if n in constants else pointers.get(n, "i32") for n in names}
    axis = 2 if together else 1
    known = {(names.index(n),): value for n, value in constants.items()}
    known |= ones(
        names,
        {
            n: axis
            for n in pointers
            if n.endswith("_steps")
            and n[0] in "xonog"
            and n not in ("inside_steps", "column_steps")
        }
        | {"inside_steps": 1},
    )
    aligned = [(names.index(n),) for n in ("x", "o", "grad", "out", "keys", "P", "C")]
    for name in ("x_steps", "o_steps", "grad_steps", "out_steps"):
        aligned += [(names.index(name), other) for other in range(3) if other != axis]
    source = ASTSource(kernel, signature, known, {at: [["tt.divisibility", 16]] for at in aligned})
    options = {"enable_fp_fusion": False, "num_warps": warps}
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


def compiled_lengths(features: bool, arch: int) -> Any:
    """Compile the lengths of features ``[8, 784, 768]`` or of their noise."""
    shape = rows.tile_shape(784, 768, True, rows.TILE)
    warps = shape.pop("num_warps")
    constants = {"FEATURES": features, "INDEXED": False, **shape}
    kernel = rows.lengths_kernel
    names = kernel.arg_names
    types: dict[str, Any] = {
        "x": "*fp32", "o": "*fp32", "out": "*fp32", "index": "*i64", "keys": "*i64",
        "x_steps": steps(True), "o_steps": steps(True),
    }  # fmt: skip
    signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in names}
    known: dict[tuple[int, ...], Any] = {(names.index(n),): v for n, v in constants.items()}
    known |= ones(names, {"x_steps": 2, "o_steps": 2})
    aligned = [(names.index(n),) for n in ("x", "o", "out", "C")]
    aligned += [(names.index(n), axis) for n in ("x_steps", "o_steps") for axis in (0, 1)]
    source = ASTSource(kernel, signature, known, {at: [["tt.divisibility", 16]] for at in aligned})
    options = {"enable_fp_fusion": False, "num_warps": warps}
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


def main() -> None:
    """Print the report of every case."""
    result = {name: report(compiled(*case)) for name, case in CASES.items()}
    result |= {name: report(compiled_lengths(*case)) for name, case in LENGTHS.items()}
    print(json.dumps({"triton": triton.__version__, "cases": result}))


if __name__ == "__main__":
    main()
