"""scikit-learn: estimators that answer an array as they answer a frame."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

METHODS: Final = frozenset(
    ("predict", "predict_proba", "predict_log_proba", "predict_joint_log_proba")
)
#: Modules whose estimators take a numeric frame for the array that it holds.
_MODULES: Final = frozenset(
    (
        "cluster",
        "cross_decomposition",
        "decomposition",
        "discriminant_analysis",
        "dummy",
        "ensemble",
        "feature_selection",
        "gaussian_process",
        "impute",
        "kernel_approximation",
        "kernel_ridge",
        "linear_model",
        "mixture",
        "naive_bayes",
        "neighbors",
        "neural_network",
        "preprocessing",
        "random_projection",
        "svm",
        "tree",
    )
)
#: Of these, classes that look at a frame's columns one by one.
_COLUMN_WISE: Final = frozenset(
    ("FunctionTransformer", "KBinsDiscretizer", "OneHotEncoder", "OrdinalEncoder", "TargetEncoder")
)


def predictor(raw: Any, method: str, names: Sequence[str] | None) -> Callable[[Any], Any] | None:
    """The estimator's method for an array of numbers, or None where it needs a frame.

    `names`: the columns of the frame that it stands for; None: it stands for itself.
    """
    if method not in METHODS:
        return None
    twin = _without_names(raw, None if names is None else list(names))
    found: Callable[[Any], Any] | None = getattr(twin, method, None)
    return found


def fitted_names(raw: Any) -> list[str] | None:
    """The names of the columns that an estimator was fitted with."""
    found = getattr(raw, "feature_names_in_", None)
    return None if found is None else list(found)


def _without_names(part: Any, names: list[str] | None) -> Any:
    """The estimator without a memory of column names, sharing all else with it; None where that is
    not known to be the same.

    With one it warns of each array, at a cost; and a frame with other names it refuses, which is
    why they must be `names`.
    """
    kind = type(part)
    root, _, rest = kind.__module__.partition(".")
    if root != "sklearn":
        return None
    if kind.__name__ == "Pipeline":
        return _pipeline_without_names(part, names)
    if rest.partition(".")[0] not in _MODULES or kind.__name__ in _COLUMN_WISE:
        return None
    if getattr(part, "_preprocessor", None) is not None:  # categories of a frame's columns
        return None
    if _keeps_output(part) or any(hasattr(inner, "feature_names_in_") for inner in _inner(part)):
        return None
    fitted = fitted_names(part)
    if fitted is not None and names is not None and fitted != names:
        return None
    if fitted is None:
        return part
    twin = copy.copy(part)
    if vars(twin).pop("feature_names_in_", None) is None:
        return None
    return twin


def _pipeline_without_names(pipeline: Any, names: list[str] | None) -> Any:
    steps = [(name, step) for name, step in pipeline.steps if step not in (None, "passthrough")]
    if not steps:
        return None
    first = _without_names(steps[0][1], names)
    if first is None:
        return None
    # What a step hands on to the next is an array, unless it was told to make frames.
    if any(_keeps_output(step) or fitted_names(step) is not None for _, step in steps[1:]):
        return None
    twin = copy.copy(pipeline)
    twin.steps = [(steps[0][0], first), *steps[1:]]
    return twin


def _keeps_output(part: Any) -> bool:
    """Whether transformers make something else than arrays."""
    from sklearn import get_config

    default = get_config().get("transform_output", "default")
    told = getattr(part, "_sklearn_output_config", {}).get("transform", default)
    return bool(told != "default")


def _inner(part: Any) -> Iterator[Any]:
    """What an estimator holds, one step into its sequences."""
    for value in vars(part).values():
        yield value
        if isinstance(value, (list, tuple)):
            yield from value
        elif getattr(getattr(value, "dtype", None), "kind", "") == "O":
            yield from value.ravel()
