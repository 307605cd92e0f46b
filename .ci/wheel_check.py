"""Build the sdist and, from it, the wheel; look inside both; run the wheel from another directory.

Works on a copy of the tree, so that nothing is left behind and no earlier build can help.
"""

from __future__ import annotations

import collections
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis"
)

# Run with the wheel alone on the path: whatever else this environment has is blocked.
SMOKE = """
import importlib, sys
extras = (
    "PIL", "cv2", "hypothesis", "jsonschema", "kornia", "lightning", "numba", "nvidia", "pytest",
    "scipy", "skimage", "torchvision", "tqdm", "triton", "yaml",
)
sys.modules.update(dict.fromkeys(extras))
import torch
import anoaug

site = sys.argv[1]
assert anoaug.__file__.startswith(site), f"anoaug comes from {anoaug.__file__}, not from the wheel"
try:
    importlib.import_module("kernels")
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("the wheel installs a top-level package named kernels")

images = torch.arange(2 * 3 * 64 * 64).reshape(2, 3, 64, 64).remainder(251).to(torch.uint8)
out = anoaug.create("cutpaste", p=1.0, seed=0)(images)
assert out.label.tolist() == [1, 1], out.label
assert ((out.image != images).any(1, keepdim=True) <= (out.mask > 0)).all()
print(f"anoaug {anoaug.__version__} from the wheel: ran with torch and numpy alone")
"""


def run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """What a command prints, or the end of this check with all it printed."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=env, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nwheel check: failed: {' '.join(words)[:120]}")
    return done.stdout


def expected_code() -> set[str]:
    """Every file the package consists of, by the path it must have once installed."""
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "anoaug").rglob("*.py")}
    kernels = {
        f"anoaug/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "kernels").rglob("*.py")
    }
    return code | kernels | {"anoaug/py.typed", "anoaug/methods/figures.json"}


def check_contents(sdist: Path, wheel: Path) -> None:
    """Each file of the package is carried once, the licence too, the tests and the like not."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        info = {name.split(".dist-info/")[1] for name in archive.namelist() if name not in names}
    wanted = expected_code()
    assert collections.Counter(names) == collections.Counter(wanted), (
        f"wheel: missing {sorted(wanted - set(names))}, too many {sorted(set(names) - wanted)}"
    )
    assert {"licenses/LICENSE", "licenses/NOTICE", "entry_points.txt"} <= info, sorted(info)

    with tarfile.open(sdist) as archive:
        files = [member for member in archive.getmembers() if not member.isdir()]
    assert all(member.isfile() for member in files), "sdist: carries a link"
    carried = [member.name.partition("/")[2] for member in files]
    code = collections.Counter(name for name in carried if name.startswith(("anoaug/", "kernels/")))
    source = {name.replace("anoaug/kernels/", "kernels/") for name in wanted}
    assert code == collections.Counter(source), f"sdist: {sorted(set(code) ^ source)}"
    assert {"LICENSE", "NOTICE", "README.md", "setup.py", "pyproject.toml"} <= set(carried)
    strangers = [
        name for name in carried if name.startswith(("tests/", "benchmarks/", "examples/"))
    ]
    assert not strangers, f"sdist: {strangers}"


def main() -> None:
    """Build, look inside, run elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder).resolve()
        shutil.copytree(ROOT, work / "tree", symlinks=True, ignore=LEFT_OUT)
        run(sys.executable, "-m", "build", "--outdir", work / "dist", work / "tree")
        (sdist,), (wheel,) = (work / "dist").glob("*.tar.gz"), (work / "dist").glob("*.whl")
        check_contents(sdist, wheel)

        site, elsewhere = work / "site", work / "elsewhere"
        elsewhere.mkdir()
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
        run(*pip, "install", "--no-deps", "--quiet", "--target", site, wheel)
        # -S leaves out the .pth files, and with them this environment's editable install.
        path = os.pathsep.join([str(site), sysconfig.get_path("purelib")])
        environment = {**os.environ, "PYTHONPATH": path}
        print(run(sys.executable, "-S", "-c", SMOKE, site, cwd=elsewhere, env=environment), end="")


if __name__ == "__main__":
    main()
