"""The same things as functions of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import checks, ops, poisson, recipe
from .binding import Binding, Layer
from .features.functional import gaussian_noise
from .features.randomness import keys
from .masks import Given, Mask, Perlin, Simplex
from .numbering import Numbering
from .sources import Constant


def perlin(
    batch: int,
    size: tuple[int, int],
    cells: tuple[float, float] = (8.0, 8.0),
    rotation: float = 0.0,
    octaves: int = 1,
    persistence: float = 0.5,
    seed: int = 0,
    index: Tensor | Sequence[int] | None = None,
    device: str | torch.device | None = None,
    backend: str | None = None,
) -> Tensor:
    """Perlin noise fields.

    Args:
        batch: Number of fields B.
        size: Height and width in pixels.
        cells: Lattice cells per axis (rows, columns); any positive floats.
        rotation: Degrees about the image centre; the field goes on beyond the image.
        octaves: 1 to 8.
        persistence: Amplitude of an octave relative to the one before.
        seed: 64-bit seed.
        index: Sample indices ``[B]``; 0 to B - 1 by default. Field k is a function of
            ``(seed, index[k])`` alone.
        device: Where to compute.
        backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``.

    Returns:
        float32 ``(B, 1, H, W)`` in [-1, 1] for one octave.
    """
    part = Perlin(
        cells=_axes(cells),
        threshold=0.0,
        rotation=rotation,
        rotation_fill="continue",
        octaves=octaves,
        persistence=persistence,
    )
    return field(part, size, _numbered(batch, index), seed=seed, device=device, backend=backend)


def simplex(
    batch: int,
    size: tuple[int, int],
    cells: tuple[float, float] = (8.0, 8.0),
    rotation: float = 0.0,
    octaves: int = 1,
    persistence: float = 0.5,
    seed: int = 0,
    index: Tensor | Sequence[int] | None = None,
    device: str | torch.device | None = None,
    backend: str | None = None,
) -> Tensor:
    """Simplex noise fields; the arguments are those of :func:`perlin`.

    Returns:
        float32 ``(B, 1, H, W)`` in [-1, 1] for one octave, of a standard deviation of 0.54.
    """
    part = Simplex(
        cells=_axes(cells),
        threshold=0.0,
        rotation=rotation,
        octaves=octaves,
        persistence=persistence,
    )
    return field(part, size, _numbered(batch, index), seed=seed, device=device, backend=backend)


def _axes(cells: tuple[float, float]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Fixed cells per axis as ranges."""
    if not isinstance(cells, Sequence) or len(cells) != 2:
        raise TypeError(f"cells: expected a pair (rows, columns), got {cells!r}")
    return (cells[0], cells[0]), (cells[1], cells[1])


def _numbered(batch: int, index: Tensor | Sequence[int] | None) -> Tensor:
    """Sample indices of a batch, on the host."""
    if batch < 0:
        raise ValueError(f"batch: expected at least 0, got {batch}")
    if index is None:
        return torch.arange(batch, device="cpu")
    return checks.host_rows("index", index, batch)


def field(
    mask: Mask,
    size: tuple[int, int],
    index: Tensor | Sequence[int],
    *,
    seed: int = 0,
    epoch: int = 0,
    device: str | torch.device | None = None,
    backend: str | None = None,
) -> Tensor:
    """The signed level of a mask, inside > 0, without images.

    Args:
        mask: A mask or a combination of masks, without given tensors.
        size: Height and width in pixels.
        index: Sample indices ``[B]``.
        seed: 64-bit seed.
        epoch: Epoch in [0, 2**32).
        device: Where to compute.
        backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``.

    Returns:
        float32 ``(B, 1, H, W)``.
    """
    if not isinstance(mask, Mask):
        raise TypeError(f"mask: expected a mask of anoaug.masks, got {type(mask).__name__}")
    if any(isinstance(step, Given) for step in mask.steps()):
        raise ValueError("mask: expected one without given tensors; call a Synthesizer for those")
    height, width = size
    if height < 1 or width < 1 or height * width >= 2**31:
        raise ValueError(
            f"size: expected height and width of at least 1 and fewer than 2**31 pixels, got {size}"
        )
    rows, state = Numbering(seed)(index, epoch, len(index))
    bound = Binding([Layer(mask, Constant())], ["mask"], "mask")
    plain = recipe.encode(recipe.Laws(bound.laws, 1.0, (), False, 1.0, 0.0))
    laws = recipe.specialise(plain, 1, 1.0)
    place = torch.device(device or "cpu")
    banks, histograms = bound.tensors(place, 1)
    unknown = torch.full_like(rows, -1)
    table = ops.sample(
        rows, state, unknown, banks, histograms, bound.numbers, laws, height, width, False
    )
    name = checks.one_of("backend", backend or ops.default_backend(), ops.BACKENDS)
    return ops.field(table.to(place), banks, recipe.layout_of(laws), height, width, name)


