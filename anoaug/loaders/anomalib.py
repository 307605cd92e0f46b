"""anomalib 2.7: objects with its signatures, to be put where its own generators are.

:func:`accelerate` swaps all that a model has and says what it swapped. For image-level anomalies in
any other model put :class:`anoaug.loaders.lightning.AnomalyCallback` among the Engine's callbacks:
it comes before anomalib's pre-processor, while images are in [0, 1].

anomalib itself is needed by nothing here but :func:`make_synthetic_dataset`'s data frames.
"""

from __future__ import annotations

import inspect
import os
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import blends, checks, masks, methods, ops, sources
from ..banks import TextureBank
from ..binding import Layer
from ..features.functional import annulus_project, ascent_step
from ..features.methods import create as perturbation
from ..functional import perlin
from ..photometric import RandomOps
from ..synthesizer import Synthesizer

# The version that was tried; others may have moved what is swapped.
TESTED = (2, 7)
_CELLS = (0, 5)  # as everywhere in anomalib
_FINE = (2, 5)  # lattices that never leave a mask empty

Folder = str | os.PathLike[str]


def generate_perlin_noise(
    height: int,
    width: int,
    scale: tuple[int, int] | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """A Perlin field with anomalib's signature, float32 ``[height, width]`` in [-1, 1].

    The seed comes from torch's global generator, so that ``torch.manual_seed`` is obeyed, as there:
    the one place in anoaug that moves it. Any size is filled exactly; the original takes the
    corner of the next power of two, which shows fewer cells than ``scale`` says.

    Args:
        height: Rows.
        width: Columns.
        scale: Cells along the rows and the columns; powers of two from 1 to 32 if None.
        device: CUDA where there is one if None.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    drawn = torch.randint(0, 2**31, (3,), device="cpu").tolist()  # host: a seed
    cells = (2.0 ** (drawn[1] % 6), 2.0 ** (drawn[2] % 6)) if scale is None else scale
    made = perlin(1, (height, width), (float(cells[0]), float(cells[1])), seed=drawn[0],
                  device=place)  # fmt: skip
    return made[0, 0]


class PerlinAnomalyGenerator(nn.Module):
    """anomalib's generator for DRAEM, DSR and GLASS: Perlin masks filled with textures.

    ``(C, H, W) -> (image, mask (1, H, W))`` and ``(B, C, H, W) -> (images, masks (B, 1, H, W))``,
    floats in [0, 1], on the device of the images, without a loop, without a file read in a step and
    without making the host wait. Masks are float32, 0 or 1, and never empty where an anomaly was
    drawn: then a second field, on a lattice of at least 4 x 4 cells, is taken. Seeded once by
    ``torch.initial_seed()``.

    Differs from the original: masks have the cells they say at any size; the texture operations are
    DRAEM's ten, of which torchvision's replace some; without a folder procedural textures are used,
    where the original uses the noise itself.

    Args:
        anomaly_source_path: Folder of textures, read once; None for procedural ones.
        probability: P(anomalous) per image.
        blend_factor: Weight of the texture, a number or a range.
        rotation_range: Of the masks, in degrees.
        dual_mask: Half of the masks are the union of two (GLASS).
        seed: 64-bit seed; None takes ``torch.initial_seed()``.
        size: Side that textures are kept at.

    Raises:
        ValueError: A folder without images, or an argument out of range.
    """

    def __init__(
        self,
        anomaly_source_path: Folder | None = None,
        probability: float = 0.5,
        blend_factor: float | tuple[float, float] = (0.2, 1.0),
        rotation_range: tuple[float, float] = (-90, 90),
        dual_mask: bool = False,
        *,
        seed: int | None = None,
        size: int = 256,
    ) -> None:
        super().__init__()
        self.probability = checks.probability("probability", probability)
        self.blend_factor = blend_factor
        self.dual_mask = dual_mask
        self.anomaly_source_path = anomaly_source_path
        bank = (
            TextureBank.procedural(size=size)
            if anomaly_source_path is None
            else TextureBank.from_folder(anomaly_source_path, size=size)
        )
        seed = torch.initial_seed() if seed is None else seed

        def synth(cells: tuple[int, int]) -> Synthesizer:
            where: masks.Mask = masks.Perlin(cells, rotation=rotation_range)
            if dual_mask:
                other = masks.Perlin(cells, rotation=rotation_range)
                where = masks.joined(where, other, (1.0, 0.0, 1.0))
            layer = Layer(
                where, sources.Texture(bank, RandomOps.draem()), blends.Opacity(blend_factor)
            )
            return Synthesizer(
                layer, p=self.probability, seed=seed, active="always", clean=None,
                name="perlin_anomaly",
            )  # fmt: skip

        # Both draw the same samples to be anomalous: that coin has a stream of its own.
        self.synth, self.fallback = synth(_CELLS), synth(_FINE)

    @torch.no_grad()
    def forward(self, img: Tensor) -> tuple[Tensor, Tensor]:
        """Images with anomalies, and their masks."""
        images = img[None] if img.dim() == 3 else img
        out = self.synth(images)
        second = self.fallback(images)
        empty = (out.label == 0).view(-1, 1, 1, 1)
        image = torch.where(empty, second.image, out.image)
        mask = torch.where(empty, second.mask, out.mask)
        return (image[0], mask[0]) if img.dim() == 3 else (image, mask)


class CutPasteGenerator(nn.Module):
    """CutPaste for anomalib, which has none: patches, scars, or either.

    Called like :class:`PerlinAnomalyGenerator`; :meth:`generate` gives the image alone.

    Args:
        probability: P(anomalous) per image.
        mode: ``"normal"``, ``"scar"`` or ``"union"``.
        seed: 64-bit seed; None takes ``torch.initial_seed()``.
        keywords: Of the method (``area``, ``aspect``, ``jitter``, ...).

    Raises:
        ValueError: An unknown mode.
    """

    MODES = {"normal": "cutpaste", "scar": "cutpaste_scar", "union": "cutpaste_union"}

    def __init__(
        self,
        probability: float = 1.0,
        mode: str = "normal",
        *,
        seed: int | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__()
        checks.one_of("mode", mode, tuple(self.MODES))
        self.mode = mode
        self.synth = methods.create(
            self.MODES[mode], p=probability, seed=seed, active="always", clean=None, **keywords
        )

    def generate(self, image: Tensor) -> Tensor:
        """The image alone."""
        return self(image)[0]

    @torch.no_grad()
    def forward(self, img: Tensor) -> tuple[Tensor, Tensor]:
        """Images with anomalies, and their masks."""
        out = self.synth(img[None] if img.dim() == 3 else img)
        return (out.image[0], out.mask[0]) if img.dim() == 3 else (out.image, out.mask)


class DsrAnomalyGenerator(nn.Module):
    """anomalib's masks for DSR's second phase: rotated Perlin noise above 0.5.

    Args:
        p_anomalous: P(a mask that is not empty) per image.
        seed: 64-bit seed; None takes ``torch.initial_seed()``.
    """

    def __init__(self, p_anomalous: float = 0.5, *, seed: int | None = None) -> None:
        super().__init__()
        self.p_anomalous = checks.probability("p_anomalous", p_anomalous)
        seed = torch.initial_seed() if seed is None else seed

        def synth(cells: tuple[int, int]) -> Synthesizer:
            layer = Layer(masks.Perlin(cells), sources.Constant(), blends.Hard())
            return Synthesizer(layer, p=p_anomalous, seed=seed, active="always", clean=None)

        self.synth, self.fallback = synth(_CELLS), synth(_FINE)

    @torch.no_grad()
    def augment_batch(self, batch: Tensor) -> Tensor:
        """Masks float32 ``(B, 1, H, W)`` for a batch ``(B, C, H, W)``, of which the size counts."""
        blank = torch.zeros((len(batch), 1, *batch.shape[2:]), device=batch.device)
        first, second = self.synth(blank), self.fallback(blank)
        empty = (first.label == 0).view(-1, 1, 1, 1)
        return torch.where(empty, second.mask, first.mask)


class SuperSimpleNetGenerator(nn.Module):
    """anomalib's generator for SuperSimpleNet: noise under Perlin masks, on a doubled batch.

    The noise is regenerated in the backward pass and not kept. Outputs have the dtypes of the
    original's.

    Args:
        noise_mean: Has to be 0.
        noise_std: Standard deviation.
        threshold: Perlin noise above it is noisy.
        triple: The older signature: ``(features, mask, labels)`` to a triple; else
            ``(input_features, adapted_features, masks, labels)`` to four.
        seed: 64-bit seed; None takes ``torch.initial_seed()``.

    Raises:
        ValueError: A mean other than 0, or an argument out of range.
    """

    def __init__(
        self,
        noise_mean: float = 0.0,
        noise_std: float = 0.015,
        threshold: float = 0.2,
        *,
        triple: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if noise_mean != 0.0:
            raise ValueError(f"noise_mean: expected 0, got {noise_mean!r}; add it to the features")
        self.noise_std, self.threshold, self.triple = noise_std, threshold, triple
        self.perturb = perturbation(
            "supersimplenet", sigma=noise_std, threshold=threshold, rescue=True, active="always",
            seed=seed, layout="nchw",
        )  # fmt: skip

    def forward(self, *args: Any, **keywords: Any) -> tuple[Any, ...]:
        """Perturbed features, masks and labels, in the order of the original."""
        names = ["input_features", "adapted_features", "masks", "labels"]
        if self.triple:
            names = ["features", "mask", "labels"]
        given = {**dict(zip(names, args, strict=False)), **keywords}
        if set(given) != set(names):
            raise TypeError(
                f"forward: expected {', '.join(names)}, got {', '.join(sorted(given))}; "
                f"triple={not self.triple} has the other signature"
            )
        raw = None if self.triple else given["input_features"]
        features = given["features" if self.triple else "adapted_features"]
        real, label = given["mask" if self.triple else "masks"], given["labels"]
        beside = {} if raw is None else {"raw": raw}
        known = None if label is None else (label > 0).to(torch.int64).flatten()
        out = self.perturb(features, real, known, **beside)
        mask = out.mask.to(real.dtype)
        found = (
            out.label if label is None else out.label.to(label.dtype).reshape(-1, *label.shape[1:])
        )
        if self.triple:
            return out.features, mask, found
        return out.extras.get("raw"), out.features, mask, found


class GlassAscentStep:
    """In place of the method ``_gradient_ascent_step`` of anomalib's GLASS.

    The same step and the same projection, in float32 and by our kernels; a feature that meets its
    base is moved to the inner radius in the gradient's direction instead of staying. The whole loop
    is :class:`anoaug.features.AscentSynthesizer`.

    Example:
        Before training::

            model = anomalib.models.Glass()
            step = anoaug.loaders.anomalib.GlassAscentStep(svd=model.model.svd)
            model.model._gradient_ascent_step = step

    Args:
        svd: anomalib's: 1 is the hypersphere around the centre, 0 the manifold around the feature.
        step_size: Length of a step.
        every: Steps between projections.
        radius: r of the manifold.
        detach: Whether the hypersphere's radius is a constant, as in GLASS's own code; anomalib
            lets the gradient through.
        backend: ``"auto"``, ``"triton"``, ``"torch"`` or ``"compiled"``.
    """

    def __init__(
        self,
        svd: int = 0,
        *,
        step_size: float = 0.001,
        every: int = 5,
        radius: float = 0.5,
        detach: bool = False,
        backend: str | None = None,
    ) -> None:
        if svd not in (0, 1):
            raise ValueError(f"svd: expected 0 (manifold) or 1 (hypersphere), got {svd!r}")
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"every: expected a whole number from 1 on, got {every!r}")
        self.svd, self.step_size, self.every, self.radius = svd, step_size, every, radius
        self.detach, self.backend = detach, backend

    def __call__(
        self,
        gaus_feats: Tensor,
        gaus_loss: Tensor,
        center: Tensor,
        true_feats: Tensor,
        r_t: Tensor,
        step: int,
    ) -> Tensor:
        """One step, and at every fifth a projection.

        Args:
            gaus_feats: ``(N, C)`` fakes, in the graph of the loss.
            gaus_loss: Their loss, without axes.
            center: ``(N, C)`` centres of the positions.
            true_feats: ``(N, C)`` true features.
            r_t: The hypersphere's radius, one number.
            step: From 0 on.

        Returns:
            ``(N, C)`` fakes, with the graph of the projection.
        """
        with torch.autocast(gaus_feats.device.type, enabled=False):
            (gradient,) = torch.autograd.grad(gaus_loss, gaus_feats)
            moved, _ = ascent_step(gaus_feats, gradient, eta=self.step_size, backend=self.backend)
            if (step + 1) % self.every:
                return moved
            radius: Any = self.radius
            if self.svd:
                radius = r_t.reshape(()).detach() if self.detach else r_t.reshape(())
            moved, _ = annulus_project(
                moved, r_lo=radius, r_hi=2 * radius, base=center if self.svd else true_feats,
                noise=gradient, backend=self.backend,
            )  # fmt: skip
        return moved


# ---- swapping ------------------------------------------------------------------------------------


def accelerate(model: nn.Module, *, seed: int | None = None) -> dict[str, str]:
    """Swap a model's generators for those here, with the settings they have.

    Knows Draem, Glass, Dsr and SuperSimpleNet of anomalib 2; DSR's exchange of codes is left.

    Args:
        model: The Lightning module, before training.
        seed: 64-bit seed of what is put in.

    Returns:
        What was swapped: the attribute, and what was and what is there.

    Raises:
        TypeError: A model that has nothing to swap.
    """
    _warn_of_version()
    swapped: dict[str, str] = {}
    for path, module in list(model.named_modules()):
        made = None if _named(module).startswith("anoaug.") else _twin(module, seed)
        if made is None:
            continue
        owner, _, name = path.rpartition(".")
        setattr(model.get_submodule(owner), name, made)
        swapped[path] = f"{_named(module)} -> {_named(made)}"
    if not swapped:
        raise TypeError(
            f"model: expected Draem, Glass, Dsr or SuperSimpleNet of anomalib, got "
            f"{type(model).__name__}, which has no generator to swap; put "
            "anoaug.loaders.lightning.AnomalyCallback(synth) among the Engine's callbacks"
        )
    return swapped


def _twin(module: Any, seed: int | None) -> nn.Module | None:
    """What stands here for one of anomalib's generators."""
    name = type(module).__name__
    if name == "PerlinAnomalyGenerator":
        paths = getattr(module, "anomaly_source_paths", [])
        folder = Path(os.path.commonpath([path.parent for path in paths])) if paths else None
        turned = tuple(float(end) for end in module.perlin_rotation_transform.degrees)
        return PerlinAnomalyGenerator(
            folder, module.probability, module.blend_factor, turned,  # type: ignore[arg-type]
            getattr(module, "dual_mask", False), seed=seed,
        )  # fmt: skip
    if name == "DsrAnomalyGenerator":
        return DsrAnomalyGenerator(module.p_anomalous, seed=seed)
    if name in ("AnomalyGenerator", "SSNAnomalyGenerator") and hasattr(module, "noise_std"):
        triple = "adapted_features" not in inspect.signature(module.forward).parameters
        return SuperSimpleNetGenerator(
            module.noise_mean, module.noise_std, module.threshold, triple=triple, seed=seed
        )
    return None


def _named(module: nn.Module) -> str:
    return f"{type(module).__module__.partition('.')[0]}.{type(module).__name__}"


def _warn_of_version() -> None:
    """Say once that a version was not tried."""
    try:
        version = metadata.version("anomalib")
    except metadata.PackageNotFoundError:
        return
    number = tuple(int(part) for part in version.split(".")[:2])
    if number != TESTED:
        tried = ".".join(map(str, TESTED))
        ops._say_once(f"anoaug: tried with anomalib {tried}, got {version}")


# ---- synthetic validation sets -------------------------------------------------------------------


@torch.no_grad()
def make_synthetic_dataset(
    source_samples: Any,
    image_dir: Folder,
    mask_dir: Folder,
    anomalous_ratio: float = 0.5,
    *,
    synth: Synthesizer | None = None,
    seed: int = 0,
) -> Any:
    """Anomalib's ``make_synthetic_dataset``, by any synthesizer and without a folder it must find.

    Args:
        source_samples: A data frame of normal images, with ``image_path``, ``label``,
            ``label_index``, ``mask_path`` and ``split``.
        image_dir: Folder for images with anomalies, which exists.
        mask_dir: Folder for their masks, likewise.
        anomalous_ratio: Share of the images that get an anomaly; the others stay as they are.
        synth: The synthesizer; CutPaste if None. An image whose draw leaves no anomaly is drawn
            again.
        seed: Of which images get one.

    Returns:
        A data frame of all images, those with anomalies last, with the columns of the given one.

    Raises:
        ValueError: Images that are not normal, or that no draw of many changes.
        NotADirectoryError: A folder that does not exist.
    """
    pandas = checks.require("pandas", "anomalib")
    pillow = checks.require("PIL.Image", "images")
    numpy = checks.require("numpy", "images")
    checks.probability("anomalous_ratio", anomalous_ratio)
    if (source_samples.label_index == 1).any():
        raise ValueError("source_samples: expected normal images alone, got some that are not")
    for folder in (image_dir, mask_dir):
        if not Path(folder).is_dir():
            raise NotADirectoryError(f"{folder} is not a folder; make it first")
    synth = synth or methods.create("cutpaste", p=1.0, seed=seed, active="always")
    columns = ["image_path", "label", "label_index", "mask_path", "split"]
    rows = source_samples.filter(columns).reset_index(drop=True)
    count = int(anomalous_ratio * len(rows))
    order = numpy.random.default_rng(seed).permutation(len(rows))[:count]
    made = []
    for number, at in enumerate(sorted(order.tolist())):
        picture = pillow.open(rows.image_path[at]).convert("RGB")
        image = torch.from_numpy(numpy.array(picture)).permute(2, 0, 1)[None]
        for epoch in range(100):
            out = synth(image, index=[at], epoch=epoch)
            if int(out.label[0]):
                break
        else:
            raise ValueError(f"synth: expected an anomaly on {rows.image_path[at]} in 100 draws")
        name = f"{number:0{max(len(str(max(count - 1, 0))), 3)}d}.png"
        files = Path(image_dir) / name, Path(mask_dir) / name
        shown = out.image[0].permute(1, 2, 0).contiguous().numpy()
        marked = ((out.mask[0, 0] > 0).to(torch.uint8) * 255).numpy()
        for path, pixels in zip(files, (shown, marked), strict=True):
            half = path.with_suffix(".part")
            pillow.fromarray(pixels).save(half, format="PNG")
            half.replace(path)
        made.append(
            {
                "image_path": str(files[0]), "label": "abnormal", "label_index": 1,
                "mask_path": str(files[1]), "split": "val",
            }
        )  # fmt: skip
    kept = rows.drop(order)
    return pandas.concat([kept, pandas.DataFrame(made, columns=columns)], ignore_index=True)
