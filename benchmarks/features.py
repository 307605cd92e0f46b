"""Time the ops on features against plain torch: ``python -m benchmarks.features``.

Every case is one op and the composition of torch functions that people write for it, on the same
tensors in the same run. On the CPU the peak of memory beyond the inputs is measured too. One table
with ratios is printed, losses included, and one record goes to ``benchmarks/results/``.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anoaug import features
from benchmarks import feature_fits as fits
from benchmarks import feature_ops as ops
from benchmarks import record, timing
from benchmarks.run import table
from benchmarks.timing import Work

Ours = Callable[[Tensor, str], Work]
Plain = Callable[[Tensor], Work]


@dataclass(frozen=True)
class Case:
    """One op on features against plain torch.

    Args:
        name: Unique.
        shape: Of the features on the CPU.
        large: On CUDA: that of the paper.
        ours: Makes the work of a backend from features.
        plain: Makes that of plain torch.
        passes: Least traffic, in features read or written; 0: not meaningful.
        note: What a reader must know to read the ratio rightly.
        backends: Whether the op has several; one without is timed once.
        same: Whether either side's result is the same, since nothing is drawn.
    """

    name: str
    shape: tuple[int, ...]
    large: tuple[int, ...]
    ours: Ours
    plain: Plain
    passes: int
    note: str = ""
    backends: bool = True
    same: bool = False


def of_method(name: str, **keywords: Any) -> Ours:
    """A method of the registry, called on the features."""

    def make(x: Tensor, backend: str) -> Work:
        perturb = features.create(name, seed=0, backend=backend, **keywords)
        return lambda: perturb(x)

    return make


def later_version(x: Tensor, backend: str) -> Work:
    """SuperSimpleNet's later version, with raw features."""
    perturb, raw = features.create("supersimplenet", seed=0, backend=backend), x.flip(0)
    return lambda: perturb(x, raw=raw)


def plain_noise(x: Tensor) -> Work:
    """SimpleNet's noise of one strength."""
    return lambda: x + torch.randn_like(x) * 0.015


def plain_mixture(x: Tensor) -> Work:
    """SimpleNet's mixture: every strength drawn, one chosen for each row."""

    def work() -> object:
        strengths = [torch.randn_like(x) * (0.015 * 1.1**k) for k in range(3)]
        chosen = torch.nn.functional.one_hot(torch.randint(0, 3, x.shape[:1], device=x.device), 3)
        return x + (torch.stack(strengths, 1) * chosen[..., None]).sum(1)

    return work


def lattice_perlin(side: int, rows: int, columns: int) -> Tensor:
    """Perlin noise from a dense lattice of gradients, as the public codes have it."""
    dy, dx = side // rows, side // columns
    y, x = torch.meshgrid(torch.arange(side) / dy % 1, torch.arange(side) / dx % 1, indexing="ij")
    angle = 2 * math.pi * torch.rand(rows + 1, columns + 1)
    gradients = torch.stack((torch.cos(angle), torch.sin(angle)), -1)

    def corner(down: int, right: int) -> Tensor:
        part = gradients[down : rows + down, right : columns + right]
        part = part.repeat_interleave(dy, 0).repeat_interleave(dx, 1)
        return (y - down) * part[..., 0] + (x - right) * part[..., 1]

    def fade(t: Tensor) -> Tensor:
        return t**3 * (t * (t * 6 - 15) + 10)

    top = torch.lerp(corner(0, 0), corner(1, 0), fade(y))
    bottom = torch.lerp(corner(0, 1), corner(1, 1), fade(y))
    return math.sqrt(2) * torch.lerp(top, bottom, fade(x))


