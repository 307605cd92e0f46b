"""Threshold-free metrics of anomaly detection, exact in the presence of ties.

Every curve is taken at each distinct score, so that equal scores move together; counts are
integers, nothing is binned or subsampled. Scores may be on any device; higher means anomalous.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from anoaug.checks import require

ArrayLike: TypeAlias = torch.Tensor | npt.NDArray[np.generic]


def _tensor(name: str, value: ArrayLike) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    raise TypeError(
        f"{name}: expected a torch tensor or a NumPy array, got {type(value).__name__}; "
        "wrap it in torch.as_tensor"
    )


def _pair(
    scores: ArrayLike, labels: ArrayLike, names: tuple[str, str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and a boolean tensor of the same shape on the same device, both checked."""
    score, label = _tensor(names[0], scores), _tensor(names[1], labels)
    if score.shape != label.shape:
        raise ValueError(
            f"{names[1]}: expected the shape of {names[0]} {tuple(score.shape)}, "
            f"got {tuple(label.shape)}; resize or squeeze one of them"
        )
    if score.is_complex() or score.dtype is torch.bool:
        raise TypeError(
            f"{names[0]}: expected real numbers, got {score.dtype}; pass scores, not decisions"
        )
    if not bool(torch.isfinite(score).all()):
        raise ValueError(
            f"{names[0]}: expected finite scores, got NaN or infinity; look for a division by zero"
        )
    positive = label != 0
    if not bool((positive == (label == 1)).all()):
        raise ValueError(f"{names[1]}: expected only 0 and 1, got other values; threshold it first")
    return score, positive.to(score.device)


def _refuse_one_class(name: str, positives: int, negatives: int) -> None:
    if not positives or not negatives:
        raise ValueError(
            f"{name}: expected both 0 and 1 among them, got {positives} ones and {negatives} "
            "zeros; the metric is undefined without either"
        )


def _group_ends(ordered: torch.Tensor) -> torch.Tensor:
    """Indices of the last of each run of equal values."""
    last = torch.ones_like(ordered, dtype=torch.bool)
    last[:-1] = ordered[1:] != ordered[:-1]
    return last.nonzero().squeeze(1)


