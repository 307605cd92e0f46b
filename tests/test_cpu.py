"""One truth on the CPU: its driver and the kernels' interpreter equal the torch reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import anoaug
from anoaug import Layer, Synthesizer, ops
from anoaug.functional import field
from anoaug.masks import Perlin
from anoaug.sources import Noise
from tests.recipes import (
    DTYPES,
    FIELDS,
    LAYOUTS,
    RECIPES,
    RULES,
    SIZE,
    STATISTICS,
    assert_same,
    channels_last,
    check,
    make,
    pictures,
    sliced,
    small_box,
    textures,
    transposed,
)

# ---- the CPU's drivers ---------------------------------------------------------------------------

DRIVERS = ["auto", "compiled"]


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    """A backend that has a way of its own on the CPU."""
    if request.param == "compiled":
        pytest.importorskip("numba")
    return str(request.param)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_and_dtype(name: str, dtype: torch.dtype, driver: str) -> None:
    out = check(name, pictures(dtype), driver)
    # Guards the comparison itself: something must have been synthesised.
    assert out.label.any() and not torch.equal(out.image, out.clean)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 4, 5])
@pytest.mark.parametrize("name", ["draem", "cutpaste", "layers"])
def test_channels(name: str, channels: int, driver: str) -> None:
    assert check(name, pictures(channels=channels), driver).label.any()


@pytest.mark.slow
@pytest.mark.parametrize("size", [(225, 17), (2, 2), (24, 31), (40, 29)], ids=str)
@pytest.mark.parametrize("name", RECIPES)
def test_sizes(name: str, size: tuple[int, int], driver: str) -> None:
    """Thin, least, and those of the banks, where every place is a whole pixel."""
    check(name, pictures(size=size, batch=3), driver, p=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["draem", "layers"])
def test_a_large_image(name: str, driver: str) -> None:
    assert check(name, pictures(size=(1000, 700), batch=1), driver, p=1.0).label.all()


@pytest.mark.slow
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("name", ["draem", "cutpaste", "layers", "given"])
def test_batch_sizes(name: str, batch: int, driver: str) -> None:
    assert len(check(name, pictures(batch=batch), driver).image) == batch


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["draem", "cutpaste"])
def test_memory_layouts_change_nothing(
    name: str, dtype: torch.dtype, layout: str, driver: str
) -> None:
    image = pictures(dtype)
    out = check(name, LAYOUTS[layout](image), driver)
    plain = make(name, backend=driver)(image)
    assert torch.equal(out.image, plain.image) and torch.equal(out.mask, plain.mask)


@pytest.mark.parametrize(
    "given_as", [torch.bool, torch.uint8, torch.float32, torch.float16], ids=str
)
def test_given_tensors(given_as: torch.dtype, driver: str) -> None:
    assert check("given", pictures(), driver, given_as).label.any()


@pytest.mark.parametrize("name", ["draem", "layers", "feather"])
def test_foreground_confines(name: str, driver: str) -> None:
    image = pictures()
    inside = torch.zeros(3, 1, *SIZE, dtype=torch.bool)
    inside[..., 20:] = True
    fast = make(name, backend=driver)(image, foreground=inside)
    assert_same(fast, make(name, backend="torch")(image, foreground=inside))
    assert fast.label.any() and not fast.mask[~inside].any()


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["feather", "layers"])
def test_label_rules(name: str, dtype: torch.dtype, rule: dict[str, Any], driver: str) -> None:
    check(name, pictures(dtype, batch=6), driver, p=1.0, **rule)


@pytest.mark.slow
@pytest.mark.parametrize("made", [torch.float32, torch.float16, torch.bfloat16, None], ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("statistics", [STATISTICS, {}], ids=["normalised", "as is"])
def test_outputs(
    dtype: torch.dtype, made: torch.dtype | None, statistics: dict[str, Any], driver: str
) -> None:
    image = pictures(dtype)
    check("draem", image, driver, dtype=made, memory_format="channels_last", **statistics)


def test_gaussian_noise_within_its_stated_tolerance(driver: str) -> None:
    """A named exception: log, cos and sin may round differently in other places of a vector."""
    layer = Layer(Perlin((0, 3), 0.0), Noise(0.5, 0.1, "gaussian"))
    image = pictures(torch.float32)
    fast = Synthesizer(layer, p=1.0, seed=0, backend=driver)(image)
    true = Synthesizer(layer, p=1.0, seed=0, backend="torch")(image)
    assert torch.equal(fast.mask, true.mask)
    torch.testing.assert_close(fast.image, true.image, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("backend", DRIVERS)
@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(RECIPES)),
    dtype=st.sampled_from(DTYPES),
    channels=st.sampled_from([1, 3, 4, 5]),
    batch=st.integers(2, 4),
    size=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    layout=st.sampled_from(sorted(LAYOUTS)),
    rule=st.sampled_from([{}, *RULES]),
    seed=st.integers(-(2**63), 2**63 - 1),
)
def test_any_combination(
    backend: str, name: str, dtype: torch.dtype, channels: int, batch: int,
    size: tuple[int, int], layout: str, rule: dict[str, Any], seed: int,
) -> None:  # fmt: skip
    image = LAYOUTS[layout](pictures(dtype, batch, channels, size))
    check(name, image, backend, seed=seed, **rule)


@pytest.mark.parametrize("mask", FIELDS.values(), ids=FIELDS)
def test_field(mask: Any, driver: str) -> None:
    """The level itself, not only its sign."""
    size, rows = (41, 67), [0, 7, 2**40]
    ours = field(mask, size, rows, backend=driver)
    assert torch.equal(ours, field(mask, size, rows, backend="torch"))


# ---- the kernels' interpreter --------------------------------------------------------------------


@pytest.fixture
def interpreter(poisoned: None) -> None:
    if ops.triton_trouble() is not None:
        pytest.skip(f"{ops.triton_trouble()}")
    if not ops.interpreting():
        pytest.skip("TRITON_INTERPRET is not 1: the GPU suite compares the compiled kernels")


# Each interpreted program costs tens of milliseconds, so a case is two images in one tile each.
INTERPRETED: dict[str, tuple[str, Tensor, dict[str, Any]]] = {
    "draem": ("draem", pictures(batch=2), STATISTICS),
    "draem, 16 bits": ("draem", pictures(torch.uint16, 2), {"dtype": torch.float16, **STATISTICS}),
    "draem, half": ("draem", channels_last(pictures(torch.float16, 2)), {}),
    "draem, five channels": ("draem", channels_last(pictures(batch=2, channels=5)), {}),
    "octaves, float": ("octaves", pictures(torch.float32, 2), {"label": "soft"}),
    "cutpaste": ("cutpaste", pictures(batch=2), {"memory_format": "channels_last"}),
    "cutpaste, float": ("cutpaste", sliced(pictures(torch.float32, 2)), {}),
    "scar, grey": ("scar", transposed(pictures(batch=2, channels=1, size=(225, 17))), {}),
    "feather": ("feather", pictures(batch=2), {"label": "soft", "min_area": 300}),
    "feather, changed": ("feather", pictures(batch=2), RULES[0]),
    "shuffled": ("shuffled", channels_last(pictures(batch=2)), {}),
    "shuffled, 16 bits": ("shuffled", pictures(torch.uint16, 2), {}),
    "shuffled, five channels": ("shuffled", pictures(batch=2, channels=5, size=(24, 31)), {}),
    "donor": ("donor", pictures(torch.uint16, 2), {}),
    "batch donor": ("batch donor", pictures(batch=2), {}),
    "layers": ("layers", pictures(batch=2), {"label_rule": "changed", "tolerance": 0.1}),
    "layers, four channels": ("layers", pictures(torch.float16, 2, 4), {"label": "soft"}),
    "tiny": ("layers", pictures(batch=2, size=(2, 2)), {}),
    "given": ("given", pictures(batch=2), {}),
    "empty": ("layers", pictures(batch=0), {}),
}


@pytest.mark.slow
@pytest.mark.triton_interpreter
@pytest.mark.parametrize("case", INTERPRETED)
def test_interpreter(case: str, interpreter: None) -> None:
    name, image, keywords = INTERPRETED[case]
    check(name, image, "triton", p=1.0, **keywords)


@pytest.mark.slow
@pytest.mark.triton_interpreter
@pytest.mark.parametrize("given_as", [torch.uint8, torch.float32, torch.bfloat16], ids=str)
def test_interpreter_given_tensors(given_as: torch.dtype, interpreter: None) -> None:
    assert check("given", pictures(batch=2), "triton", given_as, p=1.0).label.any()


@pytest.mark.slow
@pytest.mark.triton_interpreter
@pytest.mark.parametrize("rule", ["footprint", "changed"])
def test_interpreter_over_several_tiles(
    rule: str, interpreter: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Area, label and the way back to normal cross the tiles of an image."""
    monkeypatch.setattr(ops, "INTERPRETED_TILE", 1024)
    keywords: dict[str, Any] = {"p": 1.0, "label_rule": rule, "tolerance": 0.2}
    areas = make("feather", **keywords)(pictures()).mask.flatten(1).sum(1)
    least = float(areas.median())
    out = check("feather", pictures(), "triton", min_area=least, **keywords)
    assert torch.equal(out.label, (areas >= least).long()) and 0 < out.label.sum() < 3


