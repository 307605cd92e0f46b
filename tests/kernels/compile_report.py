"""Compile the kernels for GPUs that are not here and print what came out, as JSON.

Run by ``test_compile.py`` in a process of its own, because the interpreter, once switched on,
leaves nothing to compile. ``python -m tests.kernels.compile_report`` prints the report.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import anoaug
from anoaug import blends, masks, ops, recipe, sources
from anoaug.kernels import gather, median, poisson, render
from anoaug.photometric import RandomOps

TYPES = {torch.uint8: "*u8", torch.uint16: "*u16", torch.float32: "*fp32", torch.bfloat16: "*bf16"}
BANK = anoaug.TextureBank.from_tensors(torch.arange(4 * 3 * 64).reshape(4, 3, 8, 8).byte())
TEXTURE = sources.Texture(BANK, RandomOps.draem())
SYNTHESIZERS = {
    "draem": anoaug.create("draem", textures=BANK),
    "cutpaste_union": anoaug.create("cutpaste_union"),
    "rdpp": anoaug.create("rdpp"),
    "memseg": anoaug.create("memseg", textures=BANK),
    "glass_las": anoaug.create("glass_las", textures=BANK),
    "fractal": anoaug.create("fractal"),
    "shapes": anoaug.Synthesizer(
        anoaug.Layer(
            masks.Shape(anoaug.ShapeBank.procedural("blob", n=2, size=32)), sources.Noise()
        )
    ),
    "simplex": anoaug.Synthesizer(
        anoaug.Layer(masks.Simplex(octaves=2), sources.Simplex(octaves=2, channelwise=True))
    ),
    "ellipses": anoaug.Synthesizer(
        anoaug.Layer(masks.CutPatch() & masks.Ellipses(), sources.Constant(0.0))
    ),
    "hiding": anoaug.Synthesizer(
        anoaug.Layer(masks.Cells() & masks.Superpixels(), sources.Constant(0.0))
    ),
    "four_layers": anoaug.Synthesizer(
        anoaug.Layer(
            masks.Perlin(octaves=2) & ~masks.Rectangle() | masks.Foreground(),
            TEXTURE,
            blends.Feather(),
        ),
        anoaug.Layer(masks.Rectangle(), sources.Noise(), blends.Hard(), count=(1, 2)),
        anoaug.Layer(masks.Rectangle(), sources.Constant(), blends.Opacity(mix="multiply")),
    ),
}
# name, synthesizer, input, output, interleaved, arch; 512 x 512 unless the name says odd
CASES = [
    ("draem-u8", "draem", torch.uint8, torch.uint8, False, 90),
    ("draem-u8-sm80", "draem", torch.uint8, torch.uint8, False, 80),
    ("draem-u8-sm100", "draem", torch.uint8, torch.uint8, False, 100),
    ("draem-u8-bf16", "draem", torch.uint8, torch.bfloat16, False, 90),
    ("draem-fp32", "draem", torch.float32, torch.float32, False, 90),
    ("draem-u16-odd", "draem", torch.uint16, torch.uint16, False, 90),
    ("draem-u8-nhwc", "draem", torch.uint8, torch.float32, True, 90),
    ("union-u8", "cutpaste_union", torch.uint8, torch.uint8, False, 90),
    ("union-u8-sm80", "cutpaste_union", torch.uint8, torch.uint8, False, 80),
    ("union-fp32", "cutpaste_union", torch.float32, torch.float32, False, 90),
    ("layers-u8", "four_layers", torch.uint8, torch.uint8, False, 90),
    ("draem-all-outputs", "draem", torch.uint8, torch.bfloat16, False, 90),
    ("draem-nhwc-out", "draem", torch.uint8, torch.uint8, True, 90),
    ("union-5-channels", "cutpaste_union", torch.uint8, torch.uint8, False, 90),
    ("union-grey", "cutpaste_union", torch.uint8, torch.uint8, False, 90),
    ("rdpp-u8", "rdpp", torch.uint8, torch.uint8, False, 90),
    ("memseg-u8", "memseg", torch.uint8, torch.uint8, False, 90),
    ("memseg-fp32-nhwc", "memseg", torch.float32, torch.float32, True, 90),
    ("glass-u8", "glass_las", torch.uint8, torch.uint8, False, 90),
    ("fractal-u8", "fractal", torch.uint8, torch.uint8, False, 90),
    ("shapes-u8", "shapes", torch.uint8, torch.uint8, False, 90),
    ("ellipses-u8", "ellipses", torch.uint8, torch.uint8, False, 90),
    ("hiding-u8", "hiding", torch.uint8, torch.uint8, False, 90),
    ("simplex-u8", "simplex", torch.uint8, torch.uint8, False, 90),
    ("field", "draem", torch.uint8, torch.uint8, False, 90),
]


# name, mode, dtype, interleaved, arch; the weight is uint8
POISSON_CASES = [
    ("guidance-mixed-u8", "mixed", torch.uint8, False, 90),
    ("guidance-mixed-nhwc", "mixed", torch.uint8, True, 90),
    ("guidance-normal-fp32", "normal", torch.float32, False, 90),
    ("guidance-mixed-sm80", "mixed", torch.uint8, False, 80),
    ("paste-u8", "paste", torch.uint8, False, 90),
]

# name, dtype, interleaved, arch
GATHER_CASES = [
    ("gather-nhwc-u8", torch.uint8, True, 90),
    ("gather-nhwc-u8-sm80", torch.uint8, True, 80),
    ("gather-nhwc-u8-sm100", torch.uint8, True, 100),
    ("gather-nchw-u8", torch.uint8, False, 90),
    ("gather-nhwc-fp32", torch.float32, True, 90),
]


def compiled(
    name: str, method: str, taken: torch.dtype, given: torch.dtype, nhwc: bool, arch: int
) -> Any:
    """Compile one case; returns Triton's compiled kernel."""
    synth = SYNTHESIZERS[method]
    everything = "all-outputs" in name
    channels = {"union-5-channels": 5, "union-grey": 1}.get(name, 3)
    layout = recipe.layout_of(synth.laws(channels, taken))
    constants = dict(
        ops.kernel_constants(layout, 0 if everything else -1, changed=everything, soft=everything)
    )
    by, bx = render.tile_shape(512, 512)
    kernel = render.field_kernel if name == "field" else render.render_kernel
    constants |= {
        "NORMALISE": taken != given,
        "CLEAN": everything,
        "INTEGER": not taken.is_floating_point,
        "C": channels,
        "CG": min(channels, 4),
        "IN_NHWC": nhwc,
        "OUT_NHWC": "nhwc-out" in name,
        "BY": by,
        "BX": bx,
        "END": constants["SPANS"][1],
    }
    pointers: dict[str, Any] = {
        "image": TYPES[taken],
        "out": "*fp32" if name == "field" else TYPES[given],
        "clean": TYPES[given],
        "slots": ("*u8",),
        "banks": ("*u8", "*u8"),
        "label": "*i64",
        "kind": "*i64",
        "mask": "*fp32",
        "table": "*fp32",
        "norm": "*fp32",
    }
    names = kernel.arg_names
    signature = {n: "constexpr" if n in constants else pointers.get(n, "i32") for n in names}
    # What the launcher's own specialisation finds for sizes that are multiples of 16.
    aligned = ["image", "out", "clean", "mask", "label", "kind", "table", "norm"]
    aligned += [] if "odd" in name else ["H", "W"]
    attributes = {(names.index(n),): [["tt.divisibility", 16]] for n in aligned if n in names}
    source = ASTSource(
        kernel,
        signature,
        {(names.index(n),): constants[n] for n in names if n in constants},
        attributes,
    )
    options = {"enable_fp_fusion": False, "num_warps": render.WARPS}
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