def poisson_blend(
    destination: Tensor,
    source: Tensor,
    mask: Tensor,
    mode: str = "normal",
    confine_to_mask: bool = False,
    *,
    boxes: Tensor | Sequence[Sequence[int]] | None = None,
    backend: str | None = None,
) -> Tensor:
    """Lay sources into destinations without seams, as ``cv2.seamlessClone`` does.

    For uint8 this is what OpenCV gives with the centre that keeps the source in its place, within
    one grey level on every pixel for rectangles up to 512 pixels; larger ones are solved more
    exactly than OpenCV's float32 eigenvalues allow. Its peculiarities are kept: the source counts
    from three pixels within the mask's edge on; the equation is solved on the mask's bounding
    rectangle, so that pixels of it outside the mask change too; ``"mixed"`` compares the
    differences of a gradient's components; the result is truncated, not rounded.

    The matrix products obey ``torch.set_float32_matmul_precision``: by default they are exact to
    float32; TF32 (``"high"`` on CUDA) costs some hundredths of a grey level.

    Args:
        destination: ``(B, C, H, W)`` uint8, uint16 or float in [0, 1]. Floats are solved alike and
            neither rounded nor truncated.
        source: Like ``destination``, the patches where they are to be.
        mask: ``(B, 1, H, W)`` bool, uint8 weights from 0 to 255 or float weights in [0, 1] of the
            source's gradients. An empty mask leaves its destination untouched, and so does one of
            which the erosion leaves nothing; the outermost pixels of the image do not count.
        mode: ``"normal"``: the source's gradients; ``"mixed"``: those of the source where they are
            stronger.
        confine_to_mask: Keep every pixel outside the mask as it was, to the bit.
        boxes: Integers ``(B, 4)`` on the host: top, left, height and width of the rectangle to
            solve in; by default the mask's bounding rectangle. On CUDA it saves time to give them,
            because rectangles found there have to be taken for as large as the image.
        backend: ``"auto"``, ``"triton"`` or ``"torch"``. Results of two backends or devices differ
            in rare pixels by one level.

    Returns:
        Like ``destination``.

    Raises:
        TypeError: Of another kind than said above.
        ValueError: Of another size, a box that leaves the image, or an unknown mode or backend.

    Source: Perez, Gangnet and Blake, Poisson image editing, SIGGRAPH 2003; OpenCV's
    ``seamlessClone``.
    """
    checks.images(destination)
    source = checks.picture("source", source, destination)
    weight = poisson.weights(mask, destination)
    held = poisson.host_boxes(boxes, len(destination))
    name = backend or ops.default_backend()
    return poisson.solve(destination, source, weight, held, mode, confine_to_mask, name)


def masked_gaussian(
    features: Tensor,
    mask: Tensor,
    sigma: float,
    seed: int = 0,
    index: Tensor | Sequence[int] | None = None,
    *,
    epoch: int = 0,
    backend: str | None = None,
) -> Tensor:
    """Normal noise on features where a mask is; every other bit stays.

    ``anoaug.features.functional`` has more of it: both copies of a batch, mixtures, other units.

    Args:
        features: ``(B, C, h, w)`` or tokens ``(B, P, C)``, of any float dtype.
        mask: On the features' grid, ``(B, 1, h, w)`` or ``(B, P)``; above 0 is inside.
        sigma: Standard deviation of the noise.
        seed: 64-bit seed.
        index: Sample indices ``[B]``; 0 to B - 1 by default. A sample's noise is a function of
            ``(seed, epoch, index[k])`` alone.
        epoch: Epoch in [0, 2**32).
        backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``.

    Returns:
        Like ``features``; computed in float32 and rounded once. The gradient is the identity.

    Raises:
        TypeError, ValueError: Bad input.
    """
    if not isinstance(features, Tensor) or features.dim() not in (3, 4):
        raise ValueError(
            "features: expected (B, C, h, w) or (B, P, C), got "
            f"{list(features.shape) if isinstance(features, Tensor) else type(features).__name__}"
        )
    number, state = Numbering(seed)(_numbered(len(features), index), epoch, len(features))
    drawn = keys(
        int(state[0]), number, epoch=epoch, stream="features.masked_gaussian",
        device=str(features.device),
    )  # fmt: skip
    return gaussian_noise(features, mask, drawn, sigma=sigma, backend=backend)[0]