def _counts(score: torch.Tensor, positive: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """True and false positives at each distinct threshold, from the highest down, from (0, 0)."""
    ordered, order = torch.sort(score.flatten(), descending=True)
    ends = _group_ends(ordered)
    true = positive.flatten()[order].cumsum(0)[ends]
    false = ends + 1 - true
    zero = true.new_zeros(1)
    return torch.cat((zero, true)), torch.cat((zero, false))


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the receiver operating characteristic.

    Equals the probability that a positive scores above a negative, ties counting one half.

    Args:
        scores: Any shape, any real dtype.
        labels: The same shape, 0 or 1 (any dtype).

    Raises:
        TypeError: Not tensors or arrays, or scores that are not real numbers.
        ValueError: Shapes differ, scores are not finite, labels are not 0 and 1, one class only.
    """
    true, false = _counts(*_pair(scores, labels, ("scores", "labels")))
    positives, negatives = int(true[-1]), int(false[-1])
    _refuse_one_class("labels", positives, negatives)
    # twice the area in whole pixels: exact in int64 up to 2e9 pixels of each class
    doubled = int(((true[1:] + true[:-1]) * false.diff()).sum())
    return doubled / (2 * positives * negatives)


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Average precision: the sum of precision times the gain in recall over all thresholds.

    The step-wise sum without interpolation. Tied scores share one threshold.

    Args:
        scores: Any shape, any real dtype.
        labels: The same shape, 0 or 1 (any dtype).

    Raises:
        TypeError: Not tensors or arrays, or scores that are not real numbers.
        ValueError: Shapes differ, scores are not finite, labels are not 0 and 1, one class only.
    """
    true, false = _counts(*_pair(scores, labels, ("scores", "labels")))
    positives, negatives = int(true[-1]), int(false[-1])
    _refuse_one_class("labels", positives, negatives)
    precision = true[1:].double() / (true[1:] + false[1:]).double()
    return float((precision * true.diff().double()).sum() / positives)


def image_auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """AUROC of whole images; a map per image counts by its maximum.

    Args:
        scores: (N,) scores, or maps of shape (N, H, W) or (N, 1, H, W).
        labels: (N,) labels 0 or 1, or masks of shape (N, H, W) or (N, 1, H, W): an image is
            anomalous where any pixel is.

    Raises:
        TypeError: As for ``auroc``.
        ValueError: As for ``auroc``.
    """
    score, label = _tensor("scores", scores), _tensor("labels", labels)
    if score.ndim > 1:
        score = score.flatten(1).amax(1)
    if label.ndim > 1:
        label = label.flatten(1).amax(1)
    return auroc(score, label)


def _maps(scores: ArrayLike, masks: ArrayLike) -> tuple[torch.Tensor, torch.Tensor]:
    """Score maps and boolean masks as (N, H, W)."""
    pair = []
    for name, value in (("scores", scores), ("masks", masks)):
        tensor = _tensor(name, value)
        if tensor.ndim == 4 and tensor.shape[1] == 1:
            tensor = tensor.squeeze(1)
        if tensor.ndim != 3:
            raise ValueError(
                f"{name}: expected (N, H, W) or (N, 1, H, W), got {tuple(tensor.shape)}; "
                "add the batch dimension"
            )
        pair.append(tensor)
    return _pair(pair[0], pair[1], ("scores", "masks"))


def pixel_auroc(scores: ArrayLike, masks: ArrayLike) -> float:
    """AUROC over all pixels of all images.

    Args:
        scores: (N, H, W) or (N, 1, H, W) anomaly maps.
        masks: (N, H, W) or (N, 1, H, W), 0 or 1.

    Raises:
        TypeError: As for ``auroc``.
        ValueError: As for ``auroc``; or a shape that is not a batch of maps.
    """
    return auroc(*_maps(scores, masks))


def pixel_average_precision(scores: ArrayLike, masks: ArrayLike) -> float:
    """Average precision over all pixels of all images (pixel AP).

    Args:
        scores: (N, H, W) or (N, 1, H, W) anomaly maps.
        masks: (N, H, W) or (N, 1, H, W), 0 or 1.

    Raises:
        TypeError: As for ``auroc``.
        ValueError: As for ``auroc``; or a shape that is not a batch of maps.
    """
    return average_precision(*_maps(scores, masks))


def _region_weights(positive: torch.Tensor) -> tuple[torch.Tensor, int]:
    """(N, H, W) float64 with 1 / area at each pixel of a region, and the number of regions."""
    label = require("scipy.ndimage", "eval").label
    masks = positive.cpu().numpy()  # host: SciPy labels the regions, once per evaluation
    weights = np.zeros(masks.shape, dtype=np.float64)
    regions = 0
    for mask, weight in zip(masks, weights, strict=True):
        components, found = label(mask, structure=np.ones((3, 3), dtype=np.int64))
        regions += int(found)
        area = np.bincount(components.ravel(), minlength=found + 1).astype(np.float64)
        area[0] = np.inf
        weight[...] = (1.0 / area)[components]
    return torch.from_numpy(weights).to(positive.device), regions


def pro(scores: ArrayLike, masks: ArrayLike, max_fpr: float = 0.3) -> float:
    """Per-region overlap, integrated over the false positive rate and normalised by its limit.

    The mean over all ground-truth regions (8-connected components, each of weight one whatever its
    size) of the share of the region that is found, as a function of the share of normal pixels that
    are wrongly found; linear between thresholds, cut exactly at ``max_fpr``. Bergmann et al., "The
    MVTec Anomaly Detection Dataset", IJCV 2021. Components are found on the host with SciPy.

    Args:
        scores: (N, H, W) or (N, 1, H, W) anomaly maps.
        masks: (N, H, W) or (N, 1, H, W), 0 or 1.
        max_fpr: Upper end of the integral, in (0, 1].

    Returns:
        A value in [0, 1]; a random detector is expected at ``max_fpr / 2``.

    Raises:
        ImportError: SciPy is missing.
        TypeError: As for ``auroc``.
        ValueError: As for ``pixel_auroc``; or ``max_fpr`` outside (0, 1].
    """
    if not 0.0 < max_fpr <= 1.0:
        raise ValueError(f"max_fpr: expected a value in (0, 1], got {max_fpr}; 0.3 is customary")
    score, positive = _maps(scores, masks)
    positives = int(positive.sum())
    _refuse_one_class("masks", positives, positive.numel() - positives)
    weights, regions = _region_weights(positive)
    ordered, order = torch.sort(score.flatten(), descending=True)
    ends = _group_ends(ordered)
    false = (~positive).flatten()[order].cumsum(0)[ends].double()
    overlap = weights.flatten()[order].cumsum(0)[ends]
    zero = false.new_zeros(1)
    # host: the curve's integral, once per evaluation
    rate = torch.cat((zero, false / (positive.numel() - positives))).cpu().numpy()
    found = torch.cat((zero, overlap / regions)).cpu().numpy()
    inside = int(np.searchsorted(rate, max_fpr, side="right"))
    limit = float(np.interp(max_fpr, rate[inside - 1 : inside + 1], found[inside - 1 : inside + 1]))
    rate = np.append(rate[:inside], max_fpr)
    found = np.append(found[:inside], limit)
    return float(((found[1:] + found[:-1]) * np.diff(rate)).sum() / (2.0 * max_fpr))