@pytest.mark.slow
@pytest.mark.triton_interpreter
@pytest.mark.parametrize("statistics", [STATISTICS, {}], ids=["normalised", "as is"])
def test_interpreter_bfloat16_within_one_unit(
    statistics: dict[str, Any], interpreter: None
) -> None:
    """The interpreter truncates float32 to bfloat16; hardware and torch round to nearest even."""
    image = pictures(torch.bfloat16, 2)
    ours = make("draem", backend="triton", p=1.0, **statistics)(image)
    true = make("draem", backend="torch", p=1.0, **statistics)(image)
    assert torch.equal(ours.mask, true.mask) and torch.equal(ours.label, true.label)
    assert ours.image.dtype == torch.bfloat16
    apart = ours.image.view(torch.int16).int() - true.image.view(torch.int16).int()
    assert apart.abs().max() <= 1


@pytest.mark.slow
@pytest.mark.triton_interpreter
def test_interpreter_field(interpreter: None) -> None:
    mask = Perlin(octaves=2) | small_box()
    ours, true = (field(mask, (41, 67), [3, 9], backend=name) for name in ("triton", "torch"))
    assert torch.equal(ours, true)


def test_the_published_methods_agree() -> None:
    image = pictures(batch=4)
    for name in ("draem", "destseg", "cutpaste", "cutpaste_scar", "cutpaste_union"):
        keywords: dict[str, Any] = {"seed": 0, "p": 1.0, "clean": "output"}
        if "textures" in anoaug.describe(name)["needs"]:
            keywords["textures"] = textures(3)
        fast, true = (anoaug.create(name, backend=b, **keywords) for b in ("auto", "torch"))
        assert_same(fast(image), true(image))
