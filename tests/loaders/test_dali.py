"""DALI: its iterators with anomalies, a ready pipeline, and synthesis inside one. On the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import anoaug
from anoaug.loaders import dali

from .samples import SIZE, make_images, make_synth

nvidia: Any = pytest.importorskip("nvidia.dali")
fn: Any = pytest.importorskip("nvidia.dali.fn")
plugin: Any = pytest.importorskip("nvidia.dali.plugin.pytorch")

COUNT, BATCH = 10, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two products in MVTec's layout, PNG and JPEG, and test images that are not to be taken."""
    pillow = pytest.importorskip("PIL.Image")
    root = tmp_path_factory.mktemp("mvtec")
    for number, image in enumerate(make_images(COUNT)):
        product = "bolt" if number < 6 else "nut"
        place = root / product / "train" / "good"
        place.mkdir(parents=True, exist_ok=True)
        ending = "png" if number % 2 else "jpg"
        pillow.fromarray(image.permute(1, 2, 0).numpy()).save(place / f"{number}.{ending}")
    bad = root / "bolt" / "test" / "scratch"
    bad.mkdir(parents=True)
    pillow.fromarray(make_images(1)[0].permute(1, 2, 0).numpy()).save(bad / "0.png")
    return root


def batches(folder: Path, **options: Any) -> dali.SynthIterator:
    return dali.mvtec_batches(folder, make_synth(), SIZE, BATCH, seed=1, **options)


def epoch_of(loader: Any) -> dict[int, Tensor]:
    """Images and masks of an epoch by index; each index once."""
    found: dict[int, Tensor] = {}
    for batch in loader:
        for image, mask, index in zip(batch["image"], batch["mask"], batch["index"], strict=True):
            assert int(index) not in found
            found[int(index)] = torch.cat([image.float(), mask])
    return found


def test_epochs_are_whole_shuffled_and_differ(folder: Path) -> None:
    loader = batches(folder)
    orders = [[int(i) for batch in loader for i in batch["index"]] for _ in range(3)]
    assert all(sorted(order) == list(range(COUNT)) for order in orders)
    assert orders[0] != orders[1] and len(loader) == 3
    first, second = (epoch_of(loader) for _ in range(2))
    assert not torch.equal(first[0][3], second[0][3])


def test_anomalies_are_those_of_the_synthesizer(folder: Path) -> None:
    found = epoch_of(batches(folder))
    clean = {
        int(i): image
        for batch in batches(folder)
        for i, image in zip(batch["index"], batch["clean"], strict=True)
    }
    images = torch.stack([clean[i] for i in range(COUNT)])
    expected = make_synth()(images, index=range(COUNT), epoch=0)
    assert torch.equal(torch.stack([found[i][:3] for i in range(COUNT)]), expected.image.float())
    assert torch.equal(torch.stack([found[i][3:] for i in range(COUNT)]), expected.mask)


def test_batches_are_as_the_contract_says(folder: Path) -> None:
    batch = next(iter(batches(folder, shuffle=False)))
    assert batch["image"].shape == (BATCH, 3, SIZE, SIZE) and batch["image"].dtype == torch.uint8
    assert batch["index"].tolist() == [0, 1, 2, 3] and batch["category"].tolist() == [0] * 4
    assert batch["mask"].flatten(1).any(1).all()
    pipeline = dali.mvtec_pipeline(folder, SIZE, BATCH)
    assert pipeline.categories == ["bolt", "nut"] and len(pipeline.names) == COUNT
    assert not any("test" in name for name in pipeline.names)


def test_the_decoder_s_pixels_are_read_as_they_lie(folder: Path) -> None:
    batch = next(iter(batches(folder)))
    assert batch["clean"].is_contiguous(memory_format=torch.channels_last)
    synth = make_synth(memory_format="contiguous")
    planar = next(iter(dali.mvtec_batches(folder, synth, SIZE, BATCH, seed=1)))
    assert planar["image"].is_contiguous()
    assert torch.equal(planar["image"], batch["image"])


