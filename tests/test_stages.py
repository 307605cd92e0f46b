"""Colour stages: exact where tables suffice, measured against sequential 8-bit ops elsewhere.

The oracle is written here op by op for one image at a time, from PIL, OpenCV and NumPy alone.
"""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anoaug.photometric import ColorJitter, RandomOps, Stages

Image = pytest.importorskip("PIL.Image")
ImageEnhance = pytest.importorskip("PIL.ImageEnhance")
ImageFilter = pytest.importorskip("PIL.ImageFilter")
ImageOps = pytest.importorskip("PIL.ImageOps")

SPACES = ("YCrCb", "HSV", "HLS", "Lab", "Luv", "YUV")
LIGHTNESS = (0, 2, 1, 0, 0, 0)
TABLES = ("gamma", "solarize", "posterize", "invert", "autocontrast", "equalize", "gain", "stretch")
SETS = {
    "draem": RandomOps.draem(),
    "glass": RandomOps.glass(),
    "jitter": ColorJitter(0.1, 0.1, 0.1, 0.1),
}
levels = st.integers(0, 255)


# ---- oracles -------------------------------------------------------------------------------------


def histogram(image: np.ndarray) -> np.ndarray:
    """int64 [C, 256] of uint8 [H, W, C]."""
    return np.stack(
        [np.bincount(plane.ravel(), minlength=256) for plane in np.moveaxis(image, -1, 0)]
    )


def apply_stages(image: np.ndarray, stages: Stages, row: int) -> np.ndarray:
    """One row's stages on uint8 [..., C, H, W], in float32 and in the kernel's order."""
    values = image.astype(np.int64)
    channels = image.shape[-3]
    for stage in range(int(stages.active[row])):
        planes = [stages.luts[row, stage, c][values[..., c, :, :]] for c in range(channels)]
        if channels == 3:
            r, g, b = (plane.astype(np.float32) for plane in planes)
            m = stages.matrices[row, stage]
            planes = [((k[0] * r + k[1] * g) + k[2] * b) + k[3] for k in m]
            assert planes[0].dtype == np.float32
            planes = [np.floor(np.clip(plane, 0, 255) + np.float32(0.5)) for plane in planes]
        values = np.stack(planes, axis=-3).astype(np.int64)
    return values


def turned(image: np.ndarray, angle: float) -> np.ndarray:
    """Bilinear turn about the centre from +x towards +y, zeros outside; uint8 [H, W, C]."""
    cv2 = pytest.importorskip("cv2")
    height, width = image.shape[:2]
    centre = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(centre, -np.degrees(angle), 1.0)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)


def brightness(image: np.ndarray, p: dict[str, float]) -> np.ndarray:
    cv2 = pytest.importorskip("cv2")
    space = int(p["space"])
    there = cv2.cvtColor(image, getattr(cv2, f"COLOR_RGB2{SPACES[space]}"))
    multiplied = np.clip(np.arange(256, dtype=np.float32) * np.float32(p["gain"]), 0, 255)
    tables = [multiplied.astype(np.uint8), np.clip(np.arange(256) + int(p["add"]), 0, 255)]
    for table in tables[::-1] if p["add_first"] else tables:
        there[..., LIGHTNESS[space]] = table[there[..., LIGHTNESS[space]]]
    return cv2.cvtColor(there, getattr(cv2, f"COLOR_{SPACES[space]}2RGB"))


def hue_saturation(image: np.ndarray, p: dict[str, float]) -> np.ndarray:
    cv2 = pytest.importorskip("cv2")
    there = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.int64)
    there[..., 0] = (there[..., 0] + int(p["hue"] / 255 * 180)) % 180
    there[..., 1] = np.clip(there[..., 1] + int(p["saturation"]), 0, 255)
    return cv2.cvtColor(there.astype(np.uint8), cv2.COLOR_HSV2RGB)


def hue(image: np.ndarray, turns: float) -> np.ndarray:
    h, s, v = Image.fromarray(image).convert("HSV").split()
    shifted = (np.array(h) + np.int32(turns * 255)).astype(np.uint8)
    return np.asarray(Image.merge("HSV", (Image.fromarray(shifted), s, v)).convert("RGB"))


