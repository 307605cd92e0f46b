"""OneOf: a method for each sample of a batch, drawn by weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import checks, config, foregrounds
from ..rng import Draws
from ..synthesizer import NormalTransform
from .members import Members, distinct, make, pairs_of
from .several import Several


class OneOf(Several):
    """A Synthesizer that draws for each sample which of its members makes the anomaly.

    A row is, bit for bit, what its member alone makes of the sample with the OneOf's seed and p:
    ``OneOf({"draem": 1})`` is ``create("draem")``. The choice goes by (seed, epoch, sample index)
    like all else, with a stream for each member's name: changing a weight, to 0 too, moves samples
    to or from that member alone, adding a member moves samples to it alone, and every other sample
    keeps its pixels.

    A call copies one table and launches one render for each member that has rows in the batch, over
    those rows (on the CPU in portions that stay in the cache); members with the same parts and
    banks share a launch, whatever their ranges. Rows are gathered before and put back after, on the
    device. Which launches there are depends on what is drawn, hence ``torch.compile`` leaves the
    call out of its graph (and refuses ``fullgraph=True``), and ``capture`` is refused. A member of
    positive weight that needs a tensor needs it in every call, whether it is drawn or not; others
    never see it.

    Args:
        members: Weights >= 0 by member, as a mapping or as pairs ``(member, weight)``: only their
            ratios matter. A member is a method's name or a ready Synthesizer, of which a copy is
            taken; its own ``p`` and ``seed`` are not used. One whose weight is 0 is kept for later.
        p: P(anomalous) per sample in [0, 1], whichever member is drawn; a member's ``min_area`` and
            empty masks make fewer.
        seed: As in Synthesizer.
        name: What pictures call it; kinds have their members' names.
        active: As in Synthesizer, likewise the next two.
        normal_transform: Of all images, before the choice.
        foreground: As in Synthesizer, for all members; or give it to members, each its own.
        validate: Check the content of every batch.
        keywords: For the members given by name, each for those that know it: of the method
            (``textures=``, ``opacity=``) or of every Synthesizer (``mean=``, ``backend=``).

    Attributes:
        members: The members as Synthesizers, those of a :class:`ByCategory` one after another;
            :attr:`Params.choice` counts them.
        names: Their names: a method's or ``Synthesizer.name``, with ``#1`` at the second of a name.
        kinds: ``"normal"``, the members' kinds, ``"given"``.

    Raises:
        TypeError: An unknown method or keyword (the message names the nearest), or another kind of
            member.
        ValueError: Weights that are no odds, or a member that cannot be one of several: with views,
            with a ``normal_transform`` of its own, with donors from the batch (it would see its own
            rows only), with another output than the others, or with a ``foreground`` beside the
            OneOf's.

    Example:
        Half of the anomalies are DRAEM's, the others CutPaste's two::

            synth = anoaug.OneOf(
                {"draem": 0.5, "cutpaste": 0.3, "cutpaste_scar": 0.2}, textures=bank, p=0.5, seed=0
            )
            batch = synth(images)
            batch.kind  # 0 normal, else an index into synth.kinds
    """

    def __init__(
        self,
        members: Members,
        *,
        p: float = 0.5,
        seed: int | None = None,
        name: str = "one of",
        active: str = "train",
        normal_transform: NormalTransform | None = None,
        foreground: foregrounds.ForegroundLike | None = None,
        validate: bool = False,
        **keywords: Any,
    ) -> None:
        pairs = pairs_of(members)
        if any(_draws(member) for member, _ in pairs):
            raise TypeError("members: expected no OneOf among them; give its members themselves")
        made = make([member for member, _ in pairs], checks.probability("p", p), keywords)
        super().__init__(
            distinct([member.name for member in made]), made, p=p, seed=seed, name=name,
            active=active, normal_transform=normal_transform, foreground=foreground,
            validate=validate,
        )  # fmt: skip
        self.weights = [weight for _, weight in pairs]

    # ---- odds ------------------------------------------------------------------------------------

    @property
    def weights(self) -> tuple[float, ...]:
        """Odds of the members, in the order of ``names``; may be set at any time.

        A mapping by name sets them too; it has to name all.
        """
        return self._weights

    @weights.setter
    def weights(self, value: Sequence[float] | Mapping[str, float]) -> None:
        if isinstance(value, Mapping):
            for name in value:
                checks.one_of("weights", name, self.names)
            if len(value) != len(self.names):
                missing = [name for name in self.names if name not in value]
                raise ValueError(f"weights: expected one for each member, got none for {missing}")
            value = [value[name] for name in self.names]
        self._weights = checks.odds("weights", value, len(self.names))

    def to_config(self) -> dict[str, Any]:
        """As of a Synthesizer, with the weights as they are now."""
        made = super().to_config()
        pairs = pairs_of(self._said[1][0] if self._said[1] else self._said[2]["members"])
        made.pop("members", None)
        now = [[config.to_plain(m), w] for (m, _), w in zip(pairs, self.weights, strict=True)]
        return {**made, config.ARGUMENTS: [now]}

    def _drawable(self) -> set[int]:
        """Those of positive weight: whoever is drawn, calls bring what any of them needs."""
        ends = [first for first, _ in self._parts[1:]] + [len(self.members)]
        parts = zip(self._parts, ends, self._weights, strict=True)
        return {k for (first, _), end, weight in parts if weight > 0 for k in range(first, end)}

    @property
    def _odds_of_names(self) -> tuple[float, ...]:  # type: ignore[override]
        return self._weights

    def _choose(
        self, index: Tensor, state: Tensor, names: list[str] | None = None,
        allowed: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Which member each of the numbered samples gets, int64 ``[B]``, of those it may get.

        An exponential race: the first of independent times with the weights as rates. Only a
        member's own time changes with its weight. Their logarithms are compared, for any weights.
        """
        rates = [(name, w) for name, w in zip(self.names, self._weights, strict=True) if w > 0]
        streams = {f"oneof.{name}": 1 for name, _ in rates}
        seed, epoch = state.tolist()  # host: state and index live there
        draws = Draws(seed, epoch, index.numpy(), streams)
        u = np.stack([draws.uniform(stream, 1)[0] for stream in streams])
        with np.errstate(divide="ignore"):  # a time of 0 comes first
            times = np.log(-np.log1p(-u)) - np.log([[w] for _, w in rates])
        if allowed is not None:
            may = allowed.numpy().T[[self.names.index(name) for name, _ in rates]]
            times = np.where(may, times, np.inf)
        places = np.asarray([self.names.index(name) for name, _ in rates], np.int64)
        return torch.from_numpy(places[np.argmin(times, axis=0)])


def _draws(member: Any) -> bool:
    """Whether a member is a OneOf or has one: their draws would be those of the outer one."""
    inside = member._parts if isinstance(member, Several) else ()
    return isinstance(member, OneOf) or any(_draws(one) for _, one in inside)
