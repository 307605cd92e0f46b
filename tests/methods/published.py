"""What the literature gives for every keyword of a method, in its own terms; and what is ours.

A new method has a line in both tables, be it an empty one: ``test_every_method.py`` asks for every
keyword in one of them. Numbers of pixels are those of 256 x 256 images.
"""

from __future__ import annotations

from typing import Any

# DRAEM's noise: lattices of 2**0 to 2**5 cells, a threshold of 0.5, turned by up to 90 degrees.
NOISE: dict[str, Any] = {
    "log2_cells": (0, 5), "threshold": 0.5, "rotation": (-90.0, 90.0), "rotation_fill": "zero",
}  # fmt: skip
DRAEM_OPS = (
    "gamma", "brightness", "sharpness", "hue_saturation", "solarize", "posterize", "invert",
    "autocontrast", "equalize", "rotate",
)  # fmt: skip
GLASS_OPS = (
    "contrast", "gain", "saturation_hue", "flip_x", "flip_y", "grayscale", "stretch", "equalize",
    "rotate",
)  # fmt: skip
PATCH: dict[str, Any] = {"area": (0.02, 0.15), "aspect": (0.3, 1 / 0.3), "jitter": 0.1}
# Width U(2, 16) by length U(10, 25), turned by up to 45 degrees.
SCAR: dict[str, Any] = {"width": (2, 16), "length": (10, 25), "rotation": (-45.0, 45.0)}
# Half sides of 0.05 to 0.2, centres in the middle 80 %, a weight in (0.05, 0.95), which is the
# label where pixels differ; both images change, always.
SQUARE: dict[str, Any] = {
    "p": 1.0, "half": (0.05, 0.2), "margin": 0.1, "opacity": (0.05, 0.95), "label": "soft",
    "label_rule": "changed", "tolerance": 0.0,
}  # fmt: skip

PUBLISHED: dict[str, dict[str, Any]] = {
    # 0 to 4 boxes, half sides of 1/40 to 1/10, whole numbers from 0 to 254.
    "cdo": {"p": 1.0, "count": (0, 4), "height": (2 / 40, 2 / 10), "width": (2 / 40, 2 / 10),
            "low": 0.0, "high": 254 / 255},
    "chip": {},
    # ASBench: a square of 20 to 50 pixels of zeros; the paper lets the edge cut it.
    "cutout": {"side": (20 / 256, 51 / 256), "value": 0.0, "place": "anywhere"},
    "cutpaste": {**PATCH, "aspect_law": "log"},
    "cutpaste_scar": {**SCAR, "jitter": 0.1},
    "cutpaste_union": {**PATCH, **SCAR, "aspect_law": "log", "weights": (0.5, 0.5),
                       "choose": "one"},
    "destseg": {"p": 1.0, **NOISE, "opacity": (0.2, 1.0)},
    "displaced": {},
    "draem": {"p": 0.5, **NOISE, "opacity": (0.2, 1.0), "ops": (DRAEM_OPS, 3)},
    "dsr_image": {"p": 0.5, **NOISE, "opacity": (0.2, 1.0), "colour": (0.0, 1.0)},
    "extra": {},
    "fpi": SQUARE,
    # ASBench: a square of 10 to 50 % of the side, jittered by 0.2, turned by 15 to 75 degrees.
    "fractal": {"side": (0.1, 0.5), "rotation": (15.0, 75.0), "jitter": 0.2},
    "glass_las": {"p": 1.0, **NOISE, "odds": (1.0, 1.0, 1.0), "opacity": (0.2, 0.8), "std": 0.1,
                  "ops": (GLASS_OPS, 3)},
    "i3ad": {},
    "intra": {"side": 16, "window": 7},
    # Every second sample; 8 x 8 cells in the port.
    "memseg": {"p": 0.5, "weights": (0.5, 0.5), "choose": "one", **NOISE, "opacity": (0.15, 1.0),
               "grid": 8},
    "misprint": {},
    "missing": {},
    "noise_fill": {"p": 0.5, "area": (0.02, 0.4), "aspect": (0.3, 1 / 0.3), "low": 0.0,
                   "high": 1.0, "law": "uniform"},
    "nsa": {"p": 1.0, "labels": "logistic", "label": "soft", "opacity": (0.05, 0.95),
            "shift": True, "ellipses": 0, "same": False},
    "pei": {},
    "pii": SQUARE,
    # Sides randint(10, 32), 0.2 of simplex noise of 6 octaves with persistence 0.6.
    "rdpp": {"p": 1.0, "height": (10 / 256, 32 / 256), "width": (10 / 256, 32 / 256),
             "intensity": 0.2, "octaves": 6, "persistence": 0.6},
    # U(0.5, 1) of a generated image, U(0.2, 1) of a texture.
    "realnet": {"p": 0.5, **NOISE, "opacity": (0.5, 1.0), "texture_opacity": (0.2, 1.0),
                "ops": (DRAEM_OPS, 3)},
    # Scars of 7 to 21 by 15 to 30 whole pixels.
    "reb": {"fill": "cut", "choose": "one", "weights": (1.0, 1.0, 1.0), "area": (0.02, 0.15),
            "aspect": (1 / 3.3, 3.3), "width": (7, 22), "length": (15, 31),
            "rotation": (-45.0, 45.0), "jitter": 0.1, "foreground": "saliency"},
    "riad": {"p": 1.0, "k": (2, 4, 8, 16), "n": 3, "views": True, "value": 0.0},
    "rotated": {},
    "smai": {},
    "swapped": {},
    "thread": {},
    "warp": {},
}  # fmt: skip

