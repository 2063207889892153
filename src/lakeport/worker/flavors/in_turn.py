"""scikit-learn's loops through trees and through the parts of a table, in the thread that asks.

Their own loop is joblib's, which takes four fifths of a small predict of a forest (100 trees: 4 of
5 ms), and with `n_jobs` starts threads that wait for each other. Whoever has cores to spare has
replicas for them.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

#: Methods with such a loop, by the module of their classes. The other methods call them.
_LOOPS: Final[Mapping[str, tuple[str, ...]]] = {
    "sklearn.ensemble._forest": ("predict_proba", "predict"),
    "sklearn.compose._column_transformer": ("_call_func_on_transformers",),
}


def in_turn(raw: Any) -> None:
    """Make the forest or ColumnTransformer that `raw` is, or that its pipeline is made of, loop so.

    It is changed in place, and answers the same: it is scikit-learn's code as it stands, in which
    two names mean something else. A scikit-learn without these names leaves it as it is.
    """
    steps = [step for _, step in raw.steps] if type(raw).__name__ == "Pipeline" else [raw]
    for step in steps:
        kind = type(step)
        names = _LOOPS.get(kind.__module__, ())
        methods = {name: found for name in names if (found := _method(kind, name)) is not None}
        if methods:
            inside = {"__module__": kind.__module__, **methods}
            step.__class__ = type(kind.__name__, (kind,), inside)


def _method(kind: type, name: str) -> Callable[..., Any] | None:
    """The method with its loop in turn; None where it has no loop."""
    found = getattr(kind, name, None)
    if not isinstance(found, types.FunctionType) or found.__module__ != kind.__module__:
        return None
    names = found.__globals__
    if "Parallel" not in found.__code__.co_names or "delayed" not in names or found.__closure__:
        return None
    names = {**names, "Parallel": _InTurn, "delayed": _delayed}
    method = types.FunctionType(found.__code__, names, name, found.__defaults__)
    method.__kwdefaults__ = found.__kwdefaults__
    return method


class _InTurn:
    """joblib's Parallel, but in this thread."""

    def __init__(self, **_: Any) -> None:
        """What it would say of threads says nothing here."""

    def __call__(self, tasks: Iterable[Callable[[], Any]]) -> list[Any]:
        return [task() for task in tasks]


def _delayed(function: Callable[..., Any]) -> Callable[..., Callable[[], Any]]:
    return lambda *args, **kwargs: lambda: function(*args, **kwargs)
