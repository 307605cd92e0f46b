"""Parts from outside the package: registered, composed with its own, equal on every backend."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import anoaug
from anoaug import blends, masks, ops, parts, recipe, sources
from anoaug.reference.masks import f as column_of

try:
    import triton
    import triton.language as tl

    from anoaug.kernels.masks import f
except ImportError:
    triton = None

needs_triton = pytest.mark.skipif(ops.triton_trouble() is not None, reason="needs Triton")
jit: Any = (lambda function: function) if triton is None else triton.jit
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TEXTURES = anoaug.TextureBank.from_tensors(
    torch.randint(0, 256, (6, 3, 24, 20), generator=torch.Generator().manual_seed(6)).byte()
)
GREY = anoaug.Layer(masks.Everywhere(), sources.Constant((0, 1)), blends.Opacity())


# ---- a ring: kernel, twin, law ------------------------------------------------------------------


@jit
def ring_kernel(
    stack, row, y, x, b, pix, numel, slots, banks, OFF: tl.constexpr, OPT: tl.constexpr
):
    dy = y - f(row, OFF)
    dx = x - f(row, OFF + 1)
    square = dy * dy + dx * dx
    return (tl.minimum(f(row, OFF + 2) - square, square - f(row, OFF + 3)),) + stack


def ring_reference(
    stack: Any,
    row: Any,
    y: Any,
    x: Any,
    b: Any,
    pix: Any,
    slots: Any,
    banks: Any,
    offset: int,
    option: int,
) -> tuple[torch.Tensor, ...]:
    dy, dx = y - column_of(row, offset), x - column_of(row, offset + 1)
    square = dy * dy + dx * dx
    outer, inner = column_of(row, offset + 2), column_of(row, offset + 3)
    return (torch.minimum(outer - square, square - inner), *stack)


@parts.part
@dataclass(frozen=True)
class ToyRing(masks.MaskPart):
    """A ring about a random place; the radii are shares of the image's height."""

    radius: tuple[float, float] = (0.2, 0.4)

    function: ClassVar[str] = "toy_ring"

    @property
    def words(self) -> int:
        return 2

    def columns(self, channels: int) -> dict[str, int]:
        return dict.fromkeys(("cy", "cx", "outer", "inner"), 1)

    def sample(self, context: parts.Context) -> parts.Values:
        u = context.uniform(2)
        ones = np.ones(context.batch)
        return {
            "cy": u[0] * context.height,
            "cx": u[1] * context.width,
            "outer": ones * (self.radius[1] * context.height) ** 2,
            "inner": ones * (self.radius[0] * context.height) ** 2,
        }


parts.register_function("masks", "toy_ring", ring_kernel, ring_reference)


def with_ring(backend: str) -> anoaug.Synthesizer:
    mask = ToyRing() & (masks.Perlin(threshold=0.0) | masks.Rectangle())
    layer = anoaug.Layer(mask, sources.Texture(TEXTURES), blends.Opacity())
    return anoaug.Synthesizer(layer, GREY, seed=7, p=0.6, choose="one", backend=backend)


def test_an_outside_mask_is_where_its_law_says(images: torch.Tensor) -> None:
    layer = anoaug.Layer(ToyRing(), sources.Constant(1.0))
    synth = anoaug.Synthesizer(layer, p=1.0, seed=7)
    out = synth(images, index=range(4), epoch=0)
    columns = recipe.recipe(synth.laws(3)).describe(out.params.table.numpy())
    y, x = np.mgrid[: images.shape[2], : images.shape[3]]
    for n in range(4):
        cy, cx = (columns[f"layer0.mask.toyring.{name}"][n] for name in ("cy", "cx"))
        square = (y - cy).astype(np.float64) ** 2 + (x - cx).astype(np.float64) ** 2
        inside = (square > (0.2 * 63) ** 2) & (square < (0.4 * 63) ** 2)
        assert np.array_equal(out.mask[n, 0].numpy() > 0, inside)


def expect_equal(first: anoaug.AnomalyBatch, second: anoaug.AnomalyBatch) -> None:
    for name in ("image", "mask", "label", "kind"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name


def test_an_outside_mask_composes_on_the_cpu_as_in_the_reference(images: torch.Tensor) -> None:
    ours, truth = (
        with_ring(backend)(images, index=range(4), epoch=1) for backend in ("auto", "torch")
    )
    assert truth.kind.unique().tolist() == [0, 1]
    assert 0 < truth.mask.mean() < 1
    expect_equal(ours, truth)


@pytest.mark.slow
@pytest.mark.triton_interpreter
@needs_triton
def test_an_outside_mask_composes_in_the_kernel_as_in_the_reference(images: torch.Tensor) -> None:
    images = images.to(DEVICE)
    ours, truth = (
        with_ring(backend)(images, index=range(4), epoch=1) for backend in ("triton", "torch")
    )
    expect_equal(ours, truth)


# ---- the registry --------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["masks", "sources", "blends"])
def test_a_function_of_the_package_cannot_be_replaced(role: str) -> None:
    name = {"masks": "perlin", "sources": "noise", "blends": "over"}[role]
    with pytest.raises(ValueError, match="take another"):
        parts.register_function(role, name, None, ring_reference)


def test_a_function_from_outside_cannot_be_replaced_by_another() -> None:
    def other(*arguments: Any) -> Any:
        raise AssertionError("never called")

    try:
        with pytest.raises(ValueError, match="toy_ring"):
            parts.register_function("masks", "toy_ring", None, other)
    finally:
        # Recipes that are already compiled would go on with the first one.
        parts._FUNCTIONS["masks", "toy_ring"] = (ring_kernel, ring_reference)


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(ValueError, match="role: expected one of"):
        parts.register_function("mask", "toy", None, ring_reference)


def test_a_class_of_a_taken_name_is_refused() -> None:
    @dataclass(frozen=True)
    class Perlin(masks.MaskPart):
        pass

    with pytest.raises(ValueError, match="expected a new name, got 'Perlin'"):
        parts.part(Perlin)


def test_a_part_without_a_kernel_runs_on_the_reference_alone(images: torch.Tensor) -> None:
    parts.register_function("masks", "toy_ring_torch", None, ring_reference)

    @parts.part
    @dataclass(frozen=True)
    class ToyRingWithoutKernel(ToyRing):
        function: ClassVar[str] = "toy_ring_torch"

    layer = anoaug.Layer(ToyRingWithoutKernel(), sources.Constant(1.0))
    out = anoaug.Synthesizer(layer, p=1.0, seed=7, backend="torch")(images)
    assert out.label.sum() > 0
    with pytest.raises(RuntimeError, match="registered without a kernel"):
        parts.kernel_function("masks", "toy_ring_torch")


@needs_triton
def test_every_part_of_the_package_has_a_kernel_and_a_twin() -> None:
    modules = (masks, sources, blends)
    classes = itertools.chain.from_iterable(vars(module).values() for module in modules)
    named = {c for c in classes if isinstance(c, type) and hasattr(c, "function")}
    assert len(named) >= 14
    for part in named:
        assert callable(parts.reference_function(part.role, part.function))
        assert parts.kernel_function(part.role, part.function) is not None
