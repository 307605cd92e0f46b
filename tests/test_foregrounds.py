"""Foregrounds a synthesizer finds by itself."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import anoaug
from anoaug import foregrounds, masks, prepare, sources
from anoaug.foregrounds import Finder, finder
from tests.recipes import assert_same

OTSU = prepare.Foreground("otsu", polarity="bright")


def objects(batch: int = 8, size: int = 40) -> Tensor:
    """Bright boxes before a dark ground, each at its own place."""
    images = torch.full((batch, 3, size, size), 20, dtype=torch.uint8)
    for n in range(batch):
        images[n, :, 4 + n : 18 + n, 6:30] = 200
    return images


def upper(images: Tensor) -> Tensor:
    """Whatever is shown: the upper half."""
    mask = torch.zeros(len(images), 1, *images.shape[2:], dtype=torch.bool)
    mask[..., : images.shape[2] // 2, :] = True
    return mask


class Recorder:
    """A foreground by index that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __call__(self, images: Tensor, index: Tensor) -> Tensor:
        assert index.dtype == torch.int64 and index.device.type == "cpu"
        self.asked.append(index.tolist())
        return upper(images)


def synth(foreground: Any = OTSU, **keywords: Any) -> anoaug.Synthesizer:
    layer = anoaug.Layer(masks.Perlin((1, 2), 0.0), sources.Noise())
    return anoaug.Synthesizer(layer, **{"p": 1.0, "seed": 3, "foreground": foreground, **keywords})


CALL: dict[str, Any] = {"index": range(8), "epoch": 0}


# ---- what is found -------------------------------------------------------------------------------


def test_equals_the_foreground_given_at_the_call() -> None:
    images = objects()
    out = synth()(images, **CALL)
    assert_same_but_clean(out, synth(None)(images, foreground=OTSU(images), **CALL))
    assert out.label.all() and (out.mask[OTSU(images) == 0] == 0).all()


def assert_same_but_clean(one: anoaug.AnomalyBatch, other: anoaug.AnomalyBatch) -> None:
    assert_same(one._replace(clean=one.image), other._replace(clean=other.image))


def test_one_given_at_the_call_comes_first() -> None:
    images, below = objects(), ~upper(objects())
    out = synth(upper)(images, foreground=below, **CALL)
    assert_same_but_clean(out, synth(None)(images, foreground=below, **CALL))
    assert out.mask.any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["otsu", "triangle", "background", "saliency"])
def test_rules_by_name(name: str) -> None:
    images = objects()
    ours, theirs = (synth(f)(images, **CALL) for f in (name, prepare.Foreground(name)))
    assert_same_but_clean(ours, theirs)


def test_an_empty_foreground_leaves_the_sample_clean() -> None:
    images = objects(4)
    out = synth(lambda images: upper(images) & (torch.arange(4) > 1)[:, None, None, None])(images)
    assert out.label.tolist() == [0, 0, 1, 1] and not out.mask[:2].any()
    assert torch.equal(out.image[:2], images[:2])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32, torch.float16])
def test_masks_of_any_kind(dtype: torch.dtype) -> None:
    def find(images: Tensor) -> Tensor:
        mask = upper(images).to(dtype)
        return mask * 0.6 + 0.2 if dtype.is_floating_point else mask[:, 0]

    assert_same_but_clean(synth(find)(objects(), **CALL), synth(upper)(objects(), **CALL))


def test_a_mask_part_of_the_recipe_reads_it() -> None:
    layer = anoaug.Layer(masks.Perlin((1, 2), 0.0) & ~masks.Foreground(), sources.Noise())
    images = objects()
    out = anoaug.Synthesizer(layer, p=1.0, seed=3, foreground=OTSU)(images, **CALL)
    assert out.label.all() and (out.mask[OTSU(images) > 0] == 0).all()


def test_views_share_it() -> None:
    out = synth(views=True)(objects(), **CALL)
    assert out.mask.shape[0] == 16 and out.mask[8:].any() and not out.mask[:8].any()
    assert (out.mask[8:][OTSU(objects()) == 0] == 0).all()


