"""scikit-learn's forests, tree by tree in the thread that asks.

Their own way through the trees is joblib's, which takes four fifths of a predict of few rows (100
trees: 4 of 5 ms), and with `n_jobs` starts threads that wait for each other. Whoever has cores to
spare has replicas for them.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from typing import Any, Final

#: Methods in which a forest goes through its trees; the others call them.
_METHODS: Final = ("predict_proba", "predict")
_MODULE: Final = "sklearn.ensemble._forest"


def in_turn(raw: Any) -> None:
    """Make the forest that `raw` is, or that its pipeline ends with, predict so.

    It is changed in place, and answers the same: it is scikit-learn's code as it stands, in which
    two names mean something else. A scikit-learn without these names leaves it as it is.
    """
    last = raw.steps[-1][1] if type(raw).__name__ == "Pipeline" and raw.steps else raw
    kind = type(last)
    if kind.__module__ != _MODULE:
        return
    methods = {name: found for name in _METHODS if (found := _method(kind, name)) is not None}
    if methods:
        last.__class__ = type(kind.__name__, (kind,), {"__module__": kind.__module__, **methods})


def _method(kind: type, name: str) -> Callable[..., Any] | None:
    """The method of a forest with the loop in turn; None where it has no loop."""
    found = getattr(kind, name, None)
    if not isinstance(found, types.FunctionType) or found.__module__ != _MODULE:
        return None
    names = found.__globals__
    if "Parallel" not in found.__code__.co_names or "delayed" not in names or found.__closure__:
        return None
    names = {**names, "Parallel": _InTurn, "delayed": _delayed}
    return types.FunctionType(found.__code__, names, name, found.__defaults__)


class _InTurn:
    """joblib's Parallel, but in this thread."""

    def __init__(self, **_: Any) -> None:
        """What it would say of threads says nothing here."""

    def __call__(self, tasks: Iterable[Callable[[], Any]]) -> list[Any]:
        return [task() for task in tasks]


def _delayed(function: Callable[..., Any]) -> Callable[..., Callable[[], Any]]:
    return lambda *args, **kwargs: lambda: function(*args, **kwargs)
