"""Laws of the colour ops: choice, ranges, uniforms, settings that are refused."""

from __future__ import annotations

import dataclasses
import json
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from anoaug.photometric import ColorJitter, RandomOps

SETS = {
    "draem": RandomOps.draem(),
    "glass": RandomOps.glass(),
    "jitter": ColorJitter(0.1, 0.1, 0.1, 0.1),
}


# ---- laws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["draem", "glass"])
def test_each_op_is_drawn_equally_often_and_once(name: str) -> None:
    ops = SETS[name]
    n, batch = len(ops.ops), 40_000
    order = ops.choices(np.random.default_rng(15).random((ops.words, batch)))
    assert all((order[i] != order[j]).all() for i, j in ((0, 1), (0, 2), (1, 2)))
    for slot in order:
        share = np.bincount(slot, minlength=n) / batch
        assert np.abs(share - 1 / n).max() < 5 * np.sqrt(1 / n / batch)


@pytest.mark.parametrize(
    ("op", "parameter", "low", "high", "whole"),
    [
        ("gamma", "gamma0", 0.5, 2.0, False),
        ("gamma", "gamma2", 0.5, 2.0, False),
        ("brightness", "gain", 0.8, 1.2, False),
        ("brightness", "add", -30, 30, True),
        ("brightness", "space", 0, 5, True),
        ("brightness", "add_first", 0, 1, True),
        ("sharpness", "factor", 0.0, 2.0, False),
        ("hue_saturation", "hue", -50, 50, True),
        ("hue_saturation", "saturation", -50, 50, True),
        ("solarize", "on", 0, 1, True),
        ("solarize", "threshold", 32, 127, True),
        ("posterize", "bits", 1, 8, True),
        ("autocontrast", "cutoff", 0, 20, True),
        ("rotate", "angle", -np.pi / 4, np.pi / 4, False),
        ("contrast", "factor", 0.8, 1.2, False),
        ("gain", "factor", 0.8, 1.2, False),
        ("saturation_hue", "factor", 0.8, 1.2, False),
        ("saturation_hue", "hue", -0.2, 0.2, False),
        ("saturation_hue", "hue_first", 0, 1, True),
    ],
)
def test_law_of_parameter(op: str, parameter: str, low: float, high: float, whole: bool) -> None:
    ops = RandomOps((op,), 1)
    batch = 20_000
    drawn = ops.parameters(np.random.default_rng(16).random((ops.words, batch)))[op][parameter]
    spread = high - low
    if whole:
        assert set(np.unique(drawn)) == set(range(int(low), int(high) + 1))
        deviation = np.sqrt(((spread + 1) ** 2 - 1) / 12)
    else:
        assert low <= drawn.min() < low + 0.01 * spread
        assert high - 0.01 * spread < drawn.max() <= high
        deviation = spread / np.sqrt(12)
    assert abs(drawn.mean() - (low + high) / 2) < 5 * deviation / np.sqrt(batch)
    assert drawn.std() == pytest.approx(deviation, rel=0.03)


def test_gamma_is_independent_per_channel() -> None:
    drawn = RandomOps.draem().parameters(np.random.default_rng(17).random((18, 4000)))["gamma"]
    correlation = np.corrcoef([drawn[f"gamma{c}"] for c in range(3)])
    assert np.abs(correlation - np.eye(3)).max() < 0.08


def test_jitter_draws_every_order_and_range() -> None:
    jitter = ColorJitter(0.1, 0.2, 1.5, 0.3)
    u = np.random.default_rng(18).random((8, 12_000))
    counts = {order: 0 for order in permutations(range(4))}
    for order in jitter.choices(u).T:
        counts[tuple(int(i) for i in order)] += 1
    assert min(counts.values()) > 400 and max(counts.values()) < 600
    drawn = jitter.parameters(u)
    for op, key, low, high in (
        ("gain", "factor", 0.9, 1.1),
        ("contrast", "factor", 0.8, 1.2),
        ("saturation", "factor", 0.0, 2.5),
        ("hue", "hue", -0.3, 0.3),
    ):
        values = drawn[op][key]
        assert low <= values.min() < low + 0.01 and high - 0.01 < values.max() <= high


def test_words_of_the_presets() -> None:
    assert [ops.words for ops in (*SETS.values(), RandomOps.none())] == [18, 9, 8, 0]


def test_an_op_added_at_the_end_moves_nothing() -> None:
    few = RandomOps.draem()
    more = RandomOps((*few.ops, "contrast"), 3)
    u = np.random.default_rng(19).random((more.words, 50))
    before, after = few.parameters(u[: few.words]), more.parameters(u)
    for op in few.ops:
        for key, value in before[op].items():
            assert (value == after[op][key]).all()


@pytest.mark.parametrize("ops", [RandomOps.draem(), RandomOps.none(), ColorJitter(0.1, hue=0.2)])
def test_ops_are_hashable_and_survive_json(ops: Any) -> None:
    stored = json.loads(json.dumps(dataclasses.asdict(ops)))
    again = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    assert hash(type(ops)(**again)) == hash(ops)


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RandomOps(("gama",), 1), "gamma"),
        (lambda: RandomOps(("invert", "invert"), 1), "once"),
        (lambda: RandomOps(("invert",), 2), "count"),
        (lambda: RandomOps(("invert",), -1), "count"),
        (
            lambda: RandomOps(("brightness", "hue_saturation", "saturation_hue", "invert"), 4),
            "stages",
        ),
        (lambda: ColorJitter(brightness=-0.1), "brightness"),
        (lambda: ColorJitter(hue=0.6), "hue"),
        (lambda: ColorJitter(contrast=float("nan")), "contrast"),
    ],
)
def test_bad_settings_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("name", ["equalize", "autocontrast", "stretch"])
def test_missing_histograms_are_refused(name: str) -> None:
    ops = RandomOps(("invert", name), 1)
    assert ops.needs_histograms
    with pytest.raises(ValueError, match="histograms"):
        ops.stages(np.zeros((ops.words, 2)), 3, None)


@pytest.mark.parametrize(
    ("u", "channels", "histograms", "message"),
    [
        (np.zeros((8, 2)), 3, np.zeros((2, 3, 255), dtype=np.int64), "histograms"),
        (np.zeros((8, 2)), 3, np.zeros((1, 3, 256), dtype=np.int64), "histograms"),
        (np.zeros((7, 2)), 3, None, "u:"),
        (np.zeros(8), 3, None, "u:"),
        (np.ones((8, 2)), 3, None, "u:"),
        (np.full((8, 2), np.nan), 3, None, "u:"),
        (np.zeros((8, 2)), 0, None, "channels"),
    ],
)
def test_bad_arrays_are_refused(
    u: np.ndarray, channels: int, histograms: np.ndarray | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SETS["jitter"].stages(u, channels, histograms)
