"""What is thresholded: one 8-bit grey level, colour distance or saliency per pixel of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .. import checks

_SIDE = 64  # the scale saliency is computed at, in pixels of the longer side
_SIGMA = 2.5  # Gaussian that smooths the saliency map, in pixels of that scale
_REACH = 5


def eight_bits(images: Tensor) -> Tensor:
    """Images as uint8: uint16 by its high byte, floats in [0, 1] as ``v * 255 + 0.5`` truncated."""
    checks.images(images)
    if images.dtype == torch.uint8:
        return images
    if images.dtype == torch.uint16:
        return (images.to(torch.int32) // 256).to(torch.uint8)
    return (images.float().clamp(0.0, 1.0) * 255 + 0.5).to(torch.uint8)


def grey(images: Tensor, channel: int | None = None) -> Tensor:
    """Grey levels, uint8 ``(B, 1, H, W)``.

    Three channels become ``(299 R + 587 G + 114 B + 500) // 1000``, as in image files read with one
    channel; four likewise, the fourth being alpha; other counts become their mean, rounded.

    Args:
        images: ``(B, C, H, W)`` uint8, uint16 or float in [0, 1].
        channel: Take this channel instead.

    Raises:
        TypeError, ValueError: Not images, or no such channel.
    """
    levels = eight_bits(images)
    count = levels.shape[1]
    if channel is not None:
        if not 0 <= channel < count:
            raise ValueError(
                f"channel: expected 0 to {count - 1} for images with {count} channels, "
                f"got {channel}; None takes the grey value"
            )
        return levels[:, channel : channel + 1].contiguous()
    if count == 1:
        return levels.contiguous()
    if count in (3, 4) and levels.device.type == "cpu" and not torch.compiler.is_compiling():
        return _grey_on_host(levels)
    # Every sum is a whole number under 2**24: exact.
    if count in (3, 4):
        red, green, blue = (levels[:, n : n + 1].to(torch.float32) for n in range(3))
        total = red.mul_(299).add_(green, alpha=587).add_(blue, alpha=114).add_(500)
        return total.div_(1000).to(torch.uint8).contiguous()
    planes = levels.to(torch.float32)
    return (planes.mean(1, keepdim=True) + 0.5).to(torch.uint8).contiguous()


def _grey_on_host(levels: Tensor) -> Tensor:
    """The same of three channels by NumPy, image by image and wherever in memory they lie."""
    made = torch.empty_like(levels[:, :1], memory_format=torch.contiguous_format)
    for image, plane in zip(levels.numpy(), made[:, 0].numpy(), strict=True):
        red, green, blue = image[:3]
        total = np.multiply(red, 299, dtype=np.uint32)
        total += np.multiply(green, 587, dtype=np.uint32)
        total += np.multiply(blue, 114, dtype=np.uint32)
        total += 500
        plane[:] = total // 1000
    return made


def border(plane: Tensor) -> Tensor:
    """The outermost ring of pixels, ``(B, C, 2 W + 2 H - 4)``."""
    top, bottom = plane[:, :, 0], plane[:, :, -1]
    left, right = plane[:, :, 1:-1, 0], plane[:, :, 1:-1, -1]
    return torch.cat([top, bottom, left, right], 2)


def distance(images: Tensor, background: float | Sequence[float] | None = None) -> Tensor:
    """How far each pixel is from the background's colour: float32 ``(B, 1, H, W)``, in 0 to 255.

    Args:
        images: ``(B, C, H, W)`` uint8, uint16 or float in [0, 1].
        background: A number (0 to 255): ``|mean of the channels - background|``, as NSA has it.
            One number per channel: the largest difference of any channel. None: likewise, from the
            median colour of each image's own border.

    Raises:
        TypeError, ValueError: Not images, or numbers that do not fit them.
    """
    planes = eight_bits(images)
    planes = (planes[:, :3] if planes.shape[1] == 4 else planes).to(torch.float32)
    if isinstance(background, (int, float)):
        return (planes.mean(1, keepdim=True) - background).abs()
    if background is None:
        ring = border(planes).sort(2).values  # median's own result is not deterministic on CUDA
        centre = ring[:, :, (ring.shape[2] - 1) // 2, None, None]
        return (planes - centre).abs().amax(1, keepdim=True)
    if len(background) != planes.shape[1]:
        raise ValueError(
            f"background: expected {planes.shape[1]} numbers, one per channel, "
            f"got {len(background)}; one number alone is compared with the mean of the channels"
        )
    # Number by number: as a tensor they would have to be copied to the device.
    far = (planes[:, :1] - background[0]).abs()
    for channel, value in enumerate(background[1:], 1):
        far = torch.maximum(far, (planes[:, channel : channel + 1] - value).abs())
    return far


def saliency_map(images: Tensor) -> Tensor:
    """Spectral-residual saliency: float32 ``(B, 1, H, W)``, 1 at the most salient pixel.

    The log spectrum of the grey image, brought to 64 pixels on its longer side, less its 3 x 3 mean
    is what is new in the image; transformed back with the phase, squared and smoothed (sigma 2.5),
    it is the map (Hou and Zhang, Saliency Detection: A Spectral Residual Approach, CVPR 2007). An
    image without contrast has a map of zeros.

    Args:
        images: ``(B, C, H, W)`` uint8, uint16 or float in [0, 1].
    """
    large = residual_map(images)
    if len(large) == 0:
        return large
    peak = large.amax((2, 3), keepdim=True)
    # By infinity where there is nothing to see: one pass over the pixels.
    return large.div_(torch.where(peak > 0, peak.clamp_min(1e-30), torch.inf))


def residual_map(images: Tensor) -> Tensor:
    """The map of :func:`saliency_map` before it is scaled, float32 ``(B, 1, H, W)``."""
    levels = grey(images).to(torch.float32) / 255
    if len(levels) == 0:
        return levels
    height, width = levels.shape[2:]
    shrink = min(1.0, _SIDE / max(height, width))
    size = (max(2, round(height * shrink)), max(2, round(width * shrink)))
    # float64: a phase is noise where its amplitude is all rounding error.
    small = functional.interpolate(levels, size, mode="bilinear", antialias=True).double()
    contrast = small.amax((2, 3), keepdim=True) - small.amin((2, 3), keepdim=True)
    spectrum = torch.fft.fft2(small)
    real, imaginary = spectrum.real, spectrum.imag
    amplitude = (real * real).addcmul_(imaginary, imaginary).sqrt_()
    log = (amplitude + 1e-9).log_()
    # What has no amplitude has the phase 0.
    nothing = amplitude == 0
    real += nothing
    spectrum *= (log - _mean_of_nine(log)).exp_() / amplitude.add_(nothing)
    residual = torch.fft.ifft2(spectrum)
    power = (residual.real * residual.real).addcmul_(residual.imag, residual.imag)
    smooth = _smoothed(_smoothed(power, 2), 3).float() * (contrast > 0)
    return _enlarged(smooth, (height, width))


def _mean_of_nine(values: Tensor) -> Tensor:
    """The mean of each 3 x 3 square; beyond the edge its nearest value counts."""
    wide = functional.pad(values, (1, 1, 1, 1), "replicate")
    lines = (wide[..., :-2, :] + wide[..., 1:-1, :]).add_(wide[..., 2:, :])
    return (lines[..., :-2] + lines[..., 1:-1]).add_(lines[..., 2:]).div_(9)


def _smoothed(values: Tensor, dim: int) -> Tensor:
    """A Gaussian along one dimension, with nothing beyond the edge; alike in any batch."""
    weights = [math.exp(-0.5 * (step / _SIGMA) ** 2) for step in range(_REACH + 1)]
    total = weights[0] + 2.0 * sum(weights[1:])
    side = values.shape[dim]
    ends = (_REACH, _REACH) if dim == 3 else (0, 0, _REACH, _REACH)
    wide = functional.pad(values, ends)
    found = wide.narrow(dim, _REACH, side) * (weights[0] / total)
    for step in range(1, _REACH + 1):
        both = wide.narrow(dim, _REACH - step, side) + wide.narrow(dim, _REACH + step, side)
        found.add_(both, alpha=weights[step] / total)
    return found


def _enlarged(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Planes brought to a size, bilinearly: float32 ``(B, 1, h, w)`` to ``(B, 1, H, W)``."""
    batch, _, low, _ = values.shape
    height, width = size
    # Wider, then taller with columns for channels: torch takes these at once where they lie so.
    wide = functional.interpolate(values, (low, width), mode="bilinear", align_corners=False)
    rows = wide.reshape(batch, low, 1, width).permute(0, 3, 1, 2)
    tall = functional.interpolate(rows, (height, 1), mode="bilinear", align_corners=False)
    return tall.permute(0, 3, 2, 1).contiguous()