def test_an_empty_batch() -> None:
    for find in (OTSU, prepare.Cached(OTSU, 8)):
        assert synth(find)(objects(0), index=[], epoch=0).mask.shape == (0, 1, 40, 40)


# ---- by index ------------------------------------------------------------------------------------


def test_a_cache_gets_the_index_of_the_call() -> None:
    cached = prepare.Cached(OTSU, 20)
    images = objects()
    out = synth(cached)(images, index=[3, 1, 4, 15, 9, 2, 6, 5], epoch=0)
    plain = synth()(images, index=[3, 1, 4, 15, 9, 2, 6, 5], epoch=0)
    assert_same_but_clean(out, plain)
    assert cached.known == 8


def test_without_an_index_it_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"index: .*Cached\(Foreground\('otsu'.*IndexedDataset"):
        synth(prepare.Cached(OTSU, 20))(objects())


def test_loaders_pass_the_index_through() -> None:
    data = torch.utils.data.TensorDataset(objects(8))
    recorder = Recorder()
    loader = torch.utils.data.DataLoader(anoaug.IndexedDataset(data), batch_size=3)
    made = [out for (out,) in anoaug.AnomalyLoader(loader, synth(recorder))]
    assert recorder.asked == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert all(not out.mask[..., 20:, :].any() for out in made)


@pytest.mark.slow
def test_workers_have_their_own_copy() -> None:
    data = anoaug.IndexedDataset(torch.utils.data.TensorDataset(objects(8)))
    one = synth(prepare.Cached(OTSU, 8))
    one.set_epoch(0)
    collate = anoaug.AnomalyCollate(one)
    loader = torch.utils.data.DataLoader(data, 4, collate_fn=collate, num_workers=1)
    made = torch.cat([out.mask for (out,) in loader])
    assert torch.equal(made, synth()(objects(8), index=range(8), epoch=0).mask)


# ---- with the rest of the synthesizer ------------------------------------------------------------


def test_looks_at_the_transformed_image() -> None:
    images = objects()
    out = synth(normal_transform=lambda images: images.flip(3))(images, **CALL)
    assert_same_but_clean(out, synth()(images.flip(3), **CALL))
    assert out.clean is not None and torch.equal(out.clean, images.flip(3))


def test_in_a_synthesizer_that_transforms() -> None:
    images = objects()
    out = synth(None, normal_transform=synth(), seed=5, p=0.0)(images, **CALL)
    changed = (out.image != images).any(1, keepdim=True)
    assert changed.any() and not changed[OTSU(images) == 0].any()


def test_eval_mode_does_not_call_it() -> None:
    recorder = Recorder()
    out = synth(recorder).eval()(objects())
    assert recorder.asked == [] and torch.equal(out.image, objects())


def test_a_replay_finds_the_same_from_the_clean_image() -> None:
    images = objects().float() / 255
    one = synth(normal_transform=lambda images: images.flip(2))
    out = one(images, **CALL)
    again = one(out.clean, params=out.params)
    assert_same_but_clean(again, out)


def test_a_replay_by_index_needs_the_index() -> None:
    one = synth(prepare.Cached(OTSU, 8))
    out = one(objects(), **CALL)
    assert_same_but_clean(one(objects(), index=range(8), params=out.params), out)
    with pytest.raises(ValueError, match="index: expected one with foreground="):
        one(objects(), params=out.params)


def test_copies_share_a_cache() -> None:
    cached = prepare.Cached(OTSU, 8)
    twin = copy.deepcopy(synth(cached))
    twin(objects(), **CALL)
    assert cached.known == 8


def test_pickles() -> None:
    one = synth()
    twin = pickle.loads(pickle.dumps(one))
    assert_same_but_clean(twin(objects(), **CALL), one(objects(), **CALL))


def test_a_module_is_no_submodule() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.tensor(-100.0))

        def forward(self, images: Tensor) -> Tensor:
            return (images.float().mean(1, keepdim=True) + self.bias).sigmoid()

    one = synth(Net())
    assert list(one.parameters()) == [] and not any("bias" in key for key in one.state_dict())
    assert_same_but_clean(one(objects(), **CALL), synth()(objects(), **CALL))