COMPONENT: dict[str, Any] = {
    "p": 0.5, "side": (0.08, 0.3), "aspect": (0.5, 2.0), "tries": 32, "visible": 0.04,
}  # fmt: skip
CHANGED: dict[str, Any] = {"label_rule": "changed", "tolerance": 0.0}

# No source gives these: none is known, or it leaves the number open.
OURS: dict[str, dict[str, Any]] = {
    "cdo": {},
    "chip": {"p": 0.5, "foreground": "otsu", "side": (0.06, 0.18), "visible": 0.04, **CHANGED,
             "min_area": 0.0005},
    "cutout": {"p": 0.5},
    "cutpaste": {"p": 0.5},
    "cutpaste_scar": {"p": 0.5},
    "cutpaste_union": {"p": 0.5, "views": False},
    "destseg": {"detail": None},
    "displaced": {**COMPONENT, "component": None, "distance": (0.2, 0.6),
                  "direction": (-180.0, 180.0), "rotation": (0.0, 15.0)},
    "draem": {"detail": None},
    "dsr_image": {},
    "extra": {**COMPONENT, "component": None, "distance": (1.0, 4.0), "rotation": (0.0, 180.0),
              "goals": 12},
    "fpi": {},
    "fractal": {"p": 0.5, "margin": 0.1},
    "glass_las": {"detail": None},
    "i3ad": {"p": 1.0, "count": (1, 4), "height": (0.05, 0.3), "width": (0.05, 0.3), "value": 0.0,
             "adaptive": False, "rule": "mean_sigma", "amount": 1.0},
    "intra": {"p": 1.0, "value": 0.0},
    # Those of DRAEM's ten that need no look at the finished image.
    "memseg": {"detail": None, "structure_ops": (
        ("gamma", "brightness", "hue_saturation", "solarize", "posterize", "invert", "rotate"), 3,
    )},
    "misprint": {"p": 0.5, "area": (0.05, 0.3), "aspect": (0.4, 2.5), "feather": (6.0, 20.0),
                 "faults": ("faded", "ghost", "smeared", "register"), "choose": "one",
                 "weights": None, "visible": 0.03, **CHANGED, "min_area": 0.001},
    "missing": {**COMPONENT, "component": None, **CHANGED, "min_area": 0.001},
    "noise_fill": {"rotation": 0.0},
    # None: the preset's, which test_nsa.py compares with what is published.
    "nsa": {"preset": "texture", "patches": None, "bounds": None, "gamma": "preset",
            "resize": "preset", "blend": None, "ellipses_as": "intended", "min_object": None,
            "min_overlap": None, "foreground": None, "slope": None, "middle": None},
    "pei": {"p": 0.5, "foreground": "otsu", "area": (0.02, 0.15), "aspect": (0.3, 1 / 0.3),
            "rotation": (-45.0, 45.0), "mirror": True, "jitter": 0.3, "hue": 0.1},
    "pii": {},
    # The field's slowest octave, as measured.
    "rdpp": {"wavelength": 32 / 256},
    "realnet": {"bank": None, "weights": (0.5, 0.5), "detail": None},
    "reb": {"p": 0.5, "donors": None, "shapes": None, "softness": 4.0},
    "riad": {},
    "rotated": {**COMPONENT, "component": None, "rotation": (20.0, 180.0)},
    "smai": {"p": 1.0, "count": 200, "share": (0.1, 0.3), "superpixels": None, "value": 0.0},
    "swapped": COMPONENT,
    "thread": {"p": 0.5, "length": (0.15, 0.6), "repeat": None, "choose": "one",
               "weights": (0.6, 0.2, 0.2), "tries": 8, "visible": 0.04, **CHANGED,
               "min_area": 0.0005},
    "warp": {"p": 0.5, "area": (0.03, 0.15), "aspect": (0.4, 2.5), "rotation": (-90.0, 90.0),
             "bend": (0.25, 0.6), "zoom": (0.4, 1.0), "twist": (25.0, 80.0), "choose": "one",
             "weights": (0.5, 0.25, 0.25), **CHANGED, "min_area": 0.001},
}  # fmt: skip
