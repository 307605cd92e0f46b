"""The row laws' op: kernels equal the reference, gradients are derivatives, zero is defined."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from anoaug.features.ops.rows import (
    feature_distances,
    feature_noise_lengths,
    feature_rows,
    feature_rows_backward,
    rows,
)
from anoaug.reference.features import laws as reference

G, P = 2, 6
KEYS = torch.tensor([[3, 1], [0xFFFFFFFF, 9]])
# Columns under which every branch of a law is taken by features of length about sqrt(C).
COLUMNS: dict[str, tuple[float, ...]] = {
    "jitter": (0.3,),
    "unit_jitter": (0.7,),
    "shell": (1.5,),
    "ascend": (0.4, 1e-10),
    "push": (0.8,),
    "project": (3.8, 4.4, 1e-10),
    "sphere": (math.cos(0.5), math.sin(0.5)),
    "stereographic": (-0.01, 0.6),
}
NAMES = tuple(reference.LAWS)
DERIVED = tuple(name for name in NAMES if reference.LAWS[name].backward is not None)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def needs(law: str, channels: int) -> dict[str, Any]:
    """Other vectors and keys, as the law has them."""
    asked: dict[str, Any] = {}
    if reference.LAWS[law].other:
        asked["other"] = normal(G, P, channels, seed=1) * 0.7
    if reference.LAWS[law].noise != "never":
        asked["keys"] = KEYS
    return asked


# ---- kernels against the reference ---------------------------------------------------------------

CLOSE = {
    torch.float32: {"atol": 5e-6, "rtol": 5e-6},
    torch.bfloat16: {"atol": 1e-3, "rtol": 2**-7},
    torch.float16: {"atol": 1e-4, "rtol": 2**-10},
}


@pytest.mark.triton_interpreter
class TestKernels:
    @pytest.fixture(autouse=True)
    def _triton(self, poisoned: None) -> None:
        pytest.importorskip("triton")

    @pytest.mark.slow
    @pytest.mark.parametrize("order", ["channels", "positions"])
    @pytest.mark.parametrize("law", NAMES)
    def test_they_equal_the_reference(self, law: str, order: str) -> None:
        channels = 13
        x = normal(G, P, channels)
        if order == "positions":
            x = x.transpose(1, 2).contiguous().transpose(1, 2)
        inside = torch.arange(G * P).view(G, P) % 5 != 0
        asked = needs(law, channels)
        if reference.LAWS[law].other:
            x[0, 1] = asked["other"][0, 1]
        x[1, 2] = 0.0
        found, expected = (
            rows(x, law, *COLUMNS[law], inside=inside, backend=name, **asked)
            for name in ("triton", "torch")
        )
        assert found.stride() == x.stride()
        torch.testing.assert_close(found, expected, **CLOSE[torch.float32])
        assert torch.equal(found[~inside], x[~inside])

    @pytest.mark.slow
    @pytest.mark.parametrize("law", DERIVED)
    def test_gradients_equal_the_reference(self, law: str) -> None:
        channels = 13
        x, grad = normal(G, P, channels), normal(G, P, channels, seed=2)
        asked = {"other": None, "keys": None, **needs(law, channels)}
        x[1, 2] = 0.0
        if asked["other"] is not None:
            x[0, 1] = asked["other"][0, 1]
        inside = torch.arange(G * P).view(G, P) % 5 != 0
        for keys in (asked["keys"], None) if law == "project" else (asked["keys"],):
            found, expected = (
                feature_rows_backward(
                    grad, law == "project", x, asked["other"], None, keys, None, inside,
                    COLUMNS[law], None, law, name,
                )
                for name in ("triton", "torch")
            )  # fmt: skip
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize("law", NAMES)
    def test_runs_of_channels_give_what_whole_rows_do(
        self, law: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from anoaug.features.ops import rows as ops

        monkeypatch.setattr(ops, "_tile", lambda: 64)
        channels = 12
        x = normal(G, 2, channels).transpose(1, 2).contiguous().transpose(1, 2)
        asked = needs(law, channels)
        if reference.LAWS[law].other:
            asked["other"] = asked["other"][:, :2]
            x[0, 1] = asked["other"][0, 1]
        columns = COLUMNS[law]
        found, expected = (
            rows(x, law, *columns, backend=name, **asked) for name in ("triton", "torch")
        )
        torch.testing.assert_close(found, expected, **CLOSE[torch.float32])
        if law in DERIVED:
            read = (x, asked.get("other"), None, asked.get("keys"), None, None, columns, None, law)
            one, two = (
                feature_rows_backward(x * 0.5 + 1, law == "project", *read, name)
                for name in ("triton", "torch")
            )
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("law", ["jitter", "project", "sphere"])
    def test_narrow_storage_is_rounded_once(self, law: str, dtype: torch.dtype) -> None:
        x = normal(G, P, 16).to(dtype)
        asked = needs(law, 16)
        found = rows(x, law, *COLUMNS[law], backend="triton", **asked)
        expected = rows(x.float(), law, *COLUMNS[law], backend="triton", **asked)
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected.to(dtype), **CLOSE[dtype])

    def test_tables_expanded_centres_and_given_noise_are_read(self) -> None:
        x, table, noise = normal(G, P, 8), normal(5, 8, seed=1), normal(G, P, 8, seed=3)
        index = torch.arange(G * P).view(G, P) % 5
        centres = normal(P, 8, seed=4).expand(G, P, 8)
        for asked in ({"other": table, "index": index}, {"other": centres}):
            one, two = (rows(x, "push", 0.5, backend=name, **asked) for name in ("triton", "torch"))
            torch.testing.assert_close(one, two, **CLOSE[torch.float32])
            far = [
                feature_distances(x, asked["other"], asked.get("index"), name)
                for name in ("triton", "torch")
            ]
            torch.testing.assert_close(*far)
        one, two = (rows(x, "jitter", 0.1, noise=noise, backend=n) for n in ("triton", "torch"))
        torch.testing.assert_close(one, two, **CLOSE[torch.float32])

    @pytest.mark.slow
    def test_columns_of_each_row_are_read(self) -> None:
        x = normal(G, P, 8)
        own = torch.rand(G, P, generator=torch.Generator().manual_seed(0))
        for column in (own, own[:, :1], own[:1]):
            one, two = (
                rows(x, "shell", column, keys=KEYS, backend=name) for name in ("triton", "torch")
            )
            torch.testing.assert_close(one, two, **CLOSE[torch.float32])

    def test_lengths_of_noise(self) -> None:
        one, two = (feature_noise_lengths(KEYS, 5, 9, name) for name in ("triton", "torch"))
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


# ---- blocks on the CPU ---------------------------------------------------------------------------


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of four rows, also for groups as small as here."""
    from anoaug.features import cpu_rows

    monkeypatch.setattr(cpu_rows, "BLOCK", 64)
    monkeypatch.setattr(cpu_rows, "LEAST", 0)


