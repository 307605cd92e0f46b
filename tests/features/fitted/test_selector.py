"""RealNet's selection of channels: those that change as the mask says."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import anoaug
from anoaug.features import fitted
from tests.ranks import in_group


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch(seed: int = 0, count: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Features of which channels 1 and 4 change under the mask, 2 a little, 0 anywhere, 3 never."""
    mask = (torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) < 0.3).float()
    normal = drawn(count, 5, 8, 8, seed=seed)
    change = drawn(count, 5, 8, 8, seed=seed + 50)
    change[:, 3] = 0.0
    change[:, [1, 4]] = mask
    change[:, 2:3] = mask + 0.3 * change[:, 2:3]
    return normal + change, normal, mask


def test_channels_that_follow_the_mask_are_chosen() -> None:
    module = fitted.ChannelSelector(2)
    module.update(*batch())
    assert module.chosen.tolist() == [1, 4]
    three = fitted.ChannelSelector(3)
    three.update(*batch())
    assert three.chosen.tolist() == [1, 2, 4]
    maps = batch()[1]
    assert torch.equal(three(maps), maps[:, [1, 2, 4]])
    nhwc = maps.permute(0, 2, 3, 1)
    assert torch.equal(fitted_nhwc(three)(nhwc), nhwc[..., [1, 2, 4]])


def fitted_nhwc(module: fitted.ChannelSelector) -> fitted.ChannelSelector:
    other = fitted.ChannelSelector(module.count, layout="nhwc")
    other.load_state_dict(module.state_dict())
    return other


def test_the_error_is_that_of_the_scaled_squared_change() -> None:
    module = fitted.ChannelSelector(2)
    expected = torch.zeros(5)
    for seed in range(3):
        anomalous, normal, mask = batch(seed)
        module.update(anomalous, normal, mask)
        change = (anomalous - normal).square().transpose(0, 1).flatten(1)
        low, high = change.amin(1, True), change.amax(1, True)
        scaled = (change - low) / (high - low + 1e-4)
        expected += (scaled - mask.flatten()).square().mean(1)
    torch.testing.assert_close(module.errors, expected)
    assert module.batches == 3


def test_larger_masks_come_by_their_nearest_pixel() -> None:
    anomalous, normal, mask = batch()
    one, other = fitted.ChannelSelector(2), fitted.ChannelSelector(2)
    one.update(anomalous, normal, mask)
    other.update(anomalous, normal, mask.repeat_interleave(4, 2).repeat_interleave(4, 3))
    torch.testing.assert_close(one.errors, other.errors)


def test_nan_is_the_worst_and_nothing_changes_nothing() -> None:
    anomalous, normal, mask = batch()
    anomalous[:, 1] = float("nan")
    module = fitted.ChannelSelector(2)
    module.update(anomalous, normal, mask)
    assert module.chosen.tolist() == [2, 4]
    before = module.errors.clone()
    module.update(anomalous[:0], normal[:0], mask[:0])
    assert torch.equal(module.errors.nan_to_num(9), before.nan_to_num(9)) and module.batches == 1


class Made(NamedTuple):
    image: Tensor
    clean: Tensor
    mask: Tensor


def test_a_fit_makes_anomalies_of_normal_images() -> None:
    synth = anoaug.create("cutout", p=1.0, seed=0)
    torch.manual_seed(0)
    net = nn.Conv2d(3, 16, 3, stride=2, padding=1)
    module = fitted.ChannelSelector(4)
    module.fit(torch.rand(6, 3, 32, 32).split(2), net, synth, progress=False)
    assert module.batches == 3 and len(module.chosen.unique()) == 4
    assert net(torch.rand(1, 3, 32, 32)).shape[1] == 16 and net.training
    fresh = fitted.ChannelSelector(4)
    fresh.load_state_dict(module.state_dict())
    assert torch.equal(fresh.chosen, module.chosen)


def _fitted_on(rank: int) -> Tensor:
    module = fitted.ChannelSelector(2)
    batches = [torch.full((1,), float(n)) for n in range(3)]

    def synth(images: Tensor) -> Made:
        return Made(*batch(int(images)))

    mine = batches[:2] if rank == 0 else batches[2:]
    module.fit(mine, lambda maps: maps, synth, progress=False)
    return module.errors


@pytest.mark.slow
def test_ranks_share_their_errors() -> None:
    alone = fitted.ChannelSelector(2)
    for seed in range(3):
        alone.update(*batch(seed))
    first, second = in_group(_fitted_on, 2)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, alone.errors)


def test_bad_input_is_refused() -> None:
    module = fitted.ChannelSelector(2)
    anomalous, normal, mask = batch()
    with pytest.raises(RuntimeError, match="expected a fitted one"):
        module(normal)
    with pytest.raises(ValueError, match="like anomalous"):
        module.update(anomalous, normal[:2], mask)
    with pytest.raises(ValueError, match=r"count: expected a whole number in \[1, 5\], got 6"):
        fitted.ChannelSelector(6).update(anomalous, normal, mask)
    with pytest.raises(ValueError, match="expected maps"):
        module.update(drawn(2, 4, 5), drawn(2, 4, 5), mask)
    with pytest.raises(TypeError, match="synth="):
        module.fit([anomalous], nn.Identity(), progress=False)
