"""Pictures of batches: mask overlays, contact sheets, PNG files written whole or not at all.

Everything here draws what it is given on the CPU: :func:`preview` what a synthesizer does,
:func:`foregrounds` what a choice found, the rest what its callers chose. Needs Pillow, imported
where it is used.
"""

from .files import png_path, save_png
from .overlays import TINT, overlay, pixels
from .previews import captions_of, comparison, foregrounds, preview
from .sheet import contact_sheet, fitted

__all__ = [
    "TINT",
    "captions_of",
    "comparison",
    "contact_sheet",
    "fitted",
    "foregrounds",
    "overlay",
    "pixels",
    "png_path",
    "preview",
    "save_png",
]
