"""The gallery: every method as a card with pictures and facts, on one page without a network.

A :class:`Card` is plain data; :func:`method_cards` makes those of the image methods from the
registry, :func:`page` sets any cards as HTML and :func:`write` puts that into a file. Cards of
other rooms need not have pictures. ``anoaug gallery`` is this on the command line. Needs Pillow,
imported where it is used.
"""

from .cards import Card, Parameter, Picture, Row, method_cards
from .page import page, write

__all__ = ["Card", "Parameter", "Picture", "Row", "method_cards", "page", "write"]
