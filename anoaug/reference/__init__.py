"""Every op in plain torch: readable, static in shape, any device. The truth the kernels meet.

Module for module and name for name the twin of ``kernels/``. A part works on any set of pixels: the
coordinates broadcast over ``[B, N]``, so that ``anoaug/cpu.py`` can run the same code on the few
pixels under a mask.
"""
