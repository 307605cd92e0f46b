"""GeneralAD: noise, copies and permutations of patch tokens (Strater et al., ECCV 2024)."""

from __future__ import annotations

from typing import Any

from ... import checks
from ..functional import gaussian_noise, patch_copy, patch_noise, patch_shuffle
from ..perturbation import Perturbation, Perturbed, Site
from ..strength import Tuned, strength
from . import method

# Published names of the kinds of fake features, and "all" for the branch that is always added.
MODES = ("random", "attn", "copy_out", "shuffle", "randshuffle", "all")
_BY_ATTENTION = ("attn", "copy_out", "shuffle")

# A LayerNorm leaves channels of root mean square 1, so that the ratio is sigma: noise of 1024
# channels is 8 long, a token 32. The learnt gains are left out.
DINOV2 = Tuned(0.25, 0.25, "normalised tokens of DINOv2-L/14")


@method(
    "generalad",
    family="prior-dependent",
    paper="Strater, Salehi, Gavves, Snoek, Asano: GeneralAD: Anomaly Detection Across Domains by "
    "Attending to Distorted Features, ECCV 2024 (arXiv 2407.12427)",
    matches="the official code: sigma 0.25, a number of patches even from 1 to all, one head of "
    "the attention for each image; tokens that a permutation or copy leaves as they were are "
    "anomalous all the same",
    deviations=(
        "one call is one branch of the loss: make a second with mode='all', and for "
        "'shuffle_and_random' and the like one for each",
    ),
    features="tokens (B, 1369, 1024) of DINOv2-L/14 at 518 pixels after the last norm, frozen",
    labels="patches of the subset are anomalous, also those that came out as they were; the loss "
    "averages normal and anomalous patches apart",
)
class GeneralAD(Perturbation):
    """A subset of each image's tokens gets noise, is overwritten, or is permuted.

    A call takes ``saliency``: attention of the class token, ``(B, P)`` or ``(B, heads, P)``
    without prefix tokens, which the modes attn, copy_out and shuffle need; in a hook it goes
    through ``context.set(saliency=...)``.

    Args:
        mode: ``"random"``: noise on a random subset; ``"attn"``: noise on the most salient;
            ``"copy_out"``: these become random tokens of the image; ``"shuffle"``: these are
            permuted; ``"randshuffle"``: a random subset is permuted; ``"all"``: noise everywhere.
        sigma: Standard deviation of the noise in each channel, 0.25 unless another strength is
            given.
        radius: Length of the noise: sigma times sqrt(C).
        ratio: Length of the noise over that of the feature.
        most: Largest subset that is copied or permuted; None: all tokens.
        common: Keywords of :class:`Perturbation`.
    """

    stream = "generalad"
    widens = False
    takes = ("saliency",)

    def __init__(
        self,
        *,
        mode: str = "random",
        sigma: float | None = None,
        radius: float | None = None,
        ratio: float | None = None,
        most: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.mode = checks.one_of("mode", mode, MODES)
        if sigma is None and radius is None and ratio is None:
            sigma = DINOV2.sigma
            self.tuned = DINOV2 if mode in ("random", "attn", "all") else None
        self.strength = strength(sigma, radius, ratio)
        self.most = most

    def perturb(self, site: Site) -> Perturbed:
        """One branch."""
        saliency = site.given.get("saliency") if self.mode in _BY_ATTENTION else None
        if saliency is None and self.mode in _BY_ATTENTION:
            raise ValueError(
                f"saliency: expected the class token's attention (B, P) or (B, heads, P) for "
                f"mode={self.mode!r}, got none; 'random', 'randshuffle' and 'all' do without"
            )
        rng = site.rng(self.stream)
        if self.mode == "all":
            moved, inside = gaussian_noise(
                site.features, site.where, rng, layout="tokens", noise=site.noise,
                strength=self.strength, backend=self.backend,
            )  # fmt: skip
        elif self.mode in ("random", "attn"):
            moved, inside = patch_noise(
                site.features, site.where, rng, saliency=saliency, layout="tokens",
                noise=site.noise, strength=self.strength, backend=self.backend,
            )  # fmt: skip
        else:
            swap = patch_copy if self.mode == "copy_out" else patch_shuffle
            moved, inside = swap(
                site.features, site.where, rng, most=self.most, saliency=saliency, layout="tokens"
            )
        return Perturbed(moved, inside > 0)
