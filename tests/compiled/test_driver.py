"""The compiled backend: what tests/test_cpu.py does not compare at length, and its surroundings."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import anoaug
from anoaug import Layer, Synthesizer, checks, masks, ops, sources
from anoaug.reference import blends as blends_reference
from anoaug.reference import masks as masks_reference
from anoaug.reference import sources as sources_reference
from tests.recipes import RECIPES, check, make, pictures

pytest.importorskip("numba")

from anoaug.compiled import arrays, blends, driver, loops, noise, numbers  # noqa: E402
from anoaug.compiled import masks as compiled_masks  # noqa: E402
from anoaug.compiled import sources as compiled_sources  # noqa: E402


def parts_of(module: Any, first: str) -> set[str]:
    """Public functions of a reference module whose first parameter has a name."""
    return {
        name
        for name, value in vars(module).items()
        if callable(value)
        and value.__module__ == module.__name__
        and value.__code__.co_varnames[:1] == (first,)
    }


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (loops, "TOLERANCE"),
        (numbers, "_UNIT"),
        (noise, "_GAIN"),
        (compiled_masks, "CHANNEL_KEY"),
        (compiled_sources, "BILINEAR"),
        (loops, "SPEC_VERSION"),
    ],
    ids=lambda given: given if isinstance(given, str) else given.__name__.rsplit(".", 1)[1],
)
def test_binaries_go_by_every_constant(
    module: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = loops._digest.__wrapped__()
    assert loops._digest.__wrapped__() == before
    value = getattr(module, name)
    monkeypatch.setattr(module, name, type(value)(value + 1))
    assert loops._digest.__wrapped__() != before


def test_every_constant_of_other_files_is_among_them() -> None:
    """What a compiled function reads from its module's globals, as Numba sees it."""
    known = {name for name, _ in loops._constants()}
    for module in loops._holders():
        functions = [one.py_func for one in vars(module).values() if hasattr(one, "py_func")]
        assert functions or module is arrays
        for function in functions:
            # Whatever is called comes from one of them too.
            assert function.__module__ in {one.__name__ for one in loops._holders()}
            for name, value in inspect.getclosurevars(function).globals.items():
                plain = not callable(value) and not inspect.ismodule(value)
                holder = function.__module__
                assert not plain or f"{holder}.{name}" in known, (holder, name)


def test_every_part_has_a_twin() -> None:
    weights = parts_of(blends_reference, "level")
    mixes = parts_of(blends_reference, "value")
    assert parts_of(masks_reference, "stack") == set(compiled_masks.NAMES)
    assert parts_of(sources_reference, "image") == set(compiled_sources.NAMES)
    assert (weights, mixes) == (set(blends.WEIGHTS), set(blends.MIXES))


def test_given_tensors_that_no_loop_reads_are_left_alone() -> None:
    readers = {
        name
        for name in compiled_masks.NAMES
        if "slots[" in inspect.getsource(getattr(masks_reference, name))
    }
    assert readers == set(compiled_masks.READ_SLOTS)
    given, other = (masks.Rectangle() & masks.Given(name) for name in ("first", "other"))
    layers = Synthesizer(Layer(given, sources.Noise()), Layer(other, sources.Noise()))
    layout = anoaug.recipe.layout(anoaug.recipe.layout_of(layers.laws(3)))
    assert driver.read_slots(layout, -1) == [0, 1]
    alone = layout._replace(layers=layout.layers[1:])
    assert (driver.read_slots(alone, -1), driver.read_slots(alone, 3)) == ([1], [1, 3])
    slots = [torch.full((2, 1, 3, 4), value, dtype=torch.uint8) for value in (1, 0)]
    assert (driver._levels(slots, [1])[1] == -1).all() and driver._levels(slots, []).size == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_equals_the_reference(name: str) -> None:
    """On 8 bits; the slow part of tests/test_cpu.py has the other dtypes, sizes and layouts."""
    assert check(name, pictures(), "compiled").label.any()


