"""The specification of randomness: known answers, twins that agree bit for bit, laws."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from anoaug import ops, rng

try:
    import triton
    import triton.language as tl

    from anoaug.kernels import rng as kernels
except ImportError:
    triton = None

needs_triton = pytest.mark.skipif(ops.triton_trouble() is not None, reason="needs Triton")
jit: Any = (lambda function: function) if triton is None else triton.jit
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BLOCK = 256

words = st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1])
seeds = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, -1, -7, 2**31 - 1, 2**32 + 5])
nodes = st.integers(-(2**31), 2**31 - 1) | st.sampled_from([-(2**31), -1, 0, 1, 2**31 - 1])

many = settings(max_examples=100, deadline=None)

# Random123's published answers for philox4x32-10: counter, key, result.
KNOWN_ANSWERS = [
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


# ---- kernels that call one device function -------------------------------------------------------


@jit
def philox_kernel(key, counter, out, N: tl.constexpr):
    n = tl.arange(0, N)
    w0, w1, w2, w3 = kernels.philox(
        tl.load(key + n).to(tl.uint32, bitcast=True),
        tl.load(key + N + n).to(tl.uint32, bitcast=True),
        tl.load(counter + n).to(tl.uint32, bitcast=True),
        tl.load(counter + N + n).to(tl.uint32, bitcast=True),
        tl.load(counter + 2 * N + n).to(tl.uint32, bitcast=True),
        tl.load(counter + 3 * N + n).to(tl.uint32, bitcast=True),
    )
    tl.store(out + n, w0.to(tl.int32, bitcast=True))
    tl.store(out + N + n, w1.to(tl.int32, bitcast=True))
    tl.store(out + 2 * N + n, w2.to(tl.int32, bitcast=True))
    tl.store(out + 3 * N + n, w3.to(tl.int32, bitcast=True))


@jit
def randint4x_kernel(seed, offset, out, N: tl.constexpr):
    n = tl.arange(0, N)
    w0, w1, w2, w3 = tl.randint4x(tl.load(seed), tl.load(offset + n))
    tl.store(out + n, w0.to(tl.int32, bitcast=True))
    tl.store(out + N + n, w1.to(tl.int32, bitcast=True))
    tl.store(out + 2 * N + n, w2.to(tl.int32, bitcast=True))
    tl.store(out + 3 * N + n, w3.to(tl.int32, bitcast=True))


@jit
def floats_kernel(first, second, out, N: tl.constexpr):
    n = tl.arange(0, N)
    w0 = tl.load(first + n).to(tl.uint32, bitcast=True)
    w1 = tl.load(second + n).to(tl.uint32, bitcast=True)
    gy, gx = kernels.unit_vector(w0)
    g0, g1 = kernels.gaussian_pair(w0, w1)
    tl.store(out + n, kernels.uniform(w0))
    tl.store(out + N + n, gy)
    tl.store(out + 2 * N + n, gx)
    tl.store(out + 3 * N + n, g0)
    tl.store(out + 4 * N + n, g1)


@jit
def lattice_kernel(key, iy, ix, out, N: tl.constexpr):
    n = tl.arange(0, N)
    word = tl.load(key + n).to(tl.uint32, bitcast=True)
    h = kernels.lattice_hash(word, tl.load(iy + n), tl.load(ix + n))
    tl.store(out + n, h.to(tl.int32, bitcast=True))


def bits(values: Any) -> torch.Tensor:
    """Words in [0, 2**32) as int32 of the same bits, on the kernels' device."""
    array = np.asarray(values, np.int64).astype(np.uint32).view(np.int32)
    return torch.from_numpy(array.copy()).to(DEVICE)


def unsigned(values: torch.Tensor) -> np.ndarray:
    """The words that :func:`bits` stored."""
    return values.cpu().numpy().view(np.uint32)


def random_words(*shape: int) -> np.ndarray:
    """Words whose first ones are the extremes."""
    drawn = np.random.default_rng(3).integers(0, 2**32, shape, dtype=np.int64)
    drawn[..., :3] = (0, 1, 2**32 - 1)
    return drawn


