"""What is shown of a batch, as tensors: its bytes, and its masks over them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .. import checks

TINT = (255, 45, 85)  # far from greys, from most materials and from most textures


def pixels(images: Tensor) -> Tensor:
    """What to show of a batch: uint8 ``(B, 3, H, W)`` on the images' device.

    Args:
        images: ``(B, C, H, W)`` with C of 1 (repeated) or 3: uint8, uint16 (high byte), or float in
            [0, 1], which becomes ``v * 255 + 0.5`` truncated.

    Raises:
        TypeError: Not a tensor, or not an image dtype.
        ValueError: Another rank or channel count, or floats outside [0, 1].
    """
    checks.images(images)
    checks.content(images)
    if images.shape[1] not in (1, 3):
        raise ValueError(
            f"images: expected 1 or 3 channels to show, got {images.shape[1]}; "
            "choose three, for example images[:, :3]"
        )
    if images.dtype == torch.uint16:
        images = images.to(torch.int32) // 256
    elif images.dtype != torch.uint8:
        images = images.float() * 255 + 0.5
    return images.to(torch.uint8).expand(-1, 3, -1, -1)


def overlay(
    images: Tensor,
    masks: Tensor,
    tint: tuple[int, int, int] = TINT,
    strength: float = 0.5,
    outline: bool = True,
) -> Tensor:
    """Images with their masks tinted; pixels outside the mask are those of :func:`pixels`.

    Args:
        images: ``(B, C, H, W)`` as for :func:`pixels`.
        masks: ``(B, 1, H, W)``: bool, uint8 (above 0 is inside) or float (a weight in [0, 1]).
        tint: RGB, 0 to 255.
        strength: Weight of the tint where the mask is 1, in [0, 1].
        outline: Draw the inner edge of the mask in full tint, one pixel wide.

    Returns:
        uint8 ``(B, 3, H, W)`` on the images' device.

    Raises:
        TypeError: Not tensors, or of other dtypes.
        ValueError: Shapes or devices that do not fit, or values out of range.
    """
    strength = checks.probability("strength", strength)
    shown = pixels(images).float()
    level = checks.plane("masks", masks, images)
    level = (level > 0).float() if level.dtype == torch.uint8 else level.float().clamp(0.0, 1.0)
    weight = strength * level
    if outline and len(images):
        inside = (level > 0).float()
        # An erosion; the padding counts as inside, so that the picture's border is no edge.
        core = -functional.max_pool2d(-inside, 3, stride=1, padding=1)
        weight = torch.where(inside > core, 1.0, weight)
    colour = torch.tensor(tint, dtype=torch.float32, device=shown.device)[:, None, None]
    return (shown + weight * (colour - shown) + 0.5).to(torch.uint8)