NOISES: dict[str, Layer] = {
    "simplex mask": Layer(masks.Simplex(octaves=3), sources.Constant()),
    "simplex source": Layer(masks.Everywhere(), sources.Simplex()),
    "simplex source in colour": Layer(masks.Everywhere(), sources.Simplex(channelwise=True)),
    "fractal": Layer(masks.Fractal(), sources.Noise()),
    "white noise": Layer(masks.Everywhere(), sources.Noise(0.2, 0.7)),
    "boxes of white noise": Layer(masks.Rectangle(area=(0.1, 0.3)), sources.Noise(), count=(3, 4)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOISES)
def test_noises_equal_the_reference(name: str) -> None:
    image = pictures(size=(63, 50))
    ours, true = (
        Synthesizer(NOISES[name], p=1.0, seed=3, backend=backend)(image)
        for backend in ("compiled", "torch")
    )
    assert true.label.all()
    assert torch.equal(ours.image, true.image) and torch.equal(ours.mask, true.mask)


@pytest.mark.slow
def test_a_given_picture() -> None:
    image, what = pictures(batch=2), pictures(batch=2).flip(0)
    layer = Layer(masks.Rectangle(), sources.Given("what"))
    ours, true = (
        Synthesizer(layer, p=1.0, seed=3, backend=backend)(image, slots={"what": what})
        for backend in ("compiled", "torch")
    )
    assert true.label.all() and torch.equal(ours.image, true.image)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(threads: int) -> None:
    image = pictures(batch=4)
    alone = make("draem", backend="compiled")(image)
    torch.set_num_threads(threads)  # the suite's fixture sets it back
    together = make("draem", backend="compiled")(image)
    assert torch.equal(alone.image, together.image) and torch.equal(alone.mask, together.mask)


@pytest.mark.slow
def test_in_a_forked_worker() -> None:
    """The threads of the parent are not there any more."""
    torch.set_num_threads(2)
    image = pictures(batch=4)
    synth = make("cutpaste", backend="compiled")
    here = synth(image, index=range(4), epoch=0)

    def collate(samples: list[int]) -> Tensor:
        torch.set_num_threads(2)
        return synth(image, index=samples, epoch=0).image

    loader = torch.utils.data.DataLoader(
        range(4), 4, collate_fn=collate, num_workers=1, multiprocessing_context="fork"
    )
    assert torch.equal(next(iter(loader)), here.image)


@pytest.mark.slow
def test_inputs_are_not_modified() -> None:
    image = pictures()
    before = image.clone()
    make("cutpaste", backend="compiled")(image)
    assert torch.equal(image, before)


def test_a_part_from_outside_is_refused() -> None:
    layout = (
        anoaug.recipe.layout(anoaug.recipe.layout_of(make("draem").laws(3)))
        .layers[0]
        ._replace(mix="strange")
    )
    whole = anoaug.recipe.layout(anoaug.recipe.layout_of(make("draem").laws(3)))
    with pytest.raises(RuntimeError, match="'strange' has no compiled twin; use backend='auto'"):
        driver.program(whole._replace(layers=(layout,)))


def test_on_cuda_it_is_refused() -> None:
    with pytest.raises(RuntimeError, match="compiled.*cuda.*CPU alone"):
        ops.resolve_backend("compiled", torch.device("cuda"))


def test_without_numba_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = checks.require

    def require(module: str, extra: str) -> Any:
        return real("no_such_numba" if module == "numba" else module, extra)

    monkeypatch.setattr(checks, "require", require)
    with pytest.raises(ImportError, match=r"pip install 'anoaug\[compiled\]'"):
        make("draem", backend="compiled")(pictures())


@pytest.mark.slow
def test_the_import_of_anoaug_leaves_numba_alone() -> None:
    code = "import anoaug, sys; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_binaries_are_kept_on_disk() -> None:
    """A second process need not compile: the first one's binary is found by its key."""
    code = (
        "import torch, anoaug, warnings; warnings.simplefilter('ignore');"
        "s = anoaug.create('cutpaste', p=1.0, seed=0, backend='compiled');"
        "s(torch.zeros(1, 3, 8, 8, dtype=torch.uint8));"
        "from anoaug.compiled import loops;"
        "print(sum(loops.render_loop().stats.cache_hits.values()))"
    )
    make("cutpaste", backend="compiled")(pictures())
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "1"
