"""Compile the codebook kernel for GPUs that are not here and print what came out, as JSON.

Run by ``test_compile_codebook.py`` in a process of its own, as ``compile_report.py`` is.
"""

from __future__ import annotations

import json
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from anoaug.kernels.features import codebook
from tests.kernels.compile_report import TYPES, report

# name, dtype, architecture; DSR's 128 channels, K = 4096
CASES = [
    ("fp32", torch.float32, 90),
    ("fp32-sm80", torch.float32, 80),
    ("fp32-sm100", torch.float32, 100),
    ("bf16", torch.bfloat16, 90),
]


def compiled(dtype: torch.dtype, arch: int) -> Any:
    """Compile for features of a dtype, in DSR's NCHW order."""
    kernel = codebook.swap_kernel
    constants = {"BM": codebook.TOKENS, "BN": codebook.CODES, "BC": codebook.CHANNELS}
    pointers = {"features": TYPES[dtype], "out": TYPES[dtype]}
    pointers |= dict.fromkeys(("tokens", "total", "ranks", "number"), "*i64")
    pointers |= dict.fromkeys(("codes", "apart", "squares", "middle"), "*fp32")
    names = kernel.arg_names
    signature = {n: "constexpr" if n in constants else pointers.get(n, "i32") for n in names}
    aligned = [*pointers, "P", "C", "K", "in_g", "in_c", "out_g", "out_c"]
    source = ASTSource(
        kernel,
        signature,
        {(names.index(n),): value for n, value in constants.items()},
        {(names.index(n),): [["tt.divisibility", 16]] for n in aligned},
    )
    return triton.compile(
        source,
        target=GPUTarget("cuda", arch, 32),
        options={"num_warps": codebook.WARPS, "enable_fp_fusion": True},
    )


def main() -> None:
    """Print the report of every case."""
    result = {}
    for name, dtype, arch in CASES:
        binary = compiled(dtype, arch)
        result[name] = report(binary) | {"shared": binary.metadata.shared}
        result[name]["tensor_cores"] = "mma" in binary.asm["ptx"]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