def plain_copies(x: Tensor, raw: bool = False) -> Work:
    """SuperSimpleNet's generator: both copies, a Perlin mask each, one by one."""
    batch, side = len(x), x.shape[2]
    other = x.flip(0) if raw else None
    real = torch.zeros(batch, 1, side, side, device=x.device)
    label = torch.zeros(batch, device=x.device)

    def mask() -> Tensor:
        rows, columns = (2 ** torch.randint(0, 6, (2,))).tolist()
        inside = (lattice_perlin(side, rows, columns) > 0.2).float()
        return inside if torch.rand(1) <= 0.5 else torch.zeros_like(inside)

    def work() -> object:
        both, masks, labels = torch.cat((x, x)), torch.cat((real, real)), torch.cat((label, label))
        noise = torch.normal(0.0, 0.015, both.shape, device=x.device)
        where = torch.ones_like(masks) * (1 - masks)
        where = where * torch.stack([mask()[None] for _ in range(2 * batch)]).to(x.device)
        masks = torch.where(masks + where > 0, 1, 0)
        labels = torch.where(labels + masks.flatten(1).any(1) > 0, 1, 0)
        moved = both + noise * where
        if other is None:
            return moved, masks, labels
        return moved, torch.cat((other, other)) + noise * where, masks, labels

    return work


def codes_and_mask(x: Tensor) -> tuple[Tensor, Tensor]:
    """DSR's number of codes, and a mask of a tenth of the positions, in one block per image."""
    codes = torch.randn(4096, x.shape[1], generator=torch.Generator().manual_seed(1)) * 0.25
    mask = torch.zeros(len(x), 1, *x.shape[2:])
    side = round(x.shape[2] * 0.1**0.5)
    mask[:, :, 2 : 2 + side, 3 : 3 + side] = 1.0
    return codes.to(x.device), mask.to(x.device)


def code_swap(x: Tensor, backend: str) -> Work:
    """DSR's swap under a given mask."""
    codes, mask = codes_and_mask(x)
    perturb = features.create("dsr", seed=0, codebook=codes, backend=backend)
    return lambda: perturb(x, anomaly=mask)


def plain_code_swap(x: Tensor) -> Work:
    """DSR's generator: image by image, all distances in order, a choice at every position."""
    codes, mask = codes_and_mask(x)
    count, first = len(codes), int(0.05 * len(codes))

    def work() -> object:
        swapped = []
        for image in x:
            rows = image.flatten(1).T
            limit = min(int((0.2 + 0.8 * torch.rand(1).item()) * count) + 1, count - 1)
            apart = torch.cdist(rows, codes)
            near = apart.topk(limit, dim=1, largest=False).indices[:, first:]
            pick = torch.randint(0, near.shape[1], (len(rows), 1), device=x.device)
            swapped.append(codes[near.gather(1, pick)[:, 0]].T.view_as(image))
        return torch.where(mask > 0, torch.stack(swapped), x)

    return work


