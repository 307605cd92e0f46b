"""auto: which foreground suits a product, judged on its own normal images.

An image of an object shows it before a plain background; an image of a texture is surface from
border to border. So a rule is refused unless its foreground, over the images,

* covers 3 to 90 % of the image (median), and at least 1 % of every image;
* leaves the border to the background: it holds at most a quarter of it, and at most 0.6 of what it
  holds of the image (a surface parted in two reaches the border as often as it reaches the middle);
* has a plain background: foreground and background differ in mean colour by at least 4 standard
  deviations of the background (a normal distribution cut in two gives 2.6);
* is made of areas: at most half of it lies within a pixel of its edge;
* has a steady size: its area's standard deviation is at most half of its mean.

Of the rules left, the one with the highest score is taken: the share of the colours' variance that
lies between foreground and background (Otsu's criterion, of all channels), times d / (d + 4) with d
the number of standard deviations above, times 1 - half of the area's relative deviation. If none
is left, everything is foreground.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .. import checks
from ..banks import imagefolder
from .foreground import Foreground
from .morphology import erosion, fill_holes
from .planes import border, distance, eight_bits, grey
from .thresholds import otsu_level

AREA = (0.03, 0.9)
LEAST = 0.01
BORDER, BORDER_TO_AREA = 0.25, 0.6
DEVIATIONS = 4.0
EDGE = 0.5
UNSTEADY = 0.5
MARKS = 0.03  # holes of less than this share of the foreground are marks on the object,
OFF = 2.0  # and so are holes this many standard deviations off the background's mean colour


@dataclass(frozen=True)
class Candidate:
    """A rule that was tried.

    Attributes:
        foreground: The rule.
        score: In [0, 1]; higher is better. Before holes were filled.
        refused: Why it cannot be taken, in a few words; empty if it can.
    """

    foreground: Foreground
    score: float
    refused: str

    @property
    def caption(self) -> str:
        """Two lines for a picture: the rule with its level, and the verdict."""
        rule = self.foreground
        own = "own" if rule.rule == "background" and rule.background is None else None
        level = None if rule.level is None else f"{rule.level:g}"
        told = " ".join(filter(None, (own, rule.rule, rule.polarity, level)))
        taken = f"score {self.score:.2f}" if rule.rule != "all" else "no object found"
        return f"{told}\n{self.refused or taken}"


@dataclass(frozen=True, eq=False)
class Choice:
    """What :func:`auto` found; a callable like its ``foreground``.

    Attributes:
        foreground: The choice; its repr is code.
        candidates: All rules tried: the choice, then the others, best first, refused ones last.
        images: Those that were looked at, uint8 ``(N, C, H, W)``.
    """

    foreground: Foreground
    candidates: tuple[Candidate, ...]
    images: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Masks of a batch by the foreground that was chosen."""
        return self.foreground(images)

    def __repr__(self) -> str:
        best = self.candidates[0]
        return f"Choice({self.foreground!r}, score={best.score:.2f}, of {len(self.candidates)})"


@torch.no_grad()
def auto(
    images: Tensor | str | os.PathLike[str], size: int | tuple[int, int] = 256, count: int = 32
) -> Choice:
    """Choose a foreground by a product's normal images.

    Tries Otsu's and the triangle level, bright and dark; the grey level that is Otsu's for all
    images together, likewise; the distance from the background's colour, each image's own and one
    for all; and saliency, each with a closing and an opening; the module's page has the criterion.
    Holes are filled unless they are large and show the background. One product at a time:
    images of several have no common rule. Reads its results: not for the path of a batch.

    Args:
        images: ``(B, C, H, W)`` uint8, uint16 or float in [0, 1], or a folder of normal images.
        size: Side, or height and width, that images of a folder are brought to: that of training.
        count: At most this many images are looked at, spread over all.

    Returns:
        The choice; ``anoaug.viz.foregrounds(choice, "choice.png")`` draws it.

    Raises:
        TypeError, ValueError: No images, or a folder of defects.

    Example:
        ::

            choice = anoaug.prepare.auto("hazelnut/train/good")
            anoaug.viz.foregrounds(choice, "choice.png")
            batch = synth(images, foreground=choice(images))
    """
    if count < 1:
        raise ValueError(f"count: expected 1 or more, got {count}")
    if not isinstance(images, Tensor):
        images = _read(Path(images), size, count)
    checks.content(checks.images(images))
    planes = eight_bits(_spread(images, count))
    if len(planes) == 0:
        raise ValueError("images: expected at least one image, got none")
    tried = [_judged(planes, foreground) for foreground in _rules(planes)]
    tried.sort(key=lambda one: (bool(one.refused), -one.score))
    if tried[0].refused:
        tried.insert(0, Candidate(Foreground("all"), 0.0, ""))
    else:
        tried[0] = _filled(planes, tried[0])
        tried.append(Candidate(Foreground("all"), 0.0, "an object was found"))
    return Choice(tried[0].foreground, tuple(tried), planes)


def _spread(images: Tensor, count: int) -> Tensor:
    if len(images) <= count:
        return images
    return images[_places(len(images), count).to(images.device)]


def _places(total: int, count: int) -> Tensor:
    """``count`` numbers below ``total``, evenly spread, int64 on the CPU."""
    spread = torch.linspace(0, total - 1, count, dtype=torch.float32, device="cpu")
    return spread.round().long()


