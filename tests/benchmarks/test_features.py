"""The features suite: cases fit together, peers do the same work, a run leaves a valid record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

for _name in ("cv2", "jsonschema", "tqdm"):
    pytest.importorskip(_name)

from benchmarks import features, record  # noqa: E402


def test_names_are_unique_and_floors_are_passes_over_the_features() -> None:
    assert len({case.name for case in features.CASES}) == len(features.CASES)
    large = {case.name: case.large for case in features.CASES}
    assert large["supersimplenet"] == (32, 1536, 64, 64)
    passes = {case.name: case.passes for case in features.CASES}
    assert passes["supersimplenet"] * 4 * 32 * 1536 * 64 * 64 == pytest.approx(2.4e9, rel=0.01)
    assert passes["supersimplenet-raw"] == 2 * passes["supersimplenet"]


@pytest.mark.slow
@pytest.mark.parametrize("case", features.CASES, ids=lambda case: case.name)
def test_either_side_does_the_same_work(case: features.Case) -> None:
    shape = {2: (8, 16), 3: (2, 8, 16), 4: (2, 4, 32, 32)}[len(case.shape)]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.25
    ours, plain = case.ours(x, "auto")(), case.plain(x)()
    theirs = plain[0] if isinstance(plain, (tuple, list)) else plain
    mine = ours if isinstance(ours, torch.Tensor) else getattr(ours, "features", ours[0])
    assert mine.shape == theirs.shape
    if case.same:
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    if isinstance(plain, tuple):
        assert ours.mask.shape == plain[-2].shape and ours.label.shape == plain[-1].shape
        outside = ours.mask.expand_as(ours.features) == 0
        assert torch.equal(ours.features[outside], torch.cat((x, x))[outside])


@pytest.mark.parametrize(
    "name", ["simplenet", "uniad-jitter", "distance-scaled", "geodesic-step", "glass-ascent"]
)
def test_either_side_moves_features_by_one_length(name: str) -> None:
    case = next(case for case in features.CASES if case.name == name)
    shape = (64, 32) if len(case.shape) == 2 else (8, 8, 32)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.25
    moved = case.ours(x, "auto")()
    mine = getattr(moved, "features", moved[0]) - x
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        theirs = case.plain(x)() - x
    assert float(mine.norm()) == pytest.approx(float(theirs.norm()), rel=0.1)


def test_caching_the_first_layer_changes_no_result() -> None:
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(0)) * 0.25
    plain, cached = (features.ops.glass(cache)(x, "auto")().features for cache in (False, True))
    torch.testing.assert_close(plain, cached)


@pytest.mark.parametrize("name", ["token-select", "patch-noise"])
def test_either_side_chooses_from_one_token_to_all(name: str) -> None:
    case = next(case for case in features.CASES if case.name == name)
    x = torch.randn(4, 16, 8, generator=torch.Generator().manual_seed(0))
    ours, plain = case.ours(x, "auto")(), case.plain(x)()
    for found in (ours if isinstance(ours, torch.Tensor) else ours[0], plain):
        chosen = found if found.dim() == 2 else (found != x).any(2)
        assert ((chosen > 0).sum(1) >= 1).all()


@pytest.mark.slow
def test_memory_is_measured() -> None:
    peak = features.peak_bytes(lambda: torch.ones(16 << 20, dtype=torch.uint8).clone())
    assert 24 << 20 < peak < 64 << 20


@pytest.mark.slow
def test_a_run_leaves_a_valid_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = features.Case(
        "simplenet", (8, 16), (8, 16), features.of_method("simplenet"), features.plain_noise, 2
    )
    monkeypatch.setattr(features, "CASES", (small,))
    path = features.main(["--cases", "simplenet", "--seconds", "0.01", "--out", str(tmp_path)])
    found = json.loads(path.read_text(encoding="utf-8"))
    record.validate(found)
    assert {line["provider"] for line in found["timings"]} == {"torch", *features.BACKENDS}
    assert all(line["parameters"]["peak_bytes"] >= 0 for line in found["timings"])
