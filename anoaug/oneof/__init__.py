"""A method for each sample of a batch: OneOf."""

from .choice import OneOf

__all__ = ["OneOf"]
