"""ONNX: the session with arrays by input name, and answers in the shape that MLflow gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

#: Operators that treat a row (the first dimension) without a look at the others, as converters of
#: classical models write them.
_ROW_WISE: Final = frozenset(
    (
        "ArrayFeatureExtractor",
        "Binarizer",
        "Cast",
        "Identity",
        "Imputer",
        "LinearClassifier",
        "LinearRegressor",
        "Normalizer",
        "SVMClassifier",
        "SVMRegressor",
        "Scaler",
        "TreeEnsembleClassifier",
        "TreeEnsembleRegressor",
        "ZipMap",
    )
)


def predictor(raw: Any, names: Sequence[str] | None) -> Callable[[Any], Any] | None:
    """The session's call for an array (rows, columns); None where MLflow's own is needed."""
    inputs = [(one.name, one.type) for one in raw.get_inputs()]
    outputs = [one.name for one in raw.get_outputs()]
    if len(inputs) == 1:
        at = None
    elif names is not None and {name for name, _ in inputs} <= set(names):
        at = [list(names).index(name) for name, _ in inputs]
    else:
        return None

    def predict(array: Any) -> Any:
        feed = {}
        for position, (name, kind) in enumerate(inputs):
            # A frame's values lie column by column, which no session cares for.
            part = array if at is None else np.ascontiguousarray(array[:, at[position]])
            if kind == "tensor(float)" and part.dtype == np.float64:
                part = part.astype(np.float32)
            feed[name] = part
        return _records(outputs, raw.run(outputs, feed))

    return predict


def _records(names: list[str], outputs: list[Any]) -> Any:
    """The records of MLflow's frame of all outputs, each made flat."""
    flat = [np.asarray(output).reshape(-1) for output in outputs]
    if len(set(map(len, flat))) != 1:
        raise ValueError("outputs of different lengths")
    if any(part.dtype.kind not in "fiub" and not _all_dicts(part) for part in flat):
        raise TypeError("an output of a type that pandas may change")
    columns = [part.tolist() for part in flat]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _all_dicts(part: Any) -> bool:
    return part.dtype == object and set(map(type, part)) == {dict}


def row_wise(raw: Any) -> bool:
    """Whether a session's graph is made of nothing but operators known to work row by row."""
    try:
        import onnx

        # The session keeps where it is from, and the graph is not to be had otherwise.
        graph = onnx.load(raw._model_path, load_external_data=False).graph
    except Exception:  # noqa: BLE001  the package is not always there, nor the graph in one file
        return False
    return all(node.op_type in _ROW_WISE for node in graph.node)
