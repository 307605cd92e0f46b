"""Folders of images: what is found, what a file becomes, what is cached, which are refused."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from anoaug.banks import imagefolder
from anoaug.banks.imagefolder import Rule, decode, find, load, luma

Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")

Bytes = npt.NDArray[np.uint8]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setenv("ANOAUG_CACHE", str(place))
    return place


def pixels(height: int = 12, width: int = 16, seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Any, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def same(height: int = 12, width: int = 16, channels: int = 3) -> Rule:
    return Rule((height, width), channels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    (root / "b").mkdir(parents=True)
    for index, name in enumerate(["z.png", "a.bmp", "b/c.png"]):
        Image.fromarray(pixels(seed=index)).save(root / name)
    return root


def loaded(folder: Path, **keywords: Any) -> imagefolder.Loaded:
    return load(folder, find(folder), same(), progress=False, **keywords)


class TestFind:
    def test_names_are_relative_sorted_and_of_any_case(self, folder: Path) -> None:
        (folder / "b" / "C.JPG").write_bytes(b"")
        assert find(folder) == ["a.bmp", "b/C.JPG", "b/c.png", "z.png"]

    def test_hidden_and_other_files_are_passed_over(self, folder: Path) -> None:
        (folder / ".hidden").mkdir()
        for name in (".hidden/a.png", "._z.png", "notes.txt", "data.h5", "png"):
            (folder / name).write_bytes(b"")
        assert find(folder) == ["a.bmp", "b/c.png", "z.png"]

    def test_a_linked_folder_is_followed_once(self, folder: Path) -> None:
        (folder / "b" / "loop").symlink_to(folder, target_is_directory=True)
        assert find(folder) == ["a.bmp", "b/c.png", "z.png"]

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"'.*nowhere' does not exist.*check the path"):
            find(tmp_path / "nowhere")

    def test_a_file_is_no_folder(self, folder: Path) -> None:
        with pytest.raises(ValueError, match=r"got the file '.*z\.png'; give its folder"):
            find(folder / "z.png")

    def test_a_folder_without_images_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("")
        with pytest.raises(ValueError, match=r"expected images .* found none"):
            find(tmp_path)


class TestDecode:
    def test_pixels_of_the_right_size_are_untouched(self) -> None:
        result = decode(encoded(Image.fromarray(pixels())), same())
        assert np.array_equal(result, pixels().transpose(2, 0, 1))
        assert result.flags.c_contiguous

    @pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM", "TGA", "WEBP"])
    def test_lossless_formats_agree(self, kind: str) -> None:
        options = {"lossless": True} if kind == "WEBP" else {}
        result = decode(encoded(Image.fromarray(pixels()), kind, **options), same())
        assert np.array_equal(result, pixels().transpose(2, 0, 1))

    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
    def test_16_bit_grey_keeps_the_high_byte(self, kind: str) -> None:
        wide = np.arange(12 * 16, dtype=np.uint16).reshape(12, 16) * 341 + 77
        result = decode(encoded(Image.fromarray(wide), kind), same())
        assert np.array_equal(result, np.repeat((wide >> 8).astype(np.uint8)[None], 3, axis=0))

    def test_16_bit_colour_keeps_the_high_byte(self) -> None:
        cv2 = pytest.importorskip("cv2")
        wide = np.random.default_rng(0).integers(0, 65536, (12, 16, 3), dtype=np.uint16)
        content = cv2.imencode(".png", wide[..., ::-1])[1].tobytes()
        assert np.array_equal(decode(content, same()), (wide >> 8).transpose(2, 0, 1))

    def test_a_palette_is_looked_up(self) -> None:
        image = Image.fromarray(pixels()).quantize(16)
        expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        assert len(np.unique(expected.reshape(3, -1), axis=1).T) > 8
        assert np.array_equal(decode(encoded(image), same()), expected)

    def test_transparency_of_a_palette_is_dropped(self) -> None:
        image = Image.fromarray(pixels()).quantize(16)
        expected = decode(encoded(image), same())
        assert np.array_equal(decode(encoded(image, transparency=3), same()), expected)

    def test_alpha_is_dropped_as_cv2_does(self) -> None:
        alpha = np.linspace(0, 255, 12 * 16).reshape(12, 16, 1).astype(np.uint8)
        image = Image.fromarray(np.concatenate([pixels(), alpha], axis=2))
        assert np.array_equal(decode(encoded(image), same()), pixels().transpose(2, 0, 1))

    def test_alpha_of_grey_is_dropped(self) -> None:
        grey = pixels()[..., 0]
        image = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(pixels()[..., 1])])
        assert np.array_equal(decode(encoded(image), same(channels=1)), grey[None])

    def test_cmyk_becomes_rgb(self) -> None:
        inks = np.zeros((12, 16, 4), np.uint8)
        inks[:6, :, 0] = 255  # cyan
        inks[6:, :, 3] = 255  # black
        result = decode(encoded(Image.fromarray(inks, "CMYK"), "TIFF"), same())
        assert result[:, 0, 0].tolist() == [0, 255, 255]
        assert result[:, 11, 0].tolist() == [0, 0, 0]

    def test_a_cmyk_jpeg_is_not_inverted(self) -> None:
        image = Image.new("RGB", (16, 12), (200, 40, 40)).convert("CMYK")
        result = decode(encoded(image, "JPEG", quality=95), same())
        assert np.abs(result.mean(axis=(1, 2)) - [200, 40, 40]).max() < 6

    def test_one_bit_is_black_and_white(self) -> None:
        image = Image.fromarray(pixels()[..., 0] > 127)
        expected = np.where(pixels()[..., 0] > 127, 255, 0)
        assert np.array_equal(decode(encoded(image), same(channels=1))[0], expected)

    def test_floating_point_is_refused(self) -> None:
        image = Image.fromarray(np.zeros((12, 16), np.float32))
        with pytest.raises(ValueError, match="no agreed range"):
            decode(encoded(image, "TIFF"), same())

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_turns_are_applied(self, orientation: int) -> None:
        image = Image.fromarray(pixels())
        exif = image.getexif()
        exif[0x0112] = orientation
        turned = {
            1: lambda a: a,
            2: lambda a: a[:, ::-1],
            3: lambda a: a[::-1, ::-1],
            4: lambda a: a[::-1],
            5: lambda a: a.transpose(1, 0, 2),
            6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
            7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
            8: lambda a: a.transpose(1, 0, 2)[::-1],
        }[orientation](pixels())
        rule = same(*turned.shape[:2])
        assert np.array_equal(decode(encoded(image, exif=exif), rule), turned.transpose(2, 0, 1))

    def test_a_large_jpeg_decoded_small_is_turned_too(self) -> None:
        image = Image.fromarray(np.repeat(np.repeat(pixels(4, 6), 100, axis=0), 100, axis=1))
        exif = image.getexif()
        exif[0x0112] = 6
        plain = decode(encoded(image, "JPEG", quality=95), Rule((20, 30)))
        turned = decode(encoded(image, "JPEG", quality=95, exif=exif), Rule((30, 20)))
        result, expected = turned.astype(int), np.rot90(plain, -1, axes=(1, 2))
        assert np.abs(result - expected).max() <= 2

    def test_alpha_of_16_bit_colour_is_dropped(self) -> None:
        cv2 = pytest.importorskip("cv2")
        wide = np.random.default_rng(0).integers(0, 65536, (12, 16, 4), dtype=np.uint16)
        content = cv2.imencode(".png", wide)[1].tobytes()
        expected = (wide[..., 2::-1] >> 8).transpose(2, 0, 1)
        assert np.array_equal(decode(content, same()), expected)

    def test_the_first_frame_is_taken(self) -> None:
        frames = [Image.fromarray(pixels(seed=seed)) for seed in (0, 1)]
        content = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
        assert np.array_equal(decode(content, same()), pixels().transpose(2, 0, 1))

    @pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "I;16"])
    def test_one_channel_is_the_luma_of_three(self, mode: str) -> None:
        if mode == "I;16":
            image = Image.fromarray(pixels()[..., 0].astype(np.uint16) * 257)
        else:
            image = Image.fromarray(pixels()).convert(mode)
        content = encoded(image)
        three, one = decode(content, Rule((7, 9))), decode(content, Rule((7, 9), 1))
        assert np.array_equal(luma(three), one)

    def test_stretch_shows_the_whole_image(self) -> None:
        wide = np.zeros((8, 32, 3), np.uint8)
        wide[:, :16] = 255
        result = decode(encoded(Image.fromarray(wide)), Rule((8, 8)))
        assert (result[:, :, :3] > 250).all() and (result[:, :, 5:] < 5).all()

    def test_crop_keeps_the_centre_and_the_aspect(self) -> None:
        wide = pixels(8, 32)
        result = decode(encoded(Image.fromarray(wide)), Rule((8, 8), resize="crop"))
        assert np.array_equal(result, wide[:, 12:20].transpose(2, 0, 1))

    def test_crop_scales_the_shorter_side(self) -> None:
        tall = np.repeat(np.repeat(pixels(12, 8), 4, axis=0), 4, axis=1)
        rule = Rule((8, 8), resize="crop")
        whole = decode(encoded(Image.fromarray(tall)), Rule((12, 8)))
        assert np.array_equal(decode(encoded(Image.fromarray(tall)), rule), whole[:, 2:10])

    def test_reduction_does_not_alias(self) -> None:
        checker = np.indices((64, 64)).sum(axis=0) % 2 * 255
        image = Image.fromarray(checker.astype(np.uint8))
        result = decode(encoded(image), Rule((16, 16), 1)).astype(int)
        assert np.abs(result - 127.5).max() < 12

    def test_a_large_jpeg_decoded_small_is_close_to_the_full_one(self) -> None:
        x, y = np.meshgrid(np.linspace(0, 6, 640), np.linspace(0, 4, 400))
        smooth = np.stack([127 + 100 * np.sin(x + k * y) for k in range(3)], axis=2)
        image = Image.fromarray(smooth.astype(np.uint8))
        result = decode(encoded(image, "JPEG", quality=95), Rule((40, 60)))
        expected = np.asarray(image.resize((60, 40), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        assert np.abs(result.astype(int) - expected).max() <= 6


class TestRule:
    @pytest.mark.parametrize("channels", [0, 2, 4])
    def test_channels_of_files_are_one_or_three(self, channels: int) -> None:
        with pytest.raises(ValueError, match=r"channels: expected 1 .* or 3 .*from_tensors"):
            Rule((8, 8), channels)

    def test_a_misspelt_resize_names_the_nearest(self) -> None:
        with pytest.raises(ValueError, match="did you mean stretch"):
            Rule((8, 8), resize="strech")

    @pytest.mark.parametrize("size", [(0, 8), (8, -1), (8, 2.5)])
    def test_sides_are_positive_integers(self, size: Any) -> None:
        with pytest.raises(ValueError, match="size: expected a positive integer"):
            Rule(size)


class TestLoad:
    @pytest.mark.parametrize("cached", [True, False])
    def test_images_come_in_the_order_of_their_names(self, folder: Path, cached: bool) -> None:
        result = loaded(folder, cache=cached)
        assert result.names == ("a.bmp", "b/c.png", "z.png")
        expected = np.stack([pixels(seed=seed).transpose(2, 0, 1) for seed in (1, 2, 0)])
        assert np.array_equal(result.data.numpy(), expected)
        assert (result.path is not None) == cached

    def test_the_number_of_threads_changes_nothing(self, folder: Path) -> None:
        one, many = (loaded(folder, cache=False, workers=count) for count in (1, 5))
        assert np.array_equal(one.data.numpy(), many.data.numpy())
        assert one.digests == many.digests

    def test_sizes_and_channels_may_be_mixed(self, folder: Path) -> None:
        Image.fromarray(pixels(30, 9)[..., 0]).save(folder / "grey.png")
        result = loaded(folder)
        assert result.data.shape == (4, 3, 12, 16)
        assert np.array_equal(result.data[2, 0], result.data[2, 1])

    @staticmethod
    def _forbid(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        def forbidden(*arguments: Any) -> None:
            raise AssertionError(f"{name} was called")

        monkeypatch.setattr(imagefolder, name, forbidden)

    def test_a_known_folder_is_neither_decoded_nor_read(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = loaded(folder)
        self._forbid(monkeypatch, "_decode_into")
        self._forbid(monkeypatch, "_file_digest")
        second = loaded(folder)
        assert (second.names, second.path) == (first.names, first.path)
        assert np.array_equal(first.data.numpy(), second.data.numpy())

    def test_a_moved_or_touched_folder_is_read_but_not_decoded(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = loaded(folder)
        moved = folder.rename(folder.with_name("elsewhere"))
        os.utime(moved / "z.png", (1, 1))
        self._forbid(monkeypatch, "_decode_into")
        assert loaded(moved).path == first.path

    def test_an_edited_file_is_noticed_though_size_and_date_are_kept(self, folder: Path) -> None:
        first = loaded(folder)
        status = (folder / "a.bmp").stat()
        Image.fromarray(pixels(seed=9)).save(folder / "a.bmp")
        os.utime(folder / "a.bmp", ns=(status.st_atime_ns, status.st_mtime_ns))
        assert (folder / "a.bmp").stat().st_size == status.st_size
        second = loaded(folder)
        assert second.path != first.path
        assert np.array_equal(second.data[0].numpy(), pixels(seed=9).transpose(2, 0, 1))

    def test_a_renamed_file_is_another_content(self, folder: Path) -> None:
        first = loaded(folder)
        (folder / "a.bmp").rename(folder / "zz.bmp")
        second = loaded(folder)
        assert second.names == ("b/c.png", "z.png", "zz.bmp")
        assert second.path != first.path

    @pytest.mark.parametrize(
        "rule",
        [Rule((12, 15)), Rule((12, 16), 1), Rule((12, 16), resize="crop")],
        ids=["size", "channels", "resize"],
    )
    def test_every_part_of_the_rule_is_in_the_key(self, folder: Path, rule: Rule) -> None:
        assert load(folder, find(folder), rule, progress=False).path != loaded(folder).path

    def test_a_damaged_cache_is_made_again(self, folder: Path) -> None:
        first = loaded(folder)
        assert first.path is not None
        expected = first.data.clone()
        content = bytearray(first.path.read_bytes())
        content[100] ^= 255
        first.path.write_bytes(content)
        with pytest.warns(UserWarning, match="is damaged"):
            second = loaded(folder)
        assert np.array_equal(second.data.numpy(), expected.numpy())

    @pytest.mark.parametrize("text", ["", "x" * 64, "ab", "\xff" * 64])
    def test_a_damaged_manifest_is_made_again(self, folder: Path, cache: Path, text: str) -> None:
        first = loaded(folder)
        (manifest,) = cache.glob("*.manifest")
        good = manifest.read_bytes()
        manifest.write_text(text, encoding="latin-1")
        assert loaded(folder).path == first.path
        assert manifest.read_bytes() == good

    def test_an_interrupted_decode_leaves_nothing(
        self, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[int] = []

        def interrupted(content: bytes, rule: Rule) -> Bytes:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return decode(content, rule)

        monkeypatch.setattr(imagefolder, "decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loaded(folder, workers=1)
        assert list(cache.iterdir()) == []

    def test_a_file_edited_during_the_decode_is_not_remembered(
        self, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def meddling(content: bytes, rule: Rule) -> Bytes:
            Image.fromarray(pixels(seed=7)).save(folder / "z.png")
            return decode(content, rule)

        monkeypatch.setattr(imagefolder, "decode", meddling)
        loaded(folder, workers=1)
        assert not list(cache.glob("*.manifest"))

    def test_an_unwritable_cache_names_the_way_out(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ANOAUG_CACHE", str(folder / "z.png"))
        with pytest.raises(OSError, match="set ANOAUG_CACHE to a writable folder"):
            loaded(folder)

    def test_running_out_of_memory_is_not_a_broken_file(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def exhausted(content: bytes, rule: Rule) -> Bytes:
            raise MemoryError

        monkeypatch.setattr(imagefolder, "decode", exhausted)
        with pytest.raises(MemoryError):
            loaded(folder)

    def test_the_bar_counts_images(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tqdm = pytest.importorskip("tqdm")
        seen: list[dict[str, Any]] = []
        original = tqdm.tqdm

        def spy(*arguments: Any, **keywords: Any) -> Any:
            seen.append(keywords)
            return original(*arguments, **keywords)

        monkeypatch.setattr(tqdm, "tqdm", spy)
        load(folder, find(folder), same(), cache=False, progress=True)
        load(folder, find(folder), same(), cache=False, progress=False)
        assert [(one["total"], one["disable"]) for one in seen] == [(3, None), (3, True)]


class TestBrokenFiles:
    @pytest.mark.parametrize("cached", [True, False])
    def test_they_are_named_in_one_warning_and_left_out(self, folder: Path, cached: bool) -> None:
        (folder / "b" / "bad.png").write_bytes(b"not an image")
        whole = (folder / "z.png").read_bytes()
        (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
        for _ in range(2):  # the second time from the cache
            with pytest.warns(UserWarning) as record:
                result = loaded(folder, cache=cached)
            assert len(record) == 1
            text = str(record[0].message)
            assert "2 of 5 image files" in text
            assert "b/bad.png (" in text and "cut.png (" in text
            assert result.names == ("a.bmp", "b/c.png", "z.png")
            assert len(result.data) == 3

    def test_at_most_ten_are_listed(self, folder: Path) -> None:
        for index in range(13):
            (folder / f"bad{index:02}.png").write_bytes(b"")
        with pytest.warns(UserWarning, match=r"bad09\.png \([^)]*\); and 3 more") as record:
            loaded(folder)
        assert "bad10" not in str(record[0].message)

    @pytest.mark.parametrize("cached", [True, False])
    def test_nothing_readable_is_an_error(self, tmp_path: Path, cache: Path, cached: bool) -> None:
        root = tmp_path / "images"
        root.mkdir()
        (root / "bad.png").write_bytes(b"not an image")
        told = r"1 of 1 image files .* cannot be read: bad\.png \(no image that Pillow knows\)$"
        with pytest.raises(ValueError, match=told):
            loaded(root, cache=cached)
        assert not cache.exists() or not list(cache.iterdir())

    def test_a_dangling_link_is_a_broken_file(self, folder: Path) -> None:
        (folder / "gone.png").symlink_to(folder / "nowhere.png")
        with pytest.warns(UserWarning, match=r"gone\.png \(No such file"):
            assert len(loaded(folder).names) == 3

    def test_a_mended_file_is_taken(self, folder: Path) -> None:
        (folder / "bad.png").write_bytes(b"not an image")
        with pytest.warns(UserWarning, match="bad"):
            loaded(folder)
        Image.fromarray(pixels()).save(folder / "bad.png")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert "bad.png" in loaded(folder).names


class TestNormalByFolder:
    def check(self, names: list[str]) -> dict[str, str]:
        return imagefolder.normal_by_folder(Path("/data/mvtec"), names)

    def test_mvtec_gives_train_good_only(self) -> None:
        names = [
            "bottle/ground_truth/crack/000_mask.png",
            "bottle/test/good/000.png",
            "bottle/train/good/000.png",
            "cable/train/good/001.png",
            "cable/train/bad/001.png",
            "license.png",
        ]
        assert self.check(names) == {
            "bottle/train/good/000.png": "bottle",
            "cable/train/good/001.png": "cable",
        }

    def test_one_mvtec_category_is_named_after_its_folder(self) -> None:
        names = ["test/crack/0.png", "train/good/0.png"]
        assert self.check(names) == {"train/good/0.png": "mvtec"}

    def test_deeper_mvtec_categories_keep_their_path(self) -> None:
        assert self.check(["a/b/train/good/x/0.png"]) == {"a/b/train/good/x/0.png": "a/b"}

    def test_folders_are_categories(self) -> None:
        names = ["cat/0.png", "cat/more/1.png", "dog/0.png"]
        assert self.check(names) == dict(zip(names, ["cat", "cat", "dog"], strict=True))

    def test_a_flat_folder_has_no_categories(self) -> None:
        assert self.check(["0.png", "1.png"]) == {"0.png": "", "1.png": ""}

    @pytest.mark.parametrize("name", ["test", "Anomaly", "ground_truth", "bad"])
    def test_abnormal_folders_are_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"expected normal images.*{name}"):
            self.check([f"cat/{name}/0.png", "cat/good/1.png"])

    def test_images_beside_categories_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"got both \(1\.png is in no category\)"):
            self.check(["cat/0.png", "1.png"])


def test_real_textures_decode_to_what_pillow_gives(data_dir: Path) -> None:
    root = data_dir / "textures_cc0"
    names = find(root)[:12]
    result = load(root, names, Rule((256, 256)), cache=False, progress=False)
    assert result.names == tuple(names)
    for row, name in zip(result.data.numpy(), names, strict=True):
        with Image.open(root / name) as image:
            assert np.array_equal(row, np.asarray(image.convert("RGB")).transpose(2, 0, 1))