def test_ranks_share_an_epoch(folder: Path) -> None:
    parts = [epoch_of(batches(folder, rank=rank, world=2)) for rank in (0, 1)]
    whole = epoch_of(batches(folder))
    assert sorted({**parts[0], **parts[1]}) == sorted(whole)
    for part in parts:
        assert all(torch.equal(part[i], whole[i]) for i in part)


@pytest.mark.parametrize("given", [1, 4])
def test_a_restored_one_goes_on(folder: Path, given: int) -> None:
    loader = batches(folder)

    def endless() -> Any:
        while True:
            yield from loader

    flow = endless()
    for _ in range(given):
        next(flow)
    state = loader.state_dict()
    expected = next(flow)
    other = batches(folder)
    other.load_state_dict(state)
    found = next(iter(other))
    assert all(torch.equal(found[key], expected[key]) for key in ("image", "mask", "index"))


# ---- inside a pipeline ---------------------------------------------------------------------------


def inside(folder: Path, synth: Any, checkpoint: bytes | None = None, **options: Any) -> Any:
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("train/good/*"))
    shuffle = options.pop("shuffle", False)

    @nvidia.pipeline_def(enable_checkpointing=True)
    def pipeline() -> Any:
        encoded, index = fn.readers.file(
            file_root=str(folder), files=files, labels=list(range(len(files))),
            pad_last_batch=True, random_shuffle=shuffle, initial_fill=len(files), name="Reader",
        )  # fmt: skip
        image = fn.decoders.image(encoded)
        if options.pop("crop", False):
            image = fn.crop(image, crop_h=fn.random.uniform(range=[8, 30]), crop_w=16)
        return (*dali.synthesize(image, index, synth, **options), index)

    made = pipeline(
        batch_size=BATCH, num_threads=2, device_id=None, seed=3, exec_dynamic=True,
        checkpoint=checkpoint,
    )  # fmt: skip
    made.build()
    return plugin.DALIGenericIterator(
        [made], ["image", "mask", "label", "index"], reader_name="Reader",
        last_batch_policy=plugin.LastBatchPolicy.PARTIAL, auto_reset=True,
    )  # fmt: skip


def test_inside_gives_what_the_wrapper_gives(folder: Path) -> None:
    iterator = inside(folder, make_synth(), epoch_size=12)
    wrapped = batches(folder, shuffle=False)
    for _ in range(2):
        epoch = [out[0] for out in iterator]
        found = epoch_of(epoch)
        assert sum(len(out["label"]) for out in epoch) == COUNT
        expected = epoch_of(wrapped)
        assert all(torch.equal(found[i], expected[i]) for i in range(COUNT))


@pytest.mark.parametrize("given", [1, 4])
def test_a_restored_one_goes_on_inside(folder: Path, given: int) -> None:
    first = inside(folder, make_synth(), epoch_size=12, shuffle=True)

    def endless() -> Any:
        while True:
            yield from first

    flow = endless()
    for _ in range(given):
        next(flow)
    (state,) = first.checkpoints()
    expected = next(flow)[0]
    # DALI's checkpoint knows the reader's place; the operator is told how many samples went by.
    options = {"epoch_size": 12, "shuffle": True, "position": given * BATCH}
    found = next(inside(folder, make_synth(), checkpoint=state, **options))[0]
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_an_error_inside_surfaces(folder: Path) -> None:
    with pytest.raises(Exception, match="expected one size.*fn.resize"):
        next(inside(folder, make_synth(), crop=True))


def test_no_gradient_and_no_generator_of_torch_inside(folder: Path) -> None:
    before = torch.get_rng_state()
    out = next(inside(folder, make_synth()))[0]
    assert torch.equal(torch.get_rng_state(), before) and not out["image"].requires_grad


# ---- dynamic mode --------------------------------------------------------------------------------


@pytest.fixture
def dynamic() -> Any:
    return pytest.importorskip("nvidia.dali.experimental.dynamic")