def float_words() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Words and what the kernels make of them: uniform, unit vector (2), Gaussian pair."""
    first, second = random_words(2, BLOCK)
    out = torch.empty(5, BLOCK, device=DEVICE)
    floats_kernel[(1,)](bits(first), bits(second), out, BLOCK, enable_fp_fusion=False)
    return torch.from_numpy(first), torch.from_numpy(second), out.cpu()


# ---- Philox --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_numpy_gives_the_known_answers(counter: Any, key: Any, expected: Any) -> None:
    assert tuple(int(w) for w in rng.philox_numpy(key, counter)) == expected


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_torch_gives_the_known_answers(counter: Any, key: Any, expected: Any) -> None:
    drawn = rng.philox(key, [torch.tensor(c) for c in counter])
    assert tuple(int(w) for w in drawn) == expected


@pytest.mark.triton_interpreter
@needs_triton
def test_kernel_gives_the_known_answers() -> None:
    key = np.array([answer[1] for answer in KNOWN_ANSWERS]).T
    counter = np.array([answer[0] for answer in KNOWN_ANSWERS]).T
    out = torch.zeros(4, 4, dtype=torch.int32, device=DEVICE)
    # A block has a power of two; the last column repeats the first.
    philox_kernel[(1,)](bits(np.c_[key, key[:, :1]]), bits(np.c_[counter, counter[:, :1]]), out, 4)
    assert np.array_equal(unsigned(out)[:, :3].T, [answer[2] for answer in KNOWN_ANSWERS])


@pytest.mark.slow
@many
@given(k=st.tuples(words, words), c=st.tuples(words, words, words, words))
def test_numpy_equals_torch_for_any_key_and_counter(k: Any, c: Any) -> None:
    ours = [int(w) for w in rng.philox_numpy(k, c)]
    assert ours == [int(w) for w in rng.philox(k, [torch.tensor(word) for word in c])]


@many
@given(k=st.tuples(words, words), c=st.tuples(words, words, words, words))
def test_numpy_follows_the_round_function_in_plain_integers(k: Any, c: Any) -> None:
    (k0, k1), (c0, c1, c2, c3) = k, c
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (
            (p1 >> 32) ^ c1 ^ k0, p1 % 2**32, (p0 >> 32) ^ c3 ^ k1, p0 % 2**32,
        )  # fmt: skip
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    assert tuple(int(w) for w in rng.philox_numpy(k, c)) == (c0, c1, c2, c3)


@pytest.mark.triton_interpreter
@needs_triton
def test_kernel_equals_numpy_bit_for_bit() -> None:
    key, counter = random_words(2, BLOCK), random_words(4, BLOCK)
    out = torch.zeros(4, BLOCK, dtype=torch.int32, device=DEVICE)
    philox_kernel[(1,)](bits(key), bits(counter), out, BLOCK)
    expected = rng.philox_numpy((key[0], key[1]), tuple(counter))
    assert np.array_equal(unsigned(out), np.stack(expected))


@pytest.mark.triton_interpreter
@needs_triton
@pytest.mark.parametrize("seed", [0, 1, 42, 2**31 - 1, 2**32 + 5, 2**40 + 3, -1, -7])
def test_words_equal_triton_s_own_randint4x(seed: int) -> None:
    offset = np.random.default_rng(5).integers(0, 2**63, 64, dtype=np.int64)
    offset[:6] = (0, 1, 2**32 - 1, 2**32, 2**32 + 1, 2**63 - 1)
    out = torch.zeros(4, 64, dtype=torch.int32, device=DEVICE)
    where = torch.from_numpy(offset).to(DEVICE)
    randint4x_kernel[(1,)](torch.tensor([seed], device=DEVICE), where, out, 64)
    low, high = (offset & 0xFFFFFFFF).astype(np.uint32), (offset >> 32).astype(np.uint32)
    expected = rng.philox_numpy(rng.split64(seed), (low, high, 0, 0))
    assert np.array_equal(unsigned(out), np.stack(expected))


def test_words_of_a_batch_broadcast() -> None:
    column, row = np.arange(3, dtype=np.uint32)[:, None], np.arange(5, dtype=np.uint32)
    ours = np.stack(rng.philox_numpy((1, 2), (row, column, 7, 8)))
    each = [[rng.philox_numpy((1, 2), (r, c, 7, 8)) for r in row] for c in column[:, 0]]
    assert np.array_equal(ours, np.moveaxis(np.array(each), -1, 0))


# ---- seeds and streams ---------------------------------------------------------------------------


@many
@given(seed=seeds)
def test_seed_words_hold_the_same_64_bits(seed: int) -> None:
    low, high = rng.split64(seed)
    assert 0 <= low < 2**32 and 0 <= high < 2**32
    assert rng.signed64(low | high << 32) == seed


@pytest.mark.parametrize(
    ("name", "expected"), [("", 0x811C9DC5), ("a", 0xE40C292C), ("foobar", 0xBF9CF968)]
)
def test_stream_id_is_fnv_1a(name: str, expected: int) -> None:
    assert rng.stream_id(name) == expected


def test_mix64_is_splitmix64() -> None:
    # The published first outputs of SplittableRandom with seed 0.
    gamma = 0x9E3779B97F4A7C15
    assert [rng.mix64(n * gamma % 2**64) for n in range(3)] == [
        0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F,
    ]  # fmt: skip


# ---- uniform -------------------------------------------------------------------------------------


@many
@given(word=words)
def test_uniform_is_the_upper_24_bits_exactly(word: int) -> None:
    exact = (word >> 8) / 2**24
    assert float(rng.uniform_numpy(np.array([word], np.uint32))[0]) == exact
    assert float(rng.uniform(torch.tensor([word]))[0]) == exact


@pytest.mark.parametrize(("word", "expected"), [(0, 0.0), (255, 0.0), (2**32 - 1, 1 - 2**-24)])
def test_uniform_reaches_0_and_stays_below_1(word: int, expected: float) -> None:
    assert float(rng.uniform(torch.tensor([word]))[0]) == expected


@pytest.mark.triton_interpreter
@needs_triton
def test_uniform_of_the_kernel_is_equal_bit_for_bit() -> None:
    first, _, out = float_words()
    assert torch.equal(out[0], rng.uniform(first))


# ---- Gaussian ------------------------------------------------------------------------------------


@pytest.mark.triton_interpreter
@needs_triton
def test_gaussian_pairs_of_the_kernel_are_close() -> None:
    first, second, out = float_words()
    pair = torch.stack(rng.gaussian_pair(first, second))
    assert (out[3:] - pair).abs().max() < 1e-5


def test_gaussian_pairs_of_torch_are_those_of_box_and_muller() -> None:
    first, second = random_words(2, 10_000)
    ours = torch.stack(rng.gaussian_pair(torch.from_numpy(first), torch.from_numpy(second)))
    u, v = (rng.uniform_numpy(word.astype(np.uint32)) for word in (first, second))
    radius, angle = np.sqrt(-2 * np.log(1 - u)), 2 * np.pi * v
    exact = np.stack((radius * np.cos(angle), radius * np.sin(angle)))
    assert np.abs(ours.numpy() - exact).max() < 1e-5


def test_gaussian_pairs_are_standard_normal_and_uncorrelated() -> None:
    count = np.arange(50_000, dtype=np.uint32)
    w0, w1, _, _ = rng.philox_numpy((11, 0), (count, 0, 0, 0))
    pair = torch.stack(
        rng.gaussian_pair(*(torch.from_numpy(w.astype(np.int64)) for w in (w0, w1)))
    ).numpy()
    for values in pair:
        assert stats.kstest(values, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(*pair)[0, 1]) < 5 / math.sqrt(len(count))


# ---- lattice -------------------------------------------------------------------------------------


def plain_hash(key: int, iy: int, ix: int) -> int:
    """The lattice hash in Python's integers."""
    h = (key + iy * 0x9E3779B1 + ix * 0x85EBCA77) % 2**32
    h = (h ^ h >> 16) * 0x7FEB352D % 2**32
    h = (h ^ h >> 15) * 0x846CA68B % 2**32
    return h ^ h >> 16


