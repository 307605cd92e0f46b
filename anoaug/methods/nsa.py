"""NSA: resized patches of another image, Poisson-blended one after another (ECCV 2022)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .. import blends, checks, masks, prepare, sources
from ..binding import Layer
from ..finish import Difference
from ..masks.patches import Bounds
from ..prepare.presets import PRESETS as FOREGROUNDS
from ..synthesizer import Synthesizer
from . import method
from .inputs import DonorLike, as_donors

BLENDS = ("normal", "mixed", "either", "swap", "uniform")


@dataclass(frozen=True)
class Preset:
    """What the published runs set for a product; half sides are shares of the image's sides."""

    bounds: Bounds = ((0.03, 0.4), (0.03, 0.4))
    patches: int = 3
    resize: tuple[float, float] = (0.7, 1.3)
    blend: str = "normal"
    slope: float = 1 / 3
    middle: float = 7.0
    gamma: tuple[int, float, float] = (2, 0.05, 0.03)
    min_object: float = 0.7
    min_overlap: float = 0.25
    foreground: prepare.Foreground | None = None


def _of(category: str, dataset: str = "mvtec", **settings: Any) -> Preset:
    foreground = FOREGROUNDS["nsa"][dataset][category]
    return Preset(**settings, foreground=None if foreground.rule == "all" else foreground)


OBJECT = Preset()
TEXTURE = Preset(patches=4, resize=(0.5, 2.0), blend="mixed")

PRESETS: dict[str, Preset] = {
    "texture": TEXTURE,
    "object": OBJECT,
    **dict.fromkeys(("carpet", "grid", "leather", "tile"), TEXTURE),
    "wood": replace(TEXTURE, slope=1 / 6, middle=15.0),
    "bottle": _of("bottle", slope=1 / 12, middle=24.0),
    "cable": _of("cable", bounds=((0.05, 0.4), (0.05, 0.4)), slope=1 / 12, middle=24.0),
    "capsule": _of("capsule", bounds=((0.03, 0.15), (0.03, 0.4)), slope=1 / 2, middle=4.0),
    "hazelnut": _of("hazelnut", bounds=((0.03, 0.35), (0.03, 0.35)), slope=1 / 12, middle=24.0),
    "metal_nut": _of("metal_nut", min_object=0.5),
    "pill": _of("pill", bounds=((0.03, 0.2), (0.03, 0.4))),
    "screw": _of(
        "screw", bounds=((0.03, 0.12), (0.03, 0.12)), patches=4, slope=1.0, middle=3.0,
        min_object=0.5,
    ),
    "toothbrush": _of(
        "toothbrush", bounds=((0.03, 0.4), (0.03, 0.2)), slope=1 / 6, middle=15.0, min_object=0.25
    ),
    "transistor": _of("transistor", slope=1 / 6, middle=15.0),
    "zipper": _of(
        "zipper", bounds=((0.03, 0.4), (0.03, 0.2)), patches=4, slope=1 / 6, middle=15.0
    ),
    "chest": _of(
        "chest", "xray", blend="mixed", slope=1 / 2, middle=4.0, gamma=(2, 0.03, 0.05),
        min_overlap=0.7,
    ),
}  # fmt: skip


