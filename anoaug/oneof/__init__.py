"""A method for each sample of a batch: OneOf draws it, ByCategory goes by the product."""

from .category import ByCategory
from .choice import OneOf

__all__ = ["ByCategory", "OneOf"]
