"""``anoaug::feature_rows``: the laws of single rows, one op with a backend for each device.

Randomness is drawn again in the backward pass, not stored. The laws and what they read are in
``reference/features/laws.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...ops import INTERPRETED_TILE, current, interpreting, resolve_backend
from ...reference.features import randomness
from ...reference.features import rows as reference
from ...reference.features.laws import LAWS, over
from ...reference.features.noise import wide
from ...rng import uniform
from .. import cpu_rows

_library = torch.library.Library("anoaug", "FRAGMENT")
_READ = (
    "Tensor features, Tensor? other, Tensor? index, Tensor? keys, Tensor? noise, Tensor? inside, "
    "float[] numbers, Tensor? columns, str law, str backend"
)
_library.define(f"feature_rows({_READ}) -> Tensor")
_library.define(f"feature_rows_backward(Tensor grad, bool slopes, {_READ}) -> (Tensor, Tensor)")
_library.define(
    "feature_distances(Tensor features, Tensor other, Tensor? index, str backend) -> Tensor"
)
_library.define(
    "feature_noise_lengths(Tensor keys, SymInt positions, SymInt channels, str backend) -> Tensor"
)


def _chosen(backend: str, features: Tensor) -> str:
    name = resolve_backend(backend, features.device)
    # Kernels compute in float32; float64 is for tests.
    return "torch" if features.dtype == torch.float64 else name


def _tile() -> int:
    from ...kernels.features import rows as kernels

    return INTERPRETED_TILE if interpreting() else kernels.TILE


def _launch(
    out: Tensor, features: Tensor, other: Tensor | None, index: Tensor | None, keys: Tensor | None,
    noise: Tensor | None, inside: Tensor | None, numbers: Sequence[float], columns: Tensor | None,
    law: str, grad: Tensor | None = None, slopes: Tensor | None = None,
) -> None:  # fmt: skip
    from ...kernels.features import rows as kernels

    # What is small is made contiguous: kernels take its strides on trust.
    index = None if index is None else index.contiguous()
    keys = None if keys is None else keys.contiguous()
    inside = None if inside is None else inside.view(torch.uint8)
    columns = None if columns is None else columns.to(torch.float32)
    with current(features.device):
        kernels.launch(
            out, features, other, index, keys, noise, inside, numbers, columns, law, grad, slopes,
            _tile(),
        )  # fmt: skip


def _rows(
    features: Tensor, other: Tensor | None, index: Tensor | None, keys: Tensor | None,
    noise: Tensor | None, inside: Tensor | None, numbers: Sequence[float], columns: Tensor | None,
    law: str, backend: str,
) -> Tensor:  # fmt: skip
    chosen = _chosen(backend, features)
    read = cpu_rows.Read(features, other, index, keys, noise, inside, numbers, columns, law)
    blocks = chosen in ("cpu", "compiled") and features.numel() > 0
    if chosen != "triton" and not blocks:
        return reference.apply(*read)
    out = torch.empty_like(features)
    if blocks:
        cpu_rows.apply(out, read, chosen == "compiled")
    elif features.numel():
        _launch(out, *read)
    return out


def _rows_backward(
    grad: Tensor, slopes: bool, features: Tensor, other: Tensor | None, index: Tensor | None,
    keys: Tensor | None, noise: Tensor | None, inside: Tensor | None, numbers: Sequence[float],
    columns: Tensor | None, law: str, backend: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    chosen = _chosen(backend, features)
    read = cpu_rows.Read(features, other, index, keys, noise, inside, numbers, columns, law)
    blocks = chosen in ("cpu", "compiled") and features.numel() > 0 and not slopes
    if chosen != "triton" and not blocks:
        return reference.backward(grad, slopes, *read)
    out, found = _rows_backward_fake(grad, slopes, *read, backend)
    if blocks:
        cpu_rows.backward(out, grad, read, chosen == "compiled")
    elif features.numel():
        _launch(out, *read, grad, found if slopes else None)
    return out, found


def _rows_fake(features: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(features)


def _rows_backward_fake(
    grad: Tensor, slopes: bool, features: Tensor, *others: Any
) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(features.dtype, torch.float32)
    shape = (2, *features.shape[:2]) if slopes else (0,)
    return torch.empty_like(features), torch.empty(shape, dtype=dtype, device=features.device)


def _rows_setup(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, numbers, columns, law, backend = inputs
    ctx.read = (numbers, law, backend)
    ctx.derived = LAWS[law].backward is not None
    if ctx.derived:
        ctx.save_for_backward(*tensors, columns)


def _rows_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    if not ctx.derived:
        return (grad, *[None] * 9)
    *tensors, columns = ctx.saved_tensors
    numbers, law, backend = ctx.read
    slopes = ctx.needs_input_grad[7]
    given, found = feature_rows_backward(grad, slopes, *tensors, numbers, columns, law, backend)
    other = None
    if ctx.needs_input_grad[1]:
        # What the row does not keep of the gradient goes to its base.
        other = (grad - given).to(tensors[1].dtype)
    spread = None
    if slopes:
        low, high = found.to(columns.dtype)
        spread = torch.stack((low, high, torch.zeros_like(low)), -1)
    return (given, other, *[None] * 5, spread, None, None)


def _distances(features: Tensor, other: Tensor, index: Tensor | None, backend: str) -> Tensor:
    chosen = _chosen(backend, features)
    if chosen in ("cpu", "compiled") and features.numel():
        return cpu_rows.distances(features, other, index, chosen == "compiled")
    if chosen != "triton":
        return reference.distances(features, other, index)
    from ...kernels.features import rows as kernels

    out = torch.empty(features.shape[:2], dtype=torch.float32, device=features.device)
    if out.numel():
        index = None if index is None else index.contiguous()
        with current(features.device):
            kernels.launch_lengths(
                out, features, other, index, None, features.shape[2], _tile()
            )  # fmt: skip
    return out


def _distances_fake(features: Tensor, *others: Any) -> Tensor:
    dtype = torch.promote_types(features.dtype, torch.float32)
    return torch.empty(features.shape[:2], dtype=dtype, device=features.device)


def _distances_setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs[:3], output)


def _distances_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    features, other, index, far = ctx.saved_tensors
    away = wide(features) - reference.gathered(other, index).to(far.dtype)
    given = away * over(grad, far)[..., None]
    beside = -given if ctx.needs_input_grad[1] else None
    if beside is not None and index is not None:
        beside = torch.zeros_like(other).index_add(
            0, index.flatten(), beside.flatten(0, 1).to(other.dtype)
        )
    return (
        given.to(features.dtype), None if beside is None else beside.to(other.dtype), None, None
    )  # fmt: skip


def _noise_lengths(keys: Tensor, positions: int, channels: int, backend: str) -> Tensor:
    chosen = resolve_backend(backend, keys.device)
    if chosen == "torch":
        return reference.noise_lengths(keys, positions, channels)
    out = torch.empty((len(keys), positions), dtype=torch.float32, device=keys.device)
    if chosen != "triton":
        cpu_rows.noise_lengths(out, keys, channels, chosen == "compiled")
    elif out.numel():
        from ...kernels.features import rows as kernels

        with current(keys.device):
            kernels.launch_lengths(out, None, None, None, keys.contiguous(), channels, _tile())
    return out


def _gaussians(keys: Tensor, positions: int, channels: int, backend: str) -> Tensor:
    if resolve_backend(backend, keys.device) == "torch":
        return randomness.gaussians(keys, positions, channels).contiguous()
    compiled = resolve_backend(backend, keys.device) == "compiled"
    return cpu_rows.gaussians(keys, positions, channels, compiled)


def _uniforms(keys: Tensor, positions: int, channels: int, backend: str) -> Tensor:
    if resolve_backend(backend, keys.device) == "torch":
        return _uniforms_by_torch(keys, positions, channels).contiguous()
    compiled = resolve_backend(backend, keys.device) == "compiled"
    return cpu_rows.uniforms(keys, positions, channels, compiled)


def _uniforms_by_torch(keys: Tensor, positions: int, channels: int) -> Tensor:
    return uniform(randomness.element_words(keys, positions, channels, randomness.ELEMENT))


def _gaussians_fake(keys: Tensor, positions: int, channels: int, backend: str) -> Tensor:
    return keys.new_empty((keys.shape[0], positions, channels), dtype=torch.float32)


def _noise_lengths_fake(keys: Tensor, positions: int, channels: int, backend: str) -> Tensor:
    return keys.new_empty((keys.shape[0], positions), dtype=torch.float32)


_library.define(
    "feature_gaussians(Tensor keys, SymInt positions, SymInt channels, str backend) -> Tensor"
)
_library.define(
    "feature_uniforms(Tensor keys, SymInt positions, SymInt channels, str backend) -> Tensor"
)
_library.impl("feature_gaussians", _gaussians, "CPU")
_library.impl("feature_uniforms", _uniforms, "CPU")
torch.library.register_fake("anoaug::feature_gaussians", _gaussians_fake)
torch.library.register_fake("anoaug::feature_uniforms", _gaussians_fake)
_library.impl("feature_rows", _rows, "CompositeExplicitAutograd")
_library.impl("feature_rows_backward", _rows_backward, "CompositeExplicitAutograd")
_library.impl("feature_distances", _distances, "CompositeExplicitAutograd")
_library.impl("feature_noise_lengths", _noise_lengths, "CompositeExplicitAutograd")
torch.library.register_fake("anoaug::feature_rows", _rows_fake)
torch.library.register_fake("anoaug::feature_rows_backward", _rows_backward_fake)
torch.library.register_fake("anoaug::feature_distances", _distances_fake)
torch.library.register_fake("anoaug::feature_noise_lengths", _noise_lengths_fake)
torch.library.register_autograd(
    "anoaug::feature_rows", _rows_gradient, setup_context=_rows_setup
)  # fmt: skip
torch.library.register_autograd(
    "anoaug::feature_distances", _distances_gradient, setup_context=_distances_setup
)  # fmt: skip

feature_rows = torch.ops.anoaug.feature_rows.default
feature_rows_backward = torch.ops.anoaug.feature_rows_backward.default
feature_distances = torch.ops.anoaug.feature_distances.default
feature_gaussians = torch.ops.anoaug.feature_gaussians.default
feature_noise_lengths = torch.ops.anoaug.feature_noise_lengths.default
feature_uniforms = torch.ops.anoaug.feature_uniforms.default


def gaussians(keys: Tensor, positions: int, channels: int, backend: str) -> Tensor:
    """Normal float32 ``[G, P, C]``: on the CPU an op, elsewhere what torch.compile can fuse.

    Raises:
        RuntimeError: The backend cannot run there.
    """
    if keys.device.type == "cpu" and backend != "triton":
        return feature_gaussians(keys, positions, channels, backend)
    if not torch.compiler.is_compiling():
        resolve_backend(backend, keys.device)
    return randomness.gaussians(keys, positions, channels)


def uniforms(keys: Tensor, positions: int, channels: int, backend: str) -> Tensor:
    """As :func:`gaussians`, uniform in [0, 1); the same bits on every backend."""
    if keys.device.type == "cpu" and backend != "triton":
        return feature_uniforms(keys, positions, channels, backend)
    if not torch.compiler.is_compiling():
        resolve_backend(backend, keys.device)
    return _uniforms_by_torch(keys, positions, channels)


def rows(
    features: Tensor,
    law: str,
    *columns: Tensor | float,
    other: Tensor | None = None,
    index: Tensor | None = None,
    keys: Tensor | None = None,
    noise: Tensor | None = None,
    inside: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Rows by a law: ``feature_rows`` with columns that may be numbers or tensors.

    Args:
        features: ``[G, P, C]`` of any float dtype and strides.
        law: A name of ``reference.features.laws.LAWS``.
        columns: The law's, in its order: numbers, or tensors that broadcast to ``[G, P]``.
        other: ``[G, P, C]``, expanded or not, or with ``index`` a table ``[K, C]``.
        index: int64 ``[G, P]``.
        keys: int64 ``[G, 2]``.
        noise: Standard normal ``[G, P, C]`` instead of that of the keys.
        inside: bool ``[G, P]``, the rows to perturb.
        backend: See :class:`anoaug.features.Perturbation`.

    Returns:
        ``[G, P, C]`` of the features' dtype.
    """
    numbers, table = [], None
    if any(isinstance(column, Tensor) for column in columns):
        dtype = torch.promote_types(features.dtype, torch.float32)
        shape = features.shape[:2]
        table = torch.stack(
            [
                column.to(dtype).expand(shape) if isinstance(column, Tensor)
                else features.new_full((), column, dtype=dtype).expand(shape)
                for column in columns
            ],
            -1,
        )  # fmt: skip
    else:
        numbers = [float(column) for column in columns]  # type: ignore[arg-type]
    return feature_rows(
        features, other, index, keys, noise, inside, numbers, table, law, backend
    )  # fmt: skip
