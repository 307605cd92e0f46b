"""How anoaug is built and what it needs. The settings of the tools are in pyproject.toml."""

import ast
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def version() -> str:
    """Read ``__version__`` as text: importing anoaug would need torch in the build."""
    tree = ast.parse((ROOT / "anoaug" / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and "__version__" in [ast.unparse(t) for t in node.targets]:
            return str(ast.literal_eval(node.value))
    raise RuntimeError("anoaug/__init__.py: expected a line __version__ = '...', got none")


# anoaug/kernels is a symlink to kernels/, for in-place runs and type checkers. A build must neither
# depend on it (checkouts without symlinks have a text file there) nor follow it (every kernel would
# be carried twice), hence the mapping.
KERNELS = "anoaug.kernels"
packages = [*find_packages(include=["anoaug", "anoaug.*"], exclude=[KERNELS, f"{KERNELS}.*"])]
packages += [KERNELS, f"{KERNELS}.features"]

images = ["Pillow>=10.1", "tqdm>=4.60"]
# 3.4 is the oldest Triton that compiles a tuple of functions as a constexpr argument.
triton = ["triton>=3.4; sys_platform == 'linux'"]
# 0.57 is the first with Python 3.11; the newest bring newer Pythons and NumPys.
compiled = ["numba>=0.57"]
# 0.9 is the first that draws every parameter before it is applied.
kornia = ["kornia>=0.9; python_version >= '3.11'"]
torchvision = ["torchvision>=0.21"]
lightning = ["lightning>=2.6"]
# The newest of CUDA's majors; it runs without a GPU too.
dali = ["nvidia-dali-cuda130>=2.4; sys_platform == 'linux'"]
nodes = ["torchdata>=0.11"]
webdataset = ["webdataset>=1.0"]
anomalib = ["anomalib>=2.7", *lightning, *torchvision]
# What hooks are tried on.
timm = ["timm>=1.0"]
yaml = ["PyYAML>=6.0"]
ray = ["ray[data]>=2.60; python_version < '3.14'"]
demo = [*images, "scikit-image>=0.20"]
evaluation = ["scipy>=1.10"]
bench = [*demo, *evaluation, *compiled, "jsonschema>=4.0", "opencv-python-headless>=4.8"]
testing = [
    *demo,
    "hypothesis>=6.100",
    "jsonschema>=4.0",
    "pytest>=9.0",
    "pytest-xdist>=3.5",
    *evaluation,
    *triton,
]
# Who reads configs beside us.
configs = ["hydra-core>=1.3", "jsonargparse[signatures]>=4.27"]
test = [
    *testing,
    *compiled,
    *kornia,
    *torchvision,
    *lightning,
    *dali,
    *nodes,
    *webdataset,
    *timm,
    *yaml,
    *configs,
]
dev = ["build>=1.2", "import-linter>=2.0", "mypy>=1.10", "ruff>=0.8", "setuptools>=77"]

setup(
    name="anoaug",
    version=version(),
    description="Anomaly synthesis on the device, once per batch, reproducible to the bit",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The anoaug authors",
    license_expression="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    keywords=["anomaly detection", "augmentation", "industrial inspection", "pytorch", "triton"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering :: Image Processing",
        "Typing :: Typed",
    ],
    packages=packages,
    package_dir={KERNELS: "kernels"},
    package_data={"anoaug": ["py.typed", "methods/figures.json"]},
    include_package_data=False,
    zip_safe=False,
    python_requires=">=3.10",
    # Triton is never required: torch's CUDA wheels bring the release they were built with.
    install_requires=["numpy>=1.24", "torch>=2.6"],
    extras_require={
        "images": images,
        "triton": triton,
        "compiled": compiled,
        "kornia": kornia,
        "torchvision": torchvision,
        "lightning": lightning,
        "dali": dali,
        "nodes": nodes,
        "webdataset": webdataset,
        "ray": ray,
        "yaml": yaml,
        "anomalib": anomalib,
        "demo": demo,
        "eval": evaluation,
        "bench": bench,
        # What tests of an adapter need beside its own extra, where it has an environment alone.
        "testing": testing,
        "test": test,
        "dev": dev,
        "all": sorted({*bench, *test, *triton, *dev}),
    },
    entry_points={"console_scripts": ["anoaug = anoaug.cli:main"]},
)
