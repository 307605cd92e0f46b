"""The foreground of each category as published codes have it, as data.

MVTec AD's textures and whatever a code leaves whole are ``"all"``. What differs between a code's
versions, or is left open by it, is said beside its table.
"""

from __future__ import annotations

from .. import checks
from .foreground import Foreground

Table = dict[str, Foreground]

_ALL = Foreground("all")
_TEXTURES = ("carpet", "grid", "leather", "tile", "wood")


def _each(names: str, foreground: Foreground) -> Table:
    return dict.fromkeys(names.split(), foreground)


def _nsa(background: int, level: int) -> Foreground:
    return Foreground("background", level=level, background=background)


def _memseg(level: int, polarity: str) -> Foreground:
    return Foreground("threshold", level=level, polarity=polarity)


def _realnet(
    rule: str, polarity: str, close: int, open: int = 0, channel: int | None = None
) -> Foreground:
    return Foreground(rule, polarity=polarity, channel=channel, close=close, open=open)


# MemSeg (Yang et al., 2023), the TooTouch code: a grey level, no morphology. Its versions differ on
# cable: whole here; one has 150, bright.
_MEMSEG_MVTEC = {
    **dict.fromkeys((*_TEXTURES, "cable"), _ALL),
    "bottle": _memseg(250, "dark"),
    "capsule": _memseg(120, "dark"),
    "hazelnut": _memseg(50, "bright"),
    "metal_nut": _memseg(40, "bright"),
    "pill": _memseg(100, "bright"),
    "screw": _memseg(110, "dark"),
    "toothbrush": _memseg(30, "bright"),
    "transistor": _memseg(90, "dark"),
    "zipper": _memseg(100, "dark"),
}

# RealNet (Zhang et al., CVPR 2024), official code: closing, then opening; channels count R, G, B.
_REALNET_MVTEC = {
    **_each("carpet leather tile wood cable transistor", _ALL),
    **_each("pill", _realnet("otsu", "bright", 6, 6)),
    **_each("hazelnut metal_nut toothbrush", _realnet("triangle", "bright", 6, 6)),
    **_each("bottle capsule grid screw zipper", _realnet("otsu", "dark", 6, 6)),
}
_REALNET_VISA = {
    **_each("capsules", _ALL),
    **_each("pcb1 pcb2 pcb3 pcb4", _realnet("triangle", "bright", 8, 3, channel=2)),
    **_each(
        "candle cashew chewinggum fryum macaroni1 macaroni2 pipe_fryum",
        _realnet("otsu", "bright", 3, 3),
    ),
}
_REALNET_MPDD = {
    **_each("bracket_black bracket_brown connector", _realnet("otsu", "dark", 6, channel=1)),
    **_each("bracket_white tubes", _realnet("otsu", "bright", 6, channel=2)),
    **_each("metal_plate", _realnet("otsu", "dark", 6)),
}
_REALNET_BTAD = {**_each("01 03", _realnet("otsu", "bright", 15, 6)), **_each("02", _ALL)}

# NSA (Schlueter et al., ECCV 2022): |mean of the channels - background| > level, 7 x 7 median.
_NSA_MVTEC = {
    **dict.fromkeys((*_TEXTURES, "cable", "transistor"), _ALL),
    **_each("bottle screw capsule zipper", _nsa(200, 60)),
    **_each("hazelnut pill toothbrush metal_nut", _nsa(20, 20)),
}
_NSA_XRAY = {"chest": _nsa(0, 20)}

PRESETS: dict[str, dict[str, Table]] = {
    "memseg": {"mvtec": _MEMSEG_MVTEC},
    "nsa": {"mvtec": _NSA_MVTEC, "xray": _NSA_XRAY},
    "realnet": {
        "btad": _REALNET_BTAD,
        "mpdd": _REALNET_MPDD,
        "mvtec": _REALNET_MVTEC,
        "visa": _REALNET_VISA,
    },
}


def preset(dataset: str, category: str, of: str = "realnet") -> Foreground:
    """The foreground a published code uses for a category, at 256 pixels (NSA crops to 224).

    GLASS and REB use masks made beforehand: :meth:`Cached.from_folder` reads such.

    Args:
        dataset: ``"mvtec"``; for RealNet also ``"visa"``, ``"mpdd"``, ``"btad"``; for NSA also
            ``"xray"``.
        category: Name in that dataset, for example ``"hazelnut"``.
        of: ``"memseg"``, ``"nsa"`` or ``"realnet"``.

    Raises:
        ValueError: No such code, dataset or category; the message names the nearest.
    """
    datasets = PRESETS[checks.one_of("of", of, sorted(PRESETS))]
    table = datasets[checks.one_of("dataset", dataset, sorted(datasets))]
    return table[checks.one_of("category", category, sorted(table))]