def sequential(name: str, image: np.ndarray, p: dict[str, float]) -> np.ndarray:
    """One op on uint8 RGB [H, W, 3]."""
    pil = Image.fromarray(image)
    if name == "gamma":
        tables = [
            np.array([255 * (v / 255) ** p[f"gamma{c}"] for v in range(256)]) for c in range(3)
        ]
        return np.stack([tables[c][image[..., c]] for c in range(3)], axis=-1).astype(np.uint8)
    if name == "brightness":
        return brightness(image, p)
    if name == "hue_saturation":
        return hue_saturation(image, p)
    if name == "saturation_hue":
        order = ("hue", "saturation") if p["hue_first"] else ("saturation", "hue")
        for part in order:
            image = sequential(part, image, p)
        return image
    if name == "rotate":
        return turned(image, p["angle"])
    enhancers = {
        "sharpness": "Sharpness",
        "contrast": "Contrast",
        "gain": "Brightness",
        "saturation": "Color",
    }
    if name in enhancers:
        return np.asarray(getattr(ImageEnhance, enhancers[name])(pil).enhance(p["factor"]))
    simple = {
        "solarize": lambda: ImageOps.solarize(pil, int(p["threshold"])) if p["on"] else pil,
        "posterize": lambda: ImageOps.posterize(pil, int(p["bits"])),
        "invert": lambda: ImageOps.invert(pil),
        "autocontrast": lambda: ImageOps.autocontrast(pil, int(p["cutoff"])),
        "stretch": lambda: ImageOps.autocontrast(pil),
        "equalize": lambda: ImageOps.equalize(pil),
        "hue": lambda: hue(image, p["hue"]),
        "flip_x": lambda: ImageOps.mirror(pil),
        "flip_y": lambda: ImageOps.flip(pil),
        "grayscale": lambda: pil.convert("L").convert("RGB"),
    }
    return np.asarray(simple[name]())


def rendered(image: np.ndarray, stages: Stages, row: int) -> np.ndarray:
    """Geometry, sharpness and stages of one row on uint8 RGB [H, W, 3], in the kernel's order."""
    image = image[:: -1 if stages.flip_y[row] else 1, :: -1 if stages.flip_x[row] else 1]
    image = np.ascontiguousarray(image)
    if stages.sharpness[row] != 1.0:
        smooth = np.asarray(Image.fromarray(image).filter(ImageFilter.SMOOTH))
        if stages.angle[row]:
            image, smooth = turned(image, stages.angle[row]), turned(smooth, stages.angle[row])
        sharp = smooth + stages.sharpness[row] * (image.astype(np.float64) - smooth)
        image = np.floor(np.clip(sharp, 0, 255) + 0.5).astype(np.uint8)
    elif stages.angle[row]:
        image = turned(image, stages.angle[row])
    return np.moveaxis(apply_stages(np.moveaxis(image, -1, 0), stages, row), 0, -1)


def differences(
    ops: RandomOps | ColorJitter, images: list[np.ndarray], seed: int
) -> list[tuple[tuple[str, ...], np.ndarray]]:
    """The ops drawn for each image, in order, and ours minus sequential, absolute."""
    u = np.random.default_rng(seed).random((ops.words, len(images)))
    stages = ops.stages(u, 3, np.stack([histogram(image) for image in images]))
    order, parameters = ops.choices(u), ops.parameters(u)
    result = []
    for row, image in enumerate(images):
        names = tuple(list(parameters)[i] for i in order[:, row])
        wanted = image
        for name in names:
            p = {key: float(value[row]) for key, value in parameters[name].items()}
            wanted = sequential(name, wanted, p)
        result.append((names, np.abs(rendered(image, stages, row) - wanted.astype(np.int64))))
    return result


def figures(found: list[tuple[tuple[str, ...], np.ndarray]]) -> tuple[float, float]:
    """Mean and 95 % quantile over all values."""
    values = np.concatenate([difference.ravel() for _, difference in found])
    return float(values.mean()), float(np.quantile(values, 0.95))


@pytest.fixture(scope="module")
def textures(data_dir: Path) -> list[np.ndarray]:
    """80 textures of all materials, uint8 [256, 256, 3]."""
    paths = sorted((data_dir / "textures_cc0").glob("*.jpg"))[::3]
    if not paths:
        pytest.skip("no textures_cc0 in the data folder")
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths]


