"""The CPU by machine code: the parts' functions once more, compiled by Numba and cached on disk.

Opt-in (``backend="compiled"``), equal to the reference bit for bit. Every function works on one row
of pixels, in the order of operations of its twin in ``reference/``.
"""