@method(
    "nsa",
    family="self-contained",
    paper="Schlueter, Tan, Hou, Kainz: Natural Synthetic Anomalies (NSA), ECCV 2022 (arXiv "
    "2109.15222)",
    matches=(
        "the official code: sizes, acceptance rules, OpenCV's seamless cloning and the logistic "
        "labels with each product's published settings (preset=); its random crops are left to the "
        "loader"
    ),
    deviations=(
        "labels of overlapping patches unite; in the code a later patch erases an earlier one's "
        "label where its own mask is 0",
        "each patch has a donor of its own; in the code all patches of a sample share one",
        "pixels without a label stay as they were, where the code changes 3 % of them: those of "
        "background in both images, and those that the threshold and the median leave out",
        "the object's mask is resized by the nearest pixel, not bilinearly",
        "with labels='intensity' the mask is a share of white and ends with the label; the code "
        "counts grey levels beyond it",
        "with labels='continuous' each patch has a weight of its own, not one a sample",
        "with blend='uniform' the mixed colours are rounded, not cut off",
        "with ellipses= every pixel that the clone changes is labelled, of which the code leaves "
        "38 % out, nothing is shifted by its recentring, and a patch's share of object is that of "
        "its box; ellipses_as='published' gives the code's formula, which lacks a minus sign",
        "of the X-ray settings the bounds are those of MVTec AD",
    ),
    defects=("misplaced part", "deformation", "missing part", "broken pattern", "contamination"),
    surfaces=("texture", "object"),
    needs=("donors",),
    categories={name: {"preset": name} for name in PRESETS},
)
def nsa(
    *,
    donors: DonorLike | None = None,
    preset: str = "texture",
    p: float = 1.0,
    patches: int | None = None,
    bounds: Bounds | None = None,
    gamma: tuple[int, float, float] | None | str = "preset",
    resize: tuple[float, float] | None | str = "preset",
    blend: str | None = None,
    opacity: float | tuple[float, float] = (0.05, 0.95),
    shift: bool = True,
    ellipses: int = 0,
    ellipses_as: str = "intended",
    same: bool = False,
    min_object: float | None = None,
    min_overlap: float | None = None,
    foreground: Any = None,
    labels: str = "logistic",
    slope: float | None = None,
    middle: float | None = None,
    label: str = "soft",
    **common: Any,
) -> Synthesizer:
    """One to four patches of other images, resized and blended in one after another.

    The first patch is always there, each further one half of the time. What is None goes by the
    preset.

    Args:
        donors: Normal images of the size of the batch: a DonorBank, a folder or a tensor.
        preset: A product of MVTec AD, ``"chest"`` (X-ray), ``"texture"`` or ``"object"``.
        p: P(anomalous); the published code changes every image.
        patches: Patches at most, 1 to 4.
        bounds: Least and greatest half side, of the rows and of the columns, as shares.
        gamma: Shape, scale and least value of the half sides' distribution; None: uniform.
        resize: Bounds of the factor by which a patch is resized; None: it keeps its size.
        blend: ``"normal"`` or ``"mixed"`` (Poisson with the source's gradients, or the stronger
            ones), ``"either"`` of them, ``"swap"`` (pasted), or ``"uniform"`` (by ``opacity``).
        opacity: Weight of the patch with ``blend="uniform"``, and with ``labels="continuous"`` that
            of its gradients.
        shift: Whether patches are laid elsewhere than where they were cut.
        ellipses: Ellipses that a patch is filled with (5 in the code), 0 for none.
        ellipses_as: ``"intended"``: turned ellipses; ``"published"``: the code's formula.
        same: Take patches from the image itself; needs no donors.
        min_object: Least share of object in a patch, where there is a foreground.
        min_overlap: Least share of a patch's object that lands on the object.
        foreground: Where images and donors show the object: a callable such as
            :class:`anoaug.prepare.Foreground`; that of the preset by default.
        labels: ``"logistic"``, ``"intensity"``, ``"continuous"`` or ``"binary"``, see
            :class:`anoaug.finish.Difference`.
        slope: Of the logistic label, per grey level.
        middle: Of the logistic label, in grey levels.
        label: ``"soft"`` shows the labels' values, ``"hard"`` where they are above 0.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    if preset == "category":
        raise ValueError(
            "preset: expected one product's, got 'category'; anoaug.ByCategory('nsa', ...) goes by "
            "each sample's own"
        )
    chosen = PRESETS[checks.one_of("preset", preset, sorted(PRESETS))]
    how = checks.one_of("blend", chosen.blend if blend is None else blend, BLENDS)
    count = chosen.patches if patches is None else patches
    if not isinstance(count, int) or not 1 <= count <= 4:
        raise ValueError(f"patches: expected 1 to 4, got {patches!r}")
    if foreground is None:
        foreground = chosen.foreground
    poisson = how in ("normal", "mixed", "either")
    box: dict[str, Any] = {
        "bounds": chosen.bounds if bounds is None else bounds,
        "gamma": chosen.gamma if gamma == "preset" else gamma,
        "resize": (chosen.resize if shift else None) if resize == "preset" else resize,
        "shift": shift,
        "ring": int(poisson),
    }
    mask: masks.Mask = masks.CutPatch(**box)
    checks.one_of("ellipses_as", ellipses_as, ("intended", "published"))
    if foreground is not None:
        mask = masks.ObjectPatch(
            **box,
            min_object=chosen.min_object if min_object is None else min_object,
            min_overlap=chosen.min_overlap if min_overlap is None else min_overlap,
        )
    if ellipses:
        strewn = masks.Ellipses(ellipses, published=ellipses_as == "published")
        # What a clone changes beyond the ellipses is shown too.
        mask = masks.joined(mask, strewn, (0, 0, 1)) if poisson else mask & strewn
    if foreground is not None:
        mask = mask & masks.Objects()
    source: sources.Source = sources.Own(interpolation="bilinear")
    if not same:
        source = sources.Donor(as_donors(donors))  # type: ignore[arg-type]
    joined: blends.Blend = blends.Hard()
    if poisson:
        source = sources.Poisson(source, how, region="box")
        if labels == "continuous":
            joined = blends.Opacity(opacity, mix="replace")
    elif how == "uniform":
        joined = blends.Opacity(opacity)
    layers = [Layer(mask, source, joined, count=1 if n == 0 else (0, 1)) for n in range(count)]
    finish = Difference(
        labels,
        chosen.slope if slope is None else slope,
        chosen.middle if middle is None else middle,
    )
    return Synthesizer(
        *layers, p=p, label=label, foreground=foreground, **{"finish": finish, **common}
    )
