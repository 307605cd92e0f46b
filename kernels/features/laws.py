"""Laws of single rows, as parts of the one kernel in ``rows.py``.

Twin of ``anoaug/reference/features/laws.py``. All laws look at one vector v of a row (x, the other
vector o or their difference) and at normal noise e: of the sums ``<v, v>``, ``<v, e>`` and
``<e, e>`` and of their columns they make a few numbers, and by these they move the row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

# Which vector a law looks at.
SELF = 0
DIFFERENCE = 1
OTHER = 2


@triton.jit
def ratio(a, b):
    """A / b, and 0 where b is 0."""
    return tl.where(b == 0.0, 0.0, tl.div_rn(a, tl.where(b == 0.0, 1.0, b)))


# ---- what a law makes of the sums: three numbers, and of these the row ---------------------------


@triton.jit
def jitter(vv, ve, ee, c0, c1, c2):
    """X + c |x| e."""
    return c0 * tl.sqrt_rn(vv), c0, c0


@triton.jit
def unit_jitter(vv, ve, ee, c0, c1, c2):
    """X + c |x| e / |e|."""
    return c0 * ratio(tl.sqrt_rn(vv), tl.sqrt_rn(ee)), c0, c0


@triton.jit
def shell(vv, ve, ee, c0, c1, c2):
    """X + c e / |e|."""
    return c0 * ratio(ee * 0.0 + 1.0, tl.sqrt_rn(ee)), c0, c0


@triton.jit
def ascend(vv, ve, ee, c0, c1, c2):
    """X + c o / (|o| + eps)."""
    return c0 * ratio(vv * 0.0 + 1.0, tl.sqrt_rn(vv) + c1), c0, c0


@triton.jit
def push(vv, ve, ee, c0, c1, c2):
    """X + c (x - o) / |x - o|."""
    return c0 * ratio(vv * 0.0 + 1.0, tl.sqrt_rn(vv)), c0, c0


@triton.jit
def project(vv, ve, ee, c0, c1, c2):
    """O + h clamp(|h|, low, high) / (|h| + eps); rows inside stay."""
    far = tl.sqrt_rn(vv)
    held = tl.minimum(tl.maximum(far, c0), c1)
    stays = (far >= c0) & (far <= c1)
    return ratio(held, far + c2), stays.to(tl.float32), c0


@triton.jit
def sphere(vv, ve, ee, c0, c1, c2):
    """Cos x + sin |x| across; here vv is |x|^2, ve and ee of the noise's part across the row."""
    stays = (vv == 0.0) | (ee <= 0.0)
    a = tl.where(stays, 1.0, c0)
    return a, tl.where(stays, 0.0, c1 * ratio(tl.sqrt_rn(vv), tl.sqrt_rn(ee))), ve


@triton.jit
def stereographic(vv, ve, ee, c0, c1, c2):
    """The gyro-sum of x and t e / |e|."""
    size = tl.sqrt_rn(ee)
    bend = c0 * c1
    first = 1.0 - 2.0 * bend * ratio(ve, size)
    below = first + bend * bend * vv
    return (
        ratio(first - bend * c1, below),
        ratio(ratio((1.0 + c0 * vv) * c1, below), size),
        c0 * 0.0,
    )


@triton.jit
def add_noise(x, o, v, e, a, b, t):
    """The row and some noise."""
    return x + a * e


@triton.jit
def add_vector(x, o, v, e, a, b, t):
    """The row and some of the vector."""
    return x + a * v


@triton.jit
def rebase(x, o, v, e, a, b, t):
    """The other vector and some of the difference, or the row."""
    return tl.where(b > 0.0, x, o + a * v)


@triton.jit
def turn(x, o, v, e, a, b, t):
    """Some of the row and some of the noise across it."""
    return a * x + b * (e - t * x)


# ---- what a law makes of them backward: grad p + v q + (e - t v) r -------------------------------


