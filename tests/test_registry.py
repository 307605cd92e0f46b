"""What both registries of methods share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

import anoaug
from anoaug import features, methods
from anoaug.registry import Registry, keywords


@dataclasses.dataclass(frozen=True)
class Entry:
    name: str
    build: Callable[..., Any]
    family: str = "one"

    def defaults(self) -> dict[str, Any]:
        return keywords(self.build)


def common(*, seed: int = 0) -> None: ...


def build(first: int, *, area: float = 0.5, **rest: Any) -> None: ...


@pytest.fixture
def registry() -> Registry[Entry]:
    made = Registry[Entry]("nowhere", [], ("one", "two"), common, ("first", "listing()"))
    made.add(Entry("first", build))
    made.add(Entry("second", build, "two"))
    return made


def test_names_keywords_and_families(registry: Registry[Entry]) -> None:
    assert registry.names() == ["first", "second"] and registry.names("two") == ["second"]
    assert registry.common() == {"seed": 0}
    assert registry.known("first") == {"seed": 0, "area": 0.5}


def test_a_module_may_be_read_again_and_a_name_is_taken_once(registry: Registry[Entry]) -> None:
    registry.add(Entry("first", build))
    with pytest.raises(ValueError, match="expected a new name, got 'first', which is taken"):
        registry.add(Entry("first", dataclasses.dataclass))
    with pytest.raises(ValueError, match="family: expected one of"):
        registry.add(Entry("third", build, "three"))


def test_what_is_unknown_is_told_the_nearest(registry: Registry[Entry]) -> None:
    with pytest.raises(ValueError, match="'secnd' is unknown; did you mean second?"):
        registry.get("secnd")
    with pytest.raises(TypeError, match=r"a name such as 'first', got int; listing\(\) gives"):
        registry.get(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="family: expected one of"):
        registry.names("three")


@pytest.mark.parametrize(
    ("get", "listing"),
    [(methods.get, anoaug.list_methods), (features.methods.get, features.list_methods)],
)
def test_both_find_their_files(get: Callable[[str], Any], listing: Callable[[], Any]) -> None:
    names = listing()
    assert len(names) > 15 and all(get(name).name == name for name in names)
    with pytest.raises(TypeError, match="list_methods"):
        get(None)  # type: ignore[arg-type]