@many
@given(key=words, iy=nodes, ix=nodes)
def test_lattice_hash_is_that_of_plain_integers(key: int, iy: int, ix: int) -> None:
    ours = rng.lattice_hash(torch.tensor(key), torch.tensor(iy), torch.tensor(ix))
    assert int(ours) == plain_hash(key, iy, ix)


@pytest.mark.triton_interpreter
@needs_triton
def test_lattice_hash_of_the_kernel_is_equal_on_negative_nodes_too() -> None:
    key = random_words(BLOCK)
    iy, ix = np.random.default_rng(7).integers(-(2**31), 2**31, (2, BLOCK), dtype=np.int64)
    iy[:4], ix[:4] = (-1, 0, -(2**31), 2**31 - 1), (-1, -1, 0, -(2**31))
    out = torch.zeros(BLOCK, dtype=torch.int32, device=DEVICE)
    place = [torch.from_numpy(n.astype(np.int32)).to(DEVICE) for n in (iy, ix)]
    lattice_kernel[(1,)](bits(key), *place, out, BLOCK)
    ours = rng.lattice_hash(*(torch.from_numpy(n) for n in (key, iy, ix)))
    assert np.array_equal(unsigned(out), ours.numpy())


def node_words(side: int) -> torch.Tensor:
    """Hashes of a square of nodes about the origin, for four keys that differ in one bit."""
    n = torch.arange(side) - side // 2
    return torch.cat(
        [rng.lattice_hash(torch.tensor(k), n[:, None], n).flatten() for k in (0, 1, 2, 2**31)]
    )


