"""Banks: what goes in comes out, derived tensors are right, what can be shared is shared."""

from __future__ import annotations

import gc
import pickle
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from anoaug.banks import Bank, DonorBank, TextureBank, procedural, texturebank


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setenv("ANOAUG_CACHE", str(place))
    return place


def pixels(count: int = 3, channels: int = 3, size: tuple[int, int] = (8, 10)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    shape = (count, channels, *size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def saved(root: Path, names: list[str]) -> torch.Tensor:
    """Images of :func:`pixels` under these names, in this order."""
    image = pytest.importorskip("PIL.Image")
    images = pixels(len(names))
    for name, one in zip(names, images, strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(one.permute(1, 2, 0).numpy()).save(root / name)
    return images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    saved(tmp_path / "images", ["a/0.png", "a/1.png", "b/0.png"])
    return tmp_path / "images"


def mapped(folder: Path, kind: type[Bank] = TextureBank, **keywords: Any) -> Any:
    return kind.from_folder(folder, size=(8, 10), progress=False, **keywords)


class TestFromTensors:
    def test_bytes_are_kept_and_copied(self) -> None:
        images = pixels()
        bank = Bank.from_tensors(images)
        expected = images.clone()
        images.zero_()
        assert torch.equal(bank.data, expected)
        assert (len(bank), bank.channels, bank.size) == (3, 3, (8, 10))
        assert bank.names == ("0", "1", "2")

    def test_floats_are_scaled_and_rounded(self) -> None:
        values = torch.tensor([0.0, 0.49 / 255, 0.51 / 255, 127.4 / 255, 1.0])
        images = values.repeat(4).view(1, 1, 4, 5)
        bank = Bank.from_tensors(images)
        assert bank.data[0, 0, 0].tolist() == [0, 0, 1, 127, 255]

    def test_a_float_image_of_bytes_comes_back(self) -> None:
        images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
        assert torch.equal(Bank.from_tensors(images / 255).data, images)

    def test_other_layouts_become_contiguous(self) -> None:
        images = pixels().contiguous(memory_format=torch.channels_last)
        bank = Bank.from_tensors(images)
        assert bank.data.is_contiguous() and torch.equal(bank.data, images)

    @pytest.mark.parametrize("source", ["tensors", "memory", "mapped", "procedural"])
    def test_inference_mode_leaves_no_trace(self, folder: Path, source: str) -> None:
        with torch.inference_mode():
            if source == "tensors":
                bank = TextureBank.from_tensors(pixels())
            elif source == "procedural":
                bank = TextureBank.procedural(2, size=8)
            else:
                bank = mapped(folder, cache=source == "mapped")
            again = pickle.loads(pickle.dumps(bank))
            tensors = [bank.data, bank.smooth, bank.with_channels(1).data, bank.to("meta").data]
        assert not any(tensor.is_inference() for tensor in [*tensors, again.data])

    @pytest.mark.parametrize(
        ("images", "error", "text"),
        [
            ([[1]], TypeError, "expected a tensor"),
            (torch.zeros(3, 8, 8), ValueError, r"expected rank 4 .* images\[None\]"),
            (torch.zeros(0, 3, 8, 8), ValueError, "expected at least one"),
            (torch.zeros(1, 0, 8, 8), ValueError, "at least one channel"),
            (torch.zeros(1, 3, 8, 8, dtype=torch.int16), TypeError, "expected one of uint8"),
            (torch.zeros(1, 3, 8, 8, dtype=torch.uint16), TypeError, "8 bits"),
            (torch.full((1, 3, 8, 8), 1.5), ValueError, r"expected floats in \[0, 1\]"),
            (torch.full((1, 3, 8, 8), float("nan")), ValueError, "NaN"),
            (torch.zeros(1, 3, 8, 8, requires_grad=True), ValueError, r"\.detach\(\)"),
        ],
    )
    def test_bad_images_are_refused(self, images: Any, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            Bank.from_tensors(images)

    @pytest.mark.parametrize("what", ["names", "categories"])
    def test_another_number_of_labels_is_refused(self, what: str) -> None:
        with pytest.raises(ValueError, match=rf"{what}: expected one per image \(3\), got 2"):
            Bank.from_tensors(pixels(), **{what: ["x", "y"]})


class TestCategories:
    def test_names_are_sorted_and_indexed(self) -> None:
        bank = Bank.from_tensors(pixels(), categories=["tile", "grid", "tile"])
        assert bank.categories == ("grid", "tile")
        assert bank.category.tolist() == [1, 0, 1]
        assert bank.category.dtype == np.int64

    def test_members_by_name_index_and_none(self) -> None:
        bank = Bank.from_tensors(pixels(), categories=["tile", "grid", "tile"])
        assert bank.members("tile").tolist() == [0, 2]
        assert bank.members(np.int64(0)).tolist() == [1]
        assert bank.members(None).tolist() == [0, 1, 2]
        assert bank.members("tile") is bank.members(1)

    def test_integers_are_indices(self) -> None:
        bank = Bank.from_tensors(pixels(), categories=torch.tensor([3, 0, 3]))
        assert bank.categories == ("0", "1", "2", "3")
        assert bank.members(3).tolist() == bank.members("3").tolist() == [0, 2]
        assert bank.members(1).tolist() == []

    def test_without_categories_all_are_zero(self) -> None:
        bank = Bank.from_tensors(pixels())
        assert bank.categories == () and bank.category.tolist() == [0, 0, 0]

    @pytest.mark.parametrize(
        ("category", "error", "text"),
        [
            ("tiles", ValueError, "did you mean tile"),
            (2, ValueError, "below 2, got 2; categories: grid, tile"),
            (-1, ValueError, "below 2, got -1"),
            (0.5, TypeError, "name or index or None, got float"),
        ],
    )
    def test_unknown_ones_are_refused(
        self, category: Any, error: type[Exception], text: str
    ) -> None:
        bank = Bank.from_tensors(pixels(), categories=["tile", "grid", "tile"])
        with pytest.raises(error, match=text):
            bank.members(category)

    def test_a_bank_without_categories_says_so(self) -> None:
        with pytest.raises(ValueError, match="'tile'; known: none"):
            Bank.from_tensors(pixels()).members("tile")

    @pytest.mark.parametrize(
        ("labels", "error", "text"),
        [(["a", 1, "b"], TypeError, "a mixture"), ([0, -1, 2], ValueError, "at least 0, got -1")],
    )
    def test_bad_labels_are_refused(self, labels: Any, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            Bank.from_tensors(pixels(), categories=labels)

    def test_shared_arrays_cannot_be_written(self) -> None:
        bank = TextureBank.from_tensors(pixels())
        for array in (bank.category, bank.members(None), bank.histograms):
            with pytest.raises(ValueError, match="read-only"):
                array[:] = 0


class TestFromFolder:
    def test_names_categories_and_pixels(self, folder: Path) -> None:
        bank = mapped(folder)
        assert bank.names == ("a/0.png", "a/1.png", "b/0.png")
        assert bank.categories == ("a", "b")
        assert bank.category.tolist() == [0, 0, 1]
        assert torch.equal(bank.data, pixels())

    def test_the_cache_changes_nothing_but_where_pixels_are(self, folder: Path) -> None:
        first, second = mapped(folder), mapped(folder, cache=False)
        assert torch.equal(first.data, second.data)
        assert (first.names, first.digest()) == (second.names, second.digest())

    def test_loose_images_beside_folders_leave_textures_without_categories(
        self, folder: Path
    ) -> None:
        saved(folder, ["loose.png"])
        assert mapped(folder).categories == ()

    def test_one_channel_equals_with_channels(self, folder: Path) -> None:
        one, three = mapped(folder, channels=1), mapped(folder)
        assert torch.equal(one.data, three.with_channels(1).data)

    def test_a_broken_file_is_left_out_of_the_categories_too(self, folder: Path) -> None:
        (folder / "a" / "0.png").write_bytes(b"not an image")
        with pytest.warns(UserWarning, match=r"1 of 3 .* a/0\.png") as record:
            bank = mapped(folder)
        assert bank.names == ("a/1.png", "b/0.png")
        assert bank.category.tolist() == [0, 1]
        assert record[0].filename == __file__

    def test_a_side_or_a_pair(self, folder: Path) -> None:
        assert TextureBank.from_folder(folder, size=5, progress=False).size == (5, 5)
        with pytest.raises(ValueError, match="size: expected an integer or a pair"):
            TextureBank.from_folder(folder, size=(1, 2, 3))  # type: ignore[arg-type]

    def test_a_missing_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="does not exist"):
            TextureBank.from_folder(tmp_path / "nowhere")

    def test_donors_come_from_train_good_only(self, tmp_path: Path) -> None:
        names = ["bolt/train/good/0.png", "bolt/test/bad/0.png", "nut/train/good/0.png"]
        images = saved(tmp_path / "set", names)
        bank = mapped(tmp_path / "set", DonorBank)
        assert bank.categories == ("bolt", "nut")
        assert torch.equal(bank.data, images[[0, 2]])

    @pytest.mark.parametrize("part", ["test", "ground_truth", "test/bad", "ground_truth/bad"])
    def test_donors_from_tests_or_masks_are_refused(self, tmp_path: Path, part: str) -> None:
        saved(tmp_path / "bolt", ["train/good/0.png", "test/bad/0.png", "ground_truth/bad/0.png"])
        with pytest.raises(ValueError, match=f"got {part} of an MVTec .* train/good"):
            DonorBank.from_folder(tmp_path / "bolt" / part, size=4, progress=False)

    @pytest.mark.parametrize("part", ["bolt/train/good", "bolt/test/good", "test/mine"])
    def test_donors_from_normal_folders_are_taken(self, tmp_path: Path, part: str) -> None:
        saved(tmp_path / part, ["0.png"])
        assert len(DonorBank.from_folder(tmp_path / part, size=4, progress=False)) == 1

    def test_textures_from_a_dataset_are_warned_of_once(self, tmp_path: Path) -> None:
        saved(tmp_path / "bolt", ["train/good/0.png", "test/bad/0.png", "ground_truth/bad/0.png"])
        with pytest.warns(UserWarning, match="its ground_truth and test images") as caught:
            TextureBank.from_folder(tmp_path, size=4, progress=False)
        assert len(caught) == 1 and caught[0].filename == __file__

    @pytest.mark.parametrize("part", ["bolt/train/good", "bolt/test"])
    def test_textures_from_a_part_of_a_dataset_are_not(self, tmp_path: Path, part: str) -> None:
        saved(tmp_path / part, ["0.png"])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            TextureBank.from_folder(tmp_path, size=4, progress=False)

    def test_real_donors_are_the_200_normal_ones(self, data_dir: Path) -> None:
        bank = DonorBank.from_folder(data_dir / "bsd_pitting", size=32, progress=False)
        assert (len(bank), bank.categories) == (200, ("bsd_pitting",))
        assert all(name.startswith("train/good/") for name in bank.names)

    @pytest.mark.slow
    def test_real_textures_are_all_read_and_differ(self, data_dir: Path) -> None:
        bank = TextureBank.from_folder(data_dir / "textures_cc0", size=32, progress=False)
        assert len(bank) == 240
        assert len(set(bank._facts.rows or ())) == 240


class TestDevices:
    def test_the_same_device_is_the_same_bank(self) -> None:
        bank = Bank.from_tensors(pixels())
        assert bank.to("cpu") is bank and bank.to(torch.device("cpu")) is bank

    def test_another_device_gets_one_copy_that_knows_its_home(self) -> None:
        bank = TextureBank.from_tensors(pixels(), categories=["a", "b", "b"])
        there = bank.to("meta")
        assert there is bank.to("meta") and there.to("cpu") is bank
        assert there.device.type == "meta" and isinstance(there, TextureBank)
        assert there.members("b").tolist() == [1, 2]

    def test_what_is_known_is_known_to_copies(self) -> None:
        bank = TextureBank.from_tensors(pixels())
        there = bank.to("meta")
        assert there.digest() == bank.digest()
        assert there.histograms is bank.histograms

    def test_memory_is_freed_without_the_garbage_collector(self) -> None:
        gc.disable()
        try:
            bank = TextureBank.from_tensors(pixels())
            watched = [weakref.ref(bank), weakref.ref(bank.to("meta")), weakref.ref(bank.data)]
            del bank
            assert [reference() for reference in watched] == [None] * 3
        finally:
            gc.enable()

    def test_a_copy_outlives_its_home(self) -> None:
        there = TextureBank.from_tensors(pixels()).to("meta")
        assert there.to("meta") is there and len(there) == 3

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_cuda_agrees_with_the_host(self) -> None:
        bank = TextureBank.from_tensors(pixels(20, size=(33, 47)))
        there = bank.to("cuda")
        assert there is bank.to("cuda:0") and there.to("cuda") is there
        assert torch.equal(there.data.cpu(), bank.data)
        assert torch.equal(there.smooth.cpu(), bank.smooth)
        assert torch.equal(there.with_channels(1).data.cpu(), bank.with_channels(1).data)
        alone = TextureBank.from_tensors(bank.data.cuda())
        assert alone.digest() == bank.digest()
        assert np.array_equal(alone.histograms, bank.histograms)


class TestWithChannels:
    def test_grey_is_the_integer_luma(self) -> None:
        bank = Bank.from_tensors(pixels())
        red, green, blue = bank.data.long().unbind(1)
        expected = (299 * red + 587 * green + 114 * blue + 500) // 1000
        grey = bank.with_channels(1)
        assert torch.equal(grey.data[:, 0].long(), expected)
        assert grey is bank.with_channels(1)

    def test_grey_keeps_names_and_categories(self) -> None:
        bank = DonorBank.from_tensors(pixels(), ["x", "y", "z"], ["a", "b", "a"])
        grey = bank.with_channels(1)
        assert (grey.names, grey.categories) == (bank.names, bank.categories)
        assert grey.category.tolist() == [0, 1, 0] and isinstance(grey, DonorBank)

    @pytest.mark.parametrize(("has", "wanted"), [(3, 3), (1, 1), (1, 3), (1, 7), (5, 5)])
    def test_equal_or_broadcast_is_the_bank_itself(self, has: int, wanted: int) -> None:
        bank = Bank.from_tensors(pixels(channels=has))
        assert bank.with_channels(wanted) is bank

    @pytest.mark.parametrize(("has", "wanted"), [(3, 4), (4, 3), (4, 1), (2, 3)])
    def test_anything_else_says_what_to_do(self, has: int, wanted: int) -> None:
        bank = Bank.from_tensors(pixels(channels=has))
        with pytest.raises(ValueError, match=f"1 or {wanted} channels, got {has}; pass one"):
            bank.with_channels(wanted)


class TestDigest:
    def test_it_is_the_same_for_the_same_content(self) -> None:
        first = Bank.from_tensors(pixels(), names=["x", "y", "z"])
        second = TextureBank.from_tensors(pixels().clone())
        assert first.digest() == second.digest()
        assert len(first.digest()) == 16

    def test_it_changes_with_pixels_shape_order_and_categories(self) -> None:
        images = pixels()
        changed = images.clone()
        changed[1, 2, 3, 4] ^= 1
        digests = [
            Bank.from_tensors(images).digest(),
            Bank.from_tensors(changed).digest(),
            Bank.from_tensors(images.flip(0)).digest(),
            Bank.from_tensors(images.reshape(3, 3, 10, 8)).digest(),
            Bank.from_tensors(images, categories=["a", "a", "b"]).digest(),
            Bank.from_tensors(images, categories=["a", "b", "b"]).digest(),
        ]
        assert len(set(digests)) == len(digests)


class TestDerived:
    @pytest.mark.slow
    @given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9)))
    def test_smooth_is_pillows(self, image: np.ndarray[Any, Any]) -> None:
        pillow = pytest.importorskip("PIL.Image")
        smooth = pytest.importorskip("PIL.ImageFilter").SMOOTH
        bank = TextureBank.from_tensors(torch.from_numpy(image)[None, None])
        expected = np.asarray(pillow.fromarray(image).filter(smooth))
        assert np.array_equal(bank.smooth[0, 0].numpy(), expected)

    @pytest.mark.slow
    def test_smooth_of_real_textures_is_pillows(self, data_dir: Path) -> None:
        pillow = pytest.importorskip("PIL.Image")
        smooth = pytest.importorskip("PIL.ImageFilter").SMOOTH
        bank = TextureBank.from_folder(data_dir / "textures_cc0", size=48, progress=False)
        for index in range(0, 240, 40):
            image = pillow.fromarray(bank.data[index].permute(1, 2, 0).numpy())
            expected = np.asarray(image.filter(smooth)).transpose(2, 0, 1)
            assert np.array_equal(bank.smooth[index].numpy(), expected)

    def test_smooth_is_made_once(self) -> None:
        bank = TextureBank.from_tensors(pixels())
        assert bank.smooth is bank.smooth

    @given(st.integers(1, 4), st.integers(1, 4), st.integers(2, 9))
    def test_histograms_count_every_pixel(self, count: int, channels: int, side: int) -> None:
        bank = TextureBank.from_tensors(pixels(count, channels, (side, side + 1)))
        assert bank.histograms.shape == (count, channels, 256)
        assert bank.histograms.dtype == np.int64
        for image, counts in zip(bank.data, bank.histograms, strict=True):
            for plane, one in zip(image, counts, strict=True):
                values, numbers = np.unique(plane.numpy(), return_counts=True)
                assert np.array_equal(one[values], numbers)
                assert one.sum() == side * (side + 1)

    def test_chunks_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = TextureBank.from_tensors(pixels(7))
        expected = (whole.smooth, whole.with_channels(1).data, whole.histograms)
        monkeypatch.setattr("anoaug.banks.bank._CHUNK", 500)
        parts = TextureBank.from_tensors(pixels(7))
        assert torch.equal(parts.smooth, expected[0])
        assert torch.equal(parts.with_channels(1).data, expected[1])
        assert np.array_equal(parts.histograms, expected[2])

    def test_of_a_mapped_bank_they_are_mapped_too_and_not_made_again(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        memory, first = mapped(folder, cache=False), mapped(folder)
        expected = (memory.smooth, memory.with_channels(1).data, memory.histograms)
        for bank in (first, mapped(folder)):
            assert torch.equal(bank.smooth, expected[0])
            assert torch.equal(bank.with_channels(1).data, expected[1])
            assert np.array_equal(bank.histograms, expected[2])
            for name in ("texturebank._smooth", "bank._luma", "texturebank._histograms"):
                monkeypatch.setattr(f"anoaug.banks.{name}", None)

    def test_grey_of_a_mapped_bank_has_its_own_smooth(self, folder: Path) -> None:
        grey = mapped(folder).with_channels(1)
        alone = TextureBank.from_tensors(grey.data)
        assert torch.equal(grey.smooth, alone.smooth)


class TestProcedural:
    def test_texture_i_does_not_depend_on_n(self) -> None:
        few, many = (TextureBank.procedural(n, size=16, seed=5) for n in (3, 13))
        assert torch.equal(few.data, many.data[:3])

    def test_seed_decides(self) -> None:
        first, second = (TextureBank.procedural(2, size=16, seed=seed) for seed in (0, 1))
        assert not torch.equal(first.data, second.data)

    def test_categories_are_the_families_in_turn(self) -> None:
        bank = TextureBank.procedural(13, size=(8, 16))
        assert bank.categories == tuple(procedural.FAMILIES)
        assert bank.members("fractal").tolist() == [0, 11]
        assert bank.names[12] == "cells-12"
        assert bank.size == (8, 16)

    def test_grey_is_the_luma_of_colour(self) -> None:
        grey = TextureBank.procedural(3, size=16, channels=1)
        colour = TextureBank.procedural(3, size=16)
        assert torch.equal(grey.data, colour.with_channels(1).data)

    def test_a_small_bank_is_made_once(self) -> None:
        assert TextureBank.procedural(2, size=8) is TextureBank.procedural(2, size=8)

    @pytest.mark.parametrize(
        "keywords", [{"n": 0}, {"size": 0}, {"channels": 2}, {"size": (8, 8, 8)}]
    )
    def test_bad_arguments_are_refused(self, keywords: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=f"{next(iter(keywords))}: expected"):
            TextureBank.procedural(**keywords)


@pytest.fixture(autouse=True)
def forget_procedural_banks() -> Iterator[None]:
    yield
    texturebank._kept_procedural.cache_clear()
