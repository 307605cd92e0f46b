"""AnomalyBatch: what its tensors are, and bounding boxes against brute force."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

import anoaug
from anoaug import AnomalyBatch, DonorBank, Layer, Params, Synthesizer
from anoaug.blends import Feather
from anoaug.masks import Rectangle
from anoaug.ops import interpreting, triton_trouble
from anoaug.sources import BatchDonor, Constant, Donor


def of_mask(mask: Tensor) -> AnomalyBatch:
    rows = torch.zeros(len(mask), dtype=torch.int64)
    image = torch.zeros(len(mask), 3, *mask.shape[2:])
    return AnomalyBatch(image, mask, rows, rows, None, Params(torch.zeros(len(mask), 4), ""), {})


def brute_force(mask: np.ndarray) -> list[int]:
    """x0, y0, x1, y1 of one mask ``[H, W]``, pixel by pixel."""
    inside = [(y, x) for y, line in enumerate(mask) for x, value in enumerate(line) if value > 0]
    if not inside:
        return [0, 0, 0, 0]
    rows, columns = zip(*inside, strict=True)
    return [min(columns), min(rows), max(columns) + 1, max(rows) + 1]


class TestBoxes:
    @pytest.mark.slow
    @given(
        masks=hnp.arrays(
            np.float32,
            hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9),
            elements=st.sampled_from([0.0, 0.0, 0.0, 0.0, 0.25, 1.0]),
        )
    )
    @settings(max_examples=200, deadline=None)
    def test_against_brute_force(self, masks: np.ndarray) -> None:
        boxes = of_mask(torch.from_numpy(masks)[:, None]).boxes()
        assert boxes.dtype == torch.int64
        assert boxes.tolist() == [brute_force(mask) for mask in masks]

    @pytest.mark.parametrize("corner", [(0, 0), (0, 49), (62, 0), (62, 49)])
    def test_a_pixel_in_a_corner(self, corner: tuple[int, int]) -> None:
        y, x = corner
        mask = torch.zeros(1, 1, 63, 50)
        mask[0, 0, y, x] = 1
        assert of_mask(mask).boxes().tolist() == [[x, y, x + 1, y + 1]]

    def test_cut_out_exactly_the_pasted_rectangle(self) -> None:
        layer = Layer(Rectangle(height=(5, 20), width=(5, 20)), Constant(1.0))
        out = Synthesizer(layer, p=1.0, seed=0)(torch.zeros(8, 3, 63, 50, dtype=torch.uint8))
        for (x0, y0, x1, y1), image in zip(out.boxes().tolist(), out.image, strict=True):
            assert (image[:, y0:y1, x0:x1] == 255).all()
            assert int((image > 0).sum()) == 3 * (y1 - y0) * (x1 - x0)

    def test_empty_batch(self) -> None:
        assert of_mask(torch.zeros(0, 1, 63, 50)).boxes().tolist() == []


class TestFields:
    @pytest.mark.parametrize("rule", ["hard", "soft"])
    def test_types(self, rule: str) -> None:
        layer = Layer(Rectangle(area=0.3), Constant(1.0), Feather(4.0, 0.6))
        image = torch.zeros(8, 3, 63, 50, dtype=torch.uint8)
        out = Synthesizer(layer, p=0.6, seed=0, label=rule)(image)
        assert out.image.shape == image.shape and out.image.dtype == torch.uint8
        assert out.mask.shape == (8, 1, 63, 50) and out.mask.dtype == torch.float32
        for vector in (out.label, out.kind):
            assert vector.shape == (8,) and vector.dtype == torch.int64
        values = set(out.mask.unique().tolist())
        if rule == "hard":
            assert values == {0.0, 1.0}
        else:
            assert max(values) == pytest.approx(0.6) and len(values) > 4

    def test_label_and_kind_say_where_the_mask_is(self) -> None:
        layers = [Layer(Rectangle(), Constant(1.0), kind=kind) for kind in ("a", "b")]
        synth = Synthesizer(*layers, p=0.6, seed=0, choose="one")
        out = synth(torch.zeros(32, 3, 63, 50, dtype=torch.uint8))
        assert torch.equal(out.label, out.mask.flatten(1).amax(1).long())
        assert torch.equal(out.kind > 0, out.label > 0)
        assert synth.kinds == ("normal", "a", "b", "given")
        assert out.kind.unique().tolist() == [0, 1, 2]

    def test_params_are_a_table_with_a_readable_layout(self) -> None:
        """What a manifest stores: rows of float32 and JSON."""
        synth = Synthesizer(Layer(Rectangle(), Constant(1.0)), p=1.0, seed=0)
        out = synth(torch.zeros(5, 3, 63, 50, dtype=torch.uint8))
        layout = json.loads(out.params.layout)
        assert out.params.table.dtype == torch.float32
        assert out.params.table.shape == (5, layout["width"])
        assert layout["version"] == 1

    def test_unpacks_like_a_tuple(self) -> None:
        image = torch.zeros(2, 3, 63, 50, dtype=torch.uint8)
        picture, mask, label, *_ = Synthesizer(Layer(Rectangle(), Constant(1.0)), seed=0)(image)
        assert (picture.shape, mask.shape, label.shape) == (image.shape, (2, 1, 63, 50), (2,))


class TestEmptyBatch:
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16], ids=str)
    @pytest.mark.parametrize("backend", ["auto", "torch", "triton"])
    def test_gives_an_empty_result(self, dtype: torch.dtype, backend: str) -> None:
        if backend == "triton" and (triton_trouble() or not interpreting()):
            pytest.skip("needs Triton's interpreter")
        image = torch.zeros(0, 3, 20, 16, dtype=dtype)
        synth = Synthesizer(Layer(Rectangle(), Constant(1.0)), backend=backend, validate=True)
        out = synth(image, index=[], epoch=0)
        assert out.image.shape == (0, 3, 20, 16) and out.image.dtype == dtype
        assert out.mask.shape == (0, 1, 20, 16)
        assert out.label.shape == out.kind.shape == (0,)
        assert out.boxes().shape == (0, 4)

    @pytest.mark.parametrize("name", ["draem", "cutpaste_union", "donors", "batch donors"])
    def test_of_any_recipe(self, name: str) -> None:
        pixels = torch.zeros(4, 3, 20, 16, dtype=torch.uint8)
        makers: dict[str, Callable[[], Synthesizer]] = {
            "draem": lambda: anoaug.create("draem", textures=pixels),
            "cutpaste_union": lambda: anoaug.create("cutpaste_union", views=True),
            "donors": lambda: Synthesizer(
                Layer(Rectangle(), Donor(DonorBank.from_tensors(pixels)))
            ),
            "batch donors": lambda: Synthesizer(Layer(Rectangle(), BatchDonor())),
        }
        synth, real = makers[name](), torch.zeros(0, 1, 20, 16)
        known = torch.zeros(0, dtype=torch.int64)
        out = synth(pixels[:0], mask=real, foreground=real, label=known)
        assert len(out.image) == len(out.mask) == len(out.label) == 0
        assert synth.eval()(pixels[:0]).image.shape == (0, 3, 20, 16)


def test_one_number_takes_params_of_one_row() -> None:
    images = torch.randint(0, 256, (3, 3, 24, 24), dtype=torch.uint8)
    for synth in (
        anoaug.create("cutpaste", p=1.0, seed=0),
        anoaug.OneOf({"cutpaste": 0.5, "cutout": 0.5}, p=1.0, seed=0),
    ):
        out = synth(images)
        again = synth(images[1:2], params=out.params.take(1))
        assert torch.equal(again.image, out.image[1:2]) and torch.equal(again.mask, out.mask[1:2])