def compiled_poisson(name: str, mode: str, dtype: torch.dtype, nhwc: bool, arch: int) -> Any:
    """Compile a kernel of the Poisson correction for 512 x 512 images of 3 channels."""
    kernel = poisson.paste_kernel if mode == "paste" else poisson.guidance_kernel
    by, bx = render.tile_shape(508, 508, poisson.TILE_PIXELS)
    constants = {"MIXED": mode == "mixed", "C": 3, "DST_NHWC": nhwc, "SRC_NHWC": nhwc, "NHWC": nhwc,
                 "BY": by, "BX": bx, "PEAK": 255.0, "INTEGER": True, "CONFINE": True}  # fmt: skip
    pointers = dict.fromkeys(("destination", "source"), TYPES[dtype])
    pointers |= {"weight": "*u8", "rects": "*i32", "correction": "*fp32"}
    pointers["out"] = TYPES[dtype] if mode == "paste" else "*fp32"
    names = kernel.arg_names
    signature = {n: "constexpr" if n in constants else pointers.get(n, "i32") for n in names}
    aligned = [n for n in (*pointers, "H", "W") if n in names]
    source = ASTSource(
        kernel,
        signature,
        {(names.index(n),): constants[n] for n in names if n in constants},
        {(names.index(n),): [["tt.divisibility", 16]] for n in aligned},
    )
    options = {"enable_fp_fusion": False, "num_warps": render.WARPS}
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


