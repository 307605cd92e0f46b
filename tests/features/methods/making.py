"""The registered methods, each made ready to be asked what all of them promise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from anoaug import features
from anoaug.features import FeatureBatch

NAMES = features.list_methods()
B, C, H, W = 3, 8, 4, 6
NUMBER: dict[str, Any] = {"index": torch.tensor([4, 9, 2]), "epoch": 1}

every = pytest.mark.parametrize("name", NAMES)


@dataclasses.dataclass(frozen=True)
class Case:
    """How a method is asked. A new method adds a line to ``CASES`` where it is unlike the rest.

    Attributes:
        make: Makes it, instead of ``features.create``: fits it, gives it a discriminator.
        needs: Keywords that ``features.create`` cannot do without.
        coupled: Why a sample's result depends on the others of its batch; empty: it does not.
        flat: Whether rows (N, C) do for it; otherwise maps and tokens alone.
        size: Whether tokens need ``size=``.
        gradient: Whether gradients reach the features.
        inner: Whether it takes gradients itself, which Dynamo traces only if it is told to.
    """

    make: Callable[..., Any] | None = None
    needs: dict[str, Any] = dataclasses.field(default_factory=dict)
    coupled: str = ""
    flat: bool = True
    size: bool = False
    gradient: bool = True
    inner: bool = False


class Judge(torch.nn.Sequential):
    """A discriminator of rows (N, C), in the dtype they come in."""

    def __init__(self) -> None:
        super().__init__(
            torch.nn.Linear(C, 16),
            torch.nn.BatchNorm1d(16),
            torch.nn.LeakyReLU(0.2),
            torch.nn.Linear(16, 1, bias=False),
        )
        generator = torch.Generator().manual_seed(1)
        for value in self.parameters():
            torch.nn.init.normal_(value, 0.0, 0.3, generator=generator)


def ascending(name: str) -> Case:
    def make(**keywords: Any) -> Any:
        return features.create(
            name,
            discriminator=Judge(),
            sees="rows",
            relative_radius=0.85,
            steps=4,
            every=2,
            **keywords,
        )

    return Case(make, coupled="the discriminator's batch statistics", inner=True)


def centred(name: str) -> Case:
    def make(**keywords: Any) -> Any:
        layout = keywords.pop("layout", None)
        normal = torch.randn(4, C, H, W, generator=torch.Generator().manual_seed(2))
        fitted = features.create(name, **keywords).fit([normal], progress=False)
        fitted.layout = layout
        return fitted

    return Case(make, coupled="the mean over the batch")


def queued(name: str, **law: Any) -> Case:
    """A method whose queue is full of rows that are no sample's."""

    def make(**keywords: Any) -> Any:
        perturb = features.create(name, length=40, **law, **keywords)
        rows = torch.randn(40, C, generator=torch.Generator().manual_seed(2))
        perturb.update(rows, layout="rows")
        return perturb

    return Case(make, gradient=False)


def coded(**keywords: Any) -> Any:
    """DSR with a codebook of its channels, an anomaly in every image."""
    codes = torch.randn(64, C, generator=torch.Generator().manual_seed(3))
    return features.create("dsr", codebook=codes, p=1.0, **keywords)


MIXED = "it is mixed with another of its batch"

CASES: dict[str, Case] = {
    "dsr": Case(coded, size=True, gradient=False),
    "manifold_mixup": Case(coupled=MIXED, flat=False),
    "mixstyle": Case(needs={"p": 1.0}, coupled=MIXED),
    "cras": centred("cras"),
    "drocc": ascending("drocc"),
    "glass": ascending("glass"),
    "pbas": centred("pbas"),
    "npos": queued("npos", k=5, boundary=10, candidates=20),
    "vos": queued("vos"),
    "supersimplenet": Case(needs={"no_anomaly": "none"}, flat=False, size=True),
}


def case(name: str) -> Case:
    return CASES.get(name, Case())


def made(name: str, /, **keywords: Any) -> Any:
    """A method, ready to be called on features of C channels on a grid of H x W."""
    make = case(name).make
    keywords = {"seed": 0, **case(name).needs, **keywords}
    return features.create(name, **keywords) if make is None else make(**keywords)


def clean(out: FeatureBatch) -> Tensor:
    """What every row of the features was."""
    rows = out.extras.get("source_row")
    return out.clean if rows is None else out.clean[rows]


def maps() -> Tensor:
    """Features (B, C, H, W)."""
    return torch.randn(B, C, H, W, generator=torch.Generator().manual_seed(0))
