"""Does our DRAEM train as good a segmenter as the per-image pipeline? Equal steps, equal seeds.

``python -m benchmarks.segmentation`` trains a small U-Net on synthetic anomalies over the normal
images of ``bsd_pitting``, once per seed and provider. For one seed the providers share the initial
weights and the order of the images; only the synthesis differs. Two tests follow: real pitting,
which is what counts and which varies much from seed to seed, and anomalies that the NumPy pipeline
makes of normal test images and unseen textures, which varies little and so tells small differences.
Each run's result is kept in ``--work`` and not repeated while its settings and sources stay.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import anoaug
from anoaug.checks import require
from anoaug.evaluation import metrics
from benchmarks import data, record, timing
from benchmarks.peers.draem_numpy import DraemNumpy
from benchmarks.unet import UNet, loss

Batch = tuple[torch.Tensor, torch.Tensor]  # images (B, 3, H, W) in [0, 1], masks (B, 1, H, W)
Synthesis = Callable[[data.Bytes], Batch]
PROVIDERS = ("anoaug", "numpy")
REAL = {
    "pixel_ap": metrics.pixel_average_precision,
    "pixel_auroc": metrics.pixel_auroc,
    "pro": metrics.pro,
}
METRICS = (*REAL, "synthetic_pixel_ap")
_UNSEEN = 6  # every sixth texture is kept for the synthetic test
_TEST_SEED = 1_000_003


@dataclass(frozen=True)
class Settings:
    """What both sides share; part of a run's identity.

    Args:
        size: Side of the images in pixels; the 256-pixel files are area-averaged to it.
        steps: Optimiser steps.
        batch: Images per step, drawn without replacement epoch by epoch.
        rate: Peak learning rate of AdamW, one cosine cycle.
        p: Probability of an anomaly.
    """

    size: int = 128
    steps: int = 600
    batch: int = 8
    rate: float = 2e-3
    p: float = 0.5


@dataclass(frozen=True)
class Data:
    """Decoded images, all of one size.

    Args:
        normal: Normal images to train on.
        textures: Textures to train on.
        test: Test images, real defects among them.
        masks: Their masks, 0 or 1.
        synthetic: Test images with anomalies made by the NumPy pipeline, (N, 3, H, W) in [0, 1].
        synthetic_masks: Their masks (N, 1, H, W).
    """

    normal: data.Bytes
    textures: data.Bytes
    test: data.Bytes
    masks: data.Bytes
    synthetic: torch.Tensor
    synthetic_masks: torch.Tensor


def collated(pipeline: DraemNumpy, images: data.Bytes) -> Batch:
    """The NumPy pipeline over decoded images, one by one."""
    results = [pipeline(image) for image in images]
    return (
        torch.from_numpy(np.stack([image for image, _, _ in results])),
        torch.from_numpy(np.stack([mask for _, mask, _ in results])),
    )


def load(root: Path, size: int) -> Data:
    """Read ``bsd_pitting`` and ``textures_cc0`` at ``size`` pixels."""
    pitting = root / "bsd_pitting"
    good = data.files(pitting / "test" / "good")
    bad = data.files(pitting / "test" / "pitting")
    truth = data.read(data.files(pitting / "ground_truth" / "pitting"), size, grey=True)
    if len(truth) != len(bad):
        raise ValueError(f"expected a mask for each of {len(bad)} images, got {len(truth)}")
    masks = np.zeros((len(good) + len(bad), size, size), dtype=np.uint8)
    masks[len(good) :] = truth > 127
    textures = data.read(data.files(root / "textures_cc0"), size)
    unseen = np.arange(len(textures)) % _UNSEEN == 0
    test = data.read([*good, *bad], size)
    pipeline = DraemNumpy(textures[unseen], seed=_TEST_SEED)
    synthetic = collated(pipeline, test[: len(good)].repeat(2, axis=0))
    normal = data.read(data.files(pitting / "train" / "good"), size)
    return Data(normal, textures[~unseen], test, masks, *synthetic)


def synthesis(provider: str, found: Data, p: float, seed: int) -> Synthesis:
    """From decoded (B, H, W, 3) images to a training batch, by one side or the other.

    Raises:
        ValueError: No such provider.
    """
    if provider == "numpy":
        pipeline = DraemNumpy(found.textures, seed=seed, p=p)
        return lambda images: collated(pipeline, images)
    if provider != "anoaug":
        raise ValueError(f"provider: expected one of {', '.join(PROVIDERS)}, got {provider!r}")
    textures = torch.from_numpy(found.textures).permute(0, 3, 1, 2).contiguous()
    bank = anoaug.TextureBank.from_tensors(textures)
    synth = anoaug.create("draem", textures=bank, p=p, seed=seed)

    def per_batch(images: data.Bytes) -> Batch:
        out = synth(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous())
        return out.image.float() / 255.0, out.mask

    return per_batch


def batches(count: int, batch: int, steps: int, seed: int) -> list[list[int]]:
    """``steps`` lists of image indices, shuffled anew each epoch."""
    rng = np.random.default_rng(seed)
    drawn: list[int] = []
    while len(drawn) < steps * batch:
        drawn += rng.permutation(count).tolist()
    return [drawn[i * batch : (i + 1) * batch] for i in range(steps)]


def train(provider: str, found: Data, settings: Settings, seed: int) -> UNet:
    """Train one network from scratch, with a progress bar."""
    tqdm = require("tqdm", "bench").tqdm
    make = synthesis(provider, found, settings.p, seed)
    torch.manual_seed(seed)
    network = UNet().train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.rate, total_steps=settings.steps, pct_start=0.1
    )
    order = batches(len(found.normal), settings.batch, settings.steps, seed)
    progress = tqdm(order, desc=f"{provider} seed {seed}", mininterval=2.0)
    for step, chosen in enumerate(progress):
        images, masks = make(found.normal[chosen])
        optimiser.zero_grad(set_to_none=True)
        cost = loss(network(images.contiguous(memory_format=torch.channels_last)), masks)
        cost.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            progress.set_postfix(loss=f"{cost.item():.3f}")
    return network.eval()


@torch.inference_mode()
def scores(network: UNet, images: torch.Tensor, batch: int = 16) -> torch.Tensor:
    """Anomaly maps (N, 1, H, W) of images in [0, 1]: the network's logits."""
    return torch.cat([network(part) for part in images.split(batch)])


