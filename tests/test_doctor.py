"""What anoaug doctor tells, and that its self-test finds faults."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
import torch

import anoaug
from anoaug import cli, doctor, ops

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def untested(monkeypatch: pytest.MonkeyPatch) -> None:
    """A self-test that takes no time."""
    passed = {"name": "nothing", "passed": True, "detail": ""}
    monkeypatch.setattr(doctor, "self_test", lambda: iter([passed]))


@pytest.mark.slow
def test_json_parses_and_the_self_test_passes(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["ok"] is True
    assert facts["versions"]["torch"] == torch.__version__
    names = [test["name"] for test in facts["self_test"]]
    assert all(test["passed"] for test in facts["self_test"])
    for method in ("draem", "cutpaste"):
        assert sum(name.startswith(f"{method}: ") for name in names) >= 3


def test_text_ends_in_the_verdict(untested: None, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "PASS"
    # How wide the column is depends on what else is installed.
    assert ["anoaug", anoaug.__version__] in [line.split() for line in lines]


@pytest.mark.slow
def test_a_wrong_pixel_is_found(monkeypatch: pytest.MonkeyPatch, capsys):
    render = ops.cpu.render

    def wrong(*args):
        out = render(*args)
        out[0].view(-1)[7] ^= 1
        return out

    monkeypatch.setattr(ops.cpu, "render", wrong)
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "draem: CPU driver equals reference" in out
    assert "FAIL: 1 of " in out and "values of image differ" in out
    assert out.splitlines()[-1] == "FAIL"


@pytest.mark.slow
def test_an_error_is_a_failure_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch):
    def broken(*args):
        raise RuntimeError("no such luck")

    monkeypatch.setattr(ops.cpu, "render", broken)
    failed = [test for test in doctor.self_test() if not test["passed"]]
    assert {test["detail"] for test in failed} == {"RuntimeError: no such luck"}
    assert {test["name"].split(":")[0] for test in failed} == {"draem", "cutpaste"}


@pytest.mark.gpu
def test_cuda_equals_the_reference():
    tests = {test["name"]: test for test in doctor.self_test()}
    for method in ("draem", "cutpaste"):
        assert tests[f"{method}: CUDA equals reference"]["passed"], tests


def test_equal_batches_without_an_anomaly_prove_nothing(images: torch.Tensor):
    batch = anoaug.create("cutpaste", p=0.0, seed=0)(images)
    assert "prove nothing" in doctor.difference(batch, batch)


@pytest.mark.parametrize("name", ["image", "mask", "label", "kind"])
def test_a_difference_is_named(name: str, images: torch.Tensor):
    batch = anoaug.create("cutpaste", p=1.0, seed=0)(images)
    other = getattr(batch, name).clone()
    other.view(-1)[:2] += 1
    assert doctor.difference(batch, batch) == ""
    assert f"2 of {other.numel()} values of {name} differ" == doctor.difference(
        batch, batch._replace(**{name: other})
    )


# ---- backends ------------------------------------------------------------------------------------


@pytest.fixture
def automatic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANOAUG_BACKEND", raising=False)


def test_the_cpu_has_its_own_driver(automatic: None):
    assert doctor.backend(CPU)["backend"] == "cpu"


def test_an_old_triton_is_why_the_reference_runs(automatic: None, monkeypatch: pytest.MonkeyPatch):
    trouble = "Triton 3.3.1 is older than 3.4"
    monkeypatch.setattr(ops, "triton_trouble", lambda: trouble)
    found = doctor.backend(CUDA)
    assert found["backend"] == "torch"
    assert trouble in found["why"]


@pytest.mark.filterwarnings("error")
def test_a_device_without_kernels_is_told_apart(automatic: None):
    found = doctor.backend(torch.device("mps"))
    assert (found["backend"], found["why"]) == (
        "torch",
        "there are no kernels for mps; slower, same bits",
    )


def test_a_backend_asked_for_is_why(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANOAUG_BACKEND", "torch")
    assert doctor.backend(CPU)["why"] == "ANOAUG_BACKEND is 'torch'"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_cuda_device_is_said_to_be(automatic: None):
    assert "CUDA" in doctor.backend(CUDA)["absent"]


def test_a_misspelt_backend_fails(
    untested: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("ANOAUG_BACKEND", "tritn")
    assert cli.main(["doctor"]) == 1
    assert "did you mean triton?" in capsys.readouterr().out


# ---- what is installed ---------------------------------------------------------------------------


def test_a_missing_extra_comes_with_its_command(untested: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(doctor.EXTRAS, "images", ("PIL", "no_such_module"))
    extra = doctor.report()["extras"]["images"]
    assert extra == {
        "installed": False,
        "missing": ["no_such_module"],
        "install": "pip install 'anoaug[images]'",
    }


def test_the_extras_are_those_of_setup_py():
    tree = ast.parse((Path(__file__).resolve().parents[1] / "setup.py").read_text())
    call = next(node for node in ast.walk(tree) if isinstance(node, ast.Call)
                and ast.unparse(node.func) == "setup")  # fmt: skip
    extras = next(word.value for word in call.keywords if word.arg == "extras_require")
    assert set(doctor.EXTRAS) <= {key.value for key in extras.keys}


def test_versions_know_distributions_by_their_modules():
    assert doctor.versions()["numpy"] is not None
    assert doctor._version("PIL") is not None  # the distribution is called Pillow
    assert doctor._version("no_such_module") is None
    assert doctor._version("no_such_module.below") is None


def test_the_cache_is_measured(untested: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("ANOAUG_CACHE", str(tmp_path))
    (tmp_path / "a.rows").write_bytes(b"12345")
    (tmp_path / "b.rows").write_bytes(b"123")
    cache = doctor.report()["cache"]
    assert cache == {"folder": str(tmp_path), "files": 2, "bytes": 8}


def test_no_cache_is_an_empty_one(untested: None, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("ANOAUG_CACHE", str(tmp_path / "none"))
    assert doctor.report()["cache"]["bytes"] == 0
    assert not (tmp_path / "none").exists()