@pytest.mark.usefixtures("small_blocks", "poisoned")
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("law", NAMES)
def test_blocks_on_the_cpu_give_what_the_reference_does(law: str, masked: bool) -> None:
    x = normal(G, P, 14).transpose(1, 2).contiguous().transpose(1, 2)
    asked = {"other": None, "keys": None, **needs(law, 14)}
    x[1, 2] = 0.0
    if asked["other"] is not None:
        x[0, [1, 3, 4]] = asked["other"][0, [1, 3, 4]]
    inside = torch.arange(G * P).view(G, P) % 5 != 0 if masked else None
    found, expected = (
        rows(x, law, *COLUMNS[law], inside=inside, backend=name, **asked)
        for name in ("auto", "torch")
    )
    assert found.stride() == x.stride()
    torch.testing.assert_close(found, expected, **CLOSE[torch.float32])
    if law in DERIVED:
        read = (x, asked["other"], None, asked["keys"], None, inside, COLUMNS[law], None, law)
        one, two = (
            feature_rows_backward(x * 0.5 + 1, False, *read, name)[0] for name in ("auto", "torch")
        )
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("small_blocks", "poisoned")
def test_blocks_read_tables_given_noise_and_columns() -> None:
    x, table, noise = normal(G, P, 14), normal(5, 14, seed=1), normal(G, P, 14, seed=3)
    index = torch.arange(G * P).view(G, P) % 5
    x[1, 3] = table[index[1, 3]]
    own = torch.rand(G, P, generator=torch.Generator().manual_seed(0))
    for asked in ({"keys": KEYS}, {"noise": noise}, {}):
        one, two = (
            rows(x, "push", own, other=table, index=index, backend=n, **asked)
            for n in ("auto", "torch")
        )
        torch.testing.assert_close(one, two, **CLOSE[torch.float32])
    one, two = (feature_noise_lengths(KEYS, 5, 9, name) for name in ("auto", "torch"))
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("law", NAMES)
def test_a_row_has_the_same_bits_in_any_company(law: str) -> None:
    channels = 300
    x = normal(G, P, channels)
    asked = needs(law, channels)
    columns = COLUMNS[law] if law != "project" else (16.0, 17.5, 1e-10)
    whole = rows(x, law, *columns, **asked)
    planes = x.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(rows(planes, law, *columns, **asked), whole)
    inside = torch.arange(G * P).view(G, P) % 5 == 2
    assert torch.equal(
        rows(x, law, *columns, inside=inside, **asked), torch.where(inside[..., None], whole, x)
    )
    single = {name: value[1:] for name, value in asked.items()}
    if "other" in single:
        single["other"] = single["other"][:, :1]
    assert torch.equal(rows(x[1:, :1], law, *columns, **single), whole[1:, :1])


