"""Swapping a model's generators for those here."""

from __future__ import annotations

import inspect
import os
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import nn

from ... import ops
from .features import GlassAscentStep, SuperSimpleNetGenerator
from .images import DsrAnomalyGenerator, PerlinAnomalyGenerator
from .states import keep_beside

# The version that was tried; others may have moved what is swapped.
TESTED = (2, 7)
_STEP = "_gradient_ascent_step"


def accelerate(model: nn.Module, *, seed: int | None = None) -> dict[str, str]:
    """Swap a model's generators for those here, with the settings they have.

    Knows Draem, Glass (also its step of the gradient ascent), Dsr and SuperSimpleNet of anomalib 2;
    DSR's exchange of codes is left, and Dinomaly's dropout, for which torch is faster:
    :class:`DinomalyBottleneck` is put there by hand.

    Checkpoints stay anomalib's: the ``state_dict`` has the keys it had, in both directions. Where a
    run is in its random numbers goes into Lightning's checkpoints under ``"anoaug"``, so that one
    that is resumed goes on.

    Args:
        model: The Lightning module, before training.
        seed: 64-bit seed of what is put in.

    Returns:
        What was swapped: the attribute, and what was and what is there.

    Raises:
        TypeError: A model that has nothing to swap.
    """
    _warn_of_version()
    swapped: dict[str, str] = {}
    for path, module in list(model.named_modules()):
        made = None if _named(module).startswith("anoaug.") else _twin(module, seed)
        if made is None:
            continue
        owner, _, name = path.rpartition(".")
        setattr(model.get_submodule(owner), name, made)
        swapped[path] = f"{_named(module)} -> {_named(made)}"
    for path, module in model.named_modules():
        own = getattr(module, _STEP, None)
        if own is None or isinstance(own, GlassAscentStep) or not hasattr(module, "svd"):
            continue
        step = GlassAscentStep(int(module.svd))  # type: ignore[arg-type]
        setattr(module, _STEP, step)
        where = f"{path}.{_STEP}" if path else _STEP
        swapped[where] = f"{_named(module)}.{_STEP} -> {_named(step)}"
    if not swapped:
        raise TypeError(
            f"model: expected Draem, Glass, Dsr or SuperSimpleNet of anomalib, got "
            f"{type(model).__name__}, which has no generator to swap; put "
            "anoaug.loaders.lightning.AnomalyCallback(synth) among the Engine's callbacks"
        )
    keep_beside(model)
    return swapped


def _twin(module: Any, seed: int | None) -> nn.Module | None:
    """What stands here for one of anomalib's generators."""
    name = type(module).__name__
    if name == "PerlinAnomalyGenerator":
        paths = getattr(module, "anomaly_source_paths", [])
        folder = Path(os.path.commonpath([path.parent for path in paths])) if paths else None
        turned = tuple(float(end) for end in module.perlin_rotation_transform.degrees)
        return PerlinAnomalyGenerator(
            folder, module.probability, module.blend_factor, turned,  # type: ignore[arg-type]
            getattr(module, "dual_mask", False), seed=seed,
        )  # fmt: skip
    if name == "DsrAnomalyGenerator":
        return DsrAnomalyGenerator(module.p_anomalous, seed=seed)
    if name in ("AnomalyGenerator", "SSNAnomalyGenerator") and hasattr(module, "noise_std"):
        triple = "adapted_features" not in inspect.signature(module.forward).parameters
        return SuperSimpleNetGenerator(
            module.noise_mean, module.noise_std, module.threshold, triple=triple, seed=seed
        )
    return None


def _named(module: Any) -> str:
    return f"{type(module).__module__.partition('.')[0]}.{type(module).__name__}"


def _warn_of_version() -> None:
    """Say once that a version was not tried."""
    try:
        version = metadata.version("anomalib")
    except metadata.PackageNotFoundError:
        return
    number = tuple(int(part) for part in version.split(".")[:2])
    if number != TESTED:
        tried = ".".join(map(str, TESTED))
        ops._say_once(f"anoaug: tried with anomalib {tried}, got {version}")