@functools.cache
def fingerprint(provider: str) -> str:
    """Hash of the sources that a provider's result depends on, as they were when first asked."""
    here = Path(__file__).resolve().parent
    sources = [here / "segmentation.py", here / "unet.py", here / "data.py"]
    sources += [here / "peers" / name for name in ("draem_numpy.py", "texture_ops.py")]
    if provider == "anoaug":
        sources += sorted((record.ROOT / "anoaug").rglob("*.py"))
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def run_seed(
    provider: str, seed: int, settings: Settings, found: Data, work: Path
) -> dict[str, Any]:
    """One training and test, or its kept result."""
    identity = {
        "provider": provider,
        "seed": seed,
        "settings": asdict(settings),
        "sources": fingerprint(provider),
    }
    path = work / f"{provider}-seed{seed}.json"
    if path.exists():
        kept: dict[str, Any] = json.loads(path.read_text())
        if kept["identity"] == identity:
            print(f"kept: {path}")
            return kept
    begin = time.perf_counter()
    network = train(provider, found, settings, seed)
    maps = scores(network, torch.from_numpy(found.test).permute(0, 3, 1, 2).float() / 255.0)
    values = {name: metric(maps, found.masks) for name, metric in REAL.items()}
    values["synthetic_pixel_ap"] = metrics.pixel_average_precision(
        scores(network, found.synthetic), found.synthetic_masks
    )
    result = {"identity": identity, "seconds": time.perf_counter() - begin, "values": values}
    work.mkdir(parents=True, exist_ok=True)
    record.write_text(path, json.dumps(result, indent=1) + "\n")
    return result