def noise(seed: int, batch: int, channels: int = 3, side: int = 40) -> np.ndarray:
    """uint8 [batch, side, side, channels], a different range of levels in each image."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 100, (batch, 1, 1, channels))
    return (
        low
        + rng.integers(
            0,
            1 + 20 * (1 + np.arange(batch) % 7)[:, None, None, None],
            (batch, side, side, channels),
        )
    ).astype(np.uint8)


# ---- exactness -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_table_op_equals_sequential(name: str) -> None:
    for names, difference in differences(RandomOps((name,), 1), list(noise(1, 64)), seed=2):
        assert not difference.any(), names


@pytest.mark.slow
def test_any_three_table_ops_equal_sequential() -> None:
    for names, difference in differences(RandomOps(TABLES, 3), list(noise(3, 256)), seed=4):
        assert not difference.any(), names


@pytest.mark.slow
def test_table_ops_equal_sequential_on_textures(textures: list[np.ndarray]) -> None:
    for names, difference in differences(RandomOps(TABLES, 3), textures, seed=5):
        assert not difference.any(), names


@settings(deadline=None, max_examples=60)
@given(st.lists(levels, min_size=1, max_size=1200), st.integers(0, 20))
def test_histogram_ops_equal_pil_on_any_plane(values: list[int], cutoff: int) -> None:
    plane = np.array(values, dtype=np.uint8)[None]
    u = np.full((3, 1), (cutoff + 0.5) / 21)
    for name, wanted in (
        ("equalize", ImageOps.equalize(Image.fromarray(plane))),
        ("autocontrast", ImageOps.autocontrast(Image.fromarray(plane), cutoff)),
        ("stretch", ImageOps.autocontrast(Image.fromarray(plane))),
    ):
        ops = RandomOps((name,), 1)
        stages = ops.stages(u[: ops.words], 1, histogram(plane[..., None])[None])
        assert (apply_stages(plane[None], stages, 0)[0] == np.asarray(wanted)).all(), name


def test_grayscale_is_within_one_level_of_pil() -> None:
    found = differences(RandomOps(("grayscale",), 1), list(noise(6, 64)), seed=7)
    assert max(difference.max() for _, difference in found) <= 1
    assert figures(found)[0] < 0.02


def test_flips_are_exact_in_any_order() -> None:
    ops = RandomOps(("flip_x", "invert", "flip_y"), 3)
    assert not any(difference.any() for _, difference in differences(ops, list(noise(8, 32)), 9))


def test_turns_before_and_after_flips_agree_with_sequential() -> None:
    pytest.importorskip("cv2")
    square = np.zeros((33, 33, 3), dtype=np.uint8)
    square[4:14, 18:30] = 200
    found = differences(RandomOps(("rotate", "flip_x", "flip_y"), 3), [square] * 64, seed=10)
    assert {names for names, _ in found} == set(permutations(("rotate", "flip_x", "flip_y")))
    assert max(difference.mean() for _, difference in found) < 0.5


def test_matrices_are_exact_in_float32() -> None:
    rng = np.random.default_rng(11)
    for name, ops in SETS.items():
        images = noise(12, 512, side=4)
        stages = ops.stages(
            rng.random((ops.words, 512)), 3, np.stack([histogram(i) for i in images])
        )
        scaled = stages.matrices.astype(np.float64) * 4096
        assert (scaled == np.round(scaled)).all(), name
        assert np.abs(stages.matrices[..., :3]).max() <= 4, name
        assert np.abs(stages.matrices[..., 3]).max() <= 1023, name
        # Products and sums of such numbers with bytes stay below 2**24 steps of the grid.
        assert (4 * 255 * 3 + 1023) * 4096 < 2**24


# ---- measured differences ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mean", "high"),
    [
        ("brightness", 0.8, 3),
        ("hue_saturation", 1.3, 5),
        ("sharpness", 0.5, 1),
        ("contrast", 0.03, 0),
        ("saturation_hue", 0.8, 2),
    ],
)
def test_colour_op_stays_near_sequential(
    textures: list[np.ndarray], name: str, mean: float, high: float
) -> None:
    pytest.importorskip("cv2")
    measured = figures(differences(RandomOps((name,), 1), textures, seed=13))
    assert measured[0] < mean and measured[1] <= high, measured


def test_contrast_without_histograms_works_about_mid_grey() -> None:
    u = np.full((8, 1), 0.75)
    stages = ColorJitter(contrast=0.2).stages(u, 3, None)
    wanted = np.floor(127.5 + 1.1 * (np.arange(256) - 127.5)).clip(0, 255)
    assert (stages.luts[0, 0] == wanted).all()
    assert stages.active[0] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mean", "high"), [("draem", 5.0, 18), ("glass", 1.5, 7), ("jitter", 0.6, 2)]
)
def test_whole_set_stays_near_sequential(
    textures: list[np.ndarray], name: str, mean: float, high: float
) -> None:
    pytest.importorskip("cv2")
    measured = figures(differences(SETS[name], textures, seed=3))
    assert measured[0] < mean and measured[1] <= high, measured


@pytest.mark.slow
def test_point_ops_in_drawn_order_stay_near_sequential(textures: list[np.ndarray]) -> None:
    pytest.importorskip("cv2")
    names = tuple(n for n in RandomOps.draem().ops if n not in ("rotate", "sharpness"))
    measured = figures(differences(RandomOps(names, 3), textures, seed=14))
    assert measured[0] < 3.0 and measured[1] <= 13, measured


# ---- structure -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SETS))
def test_a_row_does_not_depend_on_its_batch(name: str) -> None:
    ops = SETS[name]
    u = np.random.default_rng(20).random((ops.words, 40))
    histograms = np.stack([histogram(image) for image in noise(21, 40)])
    together = ops.stages(u, 3, histograms)
    for row in (0, 17, 39):
        alone = ops.stages(u[:, row : row + 1], 3, histograms[row : row + 1])
        for field, one, all_of_them in zip(Stages._fields, alone, together, strict=True):
            assert (one[0] == all_of_them[row]).all(), field


@pytest.mark.parametrize("name", list(SETS))
def test_stages_beyond_active_are_identities(name: str) -> None:
    ops = SETS[name]
    u = np.random.default_rng(22).random((ops.words, 400))
    stages = ops.stages(u, 3, np.stack([histogram(image) for image in noise(23, 400, side=4)]))
    unused = np.arange(3) >= stages.active[:, None]
    assert (stages.luts[unused] == np.arange(256)).all()
    assert (stages.matrices[unused] == np.eye(3, 4)).all()
    assert (stages.active >= 0).all() and stages.active.max() <= 3
    used = ~unused
    changed = (stages.luts[used] != np.arange(256)).any((1, 2))
    changed |= (stages.matrices[used] != np.eye(3, 4)).any((1, 2))
    # A drawn op may still be the identity: eight bits kept, a full range stretched.
    assert changed.mean() > 0.8


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channel_counts_use_tables_alone(channels: int) -> None:
    ops = RandomOps.draem()
    images = noise(24, 200, channels)
    u = np.random.default_rng(25).random((ops.words, 200))
    stages = ops.stages(u, channels, np.stack([histogram(image) for image in images]))
    assert stages.luts.shape == (200, 3, channels, 256)
    assert (stages.matrices == np.eye(3, 4)).all()
    assert stages.active.max() == 1
    assert (stages.luts[:, 0] != np.arange(256)).any((1, 2)).mean() > 0.5


def test_one_channel_gets_the_line_that_brightness_draws() -> None:
    ops = RandomOps(("brightness",), 1)
    u = np.random.default_rng(26).random((ops.words, 30))
    p = ops.parameters(u)["brightness"]
    table = ops.stages(u, 1, None).luts[:, 0, 0]
    shift = np.where(p["add_first"] > 0, p["gain"] * p["add"], p["add"])
    wanted = np.floor(np.clip(p["gain"][:, None] * np.arange(256) + shift[:, None], 0, 255))
    assert (table == wanted).all()


def test_one_histogram_serves_all_channels() -> None:
    ops = RandomOps.draem()
    u = np.random.default_rng(27).random((ops.words, 40))
    one = np.stack([histogram(image) for image in noise(28, 40, channels=1)])
    for given_one, given_three in zip(
        ops.stages(u, 3, one), ops.stages(u, 3, np.repeat(one, 3, axis=1)), strict=True
    ):
        assert (given_one == given_three).all()


def test_histograms_of_the_caller_are_left_alone() -> None:
    ops = RandomOps(("rotate", "equalize"), 2)
    histograms = np.stack([histogram(image) for image in noise(29, 30)])
    before = histograms.copy()
    ops.stages(np.random.default_rng(30).random((ops.words, 30)), 3, histograms)
    assert (histograms == before).all()


def test_a_turn_before_equalize_counts_its_black_corners() -> None:
    ops = RandomOps(("rotate", "equalize"), 2)
    u = np.array([[0.0, 0.99], [0.0, 0.0], [0.0, 0.0]])
    assert ops.choices(u).T.tolist() == [[0, 1], [1, 0]]
    grey = np.repeat(np.arange(100, 200, dtype=np.uint8), 30).reshape(1, -1, 1)
    histograms = np.repeat(histogram(grey)[None], 2, axis=0)
    first, last = ops.stages(u, 1, histograms).luts[:, 0, 0, 100]
    # At 45 degrees the corners take 17 % of the square, so the darkest grey moves up by as much.
    assert last == 0
    assert first == pytest.approx(255 * (1 - 2 * (np.sqrt(2) - 1)), abs=2)


def test_no_ops_leave_everything_unchanged() -> None:
    stages = RandomOps.none().stages(np.empty((0, 4)), 3, None)
    assert (stages.luts == np.arange(256)).all()
    assert (
        (stages.active == 0).all() and (stages.sharpness == 1).all() and (stages.angle == 0).all()
    )
    assert not stages.flip_x.any() and not stages.flip_y.any()


def test_an_empty_batch_passes() -> None:
    for ops in SETS.values():
        stages = ops.stages(np.empty((ops.words, 0)), 3, np.empty((0, 3, 256), dtype=np.int64))
        assert len(stages.luts) == len(stages.active) == 0
