"""The peers do what they are said to do: golden fields, statistics of masks, laws of operations."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("cv2")
pytest.importorskip("PIL")

from benchmarks.peers import draem_numpy, texture_ops  # noqa: E402
from benchmarks.peers.cutpaste_pil import CutPastePil  # noqa: E402
from benchmarks.peers.draem_numpy import DraemNumpy  # noqa: E402

Bytes = npt.NDArray[np.uint8]


def picture(size: int, seed: int = 0) -> Bytes:
    """Grain on a gradient, nowhere black, RGB."""
    ramp = np.linspace(60, 180, size)
    grain = np.random.default_rng(seed).normal(0, 15, (size, size, 3))
    return np.clip(ramp[:, None, None] + grain, 1, 255).astype(np.uint8)


def textures(size: int, count: int = 4) -> Bytes:
    return np.random.default_rng(9).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


# ---- Perlin --------------------------------------------------------------------------------------


def test_the_field_meets_the_golden_vectors(golden_dir: Path) -> None:
    for path in sorted(golden_dir.glob("perlin_*.npz")):
        golden = np.load(path)
        field = draem_numpy.perlin_field(golden["noise"].shape, golden["u"])
        np.testing.assert_allclose(field, golden["noise"], rtol=0, atol=1e-12, err_msg=path.name)


def test_the_field_vanishes_on_the_lattice() -> None:
    field = draem_numpy.perlin_field((32, 32), np.random.default_rng(0).random((5, 9)))
    assert np.abs(field[::8, ::4]).max() == 0.0


def test_one_cell_by_hand() -> None:
    # gradients all pointing down: linear in y on both sides of the fade
    turns = np.zeros((2, 2))
    field = draem_numpy.perlin_field((4, 4), turns)
    y = 0.25
    fade = 6 * y**5 - 15 * y**4 + 10 * y**3
    assert field[1, 2] == pytest.approx(math.sqrt(2) * (y + fade * ((y - 1) - y)))


def test_a_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="divisible"):
        draem_numpy.perlin_field((30, 32), np.zeros((9, 9)))


def test_rotation_fills_the_corners_with_zero() -> None:
    turned = draem_numpy.rotate_field(np.ones((33, 33)), 45.0)
    assert turned[0, 0] == turned[-1, -1] == 0.0
    assert turned[16, 16] == 1.0


# ---- DRAEM ---------------------------------------------------------------------------------------


def test_blend_weights_the_normal_image_by_beta() -> None:
    normal = np.full((2, 2, 3), 0.5, dtype=np.float32)
    source = np.full((2, 2, 3), 255, dtype=np.uint8)
    field = np.array([[0.5, 0.6], [0.4, 0.9]])  # 0.5 is not above 0.5
    mixed, mask = draem_numpy.blend(normal, source, field, threshold=0.5, beta=0.2)
    np.testing.assert_array_equal(mask[..., 0], [[0, 1], [0, 1]])
    np.testing.assert_allclose(mixed[..., 0], [[0.5, 0.9], [0.5, 0.9]], rtol=1e-6)


@pytest.mark.slow
def test_nearly_half_of_the_samples_are_anomalous() -> None:
    """The coin's half, less the twentieth of the masks that is empty."""
    pipeline = DraemNumpy(textures(64), seed=0)
    image = picture(64)
    count = 1000
    found = sum(pipeline(image)[2] for _ in range(count))
    expected = 0.5 * (1 - 0.052)
    error = math.sqrt(expected * (1 - expected) / count)
    assert abs(found / count - expected) < 4 * error


@pytest.mark.slow
def test_mask_areas_are_those_measured_on_the_original() -> None:
    """At 256 pixels: non-empty mean 5.0 %, quartiles of all 3.6, 4.6 and 5.5 %."""
    pipeline = DraemNumpy(textures(256), seed=0, p=1.0)
    image = picture(256)
    areas = np.array([pipeline(image)[1].mean() for _ in range(300)])
    assert areas[areas > 0].mean() == pytest.approx(0.0503, abs=0.007)
    quartiles = np.quantile(areas, (0.25, 0.5, 0.75))
    np.testing.assert_allclose(quartiles, (0.036, 0.046, 0.055), atol=0.004)


def test_outside_the_mask_the_image_is_untouched() -> None:
    pipeline = DraemNumpy(textures(64), seed=1, p=1.0)
    image = picture(64)
    normal = (image.astype(np.float32) / np.float32(255.0)).transpose(2, 0, 1)
    for _ in range(10):
        mixed, mask, _ = pipeline(image)
        outside = np.broadcast_to(mask == 0, mixed.shape)
        np.testing.assert_array_equal(mixed[outside], normal[outside])


def test_the_label_says_whether_the_mask_is_empty() -> None:
    pipeline = DraemNumpy(textures(32), seed=2)
    for _ in range(60):
        mixed, mask, label = pipeline(picture(32))
        assert label == int(mask.max() > 0)
        assert mixed.dtype == mask.dtype == np.float32


