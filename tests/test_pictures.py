"""Computed sources: what a scene shows them, and that what they return is what is painted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import anoaug
from anoaug import blends, masks, parts, sources
from anoaug.pictures import Computed, Scene
from tests.drawing import EVERYWHERE, needs_triton, painted, pixels

IMAGES = pixels(5, 3, 40, 36)
DONORS = anoaug.DonorBank.from_tensors(pixels(4, 3, 40, 36, seed=4))
BANK = anoaug.TextureBank.from_tensors(pixels(3, 3, 20, 22, seed=5))
PATCH = masks.Rectangle(height=(8, 20), width=(9, 19), rotation=(-90, 90))
SEEN: list[Scene] = []


@parts.part
@dataclass(frozen=True)
class ToySeen(Computed):
    """Shows the wrapped source and keeps what it saw."""

    source: sources.Source | anoaug.TextureBank

    wraps: ClassVar[str] = "source"

    def compute(self, scene: Scene) -> Tensor:
        SEEN.append(scene)
        return scene.colours()


@parts.part
@dataclass(frozen=True)
class ToyKeyed(Computed):
    """The last byte of each row's key as a grey."""

    def compute(self, scene: Scene) -> Tensor:
        greys = torch.tensor([key & 255 for key in scene.keys], dtype=torch.uint8)
        return greys.view(-1, 1, 1, 1).expand(scene.images.shape)


@parts.part
@dataclass(frozen=True)
class ToyWrong(Computed):
    """Not the size of the images."""

    def compute(self, scene: Scene) -> Tensor:
        return scene.images[..., 1:]


@pytest.fixture(autouse=True)
def _forget() -> None:
    SEEN.clear()


WRAPPED = {
    "donor": sources.Donor(DONORS),
    "texture": BANK,
    "own": sources.Own(),
    "noise": sources.Noise(),
    "given": sources.Given(),
    "computed": ToySeen(ToySeen(sources.Donor(DONORS))),
}


def called(synth: Any, images: Tensor = IMAGES, **more: Any) -> anoaug.AnomalyBatch:
    slots = {"what": images.roll(1, 0)} if "what" in synth.slots else None
    return synth(images, index=range(len(images)), epoch=0, slots=slots, **more)


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_a_wrapped_source_shows_through(name: str, backend: str) -> None:
    """Once computed and pasted it is what it is by itself, from the same columns."""
    synth = painted(ToySeen(WRAPPED[name]), PATCH, backend=backend)
    out = called(synth)
    inside = out.mask.bool()
    assert 0 < inside.float().mean() < 1
    assert (out.image != IMAGES).sum() > 500
    scene = SEEN[-1]
    whole = scene.colours()
    assert torch.equal(out.image, torch.where(inside, whole, IMAGES))
    # Rendered everywhere: outside the mask too it is not the image.
    assert (whole != IMAGES).float().mean() > 0.9


def test_a_wrapped_donor_is_the_donor_of_its_columns() -> None:
    synth = painted(ToySeen(sources.Donor(DONORS, place="same")), PATCH)
    called(synth)
    whole = SEEN[0].colours()
    offset = SEEN[0].offset + 2 + 6
    chosen = SEEN[0].call.host[:, offset].view(torch.int32).tolist()
    assert len(set(chosen)) > 1
    assert torch.equal(whole, DONORS.data[chosen])


@pytest.mark.parametrize("blend", [blends.Hard(), blends.Opacity(), blends.Feather(5.0)])
@pytest.mark.parametrize("confined", [False, True])
def test_the_weight_is_the_one_that_is_laid(blend: blends.Blend, confined: bool) -> None:
    layer = anoaug.Layer(PATCH & masks.Given(), ToySeen(sources.Own()), blend)
    synth = anoaug.Synthesizer(layer, p=0.8, seed=0, label="soft", min_area=60)
    where, inside = pixels(2, 5, 1, 40, 36, seed=8) > 99
    foreground = inside if confined else None
    out = synth(IMAGES, index=range(5), epoch=1, slots={"where": where}, foreground=foreground)
    weight = SEEN[0].weight()
    counted = out.label.bool()
    assert counted.any() and torch.equal(weight[counted], out.mask[counted])


def test_an_area_too_small_to_count_still_has_its_weight() -> None:
    """Whether it counts depends on the other layers, which a scene does not know."""
    small = masks.Rectangle(height=2, width=2)
    synth = painted(ToySeen(sources.Own()), small, min_area=100)
    assert called(synth).label.tolist() == [0] * 5
    assert SEEN[0].weight().sum() == 5 * 4