@pytest.mark.slow
@pytest.mark.usefixtures("small_blocks", "poisoned")
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("law", NAMES)
def test_compiled_laws_give_what_the_reference_does(law: str, masked: bool) -> None:
    pytest.importorskip("numba")
    x = normal(G, P, 14)
    asked = needs(law, 14)
    x[1, 2] = 0.0
    if "other" in asked:
        x[0, [1, 3, 4]] = asked["other"][0, [1, 3, 4]]
    inside = torch.arange(G * P).view(G, P) % 5 != 0 if masked else None
    own = (torch.rand(G, P, generator=torch.Generator().manual_seed(0)), *COLUMNS[law][1:])
    for columns in (COLUMNS[law], own) if law != "project" else (COLUMNS[law],):
        one, two = (
            rows(x, law, *columns, inside=inside, backend=name, **asked)
            for name in ("compiled", "torch")
        )
        torch.testing.assert_close(one, two, atol=3e-5, rtol=3e-5)


@pytest.mark.slow
def test_compiled_distances_are_the_references() -> None:
    pytest.importorskip("numba")
    x, centres = normal(G, P, 14), normal(P, 14, seed=4).expand(G, P, 14)
    table, index = normal(5, 14, seed=1), torch.arange(G * P).view(G, P) % 5
    for other, place in ((centres, None), (table, index)):
        one, two = (feature_distances(x, other, place, name) for name in ("compiled", "torch"))
        torch.testing.assert_close(one, two)


# ---- gradients -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("law", DERIVED)
def test_gradients_are_derivatives(law: str) -> None:
    x = normal(G, 3, 5).double() * 2
    noise = normal(G, 3, 5, seed=5).double()
    asked = {k: v.double()[:, :3] for k, v in needs(law, 5).items() if k == "other"}
    inside = torch.tensor([[True, False, True], [True, True, True]])
    columns = (2.5, 3.5, 1e-3) if law == "project" else COLUMNS[law]

    def moved(x: Tensor) -> Tensor:
        return rows(x, law, *columns, noise=noise, inside=inside, **asked)

    assert torch.autograd.gradcheck(moved, (x.requires_grad_(),))


