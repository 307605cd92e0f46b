"""What a build would carry and an import needs, without building; `make wheel-check` builds."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import anoaug

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def built() -> dict[str, Any]:
    """The keywords that setup.py hands to setuptools."""
    setuptools = pytest.importorskip("setuptools")
    keywords: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(setuptools, "setup", keywords.update)
        source = (ROOT / "setup.py").read_text(encoding="utf-8")
        exec(compile(source, ROOT / "setup.py", "exec"), {"__file__": str(ROOT / "setup.py")})
    return keywords


def python(code: str) -> str:
    """Output of a fresh interpreter in the root of the checkout."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_kernels_are_mapped_once(built: dict[str, Any]) -> None:
    assert built["package_dir"] == {"anoaug.kernels": "kernels"}
    assert built["packages"].count("anoaug.kernels") == 1


def test_every_package_of_the_tree_is_built_and_nothing_else(built: dict[str, Any]) -> None:
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "anoaug").rglob("__init__.py")}
    wanted = {".".join(folder.parts) for folder in folders}
    wanted |= {"anoaug.kernels", "anoaug.kernels.features"}
    assert sorted(built["packages"]) == sorted(wanted)


def test_version_is_read_from_the_package(built: dict[str, Any]) -> None:
    assert built["version"] == anoaug.__version__


def test_only_numpy_and_torch_are_required(built: dict[str, Any]) -> None:
    names = {re.split("[<>=]", requirement)[0] for requirement in built["install_requires"]}
    assert names == {"numpy", "torch"}


def test_constraints_lie_within_the_ranges_of_setup(built: dict[str, Any]) -> None:
    requirements = pytest.importorskip("packaging.requirements")
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    pinned: dict[str, set[str]] = {}
    for pin in map(requirements.Requirement, lines):
        versions = {part.version for part in pin.specifier}
        pinned.setdefault(pin.name.lower(), set()).update(versions)
    ranges = [*built["install_requires"], *built["extras_require"]["all"]]
    for wanted in map(requirements.Requirement, ranges):
        versions = pinned[wanted.name.lower()]
        assert all(version in wanted.specifier for version in versions), f"{wanted}: {versions}"


def test_kernels_refuse_to_be_a_top_level_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.delitem(sys.modules, "kernels", raising=False)
    with pytest.raises(ImportError, match=r"import anoaug\.kernels instead"):
        importlib.import_module("kernels")


def test_kernels_in_the_tree_are_the_folder_beside_the_package() -> None:
    link = ROOT / "anoaug" / "kernels"
    if not link.is_symlink():
        pytest.skip("this checkout has no symlinks")
    assert link.resolve() == ROOT / "kernels"


@pytest.mark.slow
def test_importing_anoaug_loads_no_optional_package() -> None:
    # What torch itself loads (it probes for some of these) is not ours to answer for.
    code = (
        "import sys, torch, numpy; before = set(sys.modules); import anoaug; "
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    optional = {"PIL", "cv2", "jsonschema", "kornia", "scipy", "skimage", "tqdm", "triton"}
    assert not optional & set(python(code).split())


@pytest.mark.slow
def test_importing_anoaug_works_without_any_optional_package() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('PIL', 'skimage', 'tqdm', 'triton'))); "
        "import anoaug; print(anoaug.__version__)"
    )
    assert python(code) == anoaug.__version__