ROWS, LARGE_ROWS = (2592, 768), (10368, 1536)
TOKENS, LARGE_TOKENS = (8, 324, 768), (8, 1296, 1536)
DINO, LARGE_DINO = (4, 1369, 384), (8, 1369, 1024)
MAPS, LARGE_MAPS = (4, 384, 64, 64), (32, 1536, 64, 64)
CASES = (
    Case("simplenet", ROWS, LARGE_ROWS, of_method("simplenet"), plain_noise, 2),
    Case(
        "simplenet-mixture", ROWS, LARGE_ROWS, of_method("simplenet", mixture=3), plain_mixture, 2
    ),
    Case("supersimplenet", MAPS, LARGE_MAPS, of_method("supersimplenet"), plain_copies, 3),
    Case(
        "supersimplenet-raw", MAPS, LARGE_MAPS, later_version,
        lambda x: plain_copies(x, raw=True), 6, "the later version: raw features too",
    ),
    Case(
        "codebook-swap", (2, 128, 32, 32), (8, 128, 64, 64), code_swap, plain_code_swap, 2,
        "4096 codes, a tenth of the positions masked; the composition takes all positions",
    ),
    Case("uniad-jitter", (16, 196, 272), (64, 196, 272), ops.uniad, ops.plain_uniad, 2),
    Case("annulus-project", ROWS, LARGE_ROWS, ops.annulus, ops.plain_annulus, 2, same=True),
    Case("ascent-step", ROWS, LARGE_ROWS, ops.ascent, ops.plain_ascent, 3, same=True),
    Case("radial-push", TOKENS, LARGE_TOKENS, ops.push, ops.plain_push, 2, same=True),
    Case(
        "distance-scaled", TOKENS, LARGE_TOKENS, ops.distance_scaled, ops.plain_distance_scaled, 2
    ),
    Case("geodesic-step", ROWS, LARGE_ROWS, ops.geodesic, ops.plain_geodesic, 2),
    Case(
        "glass-ascent", (256, 1536), LARGE_ROWS, ops.glass(cache=False), ops.plain_glass, 2,
        "20 steps; the discriminator takes most of the time",
    ),
    Case(
        "glass-cached", (256, 1536), LARGE_ROWS, ops.glass(cache=True), ops.plain_glass, 2,
        "20 steps with cache_first_linear",
    ),
    Case(
        "nearest", ROWS, LARGE_ROWS, ops.nearest, ops.plain_nearest, 1, "2048 codes",
        backends=False, same=True,
    ),
    Case(
        "quantile", ROWS, LARGE_ROWS, ops.quantile, ops.plain_quantile, 1,
        backends=False, same=True,
    ),
    Case(
        "token-select", DINO, LARGE_DINO, ops.token_select, ops.plain_token_select, 0,
        "the features' numbers are not looked at", backends=False,
    ),
    Case("patch-noise", DINO, LARGE_DINO, ops.patch_noise, ops.plain_patch_noise, 2),
    Case(
        "mixstyle", (8, 64, 56, 56), (32, 256, 56, 56), of_method("mixstyle", p=1.0),
        ops.plain_mixstyle, 2, backends=False,
    ),
    Case(
        "low-density", (1000, 128), (1000, 1024), ops.low_density, ops.plain_low_density, 0,
        "4 classes, the least likely of 10 000 samples each; the composition draws them",
        backends=False,
    ),
    Case(
        "knn-boundary", (1000, 128), (1000, 512), ops.boundary, ops.plain_boundary, 1,
        "the 300th neighbour, 3 points of 600 candidates", backends=False,
    ),
    Case("annulus-noise", ROWS, LARGE_ROWS, ops.annulus_noise, ops.plain_annulus_noise, 2),
    Case(
        "patch-copy", DINO, LARGE_DINO, ops.patch_copy, ops.plain_patch_copy, 2, backends=False
    ),
    Case(
        "patch-shuffle", DINO, LARGE_DINO, ops.patch_shuffle, ops.plain_patch_shuffle, 2,
        backends=False,
    ),
    Case(
        "token-mask", DINO, LARGE_DINO, ops.token_mask, ops.plain_token_mask, 2, backends=False
    ),
    Case(
        "masked-mix", (8, 64, 56, 56), (32, 256, 56, 56), ops.masked_mix, ops.plain_masked_mix, 2,
        backends=False, same=True,
    ),
    Case("dropout", TOKENS, LARGE_TOKENS, ops.dropout, ops.plain_dropout, 2),
    Case(
        "residual", ROWS, LARGE_ROWS, ops.residual, ops.plain_residual, 2, "2048 references",
        backends=False, same=True,
    ),
    Case(
        "score", (4, 64, 32, 32), (16, 256, 64, 64), ops.score, ops.plain_score, 2,
        "3 repeats; the network takes no time",
    ),
    Case(
        "random-subset", DINO, LARGE_DINO, fits.random_subset, fits.plain_random_subset, 0,
        "the features' numbers are not looked at", backends=False,
    ),
    Case(
        "drocc-ascent", (64, 768), LARGE_ROWS, fits.drocc, fits.plain_drocc, 2,
        "50 steps; the discriminator takes most of the time",
    ),
    Case(
        "centres", TOKENS, LARGE_TOKENS, fits.centres, fits.plain_centres, 1,
        "one update", backends=False, same=True,
    ),
    Case(
        "centres-matched", TOKENS, LARGE_TOKENS, fits.matched, fits.plain_matched, 1,
        "one update; the composition goes mean by mean", backends=False, same=True,
    ),
    Case(
        "codebook-update", ROWS, LARGE_ROWS, fits.code_update, fits.plain_code_update, 1,
        "1024 codes", backends=False, same=True,
    ),
    Case(
        "codebook-fit", ROWS, LARGE_ROWS, fits.code_fit, fits.plain_code_fit, 11,
        "64 codes, 10 rounds; ours seeds by k-means++, the composition by random rows",
        backends=False,
    ),
    Case(
        "radius", TOKENS, LARGE_TOKENS, fits.radius, fits.plain_radius, 1,
        backends=False, same=True,
    ),
    Case(
        "radius-masked", TOKENS, LARGE_TOKENS, fits.masked_radius, fits.plain_masked_radius, 1,
        "three of four positions", backends=False, same=True,
    ),
)  # fmt: skip
BACKENDS = {"anoaug": "auto", "anoaug-compiled": "compiled"}


