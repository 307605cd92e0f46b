"""What is timed, as data: a case names the work, who does it and what it is held against."""

from __future__ import annotations

from dataclasses import dataclass

from anoaug import list_methods

SUITES = ("render", "draem", "cutpaste", "blend", "loader", "peers", "methods")


@dataclass(frozen=True)
class Case:
    """One line of work that several providers do.

    Args:
        name: Unique within its suite.
        suite: One of ``SUITES``.
        work: ``"call"`` (from decoded images to a finished batch), ``"replay"`` (the same with
            sampled parameters given), ``"sample"`` (the parameters only), ``"perlin"`` (fields
            only), ``"blend"`` (given patches laid into images), ``"stage"`` (one stage of a peer,
            per image), ``"epoch"`` (whole epochs from image files, see ``loader.py``) or
            ``"method"`` (a call, and its parts, see ``methods.py``).
        method: Name for ``anoaug.create``, the stage, or the mode of the blend.
        providers: Who takes part, in the order of the table.
        baseline: The provider the ratios are taken against.
        p: Probability of an anomaly.
        out: dtype of the images handed back by anoaug.
        note: What a reader must know to read the ratio rightly.
        original_ms: For stages: milliseconds per 256 x 256 image of the public code itself, on one
            thread of a like machine, so that the peer can be seen to be no straw man.
    """

    name: str
    suite: str
    work: str
    method: str
    providers: tuple[str, ...]
    baseline: str
    p: float = 1.0
    out: str = "uint8"
    note: str = ""
    original_ms: float | None = None

    def bytes_per_pixel(self) -> int | None:
        """Least traffic: the image in and out and the float32 mask; textures are under 2 % more."""
        if self.work in ("stage", "sample", "blend", "epoch", "method"):
            return None
        if self.work == "perlin":
            return 4
        return 3 + 3 * {"uint8": 1, "float16": 2, "bfloat16": 2, "float32": 4}[self.out] + 4


_OURS = ("anoaug", "anoaug-compiled", "anoaug-torch")
_BLENDERS = ("anoaug", "anoaug-boxes", "anoaug-torch", "opencv")

CASES: tuple[Case, ...] = (
    Case(
        "draem",
        "draem",
        "call",
        "draem",
        (*_OURS, "numpy"),
        baseline="numpy",
        p=0.5,
        note="the peer does the work of both halves and tosses the coin afterwards, as DRAEM does",
    ),
    Case(
        "draem-float32",
        "draem",
        "call",
        "draem",
        (*_OURS, "numpy"),
        baseline="numpy",
        p=0.5,
        out="float32",
        note="the same output as the peer's: float32 in [0, 1]",
    ),
    Case(
        "draem-every",
        "draem",
        "call",
        "draem",
        (*_OURS, "numpy"),
        baseline="numpy",
        p=1.0,
        out="float32",
        note="every image anomalous: no gain from tossing the coin first",
    ),
    Case("cutpaste", "cutpaste", "call", "cutpaste", (*_OURS, "pil"), baseline="pil"),
    Case("cutpaste-scar", "cutpaste", "call", "cutpaste_scar", (*_OURS, "pil"), baseline="pil"),
    Case(
        "perlin",
        "render",
        "perlin",
        "perlin",
        ("anoaug", "anoaug-compiled", "numpy"),
        baseline="numpy",
        note="8 x 8 cells, rotated by 30 degrees, float32 against the peer's float64",
    ),
    Case(
        "draem-sample",
        "render",
        "sample",
        "draem",
        ("anoaug",),
        baseline="anoaug",
        p=0.5,
        note="sampling the parameter table on the host",
    ),
    Case(
        "draem-replay",
        "render",
        "replay",
        "draem",
        _OURS,
        baseline="anoaug-torch",
        p=0.5,
        note="parameters given: rendering without sampling",
    ),
    Case(
        "draem-replay-float32",
        "render",
        "replay",
        "draem",
        _OURS,
        baseline="anoaug-torch",
        p=0.5,
        out="float32",
    ),
    Case("cutpaste-replay", "render", "replay", "cutpaste", _OURS, baseline="anoaug-torch"),
    Case(
        "draem-epoch",
        "loader",
        "epoch",
        "draem",
        (
            "anoaug-resident",
            "anoaug-loader",
            "anoaug-loader-workers-2",
            "anoaug-dali",
            "anoaug-dali-inside",
            "anoaug-dali-dynamic",
            "numpy",
            "numpy-workers-2",
        ),
        baseline="numpy-workers-2",
        p=0.5,
        out="float32",
        note="both sides find their textures decoded; DRAEM's Dataset reads one per image",
    ),
    Case(
        "poisson",
        "blend",
        "blend",
        "normal",
        _BLENDERS,
        baseline="opencv",
        note="square patches of half the side; anoaug-boxes is told where they are",
    ),
    Case("poisson-mixed", "blend", "blend", "mixed", _BLENDERS, baseline="opencv"),
    Case("perlin-field", "peers", "stage", "perlin", ("numpy",), "numpy", original_ms=5.72),
    Case("rotate-field", "peers", "stage", "rotate", ("numpy",), "numpy", original_ms=0.416),
    Case("texture-3-of-10", "peers", "stage", "augment", ("numpy",), "numpy", original_ms=1.60),
    Case("threshold-blend", "peers", "stage", "blend", ("numpy",), "numpy", original_ms=1.46),
    Case("draem-whole", "peers", "stage", "draem", ("numpy",), "numpy", original_ms=15.12),
    Case("cutpaste-whole", "peers", "stage", "normal", ("pil",), "pil", original_ms=0.472),
    Case("cutpaste-scar-whole", "peers", "stage", "scar", ("pil",), "pil", original_ms=0.257),
)

# Milliseconds per 256 x 256 image of the public code itself, one thread of a like machine.
ORIGINALS = {
    "cdo": 23.50, "cutpaste": 0.472, "cutpaste_scar": 0.257, "destseg": 34.38, "draem": 15.12,
    "dsr_image": 10.20, "fpi": 0.758, "glass_las": 42.96, "memseg": 11.04, "nsa": 17.95,
    "pii": 198.13, "realnet": 17.21, "reb": 8.45, "riad": 36.19 / 32,
}  # fmt: skip
# Methods with a peer of ours in the same process.
PEERS = ("cdo", "cutpaste", "cutpaste_scar", "destseg", "draem", "dsr_image", "fpi", "glass_las",
         "memseg", "nsa", "realnet", "reb", "riad")  # fmt: skip
_NOTES = {
    "cdo": "the original works at 1024 x 1024 whatever the image's size; the peer at the image's",
    "destseg": "the original's figure is from disk",
    "glass_las": "the original's figure is from disk",
    "fpi": "the original's figure is of grey images; its label shows where pixels differ",
    "pii": "the original's figure is of grey images",
    "riad": "three images come back for each; the original's figure is its three masks of a batch "
    "alone, without images, over a batch of 32",
}

CASES += tuple(
    Case(
        name,
        "methods",
        "method",
        name,
        ("anoaug", "anoaug-compiled", *(("numpy",) if name in PEERS else ())),
        baseline="numpy" if name in PEERS else "anoaug",
        note=_NOTES.get(name, ""),
        original_ms=ORIGINALS.get(name),
    )
    for name in list_methods()
)


def select(suite: str) -> tuple[Case, ...]:
    """The cases of a suite.

    Raises:
        ValueError: No such suite.
    """
    if suite not in SUITES:
        raise ValueError(f"suite: expected one of {', '.join(SUITES)}, got {suite!r}")
    return tuple(case for case in CASES if case.suite == suite)