def test_gradients_of_a_shell_reach_its_centre_and_radii() -> None:
    x = (normal(G, 3, 5).double() * 2).requires_grad_()
    base = normal(G, 3, 5, seed=1).double().requires_grad_()
    low = torch.full((G, 1), 3.0, dtype=torch.float64, requires_grad=True)
    high = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    far = (x - base).norm(dim=-1)
    assert (far < low).any() and (far > high).any() and ((far > low) & (far < high)).any()

    def moved(x: Tensor, base: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return rows(x, "project", low, high, 1e-4, other=base)

    assert torch.autograd.gradcheck(moved, (x, base, low, high))


def test_gradients_of_distances() -> None:
    x = normal(G, 3, 5).double().requires_grad_()
    table = normal(4, 5, seed=1).double().requires_grad_()
    index = torch.arange(6).view(2, 3) % 4
    assert torch.autograd.gradcheck(lambda a, b: feature_distances(a, b, index, "auto"), (x, table))
    assert torch.autograd.gradcheck(
        lambda a, b: feature_distances(a, b[:3].expand(G, 3, 5), None, "auto"), (x, table)
    )


@pytest.mark.slow
def test_the_op_keeps_the_rules_of_torch_library() -> None:
    x = normal(G, P, 8).requires_grad_()
    base = normal(G, P, 8, seed=1)
    tail = (None, "project", "torch")
    arguments = (x, base, None, KEYS, None, None, [2.0, 3.0, 1e-10], *tail)
    torch.library.opcheck(feature_rows, arguments)
    torch.library.opcheck(feature_distances, (x, base, None, "torch"))
    torch.library.opcheck(feature_noise_lengths, (KEYS, 4, 8, "torch"))
    plain = (x.detach(), None, None, KEYS, None, None, [0.1], None, "jitter", "torch")
    torch.library.opcheck(feature_rows_backward, (base, False, *plain))


# ---- zero ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", NAMES)
@pytest.mark.parametrize("keyed", [True, False])
def test_zero_rows_are_defined(law: str, keyed: bool) -> None:
    if not keyed and reference.LAWS[law].noise == "always":
        return
    x = torch.zeros(G, P, 8, requires_grad=True)
    asked = needs(law, 8)
    asked["keys"] = KEYS if keyed and reference.LAWS[law].noise != "never" else None
    if "other" in asked:
        asked["other"] = torch.zeros(G, P, 8)
    columns = (*COLUMNS[law][:-1], 0.0) if law in ("project", "ascend") else COLUMNS[law]
    out = rows(x, law, *columns, **asked)
    out.square().sum().backward()
    assert out.isfinite().all() and x.grad is not None and x.grad.isfinite().all()
    if law in ("push", "project", "shell"):
        reach = columns[0] if keyed or law == "shell" else 0.0
        torch.testing.assert_close(out.norm(dim=-1), torch.full((G, P), reach))


def test_rows_alike_their_noise_stay_on_the_sphere() -> None:
    noise = normal(1, 3, 4)
    x = noise.clone()
    x[0, 1] += 1e-4 * noise[0, 1].roll(1)
    out = rows(x, "sphere", *COLUMNS["sphere"], noise=noise)
    torch.testing.assert_close(out.norm(dim=-1), x.norm(dim=-1), atol=0, rtol=1e-6)
    cosine = torch.cosine_similarity(out[0, 1], x[0, 1], dim=0)
    assert abs(math.acos(float(cosine)) - 0.5) < 1e-3


def test_the_cpus_laws_are_the_references() -> None:
    from anoaug.features import cpu_laws

    assert set(cpu_laws.LAWS) == set(reference.LAWS)


def test_the_kernels_laws_are_the_references() -> None:
    pytest.importorskip("triton")
    from anoaug.kernels.features import laws as kernels

    assert set(kernels.LAWS) == set(reference.LAWS)
    for name, law in kernels.LAWS.items():
        twin = reference.LAWS[name]
        assert (law.backward is not None) == (twin.backward is not None)
        assert law.moves == (twin.noise == "always") and law.lost == (twin.noise == "zero")
        assert (law.vector > 0) == twin.other
        assert law.weigh.__name__ == twin.forward.__name__ == name