def test_neighbouring_nodes_and_keys_get_different_words() -> None:
    drawn = node_words(100)
    # 40,000 of 2**32 words: 0.2 collisions are expected if the hash is a good one.
    assert len(drawn.unique()) >= len(drawn) - 3


def test_hashed_angles_are_uniform() -> None:
    gy, gx = rng.unit_vector(node_words(100))
    angle = torch.atan2(gx, gy).double().numpy() / (2 * np.pi) % 1.0
    assert stats.kstest(angle, "uniform").pvalue > 1e-3


def test_hashed_angles_of_neighbours_are_independent() -> None:
    n = torch.arange(200)
    gy, gx = rng.unit_vector(rng.lattice_hash(torch.tensor(9), n[:, None], n))
    angle = torch.atan2(gx, gy)
    for turn in (angle[1:] - angle[:-1], angle[:, 1:] - angle[:, :-1]):
        share = turn.flatten().double().numpy() / (2 * np.pi) % 1.0
        assert stats.kstest(share, "uniform").pvalue > 1e-3


# ---- unit vectors --------------------------------------------------------------------------------


def every_place(quarter: int) -> torch.Tensor:
    """Words that reach 2**18 places of a quarter turn, its ends among them."""
    place = torch.linspace(0, 2**24 - 1, 2**18, dtype=torch.float64).round().long()
    return (quarter << 30) | (place << 6)


@pytest.mark.parametrize("quarter", range(4))
def test_unit_vectors_have_length_one(quarter: int) -> None:
    gy, gx = (g.double() for g in rng.unit_vector(every_place(quarter)))
    assert (torch.hypot(gy, gx) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("quarter", range(4))
def test_unit_vectors_point_where_the_word_says(quarter: int) -> None:
    word = every_place(quarter)
    place = ((word >> 6) & 0xFFFFFF).double() / 2**24 - 0.5
    angle = (quarter + place) * (math.pi / 2)
    gy, gx = rng.unit_vector(word)
    assert (gy - torch.cos(angle)).abs().max() < 3e-6
    assert (gx - torch.sin(angle)).abs().max() < 3e-6


@pytest.mark.triton_interpreter
@needs_triton
def test_unit_vectors_of_the_kernel_are_equal_bit_for_bit() -> None:
    first, _, out = float_words()
    assert torch.equal(out[1:3], torch.stack(rng.unit_vector(first)))


# ---- draws of a batch ----------------------------------------------------------------------------

STREAMS = {"mask": 5, "source": 23, "blend": 1}


def test_a_word_is_philox_of_seed_epoch_index_and_stream() -> None:
    index = np.array([3, 2**40 + 17, 2**48 - 1])
    draws = rng.Draws(-5, 9, index, STREAMS)
    for row, number in enumerate(index):
        # Word 13 of a stream is word 1 of block 3.
        counter = (
            number & 0xFFFFFFFF, (number >> 32) | 3 << 16, 9, rng.stream_id("source"),
        )  # fmt: skip
        expected = rng.philox_numpy(rng.split64(-5), counter)[1]
        assert draws.words("source", 1, 13)[0, row] == expected


@pytest.mark.slow
@many
@given(
    index=st.lists(st.integers(0, 2**48 - 1), min_size=1, max_size=6),
    seed=seeds,
    epoch=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_a_word_does_not_depend_on_batch_order_or_other_streams(
    index: list[int], seed: int, epoch: int, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(index))))
    whole = rng.Draws(seed, epoch, np.array(index), STREAMS)
    moved = rng.Draws(
        seed, epoch, np.array(index)[order], {"before": 7, "source": 23, "mask": 9, "after": 2}
    )
    alone = rng.Draws(seed, epoch, np.array(index[:1]), {"source": 23})
    ours = whole.words("source", 23)
    assert np.array_equal(ours[:, order], moved.words("source", 23))
    assert np.array_equal(ours[:, :1], alone.words("source", 23))
    assert np.array_equal(whole.words("mask", 5)[:, order], moved.words("mask", 5))


