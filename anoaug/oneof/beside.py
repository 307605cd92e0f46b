"""Further modalities of a call whose rows have members of their own: shared out, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..batch import AnomalyBatch, Params
from ..rows import put, taken, with_rows
from ..synthesizer import Synthesizer


class Beside:
    """The modalities of a call: what members take of them, and what they have made so far.

    Rows are, bit for bit, what the member alone makes of them; members therefore share no launch.

    Args:
        members: The members.
        playing: Numbers of those that may have rows: they have to know the modalities.
        extra: The call's ``(B, any C, H, W)`` by name.
        images: ``(B, C, H, W)``.
        params: What is replayed, or None.

    Attributes:
        number: Sample indices, and (seed, epoch), of what is drawn; None in a replay.

    Raises:
        TypeError, ValueError: What :meth:`Modalities.checked` refuses, or params of others.
    """

    def __init__(
        self, members: Sequence[Synthesizer], playing: set[int], extra: Any, images: Tensor,
        params: Params | None,
    ) -> None:  # fmt: skip
        self._old = {} if params is None else params.modalities or {}
        self.number: tuple[Tensor, Tensor] | None = None
        for k in sorted(playing):
            members[k]._modalities.checked(extra, images, params)
        self._extra: Mapping[str, Tensor] = dict(extra)
        self._size = tuple(images.shape[2:])
        laws = [member.laws(images.shape[1], images.dtype) for member in members]
        # Layout, width and banks of each modality in each member that knows it.
        self._reads = {
            name: [
                member._modalities.read(name, value, own) if name in member._modalities else None
                for member, own in zip(members, laws, strict=True)
            ]
            for name, value in self._extra.items()
        }
        self._made: dict[str, Tensor] = {}
        self._tables: dict[str, Tensor] = {}
        for name in self._extra if self._old else ():
            empty, old = self._params(name, 0), self._old[name]
            if (old.layout, old.banks) != (empty.layout, empty.banks):
                raise ValueError(
                    f"{name}: expected params that these members drew for it, got others; give the "
                    "modality as it was sampled, to the synthesizer that did"
                )

    def _params(self, name: str, rows: int, like: Tensor | None = None) -> Params:
        reads = [read for read in self._reads[name] if read is not None]
        width = max(read[1] for read in reads)
        device = None if like is None else like.device
        table = torch.zeros((rows, width), dtype=torch.float32, device=device)
        layout = "\n".join(["oneof", *(read[0] for read in reads)])
        return Params(table, layout, tuple(n for read in reads for n in read[2]), self._size)

    def of_rows(self, k: int, here: Any, there: Any) -> dict[str, Any]:
        """The keywords of member ``k``'s call: ``extra`` and what it draws or replays it by.

        Args:
            k: The member.
            here: Its rows on the host: int64 indices, or all as a slice.
            there: Likewise on the device.
        """
        some = isinstance(there, Tensor)
        extra = {n: taken(v, there) if some else v for n, v in self._extra.items()}
        if self.number is not None:
            index, state = self.number
            return {"extra": extra, "number": (index[here], state), "modalities": None}
        old = {}
        for name in extra:
            layout, width, banks = self._reads[name][k]  # type: ignore[misc]
            table = self._old[name].table
            table = table[there if table.device == extra[name].device else here]
            old[name] = Params(table[:, :width].contiguous(), layout, banks, self._size)
        return {"extra": extra, "number": None, "modalities": old}

    def keep(self, there: Any, out: AnomalyBatch) -> None:
        """Put in place what a member made of its rows."""
        for name, whole in self._extra.items():
            made, own = out.extras[name], out.params.modalities[name].table  # type: ignore[index]
            if not isinstance(there, Tensor):
                self._made[name] = made
                there_all: Any = slice(None)
            else:
                if name not in self._made:
                    self._made[name] = with_rows(made, len(whole))
                put(self._made[name], there, made)
                there_all = there
            if name not in self._tables:
                self._tables[name] = self._params(name, len(whole), own).table
            self._tables[name][there_all, : own.shape[1]] = own

    @property
    def extras(self) -> dict[str, Tensor]:
        """The modalities of the whole batch; as they came where no member made any."""
        return {name: self._made.get(name, value) for name, value in self._extra.items()}

    @property
    def modalities(self) -> dict[str, Params] | None:
        """Their params."""
        found = {}
        for name, value in self._extra.items():
            empty = self._params(name, len(value), value)
            found[name] = empty._replace(table=self._tables.get(name, empty.table))
        return found or None