def test_one_seed_one_stream() -> None:
    first, again, other = (DraemNumpy(textures(32), seed=s, p=1.0) for s in (3, 3, 4))
    image = picture(32)
    mixed = first(image)[0]
    np.testing.assert_array_equal(mixed, again(image)[0])
    assert not np.array_equal(mixed, other(image)[0])


def test_textures_that_are_not_decoded_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        DraemNumpy(textures(32).astype(np.float32), seed=0)  # type: ignore[arg-type]


# ---- the ten operations --------------------------------------------------------------------------


@pytest.mark.parametrize("operation", texture_ops.OPERATIONS, ids=lambda op: op.__name__)
def test_an_operation_keeps_the_layout_and_the_input(operation: texture_ops.Operation) -> None:
    image = picture(32)
    before = image.copy()
    changed = 0
    for seed in range(6):
        result = operation(image, np.random.default_rng(seed))
        assert (result.shape, result.dtype) == (image.shape, np.uint8)
        changed += not np.array_equal(result, image)
    assert changed > 0
    np.testing.assert_array_equal(image, before)


def test_invert_twice_is_the_identity() -> None:
    rng = np.random.default_rng(0)
    image = picture(16)
    once = texture_ops.invert(image, rng)
    np.testing.assert_array_equal(once, 255 - image)
    np.testing.assert_array_equal(texture_ops.invert(once, rng), image)


def test_posterize_drops_low_bits_only() -> None:
    image = picture(16)
    for seed in range(20):
        lost = image - texture_ops.posterize(image, np.random.default_rng(seed))
        bits = int(np.bitwise_or.reduce(lost.ravel()))
        assert bits in {2**n - 1 for n in range(8)}


def test_solarize_acts_half_of_the_time() -> None:
    image = picture(16)
    rng = np.random.default_rng(0)
    acted = sum(not np.array_equal(texture_ops.solarize(image, rng), image) for _ in range(400))
    assert 160 < acted < 240


def test_hue_is_turned_by_at_most_seventy_degrees() -> None:
    red = np.zeros((1, 1, 3), dtype=np.uint8)
    red[..., 0] = 200
    seen = {tuple(texture_ops.hue_saturation(red, np.random.default_rng(s))[0, 0]) for s in
            range(200)}  # fmt: skip
    assert any(green > 100 for _, green, _ in seen)
    # 70 degrees from red, green and blue may lead, but never both channels
    assert all(min(green, blue) <= 60 for _, green, blue in seen)


def test_augment_draws_three_distinct_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def probe(number: int) -> texture_ops.Operation:
        def operation(image: Bytes, rng: np.random.Generator) -> Bytes:
            calls.append(number)
            return image

        return operation

    monkeypatch.setattr(texture_ops, "OPERATIONS", tuple(probe(n) for n in range(10)))
    rng = np.random.default_rng(0)
    for _ in range(300):
        texture_ops.augment(picture(8), rng)
    triples = [calls[i : i + 3] for i in range(0, len(calls), 3)]
    assert len(triples) == 300 and all(len(set(triple)) == 3 for triple in triples)
    assert max(np.bincount(calls)) < 130 and min(np.bincount(calls)) > 55  # 90 each


# ---- CutPaste ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_rectangles_cover_two_to_fifteen_per_cent() -> None:
    paste = CutPastePil("normal", seed=0)
    areas, aspects = [], []
    for _ in range(200):
        _, mask = paste(picture(128))
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert mask.sum() == height * width  # a filled rectangle
        areas.append(mask.mean())
        aspects.append(math.log(width / height))
    assert min(areas) > 0.018 and max(areas) < 0.151
    assert 0.075 < np.mean(areas) < 0.095
    assert max(np.abs(aspects)) < math.log(1 / 0.3) + 0.1
    assert abs(np.mean(aspects)) < 0.2  # wide as often as tall


@pytest.mark.slow
def test_scars_are_thin() -> None:
    paste = CutPastePil("scar", seed=0)
    areas = [paste(picture(256))[1].sum() for _ in range(200)]
    assert min(areas) > 15 and max(areas) < 16 * 26 * 1.1
    assert 100 < np.mean(areas) < 200


@pytest.mark.parametrize("kind", ["normal", "scar"])
def test_pasting_stays_inside_the_mask(kind: str) -> None:
    paste = CutPastePil(kind, seed=5)
    image = picture(64)
    for _ in range(20):
        pasted, mask = paste(image)
        np.testing.assert_array_equal(pasted[mask == 0], image[mask == 0])
        assert (pasted[mask == 1] != image[mask == 1]).any()
        assert pasted[mask == 1].min() > 0  # nothing black came from outside the image


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'normal' or 'scar'"):
        CutPastePil("union", seed=0)