@pytest.mark.parametrize(
    "other",
    [
        lambda: rng.Draws(1, 0, np.arange(4), STREAMS).words("mask", 5),
        lambda: rng.Draws(2**32, 0, np.arange(4), STREAMS).words("mask", 5),
        lambda: rng.Draws(0, 1, np.arange(4), STREAMS).words("mask", 5),
        lambda: rng.Draws(0, 0, np.arange(4) + 2**32, STREAMS).words("mask", 5),
        lambda: rng.Draws(0, 0, np.arange(4), STREAMS).words("source", 5),
        lambda: rng.Draws(0, 0, np.arange(4), STREAMS).words("source", 5, 16),
    ],
    ids=["seed", "seed-high", "epoch", "index-high", "stream", "block"],
)
def test_each_coordinate_changes_every_word(other: Callable[[], np.ndarray]) -> None:
    assert (rng.Draws(0, 0, np.arange(4), STREAMS).words("mask", 5) != other()).all()


def test_no_two_words_of_a_batch_are_shared() -> None:
    drawn = rng.Draws(0, 0, np.arange(500), STREAMS)
    every = np.concatenate([drawn.words(name, count).ravel() for name, count in STREAMS.items()])
    # 14,500 words: 0.02 collisions are expected by chance.
    assert len(np.unique(every)) >= len(every) - 1


def test_uniform_numbers_of_a_batch_are_those_of_its_words() -> None:
    draws = rng.Draws(4, 2, np.arange(10), STREAMS)
    assert np.array_equal(
        draws.uniform("source", 6, 3), rng.uniform_numpy(draws.words("source", 6, 3))
    )


def test_global_generators_are_left_alone() -> None:
    before = (torch.get_rng_state(), np.random.get_state()[1].copy())
    rng.Draws(0, 0, np.arange(10), STREAMS).uniform("mask", 5)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


@many
@given(low=st.integers(-(2**50), 2**50), high=st.integers(0, 2**50))
def test_indices_outside_the_counter_are_refused(low: int, high: int) -> None:
    high = max(low, high)
    if low >= 0 and high < 2**47:
        rng.check_index_range(low, high)
        return
    with pytest.raises(ValueError, match="expected sample indices in"):
        rng.check_index_range(low, high)


# ---- keyed permutations --------------------------------------------------------------------------


@pytest.mark.slow
@given(st.integers(1, 400), words, words)
def test_every_number_has_a_place_of_its_own(count: int, key: int, coin: int) -> None:
    places = rng.permuted(torch.arange(count), torch.tensor(count), *map(torch.tensor, (key, coin)))
    assert torch.equal(places.sort().values, torch.arange(count))


def test_every_order_is_as_likely() -> None:
    keys = torch.from_numpy(np.random.default_rng(1).integers(0, 2**32, (2, 24000, 1)))
    places = rng.permuted(torch.arange(4)[None], torch.tensor(4), *keys)
    tally = (places * torch.tensor([64, 16, 4, 1])).sum(1).unique(return_counts=True)[1]
    assert len(tally) == 24 and stats.chisquare(tally.numpy()).pvalue > 1e-4