def test_a_module_with_an_index() -> None:
    class Net(nn.Module):
        def forward(self, images: Tensor, index: Tensor) -> Tensor:
            return upper(images) & (index > 3)[:, None, None, None]

    assert synth(Net())(objects(), **CALL).label.tolist() == [0] * 4 + [1] * 4


@pytest.mark.slow
@pytest.mark.parametrize("find", [OTSU, prepare.Cached(OTSU, 8)], ids=repr)
def test_compiles_into_one_graph(find: Any) -> None:
    one = synth(find)

    def step(images: Tensor, index: Tensor) -> Tensor:
        return one(images, index=index, epoch=0).mask * 2.0

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(objects(), torch.arange(8)), step(objects(), torch.arange(8)))


def test_every_method_takes_it() -> None:
    keywords = anoaug.describe("draem")["common"]
    assert keywords["foreground"] is None
    box = anoaug.create("cutpaste", foreground="otsu", p=1.0, seed=1)
    images = objects()
    out = box(images, **CALL)
    assert (out.mask[prepare.Foreground("otsu")(images) == 0] == 0).all() and out.mask.any()


# ---- OneOf ---------------------------------------------------------------------------------------


def test_one_of_passes_it_to_all_members() -> None:
    images, odds = objects(), {"cutpaste": 1, "cdo": 1}
    ours = anoaug.OneOf(odds, p=1.0, seed=2, foreground=OTSU)(images, **CALL)
    theirs = anoaug.OneOf(odds, p=1.0, seed=2)(images, foreground=OTSU(images), **CALL)
    assert_same_but_clean(ours, theirs)
    assert {1, 2} <= set(ours.kind.tolist())


def test_members_of_one_of_keep_their_own() -> None:
    recorder = Recorder()
    layer = anoaug.Layer(masks.Perlin((1, 2), 0.0), sources.Constant(1.0))
    plain = anoaug.Synthesizer(layer, name="plain")
    bound = anoaug.Synthesizer(layer, name="bound", foreground=recorder)
    one = anoaug.OneOf([(plain, 1), (bound, 1)], p=1.0, seed=2)
    out = one(objects(), **CALL)
    rows = out.params.choice == 1
    assert sum(recorder.asked, []) == rows.nonzero()[:, 0].tolist() and 0 < rows.sum() < 8
    assert out.mask[~rows][..., 20:, :].any() and not out.mask[rows][..., 20:, :].any()
    again = one(objects(), index=range(8), params=out.params)
    assert_same_but_clean(again, out)
    below = one(objects(), foreground=~upper(objects()), **CALL)
    assert not below.mask[..., :20, :].any() and below.mask[rows].any()


def test_one_of_takes_one_place() -> None:
    with pytest.raises(ValueError, match="that of bound; leave one out"):
        anoaug.OneOf([(synth(name="bound"), 1)], foreground=OTSU)
    with pytest.raises(ValueError, match="keep one transform's mask"):
        anoaug.OneOf([(synth(Recorder()), 1)], normal_transform=torch.clone)


# ---- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ("auto", ValueError, r"anoaug\.prepare\.auto\("),
        ("otso", ValueError, "did you mean otsu"),
        (torch.ones(2, 1, 4, 4), TypeError, "masks go to the call"),
        (prepare.Foreground, TypeError, "got type"),
    ],
)
def test_refused(value: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        synth(value)


def test_a_cache_and_a_transform_are_refused() -> None:
    with pytest.raises(ValueError, match="keep one transform's mask by index"):
        synth(prepare.Cached(OTSU, 8), normal_transform=torch.clone)


def test_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="foreground: expected shape"):
        synth(lambda images: upper(images)[..., :-1])(objects())


def test_a_finder_that_is_gone_leaves_nothing() -> None:
    before = len(foregrounds._finders)
    one = Finder(upper)
    assert len(foregrounds._finders) == before + 1 and finder(one) is one
    del one
    assert len(foregrounds._finders) == before