def compiled_median(arch: int) -> Any:
    """Compile the median of a disc of radius 5."""
    kernel = median.median_kernel
    constants = {"RADIUS": 5, "HALF": 40, "BY": 4, "BX": 32}
    names, pointers = kernel.arg_names, dict.fromkeys(("values", "out"), "*fp32")
    signature = {n: "constexpr" if n in constants else pointers.get(n, "i32") for n in names}
    source = ASTSource(
        kernel,
        signature,
        {(names.index(n),): value for n, value in constants.items()},
        {(names.index(n),): [["tt.divisibility", 16]] for n in pointers},
    )
    options = {"num_warps": median.WARPS}
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


def compiled_gather(name: str, dtype: torch.dtype, nhwc: bool, arch: int) -> Any:
    """Compile the kernel that gathers samples, for 512 x 512 images of 3 channels."""
    kernel = gather.gather_kernel
    constants = {"C": 3, "INTERLEAVED": nhwc, "BLOCK": gather.TILE_PIXELS}
    names, pointers = kernel.arg_names, {"out": TYPES[dtype], "table": "*i64"}
    signature = {n: "constexpr" if n in constants else pointers.get(n, "i32") for n in names}
    source = ASTSource(
        kernel,
        signature,
        {(names.index(n),): value for n, value in constants.items()},
        {(names.index(n),): [["tt.divisibility", 16]] for n in (*pointers, "numel")},
    )
    options = {"num_warps": gather.WARPS, "enable_fp_fusion": False}
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


def tool(name: str) -> Path:
    """A program of the CUDA toolkit that lies inside the Triton wheel."""
    return Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name


def report(binary: Any) -> dict[str, Any]:
    """Registers, local memory, fused multiply-adds and access widths of a compiled kernel."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(binary.asm["cubin"])
        usage = subprocess.run(
            [tool("cuobjdump"), "-res-usage", cubin], capture_output=True, text=True, check=True
        ).stdout
        sass = subprocess.run(
            [tool("nvdisasm"), "-c", cubin], capture_output=True, text=True, check=True
        ).stdout
    numbers = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    return {
        "registers": numbers["REG"],
        "stack": numbers["STACK"],
        "local": numbers["LOCAL"],
        "local_accesses": len(re.findall(r"\b(?:LDL|STL)\b", sass)),
        "ffma": len(re.findall(r"\bFFMA\b", sass)),
        "mufu": sorted(set(re.findall(r"\bMUFU\.\w+", sass))),
        "stores": sorted(re.findall(r"\bSTG\.E(?:\.\w+)*", sass)),
        "loads": sorted(re.findall(r"\bLDG\.E(?:\.\w+)*", sass)),
        "instructions": len(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+\S", sass, re.M)),
    }


def main() -> None:
    """Print the report of every case."""
    result = {case[0]: report(compiled(*case)) for case in CASES}
    result |= {case[0]: report(compiled_poisson(*case)) for case in POISSON_CASES}
    result |= {case[0]: report(compiled_gather(*case)) for case in GATHER_CASES}
    result |= {"median": report(compiled_median(90)), "median-sm80": report(compiled_median(80))}
    print(json.dumps({"triton": triton.__version__, "cases": result}))


if __name__ == "__main__":
    main()