def test_rows_are_those_that_are_painted() -> None:
    synth = painted(ToySeen(sources.Own()), PATCH)
    synth.p = 0.5
    out = synth(pixels(40, 3, 32, 32), index=range(40), epoch=0)
    assert SEEN[0].rows == out.label.nonzero().flatten().tolist()


def test_nothing_is_computed_where_nothing_is_painted() -> None:
    synth = painted(ToySeen(sources.Own()), PATCH).eval()
    assert torch.equal(called(synth).image, IMAGES)
    synth.train().p = 0.0
    assert torch.equal(called(synth).image, IMAGES)
    assert not SEEN


def test_every_copy_has_keys_and_a_picture_of_its_own() -> None:
    layers = [anoaug.Layer(masks.Given(name), ToyKeyed(), count=2) for name in ("a", "b")]
    synth = anoaug.Synthesizer(*layers, p=1.0, seed=0)
    top = torch.zeros(5, 1, 40, 36, dtype=torch.bool)
    top[:, :, :20] = True
    out = synth(IMAGES, index=range(5), epoch=0, slots={"a": top, "b": ~top})
    # The later copy covers the earlier one.
    keys = out.params.table.view(torch.int32)
    columns = anoaug.recipe.recipe(synth.laws(3)).columns
    last = [columns[f"layer{n}.source.toykeyed{n}.key0"][0] for n in (1, 3)]
    assert torch.equal(out.image[:, 0, 0, 0].int(), keys[:, last[0]] & 255)
    assert torch.equal(out.image[:, 0, -1, 0].int(), keys[:, last[1]] & 255)
    assert len(out.image.unique()) > 6


def test_a_replay_reads_the_keys_from_the_table() -> None:
    synth = painted(ToyKeyed(), PATCH)
    first = called(synth)
    again = synth(IMAGES, params=first.params)
    other = synth(IMAGES, index=range(9, 14), epoch=0)
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, other.image)


def test_views_are_computed_row_by_row() -> None:
    synth = painted(ToyKeyed(), EVERYWHERE, views=True)
    out = called(synth)
    assert torch.equal(out.image[:5], IMAGES)
    assert torch.equal(out.image[5:], out.image[5:, :1, :1, :1].expand(5, 3, 40, 36))


@pytest.mark.slow
@pytest.mark.triton_interpreter
@needs_triton
def test_the_kernel_shows_the_same() -> None:
    ours, truth = (
        called(painted(ToySeen(sources.Donor(DONORS)), PATCH, backend=backend))
        for backend in ("triton", "torch")
    )
    assert torch.equal(ours.image, truth.image)
    assert torch.equal(SEEN[0].weight(), SEEN[1].weight())


def test_laws_of_a_computed_source_are_plain_data() -> None:
    synth = painted(ToySeen(BANK), PATCH)
    text = anoaug.recipe.encode(anoaug.recipe.Laws(synth._binding.laws, 1.0, (), False, 1.0, 0.0))
    laws = parts.from_plain(json.loads(text))
    assert laws.layers[0].source == ToySeen(sources.Texture(0), number=2)


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ToyWrong.compute: expected shape \[5, 3, 40, 36\]"):
        called(painted(ToyWrong(), PATCH))


def test_a_class_without_compute_is_refused() -> None:
    @parts.part
    @dataclass(frozen=True)
    class ToyNothing(Computed):
        pass

    with pytest.raises(NotImplementedError, match="ToyNothing: expected a method compute"):
        called(painted(ToyNothing(), PATCH))


@pytest.mark.slow
def test_a_graph_breaks_but_the_result_stays() -> None:
    pytest.importorskip("torch._dynamo", exc_type=ImportError)
    torch._dynamo.reset()
    synth, eager = (painted(ToyKeyed(), PATCH) for _ in range(2))
    compiled = torch.compile(synth, backend="eager")
    ours, truth = (one(IMAGES, index=range(5), epoch=0) for one in (compiled, eager))
    assert torch.equal(ours.image, truth.image)
    torch._dynamo.reset()


@pytest.mark.gpu
def test_a_capture_is_refused() -> None:
    with pytest.raises(ValueError, match="computed by the host"):
        painted(ToyKeyed(), PATCH).capture(IMAGES.to("cuda"))
