"""How batches become arguments of a synthesizer and batches again."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from anoaug import (
    AnomalyBatch,
    AnomalyCollate,
    AnomalyLoader,
    IndexedDataset,
    Layer,
    OneOf,
    Synthesizer,
    blends,
    masks,
    sources,
)
from anoaug.loaders import BatchContract
from anoaug.loaders.contract import moved, tensors

SIZE = 32


def make_synth(mask=None, **options):
    mask = masks.Rectangle(area=(0.05, 0.2)) if mask is None else mask
    layer = Layer(mask, sources.Constant((0.2, 0.9)), blends.Hard())
    return Synthesizer(layer, **{"p": 1.0, "seed": 3} | options)


def make_images(count=4):
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


class Recorder:
    """Stands in for a synthesizer: remembers what it was given."""

    layers = ()

    def __call__(self, images, **given):
        self.given = {"images": images, **given}
        rows = torch.zeros(len(images))
        return AnomalyBatch(images, images[:, :1], rows, rows, images, None, {})


def test_mapping_gives_the_anomalous_batch_under_the_documented_keys():
    images = make_images()
    out = BatchContract().apply({"image": images, "path": ["a", "b", "c", "d"]}, make_synth(), 0)
    direct = make_synth()(images, epoch=0)
    assert set(out) == {"image", "mask", "label", "kind", "clean", "anomaly_params", "path"}
    assert torch.equal(out["image"], direct.image)
    assert torch.equal(out["mask"], direct.mask)
    assert torch.equal(out["label"], direct.label)
    assert torch.equal(out["kind"], direct.kind)
    assert torch.equal(out["clean"], images)
    assert torch.equal(out["anomaly_params"].table, direct.params.table)
    assert out["path"] == ["a", "b", "c", "d"]


def test_mapping_is_not_modified():
    images = make_images()
    batch = OrderedDict(image=images, label=torch.zeros(4, dtype=torch.int64))
    before = images.clone()
    BatchContract().apply(batch, make_synth(), 0)
    assert list(batch) == ["image", "label"]
    assert batch["image"] is images and torch.equal(images, before)
    assert not batch["label"].any()


def test_own_names_are_read_and_written():
    contract = BatchContract(image="x", mask="where", label="bad", index="row")
    batch = {"x": make_images(), "row": torch.arange(4), "label": torch.arange(4)}
    out = contract.apply(batch, make_synth(), 5)
    direct = make_synth()(make_images(), index=torch.arange(4), epoch=5)
    assert torch.equal(out["x"], direct.image)
    assert torch.equal(out["where"], direct.mask)
    assert torch.equal(out["bad"], direct.label)
    assert torch.equal(out["label"], torch.arange(4)), "classes are left alone"


@pytest.mark.parametrize("name", ["mask", "gt_mask"])
def test_real_defects_are_united_under_the_name_they_came_with(name):
    real = torch.zeros(4, 1, SIZE, SIZE)
    real[1, :, 3:6, 3:6] = 1.0
    out = BatchContract().apply({"image": make_images(), name: real}, make_synth(p=0.0), 0)
    assert torch.equal(out[name], real)
    assert out["label"].tolist() == [0, 1, 0, 0]
    assert not {"mask", "gt_mask"} - {name} & set(out)


def test_real_labels_are_united():
    batch = {"image": make_images(), "gt_label": torch.tensor([0, 0, 2, 0])}
    out = BatchContract().apply(batch, make_synth(p=0.0), 0)
    assert out["gt_label"].tolist() == [0, 0, 1, 0]
    assert "label" not in out


def test_foreground_confines_anomalies():
    foreground = torch.zeros(4, 1, SIZE, SIZE)
    foreground[..., :16] = 1.0
    batch = {"image": make_images(), "foreground": foreground}
    out = BatchContract().apply(batch, make_synth(masks.Rectangle(area=0.9)), 0)
    assert out["mask"][..., :16].any()
    assert not out["mask"][..., 16:].any()


def test_given_masks_of_the_recipe_come_from_the_batch():
    where = torch.zeros(4, 1, SIZE, SIZE)
    where[:, :, 8:12, 8:12] = 1.0
    batch = {"image": make_images(), "cracks": where}
    out = BatchContract().apply(batch, make_synth(masks.Given("cracks")), 0)
    assert torch.equal(out["mask"], where)


def test_extras_come_under_their_key():
    out = BatchContract().apply({"image": make_images(2)}, make_synth(views=True), 0)
    assert out["anomaly_extras"]["source_row"].tolist() == [0, 1, 0, 1]


def test_clean_is_left_out_where_the_synthesizer_has_none():
    out = BatchContract().apply({"image": make_images()}, make_synth(clean=None), 0)
    assert "clean" not in out


@pytest.mark.parametrize("kind", [tuple, list])
def test_sequence_gives_an_anomaly_batch_and_the_rest(kind):
    out = BatchContract().apply(kind([make_images(), torch.arange(4), "x"]), make_synth(), 0)
    assert isinstance(out, tuple)
    batch, numbers, text = out
    assert torch.equal(batch.mask, make_synth()(make_images(), epoch=0).mask)
    assert numbers.tolist() == [0, 1, 2, 3] and text == "x"


def test_tensor_gives_an_anomaly_batch():
    out = BatchContract().apply(make_images(), make_synth(), 0)
    assert isinstance(out, AnomalyBatch)
    assert torch.equal(out.mask, make_synth()(make_images(), epoch=0).mask)


@pytest.mark.parametrize("position", [-1, -2, 1, 2])
def test_index_by_position_is_used_and_taken_out(position):
    index, other = torch.tensor([9, 8, 7, 6]), torch.zeros(4, dtype=torch.int64)
    rest = [index, other] if position in (1, -2) else [other, index]
    batch, *left = BatchContract(index=position).apply((make_images(), *rest), make_synth(), 2)
    assert torch.equal(batch.mask, make_synth()(make_images(), index=index, epoch=2).mask)
    assert len(left) == 1 and left[0] is other


def test_none_ignores_index_category_and_foreground():
    recorder = Recorder()
    contract = BatchContract(index=None, category=None, foreground=None)
    batch = {"image": make_images(), "index": 1, "category": 2, "foreground": 3}
    contract.apply(batch, recorder, 0)
    assert recorder.given["index"] is None
    assert recorder.given["category"] is None
    assert recorder.given["foreground"] is None


def test_index_and_category_stay_on_the_host():
    recorder = Recorder()
    rows = torch.arange(4)
    batch = {"image": make_images(), "index": rows, "category": rows, "label": rows, "x": [rows]}
    out = BatchContract().apply(batch, recorder, 0, torch.device("meta"))
    assert recorder.given["images"].device.type == "meta"
    assert recorder.given["index"].device.type == "cpu"
    assert recorder.given["category"].device.type == "cpu"
    assert recorder.given["label"].device.type == "meta"
    assert out["x"][0].device.type == "meta"


def test_tuple_index_stays_on_the_host():
    recorder = Recorder()
    _, rest = BatchContract(index=-1).apply(
        (make_images(), torch.ones(4), torch.arange(4)), recorder, 0, torch.device("meta")
    )
    assert recorder.given["index"].device.type == "cpu"
    assert rest.device.type == "meta"


def test_moved_keeps_containers_and_whatever_is_no_tensor():
    pair = namedtuple("pair", "a b")
    value = {"p": pair(torch.ones(1), "text"), "l": [torch.ones(1), (torch.ones(1), None)]}
    out = moved(value, torch.device("meta"))
    assert isinstance(out["p"], pair) and out["p"].b == "text"
    assert isinstance(out["l"], list) and isinstance(out["l"][1], tuple)
    assert out["l"][1][1] is None
    assert [x.device.type for x in tensors(out)] == ["meta"] * 3


def test_no_device_leaves_the_batch_alone():
    value = {"x": [torch.ones(1)]}
    assert moved(value, None) is value


IMAGES = make_images(2)
REFUSED = {
    "no image": ({}, {"img": IMAGES}, ValueError, "image: expected the key 'image'.*'img'"),
    "two masks": (
        {},
        {"image": IMAGES, "mask": IMAGES, "gt_mask": IMAGES},
        ValueError,
        "expected one of mask, gt_mask",
    ),
    "key taken": ({}, {"image": IMAGES, "clean": IMAGES}, ValueError, "expected no clean"),
    "position for a mapping": ({"index": -1}, {"image": IMAGES}, ValueError, "expected a key"),
    "position of the images": ({"index": -1}, (IMAGES,), ValueError, "behind the images"),
    "position beyond the end": ({"index": 2}, (IMAGES, 1), ValueError, "tuple of length 2"),
    "position for a tensor": ({"index": -1}, IMAGES, ValueError, "for Tensor"),
    "empty tuple": ({}, (), TypeError, "tuple of length 0"),
    "unknown class": ({}, SimpleNamespace(image=IMAGES), TypeError, "got SimpleNamespace"),
    "twice": (
        {},
        AnomalyBatch(IMAGES, IMAGES, IMAGES, IMAGES, None, None, {}),
        TypeError,
        "synthesised already",
    ),
}


@pytest.mark.parametrize(("keys", "batch", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(keys, batch, error, message):
    with pytest.raises(error, match=message):
        BatchContract(**keys).structure(batch, make_synth())


def test_modalities_come_back_under_their_keys():
    images = make_images()
    depth = torch.full((4, 1, SIZE, SIZE), 0.5)
    batch = {"image": images, "depth": depth, "ir": depth, "index": torch.arange(4)}
    synth = make_synth(views=2)
    made = BatchContract(extra=("depth", "ir")).apply(batch, synth, epoch=0)
    own = make_synth(views=2)(images, index=range(4), epoch=0, extra={"depth": depth, "ir": depth})
    for name in ("depth", "ir"):
        assert torch.equal(made[name], own.extras[name])
        assert not torch.equal(made[name][:4], depth)
    assert set(made["anomaly_extras"]) == {"source_row"}
    assert batch["depth"] is depth
    passed = BatchContract(extra="depth").apply(batch, make_synth().eval(), epoch=0)
    assert torch.equal(passed["depth"], depth) and "anomaly_extras" not in passed


def test_without_being_named_modalities_stay_as_they_are():
    depth = torch.full((4, 1, SIZE, SIZE), 0.5)
    made = BatchContract().apply({"image": make_images(), "depth": depth}, make_synth(), epoch=0)
    assert made["depth"] is depth


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (
            {"image": make_images()},
            "extra: expected the key 'depth' in the batch",
        ),
        ((make_images(), 1), "extra: expected batches that are mappings with depth, got tuple of"),
        (make_images(), "extra: expected batches that are mappings with depth, got Tensor"),
    ],
)
def test_modalities_that_are_not_there_are_refused(batch, words):
    with pytest.raises(ValueError, match=words):
        BatchContract(extra="depth").structure(batch, make_synth())


def test_a_one_of_shows_in_modalities_what_its_member_shows():
    batch = {"image": make_images(), "depth": torch.full((4, 1, SIZE, SIZE), 0.5)}
    names = BatchContract(extra="depth")
    mixed = names.apply(batch, OneOf({make_synth(): 1}, p=1.0, seed=3), epoch=0)
    changed = (mixed["depth"] != batch["depth"]).any(1, keepdim=True)
    assert changed.flatten(1).any(1).all()
    assert torch.equal(changed, changed & (mixed["mask"] > 0))


def test_loaders_take_the_names_of_modalities():
    depth = torch.full((SIZE, SIZE), 0.5)[None]
    samples = [{"image": image, "depth": depth} for image in make_images()]
    synth = make_synth()
    synth.set_epoch(0)
    data = IndexedDataset(samples)
    loaded = next(iter(AnomalyLoader(DataLoader(data, 4), synth, extra="depth")))
    collated = AnomalyCollate(synth, extra="depth")([data[n] for n in range(4)])
    assert torch.equal(loaded["depth"], collated["depth"])
    assert not torch.equal(loaded["depth"][0], depth)
