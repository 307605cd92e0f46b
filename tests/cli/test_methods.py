"""``anoaug methods``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import anoaug
from anoaug import methods
from anoaug.cli.methods import markdown


def test_methods_lists_every_method_once(run):
    result = run("methods")
    names = [line.split()[0] for line in result.out.splitlines()]
    assert names == ["name", *methods.list_methods()]


def test_methods_of_a_family(run):
    result = run("methods", "--family", "external", "--json")
    assert [each["name"] for each in json.loads(result.out)] == methods.list_methods("external")


@pytest.mark.slow
@pytest.mark.parametrize("name", methods.list_methods())
def test_one_method_is_told_in_full(run, name: str):
    told, result = anoaug.describe(name), run("methods", name)
    shown = " ".join(result.out.split())
    texts = [told["paper"], told["matches"], *told["deviations"], *told["defects"]]
    texts.append(f"mask {told['mask']}: {methods.MASKS[told['mask']]}")
    texts += [f"{control}: {text}" for control, text in told["controls"].items()]
    texts += [f"{keyword}={value!r}" for keyword, value in told["defaults"].items()]
    assert result.code == 0
    assert [text for text in texts if " ".join(text.split()) not in shown] == []


def test_one_method_as_json(run):
    (found,) = json.loads(run("methods", "cutpaste", "--json").out)
    assert list(found["controls"])[:3] == ["size", "location", "strength"]
    assert found["name"] == "cutpaste" and found["defaults"]["area"] == [0.02, 0.15]


def test_methods_as_json_carry_defaults_and_deviations(run):
    found = {each["name"]: each for each in json.loads(run("methods", "--json").out)}
    assert found["cutpaste"]["defaults"]["area"] == [0.02, 0.15]
    assert found["draem"]["needs"] == ["textures"]
    assert len(found["draem"]["deviations"]) > 0


HEADS = [
    "name",
    "family",
    "mask",
    "needs",
    "auto",
    "compiled",
    "original",
    "surfaces",
    "defects",
    "paper",
]


def test_methods_as_markdown_are_a_table(run):
    lines = run("methods", "--markdown").out.splitlines()
    assert lines[0] == f"| {' | '.join(HEADS)} |"
    assert lines[1] == f"| {' | '.join(['---'] * len(HEADS))} |"
    assert [line.split("`")[1] for line in lines[2:]] == methods.list_methods()


def test_the_readme_has_this_table(run):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    table = readme.partition("writes this table -->\n")[2].partition("<!-- /methods -->")[0]
    assert table == run("methods", "--markdown").out, (
        "paste what `anoaug methods --markdown` prints"
    )


def test_figures_are_those_of_the_benchmark(run):
    known = methods.figures()
    assert {"machine", "threads", "created", "rev", "what"} == set(known["about"])
    assert set(known["methods"]) <= set(methods.list_methods())
    rates = known["methods"]["nsa"]
    row = next(line for line in run("methods", "--markdown").out.splitlines() if "`nsa`" in line)
    cells = [cell.strip() for cell in row.split("|")][5:8]
    wanted = (rates["anoaug"], rates["anoaug-compiled"], rates["original"])
    assert cells == [f"{rate:,.0f}" for rate in wanted]


def test_a_bar_in_a_cell_is_escaped():
    assert markdown(["a", "b"], [["x", "p | q"]]).splitlines()[2] == "| `x` | p \\| q |"


def test_methods_fit_a_narrow_terminal(run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    lines = run("methods").out.splitlines()
    assert max(len(line) for line in lines) <= 100
    assert len(lines) > 1 + len(methods.list_methods())
