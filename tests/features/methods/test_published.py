"""Registered methods say what they are: their papers' numbers, by description and file."""

from __future__ import annotations

import pkgutil
from typing import Any

import pytest

from anoaug import features
from anoaug.features import methods

from .making import NAMES, every

# The papers' numbers, as ``describe(name)["defaults"]`` has to show them.
PUBLISHED: dict[str, dict[str, Any]] = {
    "dsr": {
        "codebook": None, "skip": 0.05, "strength": (0.2, 1.0), "p": 0.5, "log2_cells": (0, 5),
        "threshold": 0.5, "rotation": (-90.0, 90.0), "image": (256, 256), "quantise": False,
    },
    "manifold_mixup": {"alpha": 2.0, "per": "batch", "anomalous": False},
    "mixstyle": {"p": 0.5, "alpha": 0.1, "mix": "random", "eps": 1e-6},
    "noisy_bottleneck": {"p": 0.2},
    "npos": {
        "categories": 1, "length": 1000, "k": 300, "boundary": 200, "points": 3,
        "candidates": 600, "sigma": 0.1, "keep": 2, "count": None,
    },
    "vos": {
        "categories": 1, "length": 1000, "per": "category", "draws": 10_000, "select": 1,
        "count": None, "ridge": 1e-4, "every": 1,
    },
    "aminet": {"share": (0.0, 1.0), "scale": 20.0, "token": None},
    "annulus": {"sigma": None, "radius": None, "ratio": None, "rel_width": None},
    "cras": {"sigma": 0.015, "k": 0.3, "categories": 1, "centres": None, "share": True},
    "drocc": {
        "discriminator": None, "sigma": 1.0, "steps": 50, "step_size": 0.001, "every": 10,
        "radius": None, "relative_radius": None, "gamma": 2.0, "bn": "track", "sees": "features",
        "cache_first_linear": False,
    },
    "glass": {
        "discriminator": None, "sigma": 0.015, "steps": 20, "step_size": 0.001, "every": 5,
        "mode": "manifold", "radius": None, "relative_radius": None, "spread": 2.0,
        "quantile": 0.75, "centre": None, "bn": "track", "mining": True, "sees": "features",
        "cache_first_linear": False, "convention": "original",
    },
    "generalad": {
        "mode": "random", "sigma": None, "radius": None, "ratio": None, "most": None,
    },
    "geodesic": {"angle": None, "length": None, "curvature": None},
    "pbas": {"k": 0.25, "centres": None, "share": True, "on_zero": "direction"},
    "supersimplenet": {
        "sigma": None, "radius": None, "threshold": 0.2, "log2_cells": (0, 5), "pattern": None,
        "perlin": True, "no_anomaly": "empty", "p_no_anomaly": 0.5, "overlap": False, "bad": True,
        "rescue": False, "rounding": "nearest",
    },
    "simplenet": {
        "sigma": None, "radius": None, "ratio": None, "mixture": 1, "growth": 1.1,
        "rounding": "nearest",
    },
    "uniad": {
        "scale": None, "ratio": None, "p": 1.0, "per": "batch", "direction": "gaussian",
    },
}  # fmt: skip


def test_every_file_registers_a_method() -> None:
    files = {module.name for module in pkgutil.iter_modules(methods.__path__)}
    assert files == {methods.get(n).build.__module__.rsplit(".", 1)[1] for n in NAMES}


@every
def test_published_defaults(name: str) -> None:
    assert features.describe(name)["defaults"] == PUBLISHED[name]


@every
def test_a_description_says_what_it_is(name: str) -> None:
    told = features.describe(name)
    assert told["name"] == name and told["paper"] and told["matches"] and told["labels"]
    assert name in features.list_methods(told["family"])


@every
def test_an_unknown_keyword_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match="is not a keyword of it"):
        features.create(name, sigmma=0.1)
