"""Kernels on features, which lie as groups of positions with channels, ``[G, P, C]``."""
