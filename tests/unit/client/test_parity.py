"""Both clients are one API."""

import inspect
from typing import Any

import pytest

from lakeport import AsyncClient, Client

#: What a `with` calls.
ALIKE = {"__enter__": "__aenter__", "__exit__": "__aexit__"}
#: They give the same thing, not something to await.
PLAIN = {
    "__init__",
    "with_token",
    "asynchronous",
    "stream_chat",
    "batch",
    "host",
    "retry",
    "__repr__",
}


def public(cls: type) -> dict[str, Any]:
    """Its own public methods and properties, and those that Python calls."""
    return {
        name: value
        for name, value in vars(cls).items()
        if (callable(value) or isinstance(value, property))
        and (not name.startswith("_") or name.startswith("__"))
    }


NAMES = sorted(public(Client))


def test_the_same_methods() -> None:
    assert {ALIKE.get(name, name) for name in NAMES} == set(public(AsyncClient))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_parameters_defaults_and_words(name: str) -> None:
    here, there = public(Client)[name], public(AsyncClient)[ALIKE.get(name, name)]
    assert inspect.getdoc(here) == inspect.getdoc(there)
    if isinstance(here, property):
        assert isinstance(there, property)
        return

    ours, theirs = inspect.signature(here), inspect.signature(there)

    for one, other in zip(ours.parameters.values(), theirs.parameters.values(), strict=True):
        assert (one.name, one.kind, one.default) == (other.name, other.kind, other.default)
        if name != "batch":  # the other one takes asynchronous iterables too
            assert one.annotation == other.annotation


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_does_io_is_awaited(name: str) -> None:
    there = public(AsyncClient)[ALIKE.get(name, name)]

    assert inspect.iscoroutinefunction(there) == (name not in PLAIN)


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("__")])
def test_everything_has_words(name: str) -> None:
    assert inspect.getdoc(public(Client)[name])