def peak_bytes(work: Work) -> int:
    """How far the resident memory rises above its level before, while the work is done once."""
    work()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    status = Path("/proc/self/status")

    def kilobytes(field: str) -> int:
        lines = status.read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith(field)).split()[1])

    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins anew
    before = kilobytes("VmRSS")
    result = work()
    peak = kilobytes("VmHWM")
    del result
    return (peak - before) * 1024


def run_case(
    case: Case, device: torch.device, seconds: float, bandwidth: float | None
) -> list[dict[str, Any]]:
    """Time the contestants of a case and return their lines."""
    cuda = device.type == "cuda"
    shape = case.large if cuda else case.shape
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).mul_(0.25).to(device)
    works = {"torch": case.plain(x)}
    for name, backend in BACKENDS.items():
        if backend == "auto" or (case.backends and not cuda):
            works[name] = case.ours(x, backend)
    compare = timing.compare_cuda if cuda else timing.compare_cpu
    measured = compare(works, seconds=seconds)
    floor = case.passes * x.numel() * x.element_size() or None
    lines = []
    for name, result in measured.items():
        parameters: dict[str, Any] = {
            "size": shape[-1], "batch": shape[0], "dtype": "float32", "work": "features",
            "method": case.name, "shape": list(shape),
        }  # fmt: skip
        if case.note:
            parameters["note"] = case.note
        if not cuda:
            parameters["peak_bytes"] = peak_bytes(works[name])
        lines.append(
            record.timing_entry(
                case.name,
                name,
                device.type,
                parameters,
                result,
                baseline=("torch", measured["torch"]),
                traffic=floor,
                bandwidth=bandwidth,
            )  # fmt: skip
        )
    return lines


def main(argv: list[str] | None = None) -> Path:
    """Run, print, write; returns the path of the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features", description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=[case.name for case in CASES])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--seconds", type=float, default=3.0, help="per contestant and case")
    parser.add_argument("--out", type=Path, default=record.RESULTS, help="folder of the record")
    options = parser.parse_args(argv)
    device = torch.device(options.device)
    bandwidth = timing.copy_bandwidth(device) if device.type == "cuda" else None
    before = timing.load_average()
    lines: list[dict[str, Any]] = []
    with timing.threads(options.threads):
        for case in CASES:
            if not options.cases or case.name in options.cases:
                lines += run_case(case, device, options.seconds, bandwidth)
    about = "normal numbers of standard deviation 0.25"
    entry = record.header("features", device, options.threads, about, before)
    entry["timings"] = lines
    entry["load"]["after"] = timing.load_average()
    if bandwidth:
        entry["machine"]["copy_gigabytes_per_second"] = bandwidth / 1e9
    path = record.write(entry, options.out)
    print(table(lines))
    for line in lines:
        if "peak_bytes" in line["parameters"]:
            peak = line["parameters"]["peak_bytes"] / 2**20
            print(f"{line['case']:20} {line['provider']:16} peak {peak:8.1f} MiB")
    print(f"written: {path}")
    return path


if __name__ == "__main__":
    main()
