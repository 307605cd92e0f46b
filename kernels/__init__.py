"""Triton kernels. Import name ``anoaug.kernels``; nothing here decides policy or draws randomness."""

if __name__ != "anoaug.kernels":
    raise ImportError(
        "this folder is the package anoaug.kernels; a second copy under the name "
        f"{__name__!r} would register every op twice: import anoaug.kernels instead"
    )
