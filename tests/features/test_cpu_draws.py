"""Numbers on the CPU: the reference's words, in either order of memory and for any keys."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anoaug.features import cpu_draws, cpu_rows
from anoaug.reference.features import ELEMENT, ROUNDING, element_words, gaussians, words
from anoaug.rng import uniform

KEYS = np.array([[3, 1], [0xFFFFFFFF, 9], [0x80000000, 0xFFFFFFFE]])
PLACES = np.array([0, 5, 0xFFFFFFF0, 2, 7])


@pytest.mark.parametrize("planes", [False, True])
def test_words_are_the_references(planes: bool) -> None:
    quads, numbers = np.arange(3, 7), cpu_draws.Numbers()
    numbers.words(KEYS[1:2], PLACES, np.arange(40), ROUNDING, planes)  # memory is used again
    found = numbers.words(KEYS[1:2], PLACES, quads, ROUNDING, planes)
    expected = words(
        torch.from_numpy(KEYS[1:2]), torch.from_numpy(PLACES)[:, None], torch.from_numpy(quads),
        ROUNDING,
    )  # fmt: skip
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.T if planes else one, other[0].numpy())


@pytest.mark.parametrize(
    "compiled", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["numpy", "numba"]
)
def test_rows_of_several_keys_go_together(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    if compiled:
        pytest.importorskip("numba")
    monkeypatch.setattr(cpu_draws, "LANES", 32)
    draw = cpu_draws.drawing(compiled).gaussians
    positions, quads = 11, 7
    keys, places = KEYS.repeat(positions, 0), np.tile(np.arange(positions), len(KEYS))
    room = np.full((len(places), 4 * quads + 3), np.nan, np.float32)
    draw(room[:, : 4 * quads], keys, places, 0, False)
    expected = gaussians(torch.from_numpy(KEYS), positions, 4 * quads).flatten(0, 1)
    torch.testing.assert_close(
        torch.from_numpy(room[:, : 4 * quads]), expected, atol=1e-5, rtol=1e-6
    )
    assert np.isnan(room[:, 4 * quads :]).all()
    planes = np.empty((4 * (quads - 2), positions), np.float32)
    draw(planes, KEYS[2:], np.arange(positions), 2, True)
    found = torch.from_numpy(planes.T)
    torch.testing.assert_close(found, expected[2 * positions :, 8:], atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize(
    "compiled", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["numpy", "numba"]
)
def test_uniform_numbers_have_the_references_bits(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    if compiled:
        pytest.importorskip("numba")
    monkeypatch.setattr(cpu_draws, "LANES", 32)
    positions, quads = 11, 7
    keys, places = KEYS.repeat(positions, 0), np.tile(np.arange(positions), len(KEYS))
    room = np.full((len(places), 4 * quads + 3), np.nan, np.float32)
    cpu_draws.drawing(compiled).uniforms(room[:, : 4 * quads], keys, places, 0)
    expected = uniform(element_words(torch.from_numpy(KEYS), positions, 4 * quads, ELEMENT))
    assert torch.equal(torch.from_numpy(room[:, : 4 * quads]), expected.flatten(0, 1))
    assert np.isnan(room[:, 4 * quads :]).all()


@pytest.mark.parametrize("sizes", [(3, 11, 7), (3, 1, 5), (3, 2, 40), (0, 4, 4), (3, 0, 4)])
@pytest.mark.parametrize(
    "compiled", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["numpy", "numba"]
)
def test_blocks_go_on_over_groups(
    compiled: bool, sizes: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if compiled:
        pytest.importorskip("numba")
    groups, positions, channels = sizes
    monkeypatch.setattr(cpu_rows, "BLOCK", 40)
    keys = torch.from_numpy(KEYS[:groups])
    normal = cpu_rows.gaussians(keys, positions, channels, compiled)
    expected = gaussians(keys, positions, channels)
    torch.testing.assert_close(normal, expected, atol=1e-5, rtol=1e-6)
    even = cpu_rows.uniforms(keys, positions, channels, compiled)
    assert torch.equal(even, uniform(element_words(keys, positions, channels, ELEMENT)))
    lengths = torch.empty(groups, positions)
    cpu_rows.noise_lengths(lengths, keys, channels, compiled)
    torch.testing.assert_close(lengths, expected.norm(dim=2), atol=1e-5, rtol=1e-5)