@pytest.mark.slow
def test_dynamic_mode(dynamic: Any) -> None:
    images = make_images(4)
    batch = dynamic.as_batch(
        [image.permute(1, 2, 0).contiguous().numpy() for image in images], layout="HWC"
    )
    out = dali.synthesize_batch(batch, make_synth())
    assert torch.equal(out.image, make_synth()(images).image)


@pytest.mark.slow
def test_nodes_over_dynamic_mode(folder: Path, dynamic: Any) -> None:
    nodes = pytest.importorskip("torchdata.nodes")
    dali_nodes = pytest.importorskip("nvidia.dali.experimental.dynamic.pytorch.nodes")
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("train/good/*"))[:8]
    change = dali.DynamicMap(make_synth(memory_format="contiguous"))
    reader = dali_nodes.Reader(
        dynamic.readers.File, batch_size=BATCH, output_names=("image", "index"),
        file_root=str(folder), files=files, labels=list(range(8)), random_shuffle=True,
    )  # fmt: skip
    node = dali_nodes.DictMapper(reader, dynamic.decoders.image, key="image")
    loader = nodes.Loader(nodes.Mapper(node, change))
    for epoch in range(2):
        change.set_epoch(epoch)
        batches = list(loader)
        numbers = torch.cat([batch["index"] for batch in batches])
        assert sorted(numbers.tolist()) == list(range(8))
        assert all(batch["image"].is_contiguous() for batch in batches)
        clean = torch.cat([batch["clean"] for batch in batches])
        expected = make_synth()(clean, index=numbers, epoch=epoch)
        assert torch.equal(torch.cat([batch["image"] for batch in batches]), expected.image)
        assert torch.equal(torch.cat([batch["mask"] for batch in batches]), expected.mask)


def test_bad_batches_of_dynamic_mode_are_refused(dynamic: Any) -> None:
    sizes = [torch.zeros(4, 5, 3).numpy(), torch.zeros(6, 5, 3).numpy()]
    ragged = dynamic.as_batch(sizes, layout="HWC")
    with pytest.raises(ValueError, match="expected images of one size.*dynamic.resize"):
        dali.DynamicMap(make_synth())({"image": ragged})
    with pytest.raises(ValueError, match="expected images of one size.*dynamic.resize"):
        dali.synthesize_batch(ragged, make_synth())
    with pytest.raises(TypeError, match="stand before ToTorch"):
        dali.DynamicMap(make_synth())((torch.zeros(2, 3, 4, 4),))
    with pytest.raises(ValueError, match="layout: expected one of"):
        dali.DynamicMap(make_synth(), layout="WHC")


# ---- bad input -----------------------------------------------------------------------------------


def test_ragged_batches_are_refused(folder: Path) -> None:
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("train/good/*"))

    @nvidia.pipeline_def
    def ragged() -> Any:
        encoded, index = fn.readers.file(file_root=str(folder), files=files, name="Reader")
        width = fn.random.uniform(range=[8, 30])
        return fn.crop(fn.decoders.image(encoded), crop_h=16, crop_w=width), index

    made = ragged(batch_size=BATCH, num_threads=2, device_id=None, seed=1)
    made.build()
    iterator = plugin.DALIGenericIterator([made], ["image", "index"], prepare_first_batch=False)
    with pytest.raises(ValueError, match="ragged sizes; put fn.resize"):
        next(iter(dali.SynthIterator(iterator, make_synth())))


def test_bad_arguments_are_refused(folder: Path) -> None:
    with pytest.raises(TypeError, match="expected one of nvidia.dali.plugin.pytorch"):
        dali.SynthIterator([1, 2], make_synth())
    with pytest.raises(ValueError, match="layout: expected one of"):
        dali.SynthIterator(inside(folder, make_synth()), make_synth(), layout="WHC")
    with pytest.raises(ValueError, match="say layout="):
        dali.planar(torch.zeros(2, 3, 8, 3))
    with pytest.raises(TypeError, match="synth: expected"):
        dali.synthesize(None, None, "draem")
    with pytest.raises(ValueError, match="does not exist"):
        dali.mvtec_pipeline(folder / "bolt" / "test" / "scratch" / "nothing")
    assert anoaug.loaders.dali is dali
