"""The quality benchmark: a small network, a resumable run, an honest comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

for _name in ("cv2", "PIL", "scipy", "tqdm"):
    pytest.importorskip(_name)

from benchmarks import data, segmentation, unet  # noqa: E402
from benchmarks.segmentation import Data, Settings  # noqa: E402

TINY = Settings(size=32, steps=2, batch=2)


@pytest.fixture
def tiny() -> Data:
    masks = np.zeros((3, 32, 32), dtype=np.uint8)
    masks[1, 4:9, 4:9] = 1
    normal, textures, test = (data.generated(n, 32, seed) for seed, n in enumerate((4, 2, 3)))
    synthetic = torch.rand(2, 3, 32, 32)
    return Data(normal, textures, test, masks, synthetic, (synthetic[:, :1] > 0.9).float())


def test_the_network_is_small() -> None:
    network = unet.UNet()
    assert sum(p.numel() for p in network.parameters()) <= 400_000
    assert network(torch.rand(2, 3, 32, 48)).shape == (2, 1, 32, 48)


@pytest.mark.slow
def test_the_network_learns_a_bright_square() -> None:
    torch.manual_seed(0)
    network = unet.UNet((4, 8))
    images = torch.full((2, 3, 16, 16), 0.2)
    images[..., 4:10, 4:10] = 0.9
    mask = (images[:, :1] > 0.5).float()
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        unet.loss(network(images), mask).backward()
        optimiser.step()
    assert torch.equal(network(images) > 0, mask > 0)


def test_a_right_answer_costs_less_than_a_wrong_one() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :2, :2] = 1
    right = (mask * 2 - 1) * 8
    assert unet.loss(right, mask) < 0.05 < unet.loss(torch.zeros_like(mask), mask)
    assert unet.loss(-right, mask) > unet.loss(torch.zeros_like(mask), mask)


def test_an_epoch_shows_every_image_once() -> None:
    order = segmentation.batches(count=6, batch=2, steps=6, seed=0)
    assert sorted(sum(order[:3], [])) == sorted(sum(order[3:], [])) == list(range(6))
    assert order == segmentation.batches(6, 2, 6, seed=0)
    assert order != segmentation.batches(6, 2, 6, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("provider", segmentation.PROVIDERS)
def test_a_run_is_kept_and_not_repeated(
    provider: str, tiny: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = segmentation.run_seed(provider, 0, TINY, tiny, tmp_path)
    assert set(first["values"]) == set(segmentation.METRICS)
    monkeypatch.setattr(segmentation, "train", None)  # a second training would fail
    assert segmentation.run_seed(provider, 0, TINY, tiny, tmp_path) == first


@pytest.mark.slow
def test_other_settings_make_another_run(tiny: Data, tmp_path: Path) -> None:
    segmentation.run_seed("numpy", 0, TINY, tiny, tmp_path)
    longer = Settings(size=32, steps=3, batch=2)
    result = segmentation.run_seed("numpy", 0, longer, tiny, tmp_path)
    assert result["identity"]["settings"]["steps"] == 3
    assert json.loads((tmp_path / "numpy-seed0.json").read_text()) == result


def test_an_unknown_provider_is_refused(tiny: Data) -> None:
    with pytest.raises(ValueError, match="provider"):
        segmentation.synthesis("imgaug", tiny, 0.5, 0)


def test_providers_of_one_seed_share_weights(tiny: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def look(provider: str, found: Data, p: float, seed: int) -> segmentation.Synthesis:
        torch.rand(seed + len(provider))  # a side that draws from the global generator
        zeros = torch.zeros(2, 1, 32, 32)
        return lambda images: (torch.rand(2, 3, 32, 32), zeros)

    class Probe(unet.UNet):
        def train(self, mode: bool = True) -> Probe:
            seen.append(next(self.parameters()).detach().clone())
            return self

    monkeypatch.setattr(segmentation, "synthesis", look)
    monkeypatch.setattr(segmentation, "UNet", Probe)
    for provider in segmentation.PROVIDERS:
        segmentation.train(provider, tiny, TINY, seed=0)
    assert torch.equal(seen[0], seen[len(seen) // 2])


def test_welch_interval_of_known_values() -> None:
    # variances 1 and 4 of three values: error sqrt(5/3), freedom 50/17, t quantile 3.2165
    difference, low, high = segmentation.welch([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    assert difference == -2.0
    assert (high - low) / 2 == pytest.approx(1.29099 * 3.2165, rel=1e-3)
    assert (high + low) / 2 == pytest.approx(-2.0)


def test_one_seed_says_nothing_about_noise() -> None:
    with pytest.raises(ValueError, match="two seeds"):
        segmentation.welch([1.0], [1.0, 2.0])


def _runs(provider: str, values: list[float]) -> list[dict[str, Any]]:
    return [
        {
            "identity": {"provider": provider, "seed": seed},
            "seconds": 1.0,
            "values": dict.fromkeys(segmentation.METRICS, value),
        }
        for seed, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("ours", "within"), [([0.50, 0.52, 0.48], True), ([0.80, 0.82, 0.81], False)]
)
def test_the_summary_states_whether_seeds_explain_the_difference(
    ours: list[float], within: bool
) -> None:
    results = {"anoaug": _runs("anoaug", ours), "numpy": _runs("numpy", [0.49, 0.51, 0.53])}
    lines = segmentation.summary(results, TINY)
    versus = [line["versus"] for line in lines if "versus" in line]
    assert len(versus) == len(segmentation.METRICS)
    assert all(entry["within_seed_noise"] is within for entry in versus)
    assert ("within" if within else "OUTSIDE") in segmentation.describe(lines[0])