@triton.jit
def jitter_backward(vv, ve, ee, gv, ge, c0, c1, c2):
    """The length is not held constant."""
    zero = vv * 0.0
    return zero + 1.0, c0 * ratio(ge, tl.sqrt_rn(vv)), zero, zero


@triton.jit
def unit_jitter_backward(vv, ve, ee, gv, ge, c0, c1, c2):
    """The length is not held constant."""
    zero = vv * 0.0
    return zero + 1.0, c0 * ratio(ratio(ge, tl.sqrt_rn(ee)), tl.sqrt_rn(vv)), zero, zero


@triton.jit
def project_backward(vv, ve, ee, gv, ge, c0, c1, c2):
    """A moved row loses the radial component and is scaled."""
    zero = vv * 0.0
    far = tl.sqrt_rn(vv)
    scale = ratio(tl.minimum(tl.maximum(far, c0), c1), far + c2)
    stays = (far >= c0) & (far <= c1)
    p = tl.where(stays, 1.0, scale)
    q = tl.where(stays, 0.0, -scale * ratio(ratio(gv, far), far + c2))
    return p, q, zero, zero


@triton.jit
def sphere_backward(vv, ve, ee, gv, ge, c0, c1, c2):
    """The direction turns with the row; sums as in ``sphere``, ge with the part across."""
    stays = (vv == 0.0) | (ee <= 0.0)
    n = tl.sqrt_rn(vv)
    m = tl.sqrt_rn(ee)
    onto_unit = ratio(gv, n)
    onto_across = ratio(ge, m)
    lean = ratio(ve * n, m)
    p = tl.where(stays, 1.0, c0 - c1 * lean)
    q = tl.where(stays, 0.0, c1 * ratio(onto_across + lean * onto_unit, n))
    r = tl.where(stays, 0.0, c1 * ratio(lean * onto_across - onto_unit, m))
    return p, q, r, ve


@triton.jit
def stereographic_backward(vv, ve, ee, gv, ge, c0, c1, c2):
    """The direction is constant in the coordinates."""
    size = tl.sqrt_rn(ee)
    bend = c0 * c1
    first = 1.0 - 2.0 * bend * ratio(ve, size)
    below = first + bend * bend * vv
    a = ratio(first - bend * c1, below)
    b = ratio((1.0 + c0 * vv) * c1, below)
    gd = ratio(ge, size)
    by_dot = ratio(2.0 * bend * ((a - 1.0) * gv + b * gd), below)
    by_square = ratio(bend * (gd - bend * (a * gv + b * gd)), below)
    return a, 2.0 * by_square, ratio(by_dot, size), vv * 0.0


class Law(NamedTuple):
    """A law's parts, and what they read.

    Attributes:
        weigh: From sums and columns to three numbers.
        move: From those and the row to the perturbed row.
        backward: From sums, with the gradient's, and columns to four numbers; or None.
        vector: ``SELF``, ``DIFFERENCE`` or ``OTHER``.
        sums: Whether ``weigh`` reads sums with noise.
        moves: Whether ``move`` reads noise.
        returns: Whether noise is a part of the gradient too.
        across: Whether the sums are of the noise's part across the row.
        lost: Whether rows of no direction may get one of the noise.
    """

    weigh: Any
    move: Any
    backward: Any = None
    vector: int = SELF
    sums: bool = True
    moves: bool = True
    returns: bool = False
    across: bool = False
    lost: bool = False


LAWS = {
    "jitter": Law(jitter, add_noise, jitter_backward, sums=False),
    "unit_jitter": Law(unit_jitter, add_noise, unit_jitter_backward),
    "shell": Law(shell, add_noise),
    "ascend": Law(ascend, add_vector, vector=OTHER, sums=False, moves=False),
    "push": Law(push, add_vector, vector=DIFFERENCE, sums=False, moves=False, lost=True),
    "project": Law(
        project, rebase, project_backward, vector=DIFFERENCE, sums=False, moves=False, lost=True
    ),
    "sphere": Law(sphere, turn, sphere_backward, returns=True, across=True),
    "stereographic": Law(stereographic, turn, stereographic_backward, returns=True),
}
