"""Random words of feature elements: twins of ``anoaug/reference/features/randomness.py``."""

import triton
import triton.language as tl

from ..rng import philox, uniform


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
def normal_pair(first, second):
    """Two standard normal float32 blocks from two words (Box-Muller), good to 1e-6.

    Polynomials, because the library's cosine keeps tables for angles that never come, and the fast
    logarithm is off by more than numbers next to 1 have.
    """
    # 1 - u as mantissa in [sqrt(1/2), sqrt(2)) and exponent; log m = 2 artanh((m - 1) / (m + 1)).
    bits = (1.0 - uniform(first)).to(tl.int32, bitcast=True) - 0x3F3504F3
    mantissa = ((bits & 0x7FFFFF) + 0x3F3504F3).to(tl.float32, bitcast=True)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    z = s * s
    log = s * (2.0 + z * (0.6666666865 + z * (0.4 + z * (0.2857142985 + z * 0.2222222239))))
    log = (bits >> 23).to(tl.float32) * 0.6931471825 + log
    radius = tl.sqrt(tl.maximum(-2.0 * log, 0.0))
    # Quarter turns, and the rest within an eighth of a turn: Taylor's polynomials.
    turns = uniform(second) * 4.0
    nearest = tl.floor(turns + 0.5)
    f = turns - nearest
    z = f * f
    sine = f * (
        1.5707963705
        + z * (-0.6459640861 + z * (0.0796926245 + z * (-0.0046817541 + z * 0.0001604412)))
    )
    cosine = 1.0 + z * (-1.2337005138 + z * (0.2536695004 + z * (-0.0208634809 + z * 0.0009192603)))
    quarter = nearest.to(tl.int32)
    odd = (quarter & 1) > 0
    c = tl.where(odd, sine, cosine)
    d = tl.where(odd, cosine, sine)
    c = tl.where(((quarter + 1) & 2) > 0, -c, c)
    d = tl.where((quarter & 2) > 0, -d, d)
    return radius * c, radius * d


@triton.jit
def element_gaussians(k0, k1, position, quad):
    """Standard normal float32 for four channels of every position."""
    w0, w1, w2, w3 = element_words(k0, k1, position, quad, 0)
    n0, n1 = normal_pair(w0, w1)
    n2, n3 = normal_pair(w2, w3)
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
