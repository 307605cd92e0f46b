"""Ray Data: a data set of synthetic anomalies by several actors, the same bytes as by one.

python examples/loaders/with_ray.py FOLDER OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import ray

from anoaug.loaders import ray as synthesis


def main(folder: Path, out: Path, n: int = 8, actors: int = 2) -> int:
    """Write the data set; returns how many images it has."""
    if not ray.is_initialized():
        ray.init(num_cpus=actors, include_dashboard=False)
    written = synthesis.generate(folder, out, n, ("cutpaste", "draem"), actors=actors, seed=0)
    print(f"{written.manifest}: {written.counts}")
    return sum(written.counts.values())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
