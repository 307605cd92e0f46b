"""Random words of feature elements: twins of ``anoaug/reference/features/randomness.py``."""

import triton
import triton.language as tl

from ..rng import gaussian_pair, philox


@triton.jit
def group_key(keys, group):
    """The two uint32 words of a group's key, from int64 ``[G, 2]``."""
    return tl.load(keys + group * 2).to(tl.uint32), tl.load(keys + group * 2 + 1).to(tl.uint32)


@triton.jit
def element_words(k0, k1, position, quad, SITE: tl.constexpr):
    """Four uint32 blocks, of channels 4 quad to 4 quad + 3; position and quad are int32 blocks."""
    none = (position * 0 + quad * 0).to(tl.uint32)
    return philox(
        k0 + none, k1 + none, quad.to(tl.uint32) + none, position.to(tl.uint32) + none,
        none + SITE, none,
    )  # fmt: skip


@triton.jit
def element_gaussians(k0, k1, position, quad):
    """Standard normal float32 for four channels of every position."""
    w0, w1, w2, w3 = element_words(k0, k1, position, quad, 0)
    n0, n1 = gaussian_pair(w0, w1)
    n2, n3 = gaussian_pair(w2, w3)
    return n0, n1, n2, n3


@triton.jit
def position_word(k0, k1, position):
    """The first uint32 word of every position."""
    w0, _, _, _ = element_words(k0, k1, position, position * 0, 1)
    return w0


@triton.jit
def interleaved(a, b, c, d):
    """Four blocks ``[N, Q]`` as one ``[N, 4 Q]``, side by side in every quad."""
    pairs = tl.join(tl.join(a, c), tl.join(b, d))
    return tl.reshape(pairs, (a.shape[0], 4 * a.shape[1]))