def one_product(folder: Path) -> list[str]:
    """Names of the normal images of one product in a folder, sorted; refuses several products."""
    imagefolder.normal_only(folder)
    names = imagefolder.find(folder)
    labels = imagefolder.normal_by_folder(folder, names)
    categories = sorted(set(labels.values()))
    if len(categories) > 1:
        raise ValueError(
            f"images: expected one product, got folders {', '.join(categories[:5])} in "
            f"{str(folder)!r}; give one of them"
        )
    return sorted(labels)


def _read(folder: Path, size: int | tuple[int, int], count: int) -> Tensor:
    names = one_product(folder)
    if len(names) > count:
        names = [names[place] for place in _places(len(names), count).tolist()]
    rule = imagefolder.Rule(imagefolder.pair(size))
    return imagefolder.load(folder, names, rule, cache=False, progress=False).data


def _rules(planes: Tensor) -> list[Foreground]:
    """The candidates; elements and filters grow with the image."""
    half = round(min(planes.shape[2:]) / 256)
    side, median = 2 * half + 1, 2 * half + 3

    def rule(name: str, **settings: object) -> Foreground:
        return Foreground(name, **settings, close=side, open=side)  # type: ignore[arg-type]

    both = ("bright", "dark")
    rules = [rule(name, polarity=one) for name in ("otsu", "triangle") for one in both]
    together = _level_of_all(grey(planes))
    if together >= 0:
        rules += [rule("threshold", level=together, polarity=one) for one in both]
    rules.append(rule("background", median=median))
    opaque = planes[:, :3] if planes.shape[1] == 4 else planes
    colours = border(opaque).transpose(0, 1).flatten(1).median(1).values
    background = tuple(float(value) for value in colours.tolist())
    far = _level_of_all(distance(planes, background).to(torch.uint8))
    if far >= 0:
        rules.append(rule("background", background=background, level=far, median=median))
    rules.append(rule("background", level=30, median=median))
    rules.append(rule("saliency"))
    return rules


def _level_of_all(levels: Tensor) -> int:
    """Otsu's level of all images as if they were one."""
    return int(otsu_level(levels.reshape(1, 1, -1, levels.shape[3])))


def _judged(planes: Tensor, foreground: Foreground) -> Candidate:
    return Candidate(foreground, *_score(planes, foreground(planes)))


def _score(planes: Tensor, masks: Tensor) -> tuple[float, str]:
    """Score and refusal of masks, by the module's criterion."""
    inside = masks.float()
    areas = inside.mean((1, 2, 3))
    edge = float(border(inside).mean())
    ends = 1 - erosion(masks, 3).float().mean((1, 2, 3)) / areas.clamp_min(1e-9)
    apart, deviation = _apart(planes, inside, 1 - inside)
    whole = planes.float().flatten(2).var(2, unbiased=False).sum(1)
    between = areas * (1 - areas) * apart / whole.clamp_min(1e-9)
    deviations = apart.sqrt() / deviation
    area, end, far, share = (float(each.median()) for each in (areas, ends, deviations, between))
    unsteady = float(areas.std(unbiased=False) / areas.mean().clamp_min(1e-9))
    score = min(share, 1.0) * far / (far + DEVIATIONS) * max(0.0, 1 - unsteady / 2)
    if not AREA[0] <= area <= AREA[1]:
        return score, f"covers {100 * area:.0f} %"
    if edge > BORDER or edge > BORDER_TO_AREA * area:
        return score, f"holds {100 * edge:.0f} % of the border"
    if far < DEVIATIONS:
        return score, "background not plain"
    if end > EDGE:
        return score, "scattered"
    if unsteady > UNSTEADY or float(areas.min()) < LEAST:
        return score, "unsteady size"
    return score, ""


def _apart(planes: Tensor, front: Tensor, back: Tensor) -> tuple[Tensor, Tensor]:
    """Per image: squared distance of two regions' mean colours, and the second's deviation."""
    colours, front, back = planes.float().flatten(2), front.flatten(2), back.flatten(2)
    mean_front = (colours * front).sum(2) / front.sum(2).clamp_min(1)
    mean_back = (colours * back).sum(2) / back.sum(2).clamp_min(1)
    off = (colours - mean_back[..., None]).square().sum(1, keepdim=True)
    spread = (off * back).sum((1, 2)) / back.sum((1, 2)).clamp_min(1)
    # One grey level is granted to every background: a painted one has no noise.
    return (mean_front - mean_back).square().sum(1), spread.clamp_min(1).sqrt()


def _filled(planes: Tensor, best: Candidate) -> Candidate:
    """The best candidate with holes filled, unless they show the background."""
    masks = best.foreground(planes)
    solid = fill_holes(masks)
    holes = (solid - masks).float()
    if _score(planes, solid)[1]:
        return best
    if float(holes.mean() / masks.float().mean()) > MARKS:
        apart, deviation = _apart(planes, holes, 1 - solid.float())
        there = holes.flatten(1).any(1)
        if float((apart.sqrt() / deviation)[there].median()) < OFF:
            return best
    return dataclasses.replace(
        best, foreground=dataclasses.replace(best.foreground, fill_holes=True)
    )
