"""NVIDIA DALI: synthesis on the batches of its iterators, inside its pipelines, in dynamic mode.

:class:`SynthIterator` is the way for training: DALI's tensors are taken as they are, without a
copy, and one render follows on the consumer's stream. :func:`synthesize` is the same as an operator
of a pipeline, for those who must; DALI's documentation calls such operators slow.
:class:`DynamicMap` serves its dynamic mode, and torchdata's nodes over it.

Building pipelines needs DALI: ``pip install 'anoaug[dali]'``. DALI's own plugin "triton" is about
an inference server and has nothing to do with the kernels here.
"""

from .dynamic import DynamicMap, synthesize_batch
from .inside import synthesize
from .iterators import LAYOUTS, SynthIterator, planar
from .ready import mvtec_batches, mvtec_pipeline

__all__ = [
    "LAYOUTS",
    "DynamicMap",
    "SynthIterator",
    "mvtec_batches",
    "mvtec_pipeline",
    "planar",
    "synthesize",
    "synthesize_batch",
]
