"""Perturbations as forward hooks on a model's layers, and a context for what belongs to a batch."""

from .attach import Handle, attach, attached
from .context import Context

__all__ = ["Context", "Handle", "attach", "attached"]
