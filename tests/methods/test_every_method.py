"""What is promised of every method: a new one that lacks any of it fails here.

Published defaults, a law of its draws, replay, parity of the backends, hashes, a card with pictures
in the gallery, a row in README's table.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats

import anoaug
from anoaug import gallery, methods
from anoaug.photometric import RandomOps
from tests.control.making import banks, images
from tests.methods import laws
from tests.methods.published import OURS, PUBLISHED
from tests.methods.test_golden import golden

NAMES = anoaug.list_methods()
ROOT = Path(__file__).parents[2]
every = pytest.mark.parametrize("name", NAMES)

# Whose pixels, or whose masks made of them, are no promise between machines, and why.
SOLVED = "matrix products or means of whole images, which round as the machine's library likes"
UNHASHED = {
    name: SOLVED
    for name in (
        "chip", "displaced", "extra", "misprint", "missing", "nsa", "pii", "rotated", "swapped",
        "thread",
    )
}  # fmt: skip


def made(name: str, **keywords: Any) -> anoaug.Synthesizer:
    """A method as published, with what it needs."""
    needed = {need: banks()[need] for need in methods.get(name).needs}
    return anoaug.create(name, **{"seed": 11, **needed, **keywords})


def small() -> torch.Tensor:
    """Threads with coloured blocks on them, uint8 ``[4, 3, 96, 96]``."""
    return images()[:4]


def equal(one: anoaug.AnomalyBatch, other: anoaug.AnomalyBatch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one[:4], other[:4], strict=True))


# ---- defaults ------------------------------------------------------------------------------------


def same(found: Any, wanted: Any) -> bool:
    """Numbers and ranges up to rounding, ops by their names and how many are taken."""
    if isinstance(found, RandomOps):
        found = (found.ops, found.count)
    if isinstance(wanted, tuple) and isinstance(found, tuple) and len(wanted) == len(found):
        return all(same(a, b) for a, b in zip(found, wanted, strict=True))
    if isinstance(wanted, float):
        return isinstance(found, (int, float)) and math.isclose(found, wanted, rel_tol=1e-12)
    return bool(found == wanted)


@every
def test_defaults_are_the_published_ones(name: str) -> None:
    published, ours = PUBLISHED[name], OURS[name]
    assert not published.keys() & ours.keys()
    defaults = anoaug.describe(name)["defaults"]
    assert published.keys() | ours.keys() == defaults.keys() - set(methods.get(name).needs)
    wrong = {
        keyword: (defaults[keyword], wanted)
        for keyword, wanted in {**published, **ours}.items()
        if not same(defaults[keyword], wanted)
    }
    assert not wrong


def test_the_tables_are_of_these_methods() -> None:
    for table in (PUBLISHED, OURS, laws.LAWS):
        assert table.keys() == set(NAMES)
    assert UNHASHED.keys() <= set(NAMES)


# ---- draws ---------------------------------------------------------------------------------------


@pytest.mark.slow
@every
def test_draws_follow_the_method_s_law(name: str) -> None:
    values = list(laws.LAWS[name](made(name, p=1.0)))
    assert values and min(values) > laws.DOUBT, values


@pytest.mark.slow
@every
def test_the_coin_is_the_default_one(name: str) -> None:
    p, rows = anoaug.describe(name)["defaults"]["p"], 400
    blank = torch.zeros(1, 3, 1, 1, dtype=torch.uint8).expand(rows, -1, 96, 96)
    synth = made(name)
    assert synth.p == p
    table = synth.sample(blank, index=range(rows), epoch=0)[:rows]
    columns = anoaug.recipe.recipe(synth.laws(3)).describe(table.numpy())
    hits = int((columns["active"] > 0).sum())
    assert stats.binomtest(hits, rows, p).pvalue > laws.DOUBT


# ---- reproducible --------------------------------------------------------------------------------


@pytest.mark.slow
@every
def test_a_replay_and_another_batch_give_the_same_bits(name: str) -> None:
    synth = made(name, p=0.9)
    batch = small()
    out = synth(batch, index=[4, 9, 2, 7], epoch=5)
    assert out.label.any()
    again = synth(batch, params=out.params)
    assert equal(out, again)
    order = [2, 0, 3]
    index = [[4, 9, 2, 7][n] for n in order]
    other = synth(batch[order], index=index, epoch=5)
    views = len(out.image) // len(batch)
    rows = [view * len(batch) + n for view in range(views) for n in order]
    for one, all_ in zip(other[:4], out[:4], strict=True):
        assert torch.equal(one, all_[rows])
    assert not torch.equal(out.image, synth(batch, index=[4, 9, 2, 7], epoch=6).image)


@pytest.mark.slow
@every
def test_the_cpu_s_ways_are_equal_to_the_reference(name: str) -> None:
    reference, driver = (
        made(name, p=1.0, backend=backend)(small(), index=range(4), epoch=0)
        for backend in ("torch", "auto")
    )
    assert reference.label.any() and equal(reference, driver)


@pytest.mark.slow  # Numba compiles
@every
def test_numba_is_equal_to_the_reference(name: str) -> None:
    pytest.importorskip("numba")
    reference, compiled = (
        made(name, p=1.0, backend=backend)(small(), index=range(4), epoch=0)
        for backend in ("torch", "compiled")
    )
    assert equal(reference, compiled)


@every
def test_bits_are_hashed_or_it_is_said_why_not(name: str) -> None:
    hashed = golden()["methods"][name]
    assert {"label", "kind"} <= hashed.keys()
    assert ("image" in hashed) == (name not in UNHASHED)
    assert "mask" in hashed or name in UNHASHED


# ---- shown ---------------------------------------------------------------------------------------


@pytest.mark.slow
@every
def test_the_gallery_shows_an_anomaly(name: str) -> None:
    pytest.importorskip("PIL")
    known = anoaug.describe(name)
    (card,) = gallery.method_cards([name], small()[:2], ["a", "b"], banks())
    assert (card.name, card.group, card.paper) == (name, known["family"], known["paper"])
    assert all(card.tags[field] for field in ("defects", "surfaces"))
    assert not card.note and len(card.rows) == 2
    for row in card.rows:
        assert "no anomaly" not in row.told
        normal, anomalous, *_ = row.pictures
        assert normal.data != anomalous.data


@every
def test_the_readme_has_a_row_that_says_what_it_is(name: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in readme.splitlines() if line.startswith(f"| `{name}` |")]
    known = anoaug.describe(name)
    for text in (known["family"], known["mask"], *known["surfaces"], *known["defects"],
                 *known["needs"], known["paper"]):  # fmt: skip
        assert text in row
