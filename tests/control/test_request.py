"""What a Control takes and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import anoaug
from anoaug.control import as_control
from tests.control.making import B, called, method


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 0.0}, r"size: expected numbers in \(0, 1\]"),
        ({"size": 1.5}, "size: expected"),
        ({"size": (0.3, 0.1)}, "low <= high"),
        ({"size": torch.tensor([0.1, -0.2])}, "size: expected numbers in"),
        ({"strength": -0.1}, "strength: expected"),
        ({"aspect": 0.0}, "aspect: expected"),
        ({"count": 1.5}, "count: expected whole numbers"),
        ({"count": 5}, "count: expected"),
        ({"location": (0.5, 1.2)}, "location: expected shares of the image"),
        ({"location": (40, 60)}, "divide pixels by the image's sides"),
        ({"location": (0.6, 0.1, 0.2, 0.5)}, "location: expected shares"),
        ({"location": (0.1, 0.2, 0.3)}, "location: expected a point"),
        ({"location": torch.tensor([[0.1, 0.2, 1.3, 0.5]])}, "location: expected shares"),
        ({"location": torch.zeros(1, 1, 4, 4)}, "some weight above 0"),
        ({"location": -torch.ones(1, 1, 4, 4)}, "weights >= 0"),
        ({"location": torch.full((1, 1, 4, 4), torch.nan)}, "finite weights"),
        ({"location": torch.ones(1, 3, 4, 4)}, "a map"),
        ({"location": torch.ones(2, 3)}, "points"),
        ({"unit": "grey"}, "unit: expected one of"),
        ({"size": float("nan")}, "size: expected a number or a pair .*got nan$"),
        ({"count": torch.tensor([1.0, 1.5])}, "count: expected whole numbers"),
        ({"location": np.array([0.5, 0.5])}, "a place for all samples is a tuple"),
        ({"location": torch.tensor([[0.5, torch.nan]])}, "all numbers are NaN"),
    ],
)
def test_values_out_of_range_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        anoaug.Control(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"size": "large"},
        {"kind": 1.5},
        {"kind": ()},
        {"kind": torch.tensor([0.5])},
        {"shape": np.array([0.5])},
        {"variation": "much"},
        {"variation": True},
        {"size": True},
        {"size": torch.ones(2, dtype=torch.bool)},
        {"size": torch.ones(2, dtype=torch.complex64)},
        {"size": np.array(["large", "small"])},
        {"location": ("left", "top")},
        {"location": (None, 0.5)},
    ],
)
def test_other_types_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"{next(iter(fields))}: expected"):
        anoaug.Control(**fields)


def test_a_dict_will_do_and_unknown_fields_name_the_nearest() -> None:
    made = as_control({"size": 0.1, "location": [0.1, 0.2]})
    assert made is not None and made.size == (0.1, 0.1) and made.location == (0.1, 0.2, 0.1, 0.2)
    with pytest.raises(ValueError, match="'sizes' is no field of it; did you mean size"):
        as_control({"sizes": 0.1})
    with pytest.raises(TypeError, match="control: expected anoaug.Control"):
        as_control(0.1)


def test_a_call_comes_field_by_field_before_the_synthesizer() -> None:
    own = anoaug.Control(size=0.1, strength=0.2, unit="difference")
    both = anoaug.Control(size=0.3).over(own)
    assert (both.size, both.strength, both.unit) == ((0.3, 0.3), (0.2, 0.2), "difference")


def test_its_repr_is_short() -> None:
    control = anoaug.Control(size=0.1, location=torch.ones(1, 1, 4, 4), kind="a", count=(1, 2))
    assert repr(control) == "Control(size=0.1, count=(1.0, 2.0), kind='a', location=<[1, 1, 4, 4]>)"


@pytest.mark.parametrize(
    ("control", "message"),
    [
        ({"size": torch.full((B + 1,), 0.1)}, "size: expected one value per sample, 8, got 9"),
        ({"location": torch.full((3, 2), 0.1)}, "location: expected one value per sample"),
        ({"location": torch.ones(3, 1, 96, 96)}, "location: expected one value per sample"),
        ({"location": torch.ones(1, 1, 40, 40)}, "expected a map of .*like the images"),
        ({"kind": torch.ones(2, dtype=torch.int64)}, "kind: expected one value per sample"),
        ({"kind": "memseg_paint"}, "'memseg_paint' is unknown; did you mean memseg"),
        ({"kind": 3}, "kind: expected numbers from 1 to 2"),
        ({"strength": 1.5}, r"strength: expected numbers in \[0, 1\] as weight"),
        ({"strength": 1.5, "unit": "sigma"}, "variation: expected one with unit='sigma'"),
    ],
)
def test_values_that_do_not_fit_the_call_are_refused(control: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        called(method("memseg"), control)


def test_more_copies_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match="count: expected at most 3 copies"):
        called(method("nsa", patches=3), {"count": 4})


def test_a_value_per_sample_needs_a_call() -> None:
    with pytest.raises(ValueError, match="control: expected one value or a range for all"):
        method("draem", control={"size": torch.tensor([0.1])})
    method("draem", control={"location": torch.ones(1, 1, 96, 96)})


def test_a_strength_needs_a_weight() -> None:
    with pytest.raises(ValueError, match="strength: expected a synthesizer whose .*control=True"):
        called(method("cutpaste", control=None), {"strength": 0.5})
    called(method("draem", control=None), {"strength": 0.5})


def test_a_replay_takes_no_control() -> None:
    synth = method("draem")
    out = called(synth)
    with pytest.raises(ValueError, match="control: expected none with params"):
        synth(out.image, params=out.params, control={"size": 0.1})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_values_on_a_device_are_refused() -> None:
    with pytest.raises(ValueError, match="size: expected a CPU tensor"):
        anoaug.Control(size=torch.tensor([0.1], device="cuda"))
