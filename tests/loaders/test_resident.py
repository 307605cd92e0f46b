"""ResidentDataset: what it holds of a folder, what a batch is, where it lies, how it trains."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from anoaug import (
    AnomalyLoader,
    Bank,
    DonorBank,
    IndexedDataset,
    Layer,
    ResidentDataset,
    Synthesizer,
    masks,
    sources,
)
from anoaug.banks import imagefolder
from anoaug.evaluation import metrics
from anoaug.loaders import ResidentLoader, resident
from tests.loaders.samples import COUNT, make_images, make_synth

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("tqdm")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ANOAUG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(path: Path, pixels: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def photograph(seed: int, size: int = 16) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def square(size: int = 16) -> Any:
    mask = np.zeros((size, size), np.uint8)
    mask[2:6, 4:8] = 255
    return mask


def mvtec(root: Path, category: str, seed: int = 0) -> Path:
    """Two normal images; of the test images one is normal and one has a square defect."""
    folder = root / category
    for number in range(2):
        write(folder / "train/good" / f"{number:03}.png", photograph(seed + number))
    write(folder / "test/good/000.png", photograph(seed + 2))
    write(folder / "test/crack/000.png", photograph(seed + 3))
    write(folder / "ground_truth/crack/000_mask.png", square())
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, category in ((0, "bottle"), (10, "cable")):
        mvtec(tmp_path / "mvtec", category, seed)
    return tmp_path / "mvtec"


def read(folder: Path, **options: Any) -> ResidentDataset:
    return ResidentDataset.from_folder(folder, size=16, progress=False, **options)


def planes(pixels: Any) -> torch.Tensor:
    return torch.from_numpy(pixels.transpose(2, 0, 1))


# ---- folders -------------------------------------------------------------------------------------


def test_the_normal_images_of_many_categories_come_by_name(root: Path) -> None:
    data = read(root)
    assert len(data) == 4
    assert data.bank.names == (
        "bottle/train/good/000.png",
        "bottle/train/good/001.png",
        "cable/train/good/000.png",
        "cable/train/good/001.png",
    )
    sample = data[2]
    assert (sample["name"], sample["category"], sample["index"]) == (data.bank.names[2], "cable", 2)
    assert torch.equal(sample["image"], planes(photograph(10)))
    assert not {"mask", "label"} & set(sample)


def test_one_category_is_named_after_its_folder(root: Path) -> None:
    data = read(root / "cable")
    assert len(data) == 2 and data[0]["category"] == "cable"


def test_folders_are_categories_and_a_flat_folder_has_none(tmp_path: Path) -> None:
    for name in ("cat/0.png", "dog/0.png"):
        write(tmp_path / "by_folder" / name, photograph(0))
    write(tmp_path / "flat/0.png", photograph(0))
    assert read(tmp_path / "by_folder").take(torch.arange(2))["category"] == ["cat", "dog"]
    assert "category" not in read(tmp_path / "flat")[0]


def test_a_folder_of_test_images_is_no_training_set(root: Path) -> None:
    with pytest.raises(ValueError, match="holds defects or masks"):
        read(root / "bottle" / "test")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="expected images .* found none"):
        read(tmp_path / "empty")


def test_a_misspelt_split_names_the_nearest(root: Path) -> None:
    with pytest.raises(ValueError, match="split: .*did you mean test"):
        read(root, split="tests")


def test_every_kind_of_file_becomes_uint8_of_one_size(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    write(folder / "a_plain.png", photograph(0))
    write(folder / "b_large.png", photograph(0, 40))
    write(folder / "c_grey.png", photograph(0)[..., 0])
    Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 257).save(folder / "d_16.png")
    Image.fromarray(photograph(0)).quantize(16).save(folder / "e_palette.png")
    Image.fromarray(photograph(0)).convert("CMYK").save(folder / "f_cmyk.jpg")
    turned = Image.fromarray(photograph(0))
    exif = turned.getexif()
    exif[0x0112] = 3
    turned.save(folder / "g_turned.png", exif=exif)
    (folder / "h_broken.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"1 of 8 image files .* h_broken\.png"):
        data = read(folder)
    assert data.bank.data.shape == (7, 3, 16, 16) and data.bank.data.dtype == torch.uint8
    assert torch.equal(data[3]["image"][0].flatten(), torch.arange(256, dtype=torch.uint8))
    assert torch.equal(data[6]["image"], data[0]["image"].flip(1, 2))


def test_the_files_are_decoded_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(root, split="test")
    monkeypatch.setattr(imagefolder, "decode", None)
    again = read(root, split="test")
    assert torch.equal(again.bank.data, first.bank.data)
    assert first.masks is not None and again.masks is not None
    assert torch.equal(again.masks, first.masks)


# ---- test splits ---------------------------------------------------------------------------------


def test_the_test_split_has_masks_and_labels(root: Path) -> None:
    data = read(root, split="test")
    assert data.bank.names[:2] == ("bottle/test/crack/000.png", "bottle/test/good/000.png")
    batch = data.take(torch.arange(4))
    assert batch["label"].tolist() == [1, 0, 1, 0]
    assert batch["category"] == ["bottle", "bottle", "cable", "cable"]
    expected = torch.from_numpy((square() > 0).astype(np.uint8))
    assert torch.equal(batch["mask"][:, 0], torch.stack([expected, expected * 0] * 2))
    assert torch.equal(batch["image"][3], planes(photograph(12)))


def test_a_mask_is_resized_to_where_at_least_half_is_defect(tmp_path: Path) -> None:
    folder = mvtec(tmp_path, "bottle")
    write(folder / "ground_truth/crack/000_mask.png", square(32))
    data = read(folder, split="test")
    assert data.masks is not None
    expected = torch.zeros(16, 16, dtype=torch.uint8)
    expected[1:3, 2:4] = 1
    assert torch.equal(data.masks[0, 0], expected)


def test_a_defect_that_vanishes_in_resizing_keeps_its_label(tmp_path: Path) -> None:
    folder = mvtec(tmp_path, "bottle")
    speck = np.zeros((160, 160), np.uint8)
    speck[5, 5] = 255
    write(folder / "test/dust/000.png", photograph(9))
    write(folder / "ground_truth/dust/000_mask.png", speck)
    data = read(folder, split="test")
    assert data.masks is not None and data.label is not None
    where = data.bank.names.index("test/dust/000.png")
    assert data.label[where] == 1 and not data.masks[where].any()


def test_masks_of_zero_and_one_are_refused(tmp_path: Path) -> None:
    folder = mvtec(tmp_path, "bottle")
    write(folder / "ground_truth/crack/000_mask.png", square() // 255)
    with pytest.raises(ValueError, match="expected masks of 0 and 255, got at most 1"):
        read(folder, split="test")


def test_a_mask_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = mvtec(tmp_path, "bottle")
    write(folder / "test/dust/000.png", photograph(9))
    (folder / "ground_truth/dust").mkdir()
    (folder / "ground_truth/dust/000_mask.png").write_bytes(b"no image")
    with (
        pytest.warns(UserWarning, match="cannot be read"),
        pytest.raises(ValueError, match=r"got ground_truth/dust/000_mask\.png; mend the file"),
    ):
        read(folder, split="test")


def test_a_test_split_without_defects_is_all_normal(tmp_path: Path) -> None:
    write(tmp_path / "bottle/test/good/0.png", photograph(0))
    data = read(tmp_path / "bottle", split="test")
    assert data.label is not None and data.label.tolist() == [0]
    assert data.masks is not None and not data.masks.any()


def test_eval_keeps_the_real_defects(root: Path) -> None:
    data = read(root, split="test")
    (batch,) = data.batches(4, make_synth(p=1.0).eval(), shuffle=False)
    assert torch.equal(batch["image"], data.bank.data)
    assert batch["label"].tolist() == [1, 0, 1, 0]
    assert torch.equal(batch["mask"], data.take(torch.arange(4))["mask"].float())


def test_a_batch_of_a_test_split_is_scored_as_it_is(root: Path) -> None:
    (batch,) = read(root, split="test").batches(4)
    assert metrics.pixel_auroc(batch["mask"].float(), batch["mask"]) == 1.0


# ---- tensors and banks ---------------------------------------------------------------------------


def test_tensors_are_copied_with_their_categories() -> None:
    images = make_images(3)
    data = ResidentDataset.from_tensors(images, ["a", "b", "a"])
    expected = images.clone()
    images.zero_()
    batch = data.take(torch.tensor([2, 0]))
    assert torch.equal(batch["image"], expected[[2, 0]])
    assert (batch["category"], batch["name"]) == (["a", "a"], ["2", "0"])


def test_given_masks_make_the_labels() -> None:
    given = torch.zeros(3, 1, 32, 32, dtype=torch.bool)
    given[1, 0, 4, 5] = True
    data = ResidentDataset(Bank.from_tensors(make_images(3)), masks=given)
    assert data.label is not None and data.label.tolist() == [0, 1, 0]
    assert data.masks is not None and data.masks.dtype == torch.uint8
    assert torch.equal(data.masks.bool(), given)


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no bank": (lambda: ResidentDataset(make_images()), TypeError, "use ResidentDataset.from_"),
    "masks of another size": (
        lambda: ResidentDataset(
            Bank.from_tensors(make_images()), masks=torch.zeros(COUNT, 1, 8, 8)
        ),
        ValueError,
        "masks: expected shape",
    ),
    "too few labels": (
        lambda: ResidentDataset(Bank.from_tensors(make_images()), label=[0, 1]),
        ValueError,
        "label: expected one number per sample",
    ),
    "a device that is not there": (
        lambda: ResidentDataset.from_tensors(make_images(), device="cuda:99"),
        ValueError,
        "device: expected one that is here",
    ),
    "a row beyond the end": (
        lambda: ResidentDataset.from_tensors(make_images()).take(torch.tensor([0, COUNT])),
        ValueError,
        rf"rows: expected indices in \[0, {COUNT}\), got 0 to {COUNT}",
    ),
    "images of 16 bits": (
        lambda: ResidentDataset.from_tensors(make_images().to(torch.uint16)),
        TypeError,
        "8 bits",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# ---- memory --------------------------------------------------------------------------------------


KEYS = ("image", "mask", "label")


def emptied(batch: dict[str, Any]) -> None:
    for key in KEYS:
        batch[key].zero_()


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_what_is_done_to_a_batch_is_not_done_to_the_data_set(
    root: Path, split: str, shuffle: bool
) -> None:
    data = ResidentDataset(read(root, split=split).bank, masks=torch.ones(4, 1, 16, 16))
    before = {key: part.clone() for key, part in data.take(torch.arange(4)).items() if key in KEYS}
    emptied(data[0])
    emptied(data.take(torch.tensor([1])))
    for size in (1, 3, 4):  # of three the last batch is a single image
        for batch in data.batches(size, shuffle=shuffle):
            emptied(batch)
        for batch in data.batches(size, make_synth(p=0.0), shuffle=shuffle):
            emptied(batch)
    after = data.take(torch.arange(4))
    assert all(torch.equal(after[key], part) for key, part in before.items())


@pytest.mark.parametrize("rows", [[3], [3, 4, 5], [5, 4], [3, 5], [0, 0], []], ids=str)
def test_any_rows_in_any_order_are_taken(rows: list[int]) -> None:
    batch = ResidentDataset.from_tensors(make_images()).take(torch.tensor(rows, dtype=torch.int64))
    assert torch.equal(batch["image"], make_images()[rows])
    assert batch["name"] == [str(row) for row in rows]


def test_the_bank_serves_as_donors_without_a_copy(root: Path) -> None:
    data = read(root)
    assert isinstance(data.bank, DonorBank)
    assert data.bank.to(data.device) is data.bank


def test_a_pickled_data_set_is_the_same_map(root: Path) -> None:
    data = read(root, split="test")
    content = pickle.dumps(data)
    twin = pickle.loads(content)
    assert twin.bank._facts.file == data.bank._facts.file
    assert twin.bank.names == data.bank.names
    first, second = data.take(torch.tensor([1, 0])), twin.take(torch.tensor([1, 0]))
    assert all(torch.equal(first[key], second[key]) for key in ("image", "mask", "label"))


@pytest.mark.parametrize(("free", "pinned"), [(2.0, False), (1.9, True)], ids=["fits", "too big"])
def test_half_of_the_free_memory_may_be_taken(
    free: float, pinned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = Bank.from_tensors(make_images())
    given = torch.zeros(COUNT, 1, 32, 32, dtype=torch.uint8)
    need = bank.data.numel() + given.numel()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free * need), 10 * need))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fits = resident._fits(bank, given, torch.device("cuda", 0))
    assert fits is not pinned
    assert [("pinned host memory" in str(one.message)) for one in caught] == [True] * pinned


def test_pinned_images_are_handed_out_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    given = (make_images()[:, :1] > 127).to(torch.uint8)
    plain = ResidentDataset(Bank.from_tensors(make_images()), masks=given)
    monkeypatch.setattr(resident, "_fits", lambda *_: False)
    monkeypatch.setattr(resident, "_PIECE", 3 * make_images()[0].numel() + 1)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    pinned = ResidentDataset(plain.bank, "cpu", masks=given)
    assert [len(piece) for piece in pinned._pinned["image"]._pieces] == [3, 3, 3, 1]
    assert "pinned for cpu" in repr(pinned)
    for got, expected in zip(pinned.batches(4), plain.batches(4), strict=True):
        assert all(torch.equal(got[key], expected[key]) for key in ("image", "mask", "label"))


# ---- training ------------------------------------------------------------------------------------


def test_a_batch_is_ready_for_the_synthesizer() -> None:
    data = ResidentDataset.from_tensors(make_images(), ["a", "b"] * (COUNT // 2))
    synth = make_synth()
    for batch in data.batches(4, epoch=2):
        category = batch.get("category")
        out = synth(batch["image"], index=batch["index"], epoch=2, category=category)
        direct = make_synth()(make_images()[batch["index"]], index=batch["index"], epoch=2)
        assert torch.equal(out.image, direct.image)


def test_batches_with_a_synthesizer_are_functions_of_seed_epoch_and_index() -> None:
    data = ResidentDataset.from_tensors(make_images())
    loader = data.batches(4, make_synth(), epoch=5)
    assert isinstance(loader, AnomalyLoader) and len(loader) == 3
    for epoch in (5, 6):
        seen = []
        for batch in loader:
            index = batch["index"]
            direct = make_synth()(make_images()[index], index=index, epoch=epoch)
            assert torch.equal(batch["image"], direct.image)
            assert torch.equal(batch["mask"], direct.mask)
            assert torch.equal(batch["clean"], make_images()[index])
            seen += index.tolist()
        assert sorted(seen) == list(range(COUNT))


def test_the_images_stay_as_they_were() -> None:
    data = ResidentDataset.from_tensors(make_images())
    list(data.batches(3, make_synth(), shuffle=False))
    assert torch.equal(data.bank.data, make_images())


def test_donors_are_of_the_image_s_category() -> None:
    colours = torch.tensor([10, 200] * 5, dtype=torch.uint8)[:, None, None, None]
    images = colours.expand(COUNT, 3, 32, 32)
    data = ResidentDataset.from_tensors(images, ["dark", "light"] * 5)
    layer = Layer(masks.Rectangle(area=0.3), sources.Donor(data.bank))
    for batch in data.batches(4, Synthesizer(layer, p=1.0, seed=0)):
        assert batch["mask"].flatten(1).any(1).all()
        assert torch.equal(batch["image"], images[batch["index"]])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_takes_it_and_the_anomalies_are_the_same(workers: int) -> None:
    data = ResidentDataset.from_tensors(make_images(), ["a"] * COUNT)
    expected = {
        int(number): mask
        for batch in data.batches(4, make_synth(), epoch=0)
        for number, mask in zip(batch["index"], batch["mask"], strict=True)
    }
    wrapped = DataLoader(Subset(data, [7, 2, 5]), batch_size=2, num_workers=workers)
    got = list(AnomalyLoader(wrapped, make_synth()))
    assert [number for batch in got for number in batch["index"].tolist()] == [7, 2, 5]
    made = torch.cat([batch["mask"] for batch in got])
    assert torch.equal(made, torch.stack([expected[number] for number in (7, 2, 5)]))
    assert got[0]["category"] == ["a", "a"]


def test_negative_indices_count_from_the_end_and_the_end_is_an_end() -> None:
    data = ResidentDataset.from_tensors(make_images())
    assert data[-1]["index"] == COUNT - 1
    assert torch.equal(data[-1]["image"], make_images()[-1])
    with pytest.raises(IndexError):
        data[COUNT]
    with pytest.raises(TypeError, match="index: expected an integer, got slice.0, 2, None.; data"):
        data[0:2]


def test_an_index_of_its_own_is_not_covered_up() -> None:
    indexed = IndexedDataset(ResidentDataset.from_tensors(make_images()))
    with pytest.raises(ValueError, match="leave IndexedDataset out"):
        indexed[0]


def test_without_a_synthesizer_the_batches_are_plain() -> None:
    loader = ResidentDataset.from_tensors(make_images()).batches(4)
    assert isinstance(loader, ResidentLoader)
    assert "mask" not in next(iter(loader))


def test_its_repr_says_what_it_holds(root: Path) -> None:
    assert repr(read(root, split="test")) == (
        "ResidentDataset(4 images, 3 x 16 x 16, cpu, 2 categories, 2 with defects)"
    )


@pytest.mark.slow
def test_real_images_with_their_defects(data_dir: Path) -> None:
    folder = data_dir / "bsd_pitting"
    train, test = (read(folder, split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (200, 163)
    assert test.label is not None and test.masks is not None
    assert int(test.label.sum()) == 83
    whole = ResidentDataset.from_folder(folder, size=256, progress=False)
    with Image.open(folder / "train/good/007.jpg") as image:
        assert torch.equal(whole[7]["image"], planes(np.array(image)))
    assert not test.masks[test.label == 0].any()
