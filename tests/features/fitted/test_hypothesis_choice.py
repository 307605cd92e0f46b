"""GLASS's choice of hypothesis: its rule on a spectrum, its published choices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from anoaug.features import fitted
from anoaug.features.fitted.hypothesis import Spectrum, published
from tests.ranks import in_group


def stripes(size: int = 289) -> torch.Tensor:
    """A sharp object in the middle: a spectrum far and dense."""
    image = torch.full((1, 3, size, size), 0.1)
    image[:, :, size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 0.9
    return image


def by_numpy(image: np.ndarray) -> tuple[float, int, float, float]:
    """The rule once more, in OpenCV and NumPy, of a float BGR image in [0, 255]."""
    cv2 = pytest.importorskip("cv2")
    small = cv2.resize(image, (289, 289))
    grey = small @ np.float32([0.114, 0.587, 0.299])
    blurred = cv2.blur(grey, (39, 39))
    level = 20 * np.log(np.abs(np.fft.fftshift(np.fft.fft2(blurred))))
    y, x = np.where(level > 170)
    y, x = y - 144, x - 144
    radius = np.sqrt(y**2 + x**2).max()
    rows, columns = np.indices((578, 578)) - 144
    disc = (np.sqrt(rows**2 + columns**2) <= radius).sum()
    return radius, len(y), len(y) / (4 * abs(x).max() * abs(y).max()), len(y) / disc


@pytest.mark.slow
@pytest.mark.parametrize("size", [289, 200])
def test_the_spectrum_is_what_numpy_finds(size: int) -> None:
    images = stripes(size)
    choice = fitted.HypothesisChoice().fit([images], progress=False)
    bgr = images[0].permute(1, 2, 0).flip(2).numpy() * 255
    found, expected = choice.spectrum(), by_numpy(np.ascontiguousarray(bgr))
    np.testing.assert_allclose(found, expected, rtol=0.03)
    assert found.points > 60


def test_the_rule() -> None:
    assert Spectrum(12.1, 61, 0.22, 0.0).hypothesis == "hypersphere"
    assert Spectrum(12.1, 61, 0.0, 0.22).hypothesis == "hypersphere"
    assert Spectrum(12.0, 61, 0.3, 0.3).hypothesis == "manifold"
    assert Spectrum(13.0, 60, 0.3, 0.3).hypothesis == "manifold"
    assert Spectrum(13.0, 61, 0.21, 0.21).hypothesis == "manifold"


@pytest.mark.slow
def test_a_flat_image_is_a_manifold_and_black_has_no_spectrum() -> None:
    flat = fitted.HypothesisChoice().fit([torch.full((2, 1, 64, 64), 0.5)], progress=False)
    assert flat.hypothesis == "manifold" and flat.spectrum().radius == 0.0
    black = fitted.HypothesisChoice().fit([torch.zeros(2, 1, 64, 64)], progress=False)
    assert black.spectrum() == Spectrum(0.0, 0, 0.0, 0.0)


def test_bytes_floats_and_normalised_images_say_the_same() -> None:
    bytes_ = (stripes() * 255).to(torch.uint8)
    floats = bytes_.float() / 255
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    normal = (floats - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    expected = fitted.HypothesisChoice().fit([bytes_], progress=False)
    for images, keywords in ((floats, {}), (normal, {"mean": mean, "std": std})):
        found = fitted.HypothesisChoice(**keywords).fit([images], progress=False)
        torch.testing.assert_close(found.image, expected.image, rtol=1e-4, atol=1e-3)
    with pytest.raises(ValueError, match="pass mean= and std="):
        fitted.HypothesisChoice().fit([normal], progress=False)


def test_real_images_give_what_numpy_finds(data_dir: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    files = sorted((data_dir / "bsd_pitting" / "train").rglob("*.*"))[:12]
    loaded = [np.asarray(image.open(file).convert("RGB").resize((289, 289))) for file in files]
    images = torch.from_numpy(np.stack(loaded)).permute(0, 3, 1, 2)
    choice = fitted.HypothesisChoice().fit(images.split(5), progress=False)
    assert choice.count == len(files) == 12
    bgr = images.float().mean(0).permute(1, 2, 0).flip(2).numpy()
    expected = by_numpy(np.ascontiguousarray(bgr))
    np.testing.assert_allclose(choice.spectrum(), expected, rtol=0.05, atol=0.05)


def _fitted_on(rank: int) -> float:
    batches = [stripes(), stripes() * 0.5, stripes() * 0.2]
    choice = fitted.HypothesisChoice()
    choice.fit(batches[:2] if rank == 0 else batches[2:], progress=False)
    return float(choice.image.sum())


@pytest.mark.slow
def test_ranks_share_the_mean_image() -> None:
    batches = [torch.cat([stripes(), stripes() * 0.5, stripes() * 0.2])]
    alone = fitted.HypothesisChoice().fit(batches, progress=False).image.sum()
    first, second = in_group(_fitted_on, 2)
    assert first == second == pytest.approx(float(alone), rel=1e-5)


def test_published_choices() -> None:
    assert published("mvtec", "screw") == "hypersphere"
    assert published("MVTec", "carpet") == "manifold"
    assert published("visa", "pcb3") == "manifold" and published("visa", "pcb4") == "hypersphere"
    assert published("wfdd", "grey_cloth") == "manifold"
    with pytest.raises(ValueError, match="dataset: expected one of"):
        published("btad", "01")


def test_bad_input_is_refused() -> None:
    choice = fitted.HypothesisChoice()
    with pytest.raises(RuntimeError, match="expected a fitted one"):
        _ = choice.hypothesis
    with pytest.raises(ValueError, match="1 or 3 channels"):
        choice.update(torch.zeros(1, 2, 8, 8))
