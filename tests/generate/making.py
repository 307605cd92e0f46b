"""The generator as its tests call it, and the manifest it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anoaug.generate import Written, generate


def make(
    folder: Path, out: Path, n: int = 6, methods: Any = ("cutpaste", "cutpaste_scar"), **more: Any
) -> Written:
    return generate(folder, out, n, methods, **{"progress": False, **more})


def entries(out: Path) -> list[dict[str, Any]]:
    lines = (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[1:]]
