"""Triton kernels, imported as ``anoaug.kernels``: no policy, no draws, no autograd."""

if __name__ != "anoaug.kernels":
    raise ImportError(
        "this folder is the package anoaug.kernels; a second copy under the name "
        f"{__name__!r} would register every op twice: import anoaug.kernels instead"
    )