def welch(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Difference of the means and the ends of its 95 % Welch interval.

    Raises:
        ValueError: Fewer than two values on a side, which say nothing about noise.
    """
    if min(len(ours), len(theirs)) < 2:
        raise ValueError(
            f"expected at least two seeds a side, got {len(ours)} and {len(theirs)}; add seeds"
        )
    difference = statistics.fmean(ours) - statistics.fmean(theirs)
    first, second = (statistics.variance(x) / len(x) for x in (ours, theirs))
    error = (first + second) ** 0.5
    if error == 0.0:
        return difference, difference, difference
    freedom = (first + second) ** 2 / (first**2 / (len(ours) - 1) + second**2 / (len(theirs) - 1))
    reach = float(require("scipy.stats", "bench").t.ppf(0.975, freedom)) * error
    return difference, difference - reach, difference + reach


def summary(results: dict[str, list[dict[str, Any]]], settings: Settings) -> list[dict[str, Any]]:
    """The ``scores`` of the record: per metric and provider, with the comparison where both ran."""
    lines: list[dict[str, Any]] = []
    for metric in METRICS:
        values = {name: [run["values"][metric] for run in runs] for name, runs in results.items()}
        for name, mine in values.items():
            line: dict[str, Any] = {
                "case": "bsd_pitting",
                "provider": name,
                "metric": metric,
                "parameters": {
                    **asdict(settings),
                    "seconds": [round(run["seconds"], 1) for run in results[name]],
                },
                "seeds": [run["identity"]["seed"] for run in results[name]],
                "values": mine,
                "mean": statistics.fmean(mine),
                "std": statistics.stdev(mine) if len(mine) > 1 else None,
            }
            peer = values.get("numpy")
            if name != "numpy" and peer and min(len(mine), len(peer)) > 1:
                difference, low, high = welch(mine, peer)
                line["versus"] = {
                    "provider": "numpy",
                    "difference": difference,
                    "low": low,
                    "high": high,
                    "within_seed_noise": low <= 0.0 <= high,
                }
            lines.append(line)
    return lines


def describe(line: dict[str, Any]) -> str:
    """One line of the summary as text."""
    spread = "" if line["std"] is None else f" +- {line['std']:.4f}"
    values = ", ".join(f"{value:.4f}" for value in line["values"])
    text = f"{line['metric']:18} {line['provider']:8} {line['mean']:.4f}{spread}  ({values})"
    versus = line.get("versus")
    if versus:
        verdict = "within" if versus["within_seed_noise"] else "OUTSIDE"
        text += (
            f"\n{'':18} minus {versus['provider']}: {versus['difference']:+.4f}, 95 % interval "
            f"[{versus['low']:+.4f}, {versus['high']:+.4f}]: {verdict} seed noise"
        )
    return text


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.segmentation", description=__doc__)
    parser.add_argument("--providers", nargs="+", choices=PROVIDERS, default=list(PROVIDERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=Settings.size)
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=record.ROOT / "build" / "segmentation")
    parser.add_argument("--out", type=Path, default=record.RESULTS, help="folder of the record")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> Path:
    """Run what is missing, print the comparison, write the record."""
    options = arguments(argv)
    settings = Settings(size=options.size, steps=options.steps)
    root = data.data_root()
    if root is None:
        raise ValueError("expected the shared data, got none; set ANOAUG_DATA to its folder")
    before = timing.load_average()
    found = load(root, settings.size)
    timing.settle_allocator()
    with timing.threads(options.threads):
        results = {
            provider: [
                run_seed(provider, seed, settings, found, options.work) for seed in options.seeds
            ]
            for provider in options.providers
        }
    about = f"bsd_pitting and textures_cc0 at {settings.size} pixels"
    entry = record.header("segmentation", torch.device("cpu"), options.threads, about, before)
    entry["scores"] = summary(results, settings)
    entry["load"]["after"] = timing.load_average()
    path = record.write(entry, options.out)
    print("\n".join(describe(line) for line in entry["scores"]))
    print(f"written: {path}")
    return path


if __name__ == "__main__":
    main()
