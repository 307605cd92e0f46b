"""Foreground rules against OpenCV, scikit-image and SciPy, and what holds for all of them."""

from __future__ import annotations

import pickle
from itertools import product

import cv2
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from skimage import morphology as skimage_morphology

import anoaug
from anoaug import prepare
from anoaug.prepare import thresholds
from tests.drawing import DEVICE, textures

few = settings(max_examples=30, deadline=None)
RULES = (
    prepare.Foreground("all"),
    prepare.Foreground("threshold", level=100, polarity="dark", close=3, open=3),
    prepare.Foreground("otsu", close=5, open=3, fill_holes=True),
    prepare.Foreground("triangle", polarity="bright", open=3, shape="disc"),
    prepare.Foreground("background", median=5),
    prepare.Foreground("background", level=20, background=200),
    prepare.Foreground("saliency", close=4),
    prepare.Foreground("background", background=(20, 20, 20)),
)
OPERATIONS = ("dilation", "erosion", "opening", "closing")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def speckle(share: float, *shape: int, seed: int = 0) -> torch.Tensor:
    return (noise(*shape, seed=seed) < 256 * share).to(torch.uint8)


def discs(count: int, side: int = 64, channels: int = 3) -> torch.Tensor:
    """A bright noisy disc on a dark noisy ground, wandering from image to image."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    images = noise(count, channels, side, side) // 8
    for place in range(count):
        inside = (y - side / 2 - place % 3) ** 2 + (x - side / 2 + place % 2) ** 2 < (side / 4) ** 2
        images[place, :, inside] += 180
    return images


@pytest.fixture(scope="module")
def photographs(data_dir):
    """Real surfaces, uint8 ``[N, 3, 256, 256]``."""
    paths = sorted((data_dir / "bsd_pitting/train/good").iterdir())[::20]
    paths += sorted((data_dir / "textures_cc0").glob("*.jpg"))[::12]
    arrays = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    return torch.stack([torch.from_numpy(a.copy()).permute(2, 0, 1) for a in arrays])


# ---- planes --------------------------------------------------------------------------------------


def test_grey_is_the_house_luma_and_nearly_opencvs(photographs):
    grey = prepare.grey(photographs)
    red, green, blue = photographs.to(torch.int32).unbind(1)
    assert torch.equal(grey[:, 0].int(), (299 * red + 587 * green + 114 * blue + 500) // 1000)
    for image, levels in zip(photographs[:8], grey[:8, 0].numpy(), strict=True):
        theirs = cv2.cvtColor(image.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY)
        assert np.abs(levels.astype(int) - theirs).max() <= 1
        assert (levels != theirs).mean() < 1e-4


def test_grey_of_every_dtype_and_channel_count():
    images = noise(2, 3, 9, 7)
    grey = prepare.grey(images)
    assert torch.equal(prepare.grey(images.to(torch.float32) / 255), grey)
    assert torch.equal(prepare.grey((images.int() * 257).to(torch.uint16)), grey)
    assert torch.equal(prepare.grey(torch.cat([images, noise(2, 1, 9, 7)], 1)), grey)
    assert torch.equal(prepare.grey(grey), grey)
    assert torch.equal(prepare.grey(images, channel=2), images[:, 2:])
    mean = (images[:, :2].float().mean(1, keepdim=True) + 0.5).to(torch.uint8)
    assert torch.equal(prepare.grey(images[:, :2]), mean)


def test_distance_is_from_the_number_the_colour_or_the_border():
    images = noise(2, 3, 8, 9)
    mean = images.float().mean(1, keepdim=True)
    assert torch.equal(prepare.distance(images, 20), (mean - 20).abs())
    colour = torch.tensor([10.0, 200.0, 30.0])[:, None, None]
    expected = (images.float() - colour).abs().amax(1, keepdim=True)
    assert torch.equal(prepare.distance(images, (10, 200, 30)), expected)
    framed = torch.full((1, 3, 8, 9), 50, dtype=torch.uint8)
    framed[..., 1:-1, 1:-1] = 90
    assert prepare.distance(framed).unique().tolist() == [0, 40]


@pytest.mark.parametrize("polarity", thresholds.POLARITIES)
@pytest.mark.parametrize("size", [(21, 17), (1, 5), (2, 1)])
def test_host_and_device_part_planes_alike(polarity, size):
    levels = noise(40, 1, *size)
    bars = torch.arange(40) * 7 - 1
    for plane, level in ((levels, bars), (levels, 99.5), (levels.float() / 255, bars / 255)):
        split = thresholds.split_on_host(plane, level, polarity)
        assert torch.equal(split, thresholds.split_on_device(plane, level, polarity))
        assert split.any() and not split.all()


def test_saliency_is_that_of_the_paper():
    grey = noise(1, 1, 64, 64).numpy()[0, 0] / 255.0
    grey[20:30, 35:45] = 1.0
    spectrum = np.fft.fft2(grey)
    log = np.log(np.abs(spectrum) + 1e-9)
    residual = log - ndimage.uniform_filter(log, 3, mode="nearest")
    power = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    smooth = ndimage.gaussian_filter(power, 2.5, mode="constant", radius=5)
    images = torch.from_numpy(grey)[None, None].float()
    # 8 bits of grey are what is left of the floats here.
    ours = prepare.saliency_map(images)[0, 0].numpy()
    assert np.abs(ours - smooth / smooth.max()).max() < 0.05


def test_saliency_finds_what_breaks_a_pattern():
    images = torch.full((1, 1, 96, 128), 40, dtype=torch.uint8)
    images[..., ::8, :] = 200
    images[..., 40:52, 60:75] = 255
    mask = prepare.saliency(images)[0, 0].bool()
    assert mask[40:52, 60:75].float().mean() > 0.5
    assert mask[:, :30].float().mean() < 0.05


# ---- levels --------------------------------------------------------------------------------------


def test_levels_are_opencvs_on_real_images(photographs):
    grey = prepare.grey(photographs)
    planes = grey[:, 0].numpy()
    otsu = [cv2.threshold(plane, 0, 255, cv2.THRESH_OTSU)[0] for plane in planes]
    triangle = [cv2.threshold(plane, 0, 255, cv2.THRESH_TRIANGLE)[0] for plane in planes]
    assert prepare.otsu_level(grey).tolist() == otsu
    assert prepare.triangle_level(grey).tolist() == triangle


values = st.lists(st.integers(0, 255), min_size=9, max_size=40)


def test_histograms_are_the_same_on_host_and_device():
    levels = noise(3, 1, 21, 17)
    expected = np.stack([np.bincount(one.flatten(), minlength=256) for one in levels.numpy()])
    assert np.array_equal(thresholds.histogram(levels).numpy(), expected)
    assert np.array_equal(thresholds.scattered_histogram(levels.flatten(1)).numpy(), expected)


@few
@given(values)
def test_triangle_is_opencvs(levels):
    assume(len(set(levels)) > 1)
    plane = np.array(levels, dtype=np.uint8)[None]
    expected = cv2.threshold(plane, 0, 255, cv2.THRESH_TRIANGLE)[0]
    ours = prepare.triangle_level(torch.from_numpy(plane)[None, None])
    assert ours.tolist() == [expected]


@few
@given(values)
def test_no_level_parts_the_pixels_better_than_otsus(levels):
    assume(len(set(levels)) > 1)
    plane = np.array(levels, dtype=np.uint8)

    def between(level: int) -> float:
        low, high = plane[plane <= level].astype(float), plane[plane > level].astype(float)
        if not (low.size and high.size):
            return 0.0
        return low.size * high.size * (low.mean() - high.mean()) ** 2

    (ours,) = prepare.otsu_level(torch.from_numpy(plane)[None, None, None]).tolist()
    best = max(between(level) for level in range(256))
    theirs = int(cv2.threshold(plane[None], 0, 255, cv2.THRESH_OTSU)[0])
    assert between(ours) == pytest.approx(best, rel=1e-12)
    assert between(theirs) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("level", [0, 1, 128, 255])
@pytest.mark.parametrize("polarity", ["auto", "bright", "dark"])
def test_an_image_of_one_level_has_no_foreground(level, polarity):
    images = torch.full((2, 3, 8, 9), level, dtype=torch.uint8)
    assert not prepare.otsu(images, polarity).any()
    assert not prepare.triangle(images, polarity).any()
    assert not prepare.background_distance(images).any()
    assert not prepare.saliency(images).any()


@pytest.mark.parametrize("rule", [prepare.otsu, prepare.triangle])
def test_dark_is_what_bright_leaves(rule):
    images = noise(3, 3, 21, 17)
    assert torch.equal(rule(images, "dark"), 1 - rule(images, "bright"))


def test_auto_polarity_leaves_the_border_to_the_background():
    images = discs(3)
    bright = prepare.otsu(images, "bright")
    mixed = torch.stack([images[0], 255 - images[1], images[2]])
    assert torch.equal(prepare.otsu(mixed, "auto"), bright)


def test_nsas_rule():
    images = noise(2, 3, 33, 30)
    raw = (np.abs(images.numpy().astype(float).mean(1) - 200) > 60).astype(np.uint8)
    expected = np.stack([cv2.medianBlur(plane, 7) for plane in raw])
    ours = prepare.background_distance(images, background=200, level=60, median=7)
    assert np.array_equal(ours[:, 0].numpy(), expected)


# ---- morphology ----------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("size", [2, 3, 6, 8, 15])
def test_squares_are_scikit_images(operation, size):
    masks = torch.cat([speckle(p, 2, 1, 40, 31, seed=size) for p in (0.03, 0.5, 0.97)])
    footprint = np.ones((size, size), np.uint8)
    theirs = getattr(skimage_morphology, operation)
    expected = np.stack([theirs(mask, footprint) for mask in masks[:, 0].numpy()])
    assert np.array_equal(getattr(prepare, operation)(masks, size)[:, 0].numpy(), expected)


@pytest.mark.parametrize("shape", ["square", "disc"])
@pytest.mark.parametrize("size", [3, 5, 9])
def test_elements_are_opencvs(shape, size):
    form = cv2.MORPH_RECT if shape == "square" else cv2.MORPH_ELLIPSE
    element = cv2.getStructuringElement(form, (size, size))
    masks = speckle(0.97, 2, 1, 40, 31)
    for operation, code in (("opening", cv2.MORPH_OPEN), ("erosion", cv2.MORPH_ERODE)):
        expected = np.stack([cv2.morphologyEx(m, code, element) for m in masks[:, 0].numpy()])
        ours = getattr(prepare, operation)(masks, size, shape)[:, 0].numpy()
        assert np.array_equal(ours, expected)


elements = st.one_of(
    st.tuples(st.integers(0, 20), st.just("square")),
    st.tuples(st.sampled_from([1, 3, 5, 7, 9]), st.just("disc")),
)


@few
@given(elements, st.floats(0.05, 0.95), st.integers(0, 1000))
def test_opening_and_closing_do_nothing_twice_and_never_overstep(element, share, seed):
    mask = speckle(share, 2, 1, 17, 12, seed=seed)
    opened, closed = prepare.opening(mask, *element), prepare.closing(mask, *element)
    assert (opened <= mask).all() and (closed >= mask).all()
    assert torch.equal(prepare.opening(opened, *element), opened)
    assert torch.equal(prepare.closing(closed, *element), closed)


@few
@given(st.sampled_from([3, 5, 7]), st.floats(0.2, 0.8), st.integers(0, 1000))
def test_median_is_opencvs(size, share, seed):
    mask = speckle(share, 1, 1, 17, 12, seed=seed)
    expected = cv2.medianBlur(mask[0, 0].numpy(), size)
    assert np.array_equal(prepare.median(mask, size)[0, 0].numpy(), expected)


@few
@given(st.integers(1, 19), st.sampled_from([0.2, 0.3, 0.7, 0.9]), st.integers(0, 1000))
def test_holes_are_scipys(count, share, seed):
    masks = prepare.closing(speckle(share, count, 1, 23, 18, seed=seed), 2)
    expected = np.stack([ndimage.binary_fill_holes(mask) for mask in masks[:, 0].numpy()])
    assert np.array_equal(prepare.fill_holes(masks)[:, 0].numpy(), expected)


def test_a_spiral_has_too_many_turns_and_is_filled():
    mask = torch.ones(1, 1, 81, 81, dtype=torch.uint8)
    y = x = 0
    turns = list(product(range(40), ((0, 1), (1, 0), (0, -1), (-1, 0))))
    for number, (_, (down, right)) in enumerate(turns):
        for _ in range(max(0, 80 - 2 * (number // 2))):
            mask[0, 0, y, x] = 0
            y, x = y + down, x + right
    filled = prepare.fill_holes(mask)
    assert not filled[0, 0, 0].all()
    assert filled[0, 0, 40, 40] == 1


# ---- Foreground ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_an_image_has_the_same_mask_in_any_batch_layout_and_device(rule):
    images = torch.cat([discs(4, 63), noise(2, 3, 63, 63)])[..., :50]
    masks = rule(images)
    assert masks.shape == (6, 1, 63, 50) and masks.dtype == torch.uint8
    assert masks.max() <= 1
    single = torch.cat([rule(image[None]) for image in images])
    assert torch.equal(single, masks)
    assert torch.equal(rule(images.to(memory_format=torch.channels_last)), masks)
    assert torch.equal(rule(images.repeat(1, 1, 1, 2)[..., :50]), masks)
    assert rule(images[:0]).shape == (0, 1, 63, 50)
    if rule.rule != "saliency":  # its Fourier transforms round differently
        assert torch.equal(rule(images.to(DEVICE)).cpu(), masks)


@pytest.mark.parametrize("rule", RULES[:-1], ids=repr)  # a colour has three channels
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_channels_dtype_and_tiny_images(rule, channels):
    images = noise(2, channels, 21, 16)
    masks = rule(images)
    assert torch.equal(rule(images.float() / 255), masks)
    assert torch.equal(rule((images.int() * 257).to(torch.uint16)), masks)
    assert rule(images[..., :2, :2]).shape == (2, 1, 2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_no_step_reads_a_value(rule):
    # A meta tensor has none to read: a host that asked for one would have to wait for a device.
    masks = rule(torch.empty(5, 3, 33, 20, dtype=torch.uint8, device="meta"))
    assert masks.shape == (5, 1, 33, 20) and masks.is_meta


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_the_repr_is_the_call(rule):
    assert eval(repr(rule), {"Foreground": prepare.Foreground}) == rule
    assert pickle.loads(pickle.dumps(rule)) == rule


def test_closing_comes_before_opening_and_holes_last():
    images = discs(2)
    images[:, :, 30:33, 30:33] = 0
    steps = prepare.opening(prepare.closing(prepare.otsu(images, "bright"), 2), 5)
    assert steps[0, 0, 31, 31] == 0
    rule = prepare.Foreground("otsu", polarity="bright", close=2, open=5, fill_holes=True)
    assert torch.equal(rule(images), prepare.fill_holes(steps))
    assert rule(images)[0, 0, 31, 31] == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "otzu"}, "did you mean otsu"),
        ({"rule": "otsu", "level": 3}, "level: expected none with rule 'otsu'"),
        ({"rule": "threshold"}, "level: expected a grey level"),
        ({"rule": "threshold", "level": 256}, r"level: expected values within \[0"),
        ({"rule": "background", "background": (300, 0, 0)}, "background: expected values"),
        ({"rule": "background", "median": 4}, "median: expected an odd number"),
        ({"polarity": "light"}, "polarity: expected one of"),
        ({"open": -1}, "size: expected a side"),
        ({"open": 4, "shape": "disc"}, "size: expected an odd number"),
        ({"shape": "circle"}, "shape: expected one of"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        prepare.Foreground(**settings)


def test_channels_and_colours_must_fit_the_images():
    with pytest.raises(ValueError, match="channel: expected 0 to 0"):
        prepare.Foreground("otsu", channel=1)(noise(1, 1, 8, 8))
    with pytest.raises(ValueError, match="background: expected 1 numbers"):
        prepare.Foreground("background", background=(1, 2, 3))(noise(1, 1, 8, 8))


def test_given_masks_keep_every_pixel_they_touch():
    masks = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    masks[0, 0, 33, 17] = 255
    small = prepare.given(masks, 8)
    assert small[0, 0, 4, 2] == 1 and small.sum() <= 4
    assert prepare.given(masks.bool(), (64, 64)).sum() == 1
    assert prepare.given(masks[:, 0], 64).shape == (1, 1, 64, 64)


# ---- presets -------------------------------------------------------------------------------------


def test_presets_of_the_codes():
    assert prepare.preset("mvtec", "hazelnut", of="memseg") == prepare.Foreground(
        "threshold", level=50, polarity="bright"
    )
    assert prepare.preset("mvtec", "screw", of="nsa") == prepare.Foreground(
        "background", level=60, background=200
    )
    assert prepare.preset("visa", "pcb3") == prepare.Foreground(
        "triangle", polarity="bright", channel=2, close=8, open=3
    )
    for code in prepare.PRESETS:
        assert len(prepare.PRESETS[code]["mvtec"]) == 15
        for texture in ("carpet", "leather", "tile", "wood"):
            assert prepare.preset("mvtec", texture, of=code).rule == "all"
    with pytest.raises(ValueError, match="did you mean hazelnut"):
        prepare.preset("mvtec", "hazlenut")
    with pytest.raises(ValueError, match="dataset: expected one of"):
        prepare.preset("visa", "pcb1", of="memseg")


def test_realnets_preset_is_its_chain_of_opencv_and_scikit_image():
    images = discs(1, 96)
    grey = prepare.grey(images)[0, 0].numpy()
    _, mask = cv2.threshold(grey, 100, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    square = np.ones((6, 6), np.uint8)
    mask = skimage_morphology.opening(skimage_morphology.closing(mask, square), square)
    assert np.array_equal(prepare.preset("mvtec", "pill")(images)[0, 0].numpy(), mask)


# ---- in a synthesizer ----------------------------------------------------------------------------


def test_an_empty_foreground_leaves_samples_clean_and_another_confines_them():
    synth = anoaug.create("draem", textures=textures(4, 64, 64), p=1.0, seed=0).to(DEVICE)
    images = torch.cat([discs(12), torch.full((4, 3, 64, 64), 90, dtype=torch.uint8)]).to(DEVICE)
    foreground = prepare.Foreground("otsu")(images)
    assert not foreground[12:].any()
    batch = synth(images, foreground=foreground)
    assert batch.label[12:].tolist() == [0, 0, 0, 0]
    assert torch.equal(batch.image[12:], images[12:]) and not batch.mask[12:].any()
    assert batch.label[:12].sum() > 6
    assert not (batch.mask * (1 - foreground)).any()
    outside = (foreground == 0).expand_as(images)
    assert torch.equal(batch.image[outside], images[outside])


@pytest.mark.gpu
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_nothing_waits_for_the_device(rule):
    images = discs(8).cuda()
    kept = prepare.Cached(rule, 16)
    rule(images)  # cuFFT makes its plan
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        rule(images)
        kept(images, list(range(8)))
        kept(images, list(range(4, 12)))
    finally:
        torch.cuda.set_sync_debug_mode("default")
